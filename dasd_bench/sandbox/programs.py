"""Reading text as Python: what parses, what of it is a program, and what is prose or a session's prompts around it."""

from __future__ import annotations

import ast
import builtins
import codeop
import itertools
import re
import sys

from .inside.names import module_names

DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_PROGRAM_LINE = re.compile(
    r"^(?:def|class|async def|from|import)\b|^@|^[A-Za-z_]\w*\s*(?::[^=\n]+)?=[^=]"
    r"|^(?:try|(?:if|for|with|while)\b.+):\s*$"
)
#: Commands of a notebook, which Python itself does not know.
_NOTEBOOK = re.compile(
    r"^[ \t]*(?:![ \t]*\w|%%?[A-Za-z]|\$[ \t]+\w|\?\w|(?:pip3?|conda|uv)[ \t]+(?:pip[ \t]+)?install\b"
    r"|python3?[ \t]+-m[ \t]|[\w.]+\?+$)"
)
_SESSION = re.compile(r"^[ \t]*(?:>>>|In \[\d+\]:)(?: |$)")
_SESSION_LINE = re.compile(r"^[ \t]*(?:>>>|\.\.\.:?|In \[\d+\]:)(?: (.*)|$)")
#: A statement's first word: such a line is code, however many words follow.
_KEYWORD = re.compile(
    r"(?:assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|lambda"
    r"|nonlocal|pass|print|raise|return|try|while|with|yield)\b"
)
_OPERATORS = r"(?:and|as|case|else|for|from|if|import|in|is|lambda|match|not|or|type|await|def|class|with)\b"
_PROSE = re.compile(
    r"(?:[-*+\u2022>#|]|\d+[.)]|>>>)[ \t]+\S"  # an item of a list, a heading, a row of a table, a session
    r"|[*_]{1,3}\w|</?\w+[^>]*>$|[-=*_]{3,}$"  # emphasis, a tag, a rule
    r"|[A-Z][\w'\u2019-]*[.:!?,]*$"  # a word of its own
    r"|[\"'(\u201c`]*[A-Za-z][\w'\u2019-]*[`)\"'\u201d]*[,:;]?[ \t]+[`(\"'\u201c]*[\w$\\]"  # two words,
    r"(?![^`\n]*[ \t][-+*/|&]?=[ \t])"  # unless something is assigned
)
#: Two words side by side that are no keywords: Python has none, whatever the line starts with.
_TWO_WORDS = re.compile(rf"\b(?!{_OPERATORS})[a-z]+ (?!{_OPERATORS})[a-z]+\b")
_QUOTE = re.compile(r"[\"']")
#: A closing fence that is a backtick or two short.
_FEWER_TICKS = re.compile(r"^[ \t]*`{1,2}[ \t]*$", re.MULTILINE)
_INDENTED = re.compile(r"(?:^[ \t]+\S.*(?:\n|\Z)|^[ \t]*\n)+", re.MULTILINE)
_LAST_WORD = re.compile(r"(\w+)\s*$")
_HEAD = "def _():\n"
#: Characters parsed in the search for code among prose, beside three times the text: about a tenth of a second.
_PARSED_CHARACTERS = 100_000
#: What a parse costs that fails at once, in characters.
_PARSE_COST = 100


