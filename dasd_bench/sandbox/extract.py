"""Finds the program in a chat answer: fences, prose around it, [BEGIN]..[DONE], several blocks, unclosed fences."""

from __future__ import annotations

import ast
import contextlib
import html
import json
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from .choose import Block, choose
from .programs import (
    DEFINITION,
    body_of,
    from_first_line,
    has_program_line,
    is_body,
    looks_like_program,
    programs,
    spans,
    tidy,
    tree_of,
)

_MARKER = re.compile(r"`{3,}|^[ \t]*~{3,}")
_LANGUAGE = re.compile(r"[{.]*([\w+#-]*(?:\.\d+)?)")
_INLINE = re.compile(r"```([^`\n]+)```|(?<!`)`([^`\n]+)`(?!`)")
_INLINE_LANGUAGE = re.compile(r"^(?:python3?|py)\s+")
_MARKED = re.compile(r"\[(BEGIN|PYTHON)\](.*?)(?:\[(?:DONE|/PYTHON)\]|\Z)", re.DOTALL)
_PYTHON = re.compile(r"|code|tool_code|(?:i?python|py|pycon|ipynb|jupyter|sage)[\d.]*|python-repl", re.IGNORECASE)
_TAG = re.compile(
    r"^(?:[ \t]*</?(?:pre|code|python|answer|solution)\b[^<>\n]*>)+|(?:</(?:pre|code|python|answer|solution)>)+[ \t]*$",
    re.MULTILINE,
)
_QUOTES = re.compile(r"^'''(?:python3?|py)[ \t]*$", re.MULTILINE)
_TURN_END = re.compile(r"<\|(?:im_end|im_start|eot_id|endoftext|end_of_text|end)\|>|<end_of_turn>|</s>\s*\Z")
_NEXT_TURN = re.compile(
    r"^(?:#+ ?|\*\*|\[)?(?:Human|User|Question|Problem|Instruction)(?: ?\d+)?(?:\*\*|\])? ?:", re.MULTILINE
)
_JSON_FENCE = re.compile(r"\A\s*```(?:json)?[ \t]*\n|\n[ \t]*```\s*\Z", re.IGNORECASE)
_QUOTE = re.compile(r"^[ \t]*>(?!>>) ?")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
#: Words that open a program, where a fence's language is expected.
_CODE_WORD = re.compile(r"(?:def|class|import|from|async)[ \t]+\w|@\w")


