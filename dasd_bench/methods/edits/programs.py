"""Python programs: single operators and constants exchanged, and changes of style that leave what is computed alone.

Whether a change does what it is said to do is for the tests to say: see :mod:`dasd_bench.methods.edits.constructed`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from dasd_bench.methods.edits.edited import Edited, Span, replaced, undone

_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)

OTHERS = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
    "+": ("-",),
    "-": ("+",),
    "*": ("+", "**"),
    "/": ("//",),
    "//": ("/",),
    "%": ("//",),
    "**": ("*",),
    "and": ("or",),
    "or": ("and",),
    "True": ("False",),
    "False": ("True",),
}
"""What stands in for an operator or a truth value; a whole number is raised and lowered by one."""

COMMENT = "# work through the input"


def program_span(text: str) -> Span | None:
    """Where the program stands in an answer: in its first fence, or all of it; None where it cannot be parsed."""
    fence = _FENCE.search(text)
    start, end = (fence.start(1), fence.end(1)) if fence else (0, len(text))
    return (start, end) if _parsed(text[start:end]) is not None else None


def _parsed(code: str) -> ast.Module | None:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return tree if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)) else None


def _tokens(code: str) -> Iterator[tuple[int, tokenize.TokenInfo]]:
    """Each token with its offset in ``code``."""
    starts = [0]
    for line in code.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.string.strip():
            yield starts[token.start[0] - 1] + token.start[1], token


def mutations(text: str) -> Iterator[tuple[Span, str]]:
    """Every place of the program where one operator or constant can be exchanged, with what stands in for it."""
    span = program_span(text)
    if span is None:
        return
    for at, token in _tokens(text[span[0] : span[1]]):
        place = (span[0] + at, span[0] + at + len(token.string))
        others = OTHERS.get(token.string, ()) if token.type in (tokenize.OP, tokenize.NAME) else ()
        if token.type == tokenize.NUMBER and token.string.isdecimal():
            number = int(token.string)
            others = (str(number + 1), *([str(number - 1)] if number else []))
        for other in others:
            yield place, other


def mends(text: str) -> Iterator[Edited]:
    """The answer with one operator or constant exchanged, once per way to do it."""
    for (start, end), other in mutations(text):
        yield replaced(text, [(start, end, other)])


def breaks(text: str) -> Iterator[Edited]:
    """For every mutation of the (right) answer, the edit that mends it."""
    for (start, end), other in mutations(text):
        yield undone(text, start, end, other)


def restyled(text: str) -> Edited | None:
    """Local variables renamed and a comment added; None where there is nothing to rename and no body to comment."""
    span = program_span(text)
    if span is None:
        return None
    code = text[span[0] : span[1]]
    tree = _parsed(code)
    assert tree is not None
    names = _renamed(tree)
    parts = [
        (span[0] + at, span[0] + at + len(token.string), names[token.string])
        for at, token in _tokens(code)
        if token.type == tokenize.NAME and token.string in names
    ]
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    first = function.body[0]
    line_starts = [0]
    for line in code.splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line))
    if first.lineno > function.lineno:
        at = line_starts[first.lineno - 1]
        indent = code[at : at + len(code[at:]) - len(code[at:].lstrip(" \t"))]
        parts.append((span[0] + at, span[0] + at, f"{indent}{COMMENT}\n"))
    edited = replaced(text, parts) if parts else None
    return edited if edited is not None and program_span(edited.after) is not None else None


def _renamed(tree: ast.Module) -> dict[str, str]:
    """New names of the variables that functions assign and nothing else uses: no parameter, attribute, keyword
    argument, import, global or nested function, nothing in an f-string or at the top level."""
    stored: set[str] = set()
    used: set[str] = set()
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
            if isinstance(node.ctx, ast.Store):
                stored.add(node.id)
        elif isinstance(node, ast.JoinedStr):
            other |= _names_in(node)
        elif isinstance(node, ast.arg):
            other.add(node.arg)
        elif isinstance(node, ast.Attribute):
            other.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            other.add(node.arg)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            other.update(node.names)
        elif isinstance(node, ast.alias):
            other.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)) and node.name:
            other.add(node.name)
    for statement in tree.body:
        if not isinstance(statement, ast.FunctionDef):
            other |= _names_in(statement)
    names = {name: f"{name}_value" for name in sorted(stored - other)}
    return {name: new for name, new in names.items() if new not in used}


def _names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