def tree_of(code: str) -> ast.Module | None:
    """The syntax tree, None where ``code`` does not parse."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def tidy(body: str, *, cut_off: bool) -> str:
    """A marked block without what is around its program: a margin, prompts of a session, notebook commands, prose,
    fences on its own lines. ``cut_off``: the text ends in this block, so that its last statement may be incomplete."""
    body = body.split("[DONE]")[0].strip("\n").rstrip() + "\n"
    if tree_of(body):
        return without_stray_words(body, cut_off=cut_off)
    body = dedent(body)
    lines = body.split("\n")
    if lines[0].strip().lower() in ("python", "python3", "py"):  # the language, on a line of its own
        body = "\n".join(lines[1:])
    if _SESSION.match(lines[0]) or is_session(body):
        return session_program(body)
    body = without_commands(body)
    if "`" in body and not body_of(body):
        # The closing fence is on the last line of the program, or was cut off in its middle.
        for shorter in (body.partition("```")[0], _FEWER_TICKS.split(body, maxsplit=1)[0], body.rstrip().rstrip("`")):
            if tree_of(shorter) or body_of(shorter):
                return shorter.rstrip() + "\n"
    if tree_of(body) or body_of(body):
        return without_stray_words(body, cut_off=cut_off)
    return without_prose(body, cut_off=cut_off)


def without_prose(code: str, *, cut_off: bool) -> str:
    """A block that does not parse without its lines of prose and, where the text was ``cut_off``, without its last
    statement; as it is where other lines are in the way, for those are a fault of the program."""
    lines = code.rstrip("\n").split("\n")
    found = spans(lines)
    if not any(DEFINITION.search("\n".join(lines[start:end])) for start, end in found):
        return code
    edges = [(0, 0), *found, (len(lines), len(lines))]
    gaps = [lines[before[1] : after[0]] for before, after in itertools.pairwise(edges)]
    if not all(map(_is_prose, gaps[:-1])) or not (_is_prose(gaps[-1]) or (cut_off and _is_cut(gaps[-1]))):
        return code
    kept = "\n".join("\n".join(lines[start:end]).rstrip("\n") + "\n" for start, end in found)
    return without_stray_words(kept, cut_off=False)


def _is_cut(lines: list[str]) -> bool:
    """Whether the lines, less prose that they start with, are one statement that lacks its end."""
    start = next((i for i in range(len(lines)) if not _is_prose(lines[: i + 1])), len(lines))
    text = "\n".join(lines[start:]).rstrip()
    try:
        return codeop.compile_command(text, symbol="exec") is None
    except SyntaxError as error:
        return (error.lineno or 0) > text.count("\n")
    except (ValueError, OverflowError, RecursionError, MemoryError):
        return False


def _is_prose(lines: list[str]) -> bool:
    """Whether each paragraph of the lines starts like prose."""
    fresh = True
    for line in lines:
        text = line.strip()
        keyword = _KEYWORD.match(text)
        unquoted = _QUOTE.split(text, 1)[0]
        if text and fresh and not (_TWO_WORDS.search(unquoted, keyword.end()) if keyword else _PROSE.match(text)):
            return False
        fresh = not text
    return True


def without_stray_words(code: str, *, cut_off: bool) -> str:
    """A program without words of prose that happen to be Python (``Explanation``, ``Note: simple``, ``This is it``):
    statements that could only raise NameError. Where the text was ``cut_off``, without a last statement that ends in
    the first letters of a name, either."""
    tree = tree_of(code)
    if tree is None or not DEFINITION.search(code):
        return code
    words = [node for node in tree.body if _may_be_words(node)]
    last = tree.body[-1]
    may_be_cut = cut_off and isinstance(last, (ast.Expr, ast.Assign, ast.AugAssign, ast.Assert)) and last not in words
    module_is_cut = cut_off and isinstance(last, ast.Import) and _is_begun_module(last.names[-1].name)
    if not (words or may_be_cut or module_is_cut):
        return code
    known = set(dir(builtins)) | module_names(code)[0]
    stray = [node for node in words if module_names(ast.unparse(node))[1] - known]
    word = _LAST_WORD.search(code)
    if may_be_cut and word and word.group(1) not in known:
        begun = word.group(1)
        if begun in module_names(ast.unparse(last))[1] and any(name.startswith(begun) for name in known):
            stray.append(last)
    stray += [last] if module_is_cut else []
    lines = code.split("\n")
    for node in reversed(stray):
        del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def _is_begun_module(name: str) -> bool:
    """Whether these are the first letters of a module of the standard library, and no module."""
    modules = sys.stdlib_module_names
    return name not in modules and any(module.startswith(name) for module in modules)


def _may_be_words(node: ast.stmt) -> bool:
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Compare):
        return all(isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in node.value.ops)
    return isinstance(node.value, (ast.Name, ast.Tuple, ast.BoolOp))


def without_commands(code: str) -> str:
    """The lines without a notebook's commands; ``pass`` stands for one within a block."""
    if not any(map(_NOTEBOOK.match, code.split("\n"))):
        return code
    kept = []
    for line in code.split("\n"):
        margin = line[: len(line) - len(line.lstrip())]
        if not _NOTEBOOK.match(line):
            kept.append(line)
        elif margin:
            kept.append(f"{margin}pass")
    return "\n".join(kept)