def extract_code(text: str, entry_point: str | None = None, prompt: str = "") -> str:
    """The program in ``text``, without fences and prose; ``text`` as it is where no part of it looks like a program.

    Among several blocks (fenced, between ``[BEGIN]`` and ``[DONE]``, or a program amid prose): those that parse are
    preferred, then the last that defines ``entry_point`` and is more than a stub, then a function body, then the last
    that defines anything; blocks before it that only define other names (imports, helpers) are kept in front of it,
    blocks that redefine what the chosen one defines are drafts and are dropped, and what the chosen one still needs is
    taken from any other block. A first fence without a language that has a program before it closes a fence that the
    prompt opened. What a program's last statement lacks where the answer was cut off is dropped with it, but never a
    part of a definition. A completion that is only a function body (as HumanEval's) comes back unchanged. ``prompt`` is
    what the program is appended to: where it ends in a function without a body, and the answer defines the function
    anew, it gets one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the parser, on escapes and the like: they are the program's own affair
        found = _extract(text, entry_point)
        if (typed := _as_typed(text)) != text and not (tree_of(found) or body_of(found)):
            again = _extract(typed, entry_point)
            found = again if tree_of(again) or body_of(again) else found
        if prompt and not tree_of(prompt) and (tree := tree_of(found)) and _defines(tree, entry_point):
            return f"    pass\n{found}"
        if prompt and not _is_module(prompt + found):
            return next((body for body in _indented(found, prompt) if _is_module(prompt + body)), found)
        return found


def _is_module(text: str) -> bool:
    """Whether a text parses and returns from nothing but functions."""
    tree = tree_of(text)
    return tree is not None and not any(isinstance(node, ast.Return) for node in tree.body)


def _indented(body: str, prompt: str) -> Iterator[str]:
    """A function body with the indentation that its first line, or all of it, has lost."""
    last = prompt.rstrip().rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip())] or "    "
    yield indent + body.lstrip()
    yield textwrap.indent(textwrap.dedent(body), indent)


def _defines(tree: ast.Module, name: str | None) -> bool:
    return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name for node in tree.body)


def _as_typed(text: str) -> str:
    """The text with the spaces and signs that its program was typed with: a page or a document makes non-breaking
    spaces, invisible characters and ``&gt;`` of them, which Python does not read. One line that was encoded twice
    has ``\\n`` for its line ends."""
    if "\n" not in text.strip():
        text = text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    return _INVISIBLE.sub("", _SPACE.sub(" ", html.unescape(text)))


def _extract(text: str, entry_point: str | None) -> str:
    text = _unwrapped(text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    text = _to_done(_untagged(_unquoted(_own_turn(text))))
    blocks: list[Block] = []
    position = 0
    for marked in _MARKED.finditer(text):
        inside = marked.group(2)
        blocks += _blocks(text[position : marked.start()], entry_point)
        whole = has_program_line(inside) or (inside.strip() and tree_of(inside))
        blocks += _blocks(inside, entry_point) or ([Block.of(inside)] if whole else [])
        position = marked.end()
    blocks += _blocks(text[position:], entry_point)
    return choose(blocks, entry_point) if blocks else from_first_line(text)


def _own_turn(text: str) -> str:
    """The text to the end of its turn: the template's mark, or a next speaker after a program."""
    text = _TURN_END.split(text, maxsplit=1)[0] or text
    following = _NEXT_TURN.search(text)
    if following is not None and has_program_line(text[: following.start()]):
        return text[: following.start()]
    return text


def _unwrapped(text: str) -> str:
    """What three quotes fence: of a text that is nothing but a string, the string where that is a program. Of a JSON
    object the one value that is a program."""
    tree = tree_of(text) if text.lstrip()[:1] in ("'", '"') else None
    only = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    if isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant) and isinstance(only.value.value, str):
        inside = re.sub(r"^(?:python3?|py)\s*\n", "", only.value.value)
        if DEFINITION.search(inside):
            return inside
    bare = _JSON_FENCE.sub("", text).strip()
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(bare).values() if bare[:1] == "{" and bare[-1] == "}" else ()
        (text,) = (one for one in values if isinstance(one, str) and DEFINITION.search(one))
    return text


def _untagged(text: str) -> str:
    """A text without fences of backticks less HTML's marks of code, its fences of three quotes replaced."""
    if "```" in text or not (_TAG.search(text) or _QUOTES.search(text)):
        return text
    tree = tree_of(text)
    if tree and not all(isinstance(node, ast.Expr) for node in tree.body):
        return text
    if _QUOTES.search(text):
        text = re.sub(r"^'''[ \t]*$", "```", _QUOTES.sub("```python", text), flags=re.MULTILINE)
    return _TAG.sub("\n", text)


def _unquoted(text: str) -> str:
    """The text without the marks of quoted lines (``> ``), where what is quoted is a fence or a program."""
    lines = text.split("\n")
    if not any(map(_QUOTE.match, lines)) or tree_of(text):
        return text
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and _QUOTE.match(lines[end]):
            end += 1
        if end > start:
            inner = [_QUOTE.sub("", line) for line in lines[start:end]]
            if has_program_line("\n".join(inner)) or any(map(_MARKER.search, inner)):
                lines[start:end] = _unquoted("\n".join(inner)).split("\n")
        start = end + 1
    return "\n".join(lines)


