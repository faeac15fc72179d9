"""Grades free-text answers to multiple-choice questions: by the letter they name, or by a choice's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from dasd_bench.tasks.base import verdict_of
from dasd_bench.tasks.grading.characters import plain, undressed
from dasd_bench.tasks.grading.declared import clauses, filled_boxes, retracted
from dasd_bench.tasks.grading.numbers import declared_number, number_in
from dasd_bench.tasks.grading.own_turn import own_turn
from dasd_bench.types import Verdict

_LABEL = (
    r"(?:[(\[{<|\"'][ \t]*){0,2}(?P<label>[A-Za-z]|[1-9])(?![\w°^%/+]|'\w|[.,]\d)[ \t]*(?P<close>[)\]}>|\"'.:,;]|$)?"
)
_HEDGE = (
    r"the|most likely|probably|therefore|thus|clearly|definitely|option|choice|letter|answer|is"
    r"|of course|indeed|simply|actually|likely|obviously|certainly|none other than|number|选项"
    r"|(?:la|el|le|a)(?=\s+[^\W\d_]{4})|opci[oó]n|alternativa|letra|lettre|lettera|buchstabe|(?-i:la|a)(?=\s+(?-i:[A-Z])\b)"
)
_LEADING = re.compile(rf"(?:[\s:,(\[<…—]|\.\.+)*(?:(?:{_HEDGE})\b[:,\s]*)*{_LABEL}", re.IGNORECASE)
_OTHER_LABEL = re.compile(
    r"\s*(?:,|;|/|&|\band/or\b|\bor\b|\band\b)\s*(?:(?:either|possibly|maybe|perhaps)\s+|option\s+|choice\s+)?[(\"']?([A-Za-z1-9])(?![\w'])"
)
_OTHERS = re.compile(rf"^(?:{_OTHER_LABEL.pattern}|\s*[A-Z](?=,|\s+and\b|\s+or\b))+")
_SEVERAL = re.compile(rf"(?:[)\]\"' ]*{_OTHER_LABEL.pattern})+[)\]\"'. ]*$", re.MULTILINE)
_TICK = r"[✓✔✅☑]|\[[xX✓✔]\]"
_AT_LINE_START = re.compile(
    rf"^(?:[ \t>#*•|=→-]|{_TICK}|\[ ?\]|\d+[.)][ \t]+(?=[(\[]?[A-Z][)\]]?[ \t.]*$))*"
    r"(?:(?:(?:option|choice|answer|assistant|ans|letter|solution|result|response|selected|selection|correct|key|output"
    r"|conclusion|verdict|decision|label|prediction|pick|guess|number|no(?=\.))\b[.:]?"
    r"[ \t]*(?::|=>?|->|→)?[* \t]*(?<=[* \t:>→])){1,3}|the[ \t]+letter[ \t]+is[ \t]+)?" + _LABEL + r"(?P<rest>[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
_TICKED = re.compile(_TICK)
_MINUS_IN_WORDS = re.compile(r"\b(?:negative|minus)\s+(?=[\d.])", re.IGNORECASE)
_STRUCK_OUT = re.compile(r"~~[^~\n]+~~")
_MARKUP = re.compile(r"</?(?:[biup]|(?!answer\b|think\b)[a-z][a-z0-9_]+)(?:\s[^<>\n]*)?/?>|<\|\w+\|>")
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}
_NAMED = re.compile(
    r"\b(?:option|choice)\s*[(\"']?(?P<a>[A-Z]|[1-9])(?![\w'])[)\"']?(?P<said>[^.\n]{0,40})"
    r"|\b(?P<b>[A-Z]|[1-9])[)\"']?\s+(?:(?:is|must be|would be)"
    r"\s+(?:the\s+)?(?:only\s+)?(?:correct|right|true|best|answer|one that)\b|it\s+is\b\s*[.!]?\s*$)"
    r"|(?P<c>[A-Z])\s*(?:选项)?\s*是?正确"
)
_DOUBTED = re.compile(
    r"\b(?:(?:don't|do not|not|hardly)\s+(?:think|believe|say|see)|doubt|if)\b[^.,;\n]{0,20}$", re.IGNORECASE
)
_DENIED = re.compile(
    r"[\W_]*[A-Z][)\]\"']?\s+(?:is|was|would\s+be)\s+(?:not|wrong|incorrect|false|a\s+mistake)\b", re.IGNORECASE
)
_RIGHT = re.compile(
    r"(?:\b(?:(?<!not the )(?:correct|right|best|final|suitable|appropriate|likely|accurate)"
    r"\s+(?:answer|choice|option|one|letter|statement)(?:(?:\s+[a-z]+){1,4}\s+(?=is\b|(?:must|would|should)\s+be\b))?"
    r"|my\s+(?:final\s+)?(?:answer|choice|pick|guess|selection)|choice(?=:)"
    r"|(?:i|we|let's|let\s+us)(?:\s+would|\s+will|'d|'ll)?\s+(?:choose|pick|select|go (?:with|for)|say)"
    r"|(?:i'm|i\s+am)\s+(?:choosing|picking|selecting)|going\s+with)"
    r"|(?:choice|option)\"(?=\s*:)|(?:^|(?<=[.!?:]\s))(?:choose|pick|select|final(?=:)))"
    r"[*_\"']*\s*(?:is\b|(?:must|would|should)\s+be\b|:)?[\s*_]*(?P<rest>[^.\n]*(?:\.(?=\d)[^.\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_CONCLUDED = re.compile(
    r"\b(?:it(?:'s|\s+is|\s+(?:must|should|would|has\s+to)\s+be)|(?:so|thus|therefore|hence|on second thought)[,:]?"
    r"|(?:leaves|leaving|left\s+with)(?:\s+(?:us|me|only|just|with)){0,2}|not\s+[A-Z],?\s+but)\s+"
    r"(?:(?:it(?:'s|\s+is|\s+must\s+be)|(?:the\s+)?(?:option|choice|letter))\s+){0,2}"
    r"(?P<rest>[(\[\"']?(?-i:[A-Z])[)\]\"']?)(?=\s*(?:[.!;\n]|$|(?:and\s+)?not\b|as\b))",
    re.IGNORECASE,
)
"""A letter by itself at the end of a conclusion: "It's B.", "Therefore, B."."""
_SAID_LAST = re.compile(
    r"(?:[.!?]|\b(?i:that|this|which)(?:'s|\s+(?:is|would\s+be))(?:\s+option)?)\s+(?P<rest>[(\[\"'*]*[A-Z][)\]\"'*]*)\s*[.!]?[*\s]*\Z"
)
_VERDICT = re.compile(
    r"\b(?:correct|true|yes|right)\b(?=\W*$|\s*[.,;:!)-]|\s+(?:answer|choice|option|one|because|since)\b)|[✓✔✅☑]",
    re.IGNORECASE,
)
_UNCLOSED = re.compile(
    r"\W*(?:$|<\||</)|[-—][ \t]+[A-Za-z]{2}|[ \t]*\([^()\n]*\)[ \t]*[:-]"
    r"|\W*(?:not|instead of|rather than)[ \t]+[(\"']?[A-Z]\b"
)
"""What may follow a letter that begins a line and is not closed: nothing, an explanation, the letter it is not."""
_REJECTED = re.compile(
    r"[\W_]*(?:(?:it|this|that)\s+)?(?:is|are|was|would be|be)?\s*(?:not\b(?!\s+[(\"']?[A-Z]\b)|n't\b|isn't\b"
    r"|wrong\b|incorrect\b|false\b"
    r"|no\b|cannot\b|can't\b|eliminated\b|[✗✘❌])",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"\b(?:not|n't|isn't|wrong|incorrect|false|never|partially|partly|cannot|can't|unlikely|eliminated?)\b",
    re.IGNORECASE,
)
_SECOND_THOUGHTS = re.compile(
    r"\b(?:wait|no|actually|correction|sorry|instead|rather|however|but|hold on"
    r"|re-?check|reconsider|hmm|oops|mistake|second thought|final)\b|但",
    re.I,
)

_NUMBER = r"(?:(?<![\w)])[-+])?(?:\d+(?:[.,:/]\d+)*|\.\d+)(?:e[-+]?\d+)?(?:\s?[%°])?"
_TOKEN = re.compile(
    rf"{_NUMBER}(?![a-z])|(?:\d+(?:[.,]\d+)*)?[^\W\d_]\w*(?:'t\b)?(?:[-+](?![\w(]))?|\d\w*"
    r"|[\^/=<>≤≥×÷*+√π∞±%]|(?<=\d)\s-\s(?=\d)",
    re.I,
)
_GLUE_AFTER = frozenset("^/×÷*+%")
_GLUE_BEFORE = frozenset("^/×÷*+<>≤≥±√")
_NO = frozenset(
    ("not", "never", "neither", "nor", "isn't", "aren't", "without", "than", "opposed", "unlike", "instead")
)


def letters_shown(prompt: str, choices: Sequence[str], labels: Sequence[str]) -> bool:
    """True where a prompt lists the choices with their labels, such as ``A. light``, as the first two show."""
    return all(
        # Stock's arc_challenge_chat has the two characters "\n" where line ends are meant.
        re.search(rf"(?:\\n|\b){re.escape(label)}[.):]\s*{re.escape(choice.strip())}", prompt)
        for label, choice in zip(labels[:2], choices[:2], strict=True)
    )


def grade_choice(text: str, choices: Sequence[str], labels: Sequence[str], gold: int, lettered: bool = True) -> Verdict:
    """The verdict on a free-text answer to a multiple-choice question.

    Right is a text that names the right choice's letter and no other, or that holds its words and no other choice's (a
    choice that is part of another one counts only where it stands by itself). What the text declares ("the answer is
    B", a box) goes before what it mentions on the way. A text that holds several choices and no letter gives no
    answer. Letters go first where the question showed them (``lettered``), else the words.
    """
    reader = _Reader(choices, labels)
    readings = (reader.letter, reader.words) if lettered else (reader.words, reader.letter)
    text = reader.plain(own_turn(text, lambda head: any(read(reader.plain(head)) is not None for read in readings)))
    for read in readings:
        found = read(text)
        if found is not None:
            return verdict_of(labels[found] if read == reader.letter else choices[found], found == gold)
    return verdict_of(None, False)


class _Reader:
    """Reads answers to one question; both readings give the index of a choice, None where they find none or several."""

    def __init__(self, choices: Sequence[str], labels: Sequence[str]) -> None:
        self.labels = {label.upper(): i for i, label in enumerate(labels)}
        self.currencies = {sign for sign in _CURRENCIES if any(sign in choice for choice in choices)}
        self.plains = plains = [undressed(self.plain(choice)) for choice in choices]
        numbers = [number_in(choice) for choice in plains]
        self.numbers = numbers if None not in numbers and len({*numbers}) == len(numbers) else []
        # Genotypes differ in nothing else: Bb and BB.
        folds = len({choice.lower() for choice in plains}) == len({*plains})
        self.fold: Callable[[str], str] = str.lower if folds else str
        self.phrases = [self.tokens(choice) for choice in plains]
        shorter = [p[1:] if len(p) > 1 and p[0] in ("a", "an", "the") else p for p in self.phrases]
        if len({*map(tuple, shorter)}) == len(shorter):
            self.phrases = shorter

    def plain(self, text: str) -> str:
        """The text in plain characters; currencies in words where choices have several."""
        text = _MARKUP.sub("\n", plain(text))
        text = _MINUS_IN_WORDS.sub("-", _STRUCK_OUT.sub(" ", text))
        for sign in self.currencies if len(self.currencies) > 1 else ():
            text = text.replace(sign, f" {_CURRENCIES[sign]} ")
        return text

    def tokens(self, text: str) -> list[str]:
        """Words, numbers with their signs and units, and the signs that make another value of what stands beside."""
        text = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", " ", self.fold(text))
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
        text = re.sub(r"(?<=[a-z])'s\b", " ", text, flags=re.IGNORECASE)
        return [re.sub(r"\s", "", token).removeprefix("+") for token in _TOKEN.findall(text)]

    def letter(self, text: str) -> int | None:
        """The choice whose letter a text declares, else the only one that begins a line or is called right."""
        for said in self.declared(text):
            found = self.leading_letter(said)
            if found:
                return found[0] if len(found) == 1 else None
        bare = undressed(text)
        lines = [m for m in _AT_LINE_START.finditer(bare) if m["label"].upper() in self.labels and self.begins(m)]
        begun = {self.labels[m["label"].upper()] for m in lines}
        for several in (_SEVERAL.match(bare, m.end("label")) for m in lines):
            listed = re.findall(r"[A-Z1-9]", several[0]) if several else []
            begun |= {self.labels[label] for label in listed if label in self.labels}
        ticked = {self.labels[m["label"].upper()] for m in lines if _TICKED.search(m[0])}
        if len(ticked) == 1:
            return ticked.pop()
        alone = [m for m in lines if not m["rest"].strip(" .") and (m.end() == len(bare) or not bare[: m.start()])]
        if alone and (alone[0]["label"] == alone[-1]["label"] or _SECOND_THOUGHTS.search(bare)):
            return self.labels[alone[-1]["label"].upper()]
        if len(begun) == 1:
            return begun.pop()
        judged = {self.labels[m["label"].upper()] for m in lines if self.called_right(m)}
        if len(judged) == 1:
            return judged.pop()
        named = set()
        for match in _NAMED.finditer(bare):
            doubted = _DOUBTED.search(bare, max(0, match.start() - 50), match.start())
            if not doubted and (match["a"] is None or not _WRONG.search(match["said"])):
                named.add(self.labels.get((match["a"] or match["b"] or match["c"]).upper()))
        named -= {None}
        return named.pop() if len(named) == 1 and not begun else None

    def begins(self, match: re.Match[str]) -> bool:
        """Whether a letter at the start of a line is a label: closed, or without words after it. Not one that is
        rejected there, alone or with others ("A, C and D are wrong")."""
        own = self.phrases[self.labels[match["label"].upper()]]
        if _REJECTED.match(_OTHERS.sub("", match["rest"])) and self.tokens(match["rest"])[: len(own)] != own:
            return False
        return match["close"] is not None or _UNCLOSED.match(match["rest"]) is not None

    def called_right(self, match: re.Match[str]) -> bool:
        """Whether a line that begins with a label calls its choice right, in words that are not the choice's own."""
        own = self.plains[self.labels[match["label"].upper()]]
        rest = re.sub(rf"(?<!\w){re.escape(own)}(?!\w)", "", match["rest"], flags=re.IGNORECASE)
        return _VERDICT.search(rest) is not None and _WRONG.search(rest) is None

    def words(self, text: str) -> int | None:
        """The choice whose words a text declares, else the only one whose words it holds."""
        for said in self.declared(text):
            present = self.present(said)
            if len(present) == 1:
                return present.pop()
        present = self.present(undressed(text))
        if len(present) != 1 and self.numbers and not re.search("[%°]", text):
            value = number_in(declared_number(text) or text)
            return self.numbers.index(value) if value in self.numbers else None
        return present.pop() if len(present) == 1 else None

    def declared(self, text: str) -> list[str]:
        """What a text declares as its answer, undressed, the strongest first: the last box, then the last statement.

        Two that differ, without a word of correction between, declare nothing.
        """
        found = filled_boxes(text)
        if found and retracted(text, found[-1][1]):
            found = []
        boxed = [undressed(inside) for _, _, inside in found[-1:]]
        if len(found) > 1 and found[-2][2] != found[-1][2]:
            between = text[found[-2][1] : found[-1][0]]
            if re.fullmatch(r"[\s$.\\()]*(?:,|;|and|or|&)?[\s$\\()]*", between):
                return [f"{undressed(found[-2][2])}, {boxed[0]}"]
        stated = list(clauses(text))
        said = [undressed(clause.text) for clause in stated]
        spans = [(clause.start, one) for clause, one in zip(stated, said, strict=True)]
        kept = self.naming(spans + self.matches(text, _RIGHT, _CONCLUDED)) or self.naming(
            self.matches(text, _SAID_LAST)
        )
        for (later, last), (earlier, before) in pairwise(kept):
            if self.meant(last) != self.meant(before) and not _SECOND_THOUGHTS.search(text, earlier, later + 20):
                kept = []
                break
        return boxed + [one for _, one in kept]

    def matches(self, text: str, *forms: re.Pattern[str]) -> list[tuple[int, str]]:
        """Where the forms of a statement are found that is not doubted, and what they state."""
        return [
            (match.start(), undressed(match["rest"]))
            for form in forms
            for match in form.finditer(text)
            if not _DENIED.match(match["rest"]) and not _DOUBTED.search(text, max(0, match.start() - 50), match.start())
        ]

    def naming(self, spans: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """The statements that name a choice, the last one first."""
        return [(at, one) for at, one in sorted(spans, reverse=True) if self.leading_letter(one) or self.present(one)]

    def meant(self, said: str) -> tuple[int, ...]:
        """The choices that a statement names, by letter or else by words."""
        return tuple(self.leading_letter(said)) or tuple(sorted(self.present(said)))

    def leading_letter(self, said: str) -> list[int]:
        """The choices whose letters begin a statement: one, or several in "B or C"."""
        said = re.sub(r"^.*\bnot\s+[(\"']?\w[)\"']?,?\s+but\s+", "", said)
        match = _LEADING.match(said)
        if match is None or match["label"].upper() not in self.labels:
            return []
        label, rest = match["label"], said[match.end() :]
        if match["close"] is None and rest.strip():
            if not label.isupper() or label.isdigit() or re.match(r"\s*[-+=*/^×<>]\s*\w", rest):
                return []
            # "A thermometer" names the choice "thermometer", not the first one.
            if label in "AI" and any(p and self.tokens(rest)[: len(p)] == p for p in self.phrases):
                return []
        found = [self.labels[label.upper()]]
        other = _OTHER_LABEL.match(said[match.end("label") :].lstrip(")\"'] "))
        while other is not None and other[1].upper() in self.labels and (other[1].isupper() or other[1].isdigit()):
            found.append(self.labels[other[1].upper()])
            rest = said[said.find(other[0]) + len(other[0]) :].lstrip(")\"'] ")
            other = _OTHER_LABEL.match(rest) if len(found) < len(self.labels) else None
        return sorted(set(found))

    def present(self, text: str) -> set[int]:
        """The choices whose words a text holds, not negated; longer ones first, each place counting once."""
        words: list[str] = self.tokens(text)
        present = set()
        for i in sorted(range(len(self.phrases)), key=lambda i: -len(self.phrases[i])):
            phrase, at = self.phrases[i], 0
            while phrase and at + len(phrase) <= len(words):
                end = at + len(phrase)
                if words[at:end] != phrase:
                    at += 1
                    continue
                whole = (end == len(words) or words[end] not in _GLUE_AFTER) and (
                    not at or words[at - 1] not in _GLUE_BEFORE
                )
                if whole and not _NO.intersection(words[max(0, at - 2) : at]):
                    present.add(i)
                words[at:end] = ["|"]
                at += 1
        return present
