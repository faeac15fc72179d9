"""Finds the program in a chat answer: fences, prose around it, [BEGIN]..[DONE], several blocks, unclosed fences."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MARKER = re.compile(r"`{3,}|^[ \t]*~{3,}")
_LANGUAGE = re.compile(r"[\w+#.-]*")
_INLINE_FENCE = re.compile(r"```([^`\n]+)```")
_MARKED = re.compile(r"\[BEGIN\](.*?)(?:\[DONE\]|\Z)", re.DOTALL)
_PYTHON = {"", "python", "python3", "py", "py3", "python2", "ipython", "ipython3", "pycon"}
_PROGRAM_LINE = re.compile(
    r"^(?:def|class|async def|from|import)\b|^@|^[A-Za-z_]\w*\s*(?::[^=\n]+)?=[^=]"
    r"|^(?:try|(?:if|for|with|while)\b.+):\s*$"
)
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
#: Words that open a program, where a fence's language is expected.
_CODE_WORD = re.compile(r"(?:def|class|import|from|async)[ \t]+\w|@\w")
_HEAD = "def _():\n"
#: Characters parsed in the search for code among prose, beside three times the text: about a tenth of a second.
_PARSED_CHARACTERS = 100_000
#: What a parse costs that fails at once, in characters.
_PARSE_COST = 100


def extract_code(text: str, entry_point: str | None = None) -> str:
    """The program in ``text``, without fences and prose; ``text`` as it is where no part of it looks like a program.

    Among several blocks (fenced, between ``[BEGIN]`` and ``[DONE]``, or a program amid prose): those that parse are
    preferred, then the last that defines ``entry_point``, then a function body, then the last that defines anything;
    blocks before it that only define other names (imports, helpers) are kept in front of it, blocks that redefine what
    the chosen one defines are drafts and are dropped. A first fence without a language that has a program before it
    closes a fence that the prompt opened. A completion that is only a function body (as HumanEval's) comes back
    unchanged.
    """
    text = _to_done(text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    blocks, position = [], 0
    for marked in _MARKED.finditer(text):
        inside = marked.group(1)
        blocks += _blocks(text[position : marked.start()])
        whole = _has_program_line(inside) or (inside.strip() and _tree(inside))
        blocks += _blocks(inside) or ([inside] if whole else [])
        position = marked.end()
    blocks += _blocks(text[position:])
    return _choose(blocks, entry_point) if blocks else _from_first_line(text)


def _to_done(text: str) -> str:
    """The text to the first ``[DONE]`` that follows a program, where ``[BEGIN]`` was part of the prompt: what comes
    then is a next problem."""
    begin, start = len(text.partition("[BEGIN]")[0]), 0
    while 0 <= (end := text.find("[DONE]", start)) < begin:
        part = text[start:end]
        if _has_program_line(part) or (start == 0 and (_is_body(part) or _tree(part))):
            return text[:end]
        start = end + len("[DONE]")
    return text


@dataclass(frozen=True, slots=True)
class _Fence:
    marker: str
    language: str
    #: Without language or anything else: it may close a block.
    bare: bool
    #: Whether nothing but white space is before it on its line.
    alone: bool
    #: Where its line starts, where the marker does, and where what is fenced does.
    line: int
    start: int
    body: int

    def closes(self, opening: _Fence) -> bool:
        """Whether this is the end of what the other one opened."""
        same = self.marker[0] == opening.marker[0] and len(self.marker) >= len(opening.marker)
        return self.bare and self.alone and same


def _fences(text: str) -> Iterator[_Fence]:
    """Fences on lines of their own, or at the end of a line of prose or code; none in a program's texts."""
    lines, line_start = text.split("\n"), 0
    # Backticks are no Python: those within lines that parse together are in a docstring or a comment.
    within = {number for start, end in _spans(lines) for number in range(start, end)}
    for number, line in enumerate(lines):
        found = _MARKER.search(line)
        if found and number not in within and "`" not in line[found.end() :]:
            marker, info = found.group().strip(), line[found.end() :]
            start, after, end = line_start + found.end() - len(marker), line_start + found.end(), len(text)
            lead, word = line[: found.end() - len(marker)], info.strip()
            language = _word(word)
            rest = word.removeprefix(language).lstrip()
            body = min(line_start + len(line) + 1, end)
            if _CODE_WORD.match(word):  # the program begins on the fence's line
                language, body = "", after + info.index(word)
            elif language.lower() in _PYTHON and _CODE_WORD.match(rest):
                body = after + info.rindex(rest)
            if not lead.strip() or not rest or body < line_start + len(line):
                bare = not language and body >= line_start + len(line)
                yield _Fence(marker, language.lower(), bare, not lead.strip(), line_start, start, body)
        line_start += len(line) + 1


def _word(info: str) -> str:
    found = _LANGUAGE.match(info)
    assert found is not None
    return found.group()


def _blocks(text: str) -> list[str]:
    """The fenced blocks that may be Python, and the programs outside of fences. A fence left open runs to the end; one
    that has a program before it and no language is only a closing one (the opening was part of the prompt)."""
    fences = list(_fences(text))
    blocks: list[tuple[str, str]] = []
    position, opening = 0, None
    for fence in fences:
        if opening is None:
            gap = text[position : fence.start]
            programs = _programs(gap)
            if fence.bare and not programs and len(fences) == 1 and _only_closes(gap, text[fence.body :]):
                programs = [_tidy(gap)]
            blocks += [("", program) for program in programs]
            position = fence.body
            opening = None if fence.bare and programs else fence
        elif fence.closes(opening):
            blocks.append((opening.language, _tidy(text[position : fence.start])))
            position, opening = fence.body, None
        elif not fence.bare:  # a new block although the last was never closed
            blocks.append((opening.language, _tidy(text[position : fence.line])))
            position, opening = fence.body, fence
    if opening is not None:
        blocks.append((opening.language, _tidy(text[position:])))
    else:
        blocks += [("", program) for program in _programs(text[position:])]
    blocks = [(language, body) for language, body in blocks if body.strip()]
    found = [body for language, body in blocks if language in _PYTHON] or [body for _, body in blocks]
    return found or [match.group(1).strip() for match in _INLINE_FENCE.finditer(text) if "def " in match.group(1)]


def _only_closes(before: str, after: str) -> bool:
    """Whether a single bare fence stands behind a program that does not parse, not in front of one."""
    return bool(before.strip()) and (
        not after.strip() or (_looks_like_program(before) and not _looks_like_program(after))
    )


def _tidy(body: str) -> str:
    """A fenced block without what is around its program: a margin, prompts of a session, fences on its own lines."""
    body = body.split("[DONE]")[0].strip("\n").rstrip() + "\n"
    if _tree(body):
        return body
    body = _dedent(body)
    lines = body.split("\n")
    if any(line.startswith(">>> ") for line in lines):
        return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... "))).rstrip() + "\n"
    if "`" in body and not _body(body):
        # The closing fence is on the last line of the program, or was cut off in its middle.
        for shorter in (body.partition("```")[0], body.rstrip().rstrip("`")):
            if _tree(shorter) or _body(shorter):
                return shorter.rstrip() + "\n"
    return body


def _dedent(code: str) -> str:
    """A program without its margin, as inside a list; the body of a function, which returns, keeps it."""
    lines = code.split("\n")
    first = next((line for line in lines if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip())]
    shorter = "\n".join(line.removeprefix(margin) for line in lines)
    tree = _tree(shorter) if margin else None
    if tree is None or _returns(tree.body):
        return code
    defines = any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)
    return shorter if defines or all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body) else code


