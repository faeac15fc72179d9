"""Finds the program in a chat answer: fences, prose, [BEGIN]..[DONE], several blocks, unclosed fences."""

from __future__ import annotations

import ast
import re

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_INLINE_FENCE = re.compile(r"```([^`\n]+)```")
_MARKED = re.compile(r"\[BEGIN\](.*?)(?:\[DONE\]|\Z)", re.DOTALL)
_PYTHON = {"", "python", "python3", "py", "py3", "python2", "ipython", "ipython3", "pycon"}
_PROGRAM_LINE = re.compile(r"^(?:def|class|async def|from|import|@)\b|^@|^[A-Za-z_]\w*\s*(?::[^=\n]+)?=[^=]")
_DEFINITION = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)


def extract_code(text: str, entry_point: str | None = None) -> str:
    """The program in ``text``, without fences and prose; ``text`` as it is where no part of it looks like a program.

    Among several fenced blocks: those that parse are preferred, then the last that defines ``entry_point``, then the
    last that defines anything; blocks before it that only define other names (imports, helpers) are kept in front of
    it, blocks that redefine what the chosen one defines are drafts and are dropped. A completion that is only a
    function body (as HumanEval's) comes back unchanged.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    answer, done, _ = text.partition("[DONE]")
    if done and "[BEGIN]" not in answer:  # the opening was part of the prompt; what follows is a next problem
        text = answer
    blocks = _blocks(text)
    if not blocks:
        marked = _MARKED.search(text)
        return extract_code(marked.group(1), entry_point) if marked else _without_prose(text)
    return _choose(blocks, entry_point)


def _blocks(text: str) -> list[str]:
    """The fenced blocks that may be Python. A fence left open runs to the end; one that is only closed starts with
    the text (the opening was part of the prompt)."""
    blocks: list[tuple[str, str]] = []
    fences = list(_FENCE.finditer(text))
    if not fences:
        return [match.group(1).strip() for match in _INLINE_FENCE.finditer(text) if "def " in match.group(1)]
    position, opening = 0, None
    for fence in fences:
        marker, language = fence.group(1), fence.group(2)
        if opening is None:
            if not language and len(fences) == 1 and text[: fence.start()].strip():
                before, after = text[: fence.start()], text[fence.end() :]
                # A single bare fence: closing if the program stands before it, opening if it stands after.
                body = before if _looks_like_program(before) or not after.strip() else after
                return [_cut(body)]
            opening, position = fence, fence.end() + 1
        elif marker[0] == opening.group(1)[0] and len(marker) >= len(opening.group(1)) and not language:
            blocks.append((opening.group(2).lower(), text[position : fence.start()]))
            opening = None
        elif language:  # a new block although the last was never closed
            blocks.append((opening.group(2).lower(), text[position : fence.start()]))
            opening, position = fence, fence.end() + 1
    if opening is not None:
        blocks.append((opening.group(2).lower(), text[position:]))
    python = [_cut(body) for language, body in blocks if language in _PYTHON and body.strip()]
    return python or [_cut(body) for _, body in blocks if body.strip()]


def _cut(body: str) -> str:
    body = body.split("[DONE]")[0]
    if "[BEGIN]" in body:
        body = body.split("[BEGIN]", 1)[1]
    body = body.strip("\n")
    lines = body.split("\n")
    if any(line.startswith(">>> ") for line in lines):
        body = "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
    margin = re.match(r"[ \t]+(?=(?:def|class|import|from|@|async def)\b|@)", body)
    if margin:  # the whole block is indented, as inside a list
        body = "\n".join(line.removeprefix(margin.group()) for line in body.split("\n"))
    return body.rstrip() + "\n"


def _choose(blocks: list[str], entry_point: str | None) -> str:
    if len(blocks) == 1:
        return blocks[0]
    names = [set(_DEFINITION.findall(block)) for block in blocks]
    order = range(len(blocks))
    ranked = [
        [i for i in order if entry_point is not None and entry_point in names[i] and _parses(blocks[i])],
        [i for i in order if entry_point is not None and entry_point in names[i]],
        [i for i in order if names[i] and _parses(blocks[i])],
        [i for i in order if names[i]],
        [i for i in order if _parses(blocks[i])],
        list(order),
    ]
    chosen = next(found for found in ranked if found)[-1]
    helpers = [
        blocks[i] for i in range(chosen)
        if _parses(blocks[i]) and not names[i] & names[chosen] and _only_definitions(blocks[i])
        and not any(names[i] & names[j] for j in range(i + 1, chosen))
    ]  # fmt: skip
    return "\n".join([*helpers, blocks[chosen]])


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _only_definitions(code: str) -> bool:
    """Whether running the block defines names and does nothing else: usage examples are no helpers."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    return all(isinstance(node, kinds) for node in ast.parse(code).body)


def _looks_like_program(text: str) -> bool:
    return any(_PROGRAM_LINE.match(line) for line in text.split("\n")) or _is_body(text)


def _is_body(text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first[:1] in (" ", "\t")


def _without_prose(text: str) -> str:
    """An unfenced answer: from the first line of a program to the last line that still parses."""
    if _parses(text) or _is_body(text):
        return text
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if _PROGRAM_LINE.match(line)]
    for start in starts:
        for end in range(len(lines), start, -1):
            if lines[end - 1].strip() and _parses(part := "\n".join(lines[start:end]) + "\n"):
                if _DEFINITION.search(part):
                    return part
                break
    if starts:
        return "\n".join(lines[starts[0] :])
    return text
