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

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*|(?:\bb|\x08)oxed\s*(?=\{)")
"""Also a box whose backslash is lost, or was read as JSON's ``\\b``."""
_UNBRACED = re.compile(r"[-+]?[\d.,]*\d|\\(?!boxed|fbox)[a-zA-Z]+[^\s$]*|[A-Z](?![\w'])(?!\s+[a-z])|[a-z](?=\s*\$)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANK = re.compile(
    r"(?:\\[,;:! ]|\\(?:l?dots|text\{\s*\}|q?quad|_|square|phantom\{[^{}]*\})|[\s.…?_])*"
    r"(?:\\text\{)?\s*<?(?:(?:your |the )?(?:final )?answer)?>?\s*\}?",
    re.IGNORECASE,
)
"""An empty box, or one that a text shows as the form to fill in."""

_MARKER = re.compile(
    r"(?P<final>final[\s_]+)?(?<!wrong )(?<!incorrect )(?:\b|(?<=_))(?:answers?\b|ans\b\.?)"
    r"(?:\s+(?:to|for|of|in|that|among)\s[^.\n:=?]{1,80}?|,?\s+(?:here|therefore|thus|hence|then|choice|letter),?)?[\"'*_]*"
    r"(?:(?:\s*(?:(?P<is>\b(?:is|are|was|(?:would|will|must|should|(?:has|seems|appears|turns out) to) be|equals"
    r"|(?:comes|works)\s+(?:out\s+)?to)\b)"
    r"|:|=|→|->)[*_\"']*)+|\s+[-—](?=\s))"
    r"|(?:答案|选项|答え|正解|正答|回答|解答|정답|답)\s*(?:应?[是为选]|は|은|는|:)\s*:?|(?<!不)选择?\s*:?\s*(?=[(*]*(?-i:[A-Z])\b)"
    r"|\b(?:antwort|lösung|respuesta|solución|réponse|risposta|resposta|ответ|antwoord|odpowiedź|cevap|jawaban|jibu"
    r"|đáp án|الإجابة|الجواب|उत्तर|উত্তর"
    r"|(?:opción|alternativa|option)\s+(?:correct[ae]|corret[ao]|certa)|richtige\s+option)\b"
    r"(?:\s+(?!(?:no|non|não|ne|nicht|nie|niet|не)\b)[^\W\d_]+){0,3}?[\"'*_]*"
    r"\s*(?::|=|\b(?:ist|lautet|es|est|è|é|is|adalah|là|هي|هو)\b|—|-(?=\s)|(?=\s\(?(?-i:[A-Z])\b))[*_\"']*"
    r"|คำตอบ(?:ที่ถูกต้อง)?\s*(?:คือ|:)|(?P<tag><answer>|\[answer\]|【答案】)"
    r"|^[ \t#*_]*(?P<heading>final answer|answer)[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|hold\s+on|hmm|actually|correction|oops|sorry|i\s+(?:made|misread|forgot|miscalculated)"
    r"|(?:that|this)(?:'s|\s+is|\s+was)\s+(?:wrong|incorrect|not\s+(?:right|correct)))\b",
    re.IGNORECASE,
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


def retracted(text: str, end: int) -> bool:
    """Whether a text takes back the answer that ends there: says so, and declares one after it."""
    taken_back = _TAKEN_BACK.search(text, end)
    return taken_back is not None and next(clauses(text[taken_back.start() :]), None) is not None


@dataclass(frozen=True, slots=True)
class Clause:
    """What follows a marker, to the end of its sentence. ``stated``: "answer is", the final answer, or the last
    sentence of all, in which words may come first; after "Answer:" a worked solution may begin. ``start`` is where the
    marker is."""

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
        found = _END.search(text, after, after + LONGEST_CLAUSE)
        end = after if found is None else found.start()
        if text[start - 1] == '"' and '"' in text[start:end]:
            end = text.index('"', start)
        inside = text[start:end].strip()
        if inside:
            stated = any(marker[name] for name in ("final", "is", "tag", "heading")) or not text[end:].strip(" \n.!*_")
            yield Clause(marker.start(), inside, stated)