def _programs(text: str) -> list[str]:
    """The programs in a text without fences, or the function body it starts with; none where nothing is defined."""
    if _is_body(text):
        whole = _dedent(text)
        body = whole if _tree(whole) else _body(text)
        if body:
            return [body]
    elif _tree(text):
        return [text] if _DEFINITION.search(text) else []
    lines = text.split("\n")
    found = ["\n".join(lines[start:end]).rstrip("\n") + "\n" for start, end in _spans(lines)]
    return found if any(_DEFINITION.search(part) for part in found) else []


def _spans(lines: list[str]) -> list[tuple[int, int]]:
    """Runs of lines, from one that looks like a program's to the last with which it parses."""
    found, position, left = [], 0, _budget(lines)
    for start, line in enumerate(lines):
        if start >= position and left > 0 and _PROGRAM_LINE.match(line):
            end, left = _parsing_end(lines, start, "", left)
            if end > start:
                found.append((start, end))
                position = end
    return found


def _body(text: str) -> str:
    """The text as the body of a function, without prose behind it; empty where it is none that returns anything."""
    if not _is_body(text):
        return ""
    lines = text.split("\n")
    end, _ = _parsing_end(lines, 0, _HEAD, _budget(lines))
    if _is_body("\n".join(lines[end:])):  # wrong in its middle
        return ""
    body = text if end == len(lines) else "\n".join(lines[:end]).rstrip("\n") + "\n"
    tree = _tree(_HEAD + body)
    made = tree.body[0] if tree else None
    return body if isinstance(made, ast.FunctionDef) and _returns(made.body) else ""