def _to_done(text: str) -> str:
    """The text to the first ``[DONE]`` that follows a program, where ``[BEGIN]`` was part of the prompt: what comes
    then is a next problem."""
    begin, start = len(text.partition("[BEGIN]")[0]), 0
    while 0 <= (end := text.find("[DONE]", start)) < begin:
        part = text[start:end]
        if has_program_line(part) or (start == 0 and (is_body(part) or tree_of(part))):
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
    within = {number for start, end in spans(lines) for number in range(start, end)}
    for number, line in enumerate(lines):
        found = _MARKER.search(line)
        if found and number not in within and "`" not in line[found.end() :]:
            marker, info = found.group().strip(), line[found.end() :]
            start, after, end = line_start + found.end() - len(marker), line_start + found.end(), len(text)
            lead, word = line[: found.end() - len(marker)], info.strip()
            language, rest = _language(word)
            body = min(line_start + len(line) + 1, end)
            if _CODE_WORD.match(word):  # the program begins on the fence's line
                language, body = "", after + info.index(word)
            elif _PYTHON.fullmatch(language) and _CODE_WORD.match(rest):
                body = after + info.rindex(rest)
            if not lead.strip() or not rest or body < line_start + len(line):
                bare = not language and body >= line_start + len(line)
                yield _Fence(marker, language.lower(), bare, not lead.strip(), line_start, start, body)
        line_start += len(line) + 1


def _language(info: str) -> tuple[str, str]:
    """The language that a fence names (that of ``python title="x"``, ``{.python}``, ``Python3.11``, ``python:a.py``,
    too), and what follows it."""
    found = _LANGUAGE.match(info)
    assert found is not None
    return found.group(1), info[found.end() :].lstrip()


def _blocks(text: str, entry_point: str | None) -> list[Block]:
    """The fenced blocks that may be Python, and the programs outside of fences. A fence left open runs to the end; one
    that has a program before it and no language is only a closing one (the opening was part of the prompt)."""
    fences = list(_fences(text))
    found: list[tuple[str, str]] = []
    position, opening = 0, None
    for fence in fences:
        if opening is None:
            gap = text[position : fence.start]
            parts = programs(gap)
            if fence.bare and not parts and len(fences) == 1 and _only_closes(gap, text[fence.body :]):
                parts = [tidy(gap, cut_off=False)]
            found += [("", part) for part in parts]
            position = fence.body
            opening = None if fence.bare and parts else fence
        elif fence.closes(opening):
            found.append((opening.language, tidy(text[position : fence.start], cut_off=False)))
            position, opening = fence.body, None
        elif not fence.bare:  # a new block although the last was never closed
            found.append((opening.language, tidy(text[position : fence.line], cut_off=False)))
            position, opening = fence.body, fence
    if opening is not None:
        found.append((opening.language, tidy(text[position:], cut_off=True)))
    else:
        found += [("", part) for part in programs(text[position:])]
    blocks = [(bool(_PYTHON.fullmatch(language)), Block.of(code)) for language, code in found if code.strip()]
    python = [block for is_python, block in blocks if is_python]
    if not any(block.defines(entry_point) for block in python):
        # Programs in a fence that names another language, or none that is known.
        python = [block for is_python, block in blocks if is_python or block.defines(entry_point)]
    return python or [block for _, block in blocks] or _inline(text)


def _inline(text: str) -> list[Block]:
    """Programs of one line between backticks."""
    codes = [(match.group(1) or match.group(2)).strip() for match in _INLINE.finditer(text)]
    codes = [_INLINE_LANGUAGE.sub("", code) for code in codes if "def " in code]
    return [Block.of(code) for code in codes if tree_of(code)]


def _only_closes(before: str, after: str) -> bool:
    """Whether a single bare fence stands behind a program that does not parse, not in front of one."""
    return bool(before.strip()) and (
        not after.strip() or (looks_like_program(before) and not looks_like_program(after))
    )