def session_program(text: str) -> str:
    """What was typed in a session of the interpreter, without its calls: those only show what the program gives."""
    typed = [found.group(1) or "" for line in text.split("\n") if (found := _SESSION_LINE.match(line))]
    program = "\n".join(typed).rstrip() + "\n"
    tree = tree_of(program)
    if tree is None or not DEFINITION.search(program):
        return program
    lines = program.split("\n")
    for node in reversed(tree.body):
        if isinstance(node, ast.Expr):
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def is_session(text: str) -> bool:
    """Whether the text shows a definition typed at the interpreter's prompt, and none otherwise."""
    return not DEFINITION.search(text) and any(
        _SESSION.match(line) and DEFINITION.match(line.split(" ", 1)[-1]) for line in text.split("\n")
    )


def dedent(code: str) -> str:
    """A program without its margin, as inside a list; the body of a function, which returns, keeps it."""
    lines = code.split("\n")
    first = next((line for line in lines if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip())]
    shorter = "\n".join(line.removeprefix(margin) for line in lines)
    tree = tree_of(shorter) if margin else None
    if tree is None or returns(tree.body):
        return code
    defines = any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)
    return shorter if defines or all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body) else code


def programs(text: str) -> list[str]:
    """The programs in a text without fences, or the function body it starts with; none where nothing is defined."""
    if is_body(text):
        whole = dedent(text)
        body = whole if tree_of(whole) else body_of(text)
        if body:
            return [body]
    elif tree_of(text):
        return [without_stray_words(text, cut_off=True)] if DEFINITION.search(text) else []
    if is_session(text):
        return [session_program(text)]
    lines = without_commands(text).split("\n")
    found = ["\n".join(lines[start:end]).rstrip("\n") + "\n" for start, end in spans(lines)]
    if not any(map(DEFINITION.match, lines)):  # Markdown's other form of a block of code
        found += [part for block in _INDENTED.findall(text) if tree_of(part := dedent(block.strip("\n") + "\n"))]
    return found if any(DEFINITION.search(part) for part in found) else []


def spans(lines: list[str]) -> list[tuple[int, int]]:
    """Runs of lines, from one that looks like a program's to the last with which it parses. A definition that is wrong
    or cut off in its middle is in none: what is left of it would be another program."""
    found, position, left = [], 0, _budget(lines)
    for start, line in enumerate(lines):
        if start >= position and left > 0 and _PROGRAM_LINE.match(line):
            end, left = _parsing_end(lines, start, "", left)
            if end > start and _goes_on(lines, end):
                last = next(i for i in range(end - 1, start - 1, -1) if lines[i].strip() and not lines[i][:1].isspace())
                while last > start and lines[last - 1].startswith("@"):
                    last -= 1
                position = end
                end, left = _parsing_end(lines[:last], start, "", left) if last > start else (start, left)
            if end > start:
                found.append((start, end))
                position = max(position, end)
    return found


def _goes_on(lines: list[str], end: int) -> bool:
    """Whether the lines from ``end`` go on with what the ones before began: indented, and no prose."""
    first = next((lines[i] for i in range(end, len(lines)) if lines[i].strip()), "")
    return first[:1] in (" ", "\t") and not _is_prose([first])


def body_of(text: str) -> str:
    """The text as the body of a function, without prose behind it; empty where it is none that returns anything."""
    if not is_body(text):
        return ""
    lines = text.split("\n")
    end, _ = _parsing_end(lines, 0, _HEAD, _budget(lines))
    if is_body("\n".join(lines[end:])):  # wrong in its middle
        return ""
    body = text if end == len(lines) else "\n".join(lines[:end]).rstrip("\n") + "\n"
    tree = tree_of(_HEAD + body)
    made = tree.body[0] if tree else None
    return body if isinstance(made, ast.FunctionDef) and returns(made.body) else ""


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


def returns(body: list[ast.stmt]) -> bool:
    """Whether the statements return or yield, not counting functions and classes among them."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False


def looks_like_program(text: str) -> bool:
    """Whether the text has a line of a program, or starts like a function's body."""
    return has_program_line(text) or is_body(text)


def has_program_line(text: str) -> bool:
    """Whether a line starts as a program's statements do."""
    return any(_PROGRAM_LINE.match(line) for line in text.split("\n"))


def is_body(text: str) -> bool:
    """Whether the text starts indented."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first[:1] in (" ", "\t") and first != ""


def from_first_line(text: str) -> str:
    """What is run where nothing was found that defines anything: the text, from the first line of a program on."""
    if tree_of(text) or is_body(text):
        return text
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if _PROGRAM_LINE.match(line)), 0)
    return "\n".join(lines[first:])