def _budget(lines: list[str]) -> int:
    return _PARSED_CHARACTERS + 3 * sum(map(len, lines))


def _parsing_end(lines: list[str], start: int, head: str, left: int) -> tuple[int, int]:
    """The end of the lines from ``start`` that parse after ``head`` (``start`` where none do), and what is left of the
    characters that may be parsed. Lines from the one with the error on are dropped until it parses."""
    end = len(lines)
    while end > start and left > 0:
        part = head + "\n".join(lines[start:end])
        left -= len(part) + _PARSE_COST
        try:
            ast.parse(part)
        except SyntaxError as error:
            end = min(end - 1, start + (error.lineno or 1) - 1 - head.count("\n"))
        except (ValueError, RecursionError, MemoryError):
            break
        else:
            return end, left
    return start, left


@dataclass(frozen=True, slots=True)
class _Block:
    code: str
    tree: ast.Module | None
    names: set[str]
    body: bool


def _choose(codes: list[str], entry_point: str | None) -> str:
    if len(codes) == 1:
        return codes[0]
    trees = [_tree(code) for code in codes]
    blocks = [
        _Block(code, tree, set(_DEFINITION.findall(code)), tree is None and bool(_body(code)))
        for code, tree in zip(codes, trees, strict=True)
    ]
    order = range(len(blocks))
    ranked = [
        [i for i in order if entry_point in blocks[i].names and blocks[i].tree],
        [i for i in order if blocks[i].body][:1],
        [i for i in order if entry_point in blocks[i].names],
        [i for i in order if blocks[i].names and blocks[i].tree],
        [i for i in order if blocks[i].names],
        [i for i in order if blocks[i].tree],
        list(order),
    ]
    chosen = next(found for found in ranked if found)[-1]
    if blocks[chosen].body:
        return blocks[chosen].code
    kept, taken = [blocks[chosen].code], set(blocks[chosen].names)
    for block in reversed(blocks[:chosen]):
        if block.tree and not block.names & taken and _only_definitions(block.tree):
            kept.insert(0, block.code)
        taken |= block.names
    return "\n".join(kept)


def _tree(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _only_definitions(tree: ast.Module) -> bool:
    """Whether running a block defines names and does nothing else: usage examples are no helpers, nor is an assignment
    that needs a name from elsewhere."""
    known = set(dir(builtins))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            known.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            known |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
            known |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
            bound = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
            if any(name.id not in known | bound for name in names):
                return False
        else:
            return False
    return True


def _returns(body: list[ast.stmt]) -> bool:
    """Whether the statements return or yield, not counting functions and classes among them."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False


def _looks_like_program(text: str) -> bool:
    return _has_program_line(text) or _is_body(text)


def _has_program_line(text: str) -> bool:
    return any(_PROGRAM_LINE.match(line) for line in text.split("\n"))


def _is_body(text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first[:1] in (" ", "\t") and first != ""


def _from_first_line(text: str) -> str:
    """What is run where nothing was found that defines anything: the text, from the first line of a program on."""
    if _tree(text) or _is_body(text):
        return text
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if _PROGRAM_LINE.match(line)), 0)
    return "\n".join(lines[first:])
