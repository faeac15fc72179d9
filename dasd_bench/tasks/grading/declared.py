r"""Where a text says what its answer is: boxes, and the clauses after "answer is", "Answer:" and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MOST_CLAUSES = 50
"""Declarations that are looked at, from the last one back: a text that has more repeats itself."""
LONGEST_CLAUSE = 500
"""Characters of a sentence that are looked at."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_UNBRACED = re.compile(r"[-+]?[\d.,]*\d|\\(?!boxed|fbox)[a-zA-Z]+[^\s$]*|[A-Z](?![\w'])(?!\s+[a-z])|[a-z](?=\s*\$)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANK = re.compile(
    r"(?:\\[,;:! ]|\\(?:l?dots|text\{\s*\}|q?quad)|[\s.…?_])*"
    r"(?:\\text\{)?\s*(?:(?:your |the )?(?:final )?answer)?\s*\}?",
    re.IGNORECASE,
)
"""An empty box, or one that a text shows as the form to fill in."""

_MARKER = re.compile(
    r"(?P<final>final\s+)?\b(?:answers?\b|ans\b\.?)(?:\s+(?:to|for|of|in)\s[^.\n:=?]{1,80}?)?[\"'*_]*"
    r"(?:(?:\s*(?:(?P<is>\b(?:is|are|was|(?:would|will|must|should|has to) be)\b)|:|=|→|->)[*_\"']*)+|\s+[-—](?=\s))"
    r"|答案\s*(?:是|为|:)\s*:?"
    r"|\b(?:antwort|lösung|respuesta|solución|réponse|risposta|resposta|ответ)\b(?:\s+(?:final|finale|correcta|correct[eo]"
    r"|giusta))?[\"'*_]*\s*(?::|=|\b(?:ist|lautet|es|est|è|é)\b|—|-(?=\s))[*_\"']*"
    r"|(?:答え|回答|정답|답)\s*(?:は|은|는|:)\s*:?"
    r"|(?P<tag><answer>)|^[ \t#*_]*(?P<heading>final answer|answer)[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = re.compile(r"[ \t*_\"']*(?:\n\s*(?:[-•>]\s+)?[*_\"']*)*")
FORMULA = r"(?<!\\)\$\$[^$]{1,2000}\$\$|(?<!\\)\$(?:\\\$|[^$\n])+\$|\\\((?s:.{1,2000}?)\\\)|\\\[(?s:.{1,2000}?)\\\]"
_FORMULA = re.compile(FORMULA)
_END = re.compile(r"(?<!\bRs)(?<!approx)(?<!\bca)(?<!\bMrs)(?<!\bMr)(?<!\bDr)[.!?](?=[\s*\"')$\]]|$)|。|\n|</|<\||$")


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and inside of every ``\boxed{...}`` and ``\fbox{...}`` that is closed; ``\boxed 5`` gives ``5``."""
    found = list(_BOX.finditer(text))
    closing = _closing_braces(text) if found else {}
    result = []
    for box in found:
        start = box.end()
        if text.startswith("{", start):
            if start in closing:
                result.append((box.start(), closing[start] + 1, text[start + 1 : closing[start]].strip()))
        elif (bare := _UNBRACED.match(text, start)) is not None:
            result.append((box.start(), bare.end(), bare[0].rstrip(".,;")))
    return result


def filled_boxes(text: str) -> list[tuple[int, int, str]]:
    """Boxes with an answer in them: not empty, no dots, no placeholder; of a box within a box the inner one."""
    found = [box for box in boxes(text) if not _BLANK.fullmatch(box[2])]
    return [box for box, after in pairwise([*found, (len(text), 0, "")]) if after[0] >= box[1]]


def last_boxed(text: str) -> str | None:
    """The inside of the last box that is not empty; empty where all closed ones are, None where there is none."""
    found = boxes(text)
    return next((inside for _, _, inside in reversed(found) if inside), "" if found else None)


def _closing_braces(text: str) -> dict[int, int]:
    r"""Where each closed brace of a text is closed, by where it is opened; ``\{`` is none."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing


@dataclass(frozen=True, slots=True)
class Clause:
    """What follows a marker, to the end of its sentence. ``stated``: "answer is", or the final answer, in whose
    sentences words may come first; after "Answer:" a worked solution may begin. ``start`` is where the marker is."""

    start: int
    text: str
    stated: bool


def clauses(text: str) -> Iterator[Clause]:
    """The declarations of a plain text, the last one first."""
    for marker in list(_MARKER.finditer(text))[: -MOST_CLAUSES - 1 : -1]:
        lead = _LEAD.match(text, marker.end())
        start = marker.end() if lead is None else lead.end()
        formula = _FORMULA.match(text, start)
        after = start if formula is None else formula.end()
        end = _END.search(text, after, after + LONGEST_CLAUSE)
        inside = text[start : after if end is None else end.start()].strip()
        if inside:
            yield Clause(marker.start(), inside, any(marker[name] for name in ("final", "is", "tag", "heading")))
