r"""Finds the number that a text gives as its answer, and compares numbers exactly.

Looked for is what the text declares, the strongest sign first: ``\boxed{}``, GSM8K's ``#### n``, "the answer is n" (of
"the answer is 20% of 50 = 10" what it comes to), a bold number in the last line, and last the last number. What a text
declares is its answer even where it is no number: ``\boxed{3x}`` is wrong for every number, whatever else is written.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from dasd_bench.tasks.base import verdict_of
from dasd_bench.tasks.grading.characters import THIN, plain, undressed
from dasd_bench.tasks.grading.declared import clauses, filled_boxes, retracted
from dasd_bench.tasks.grading.own_turn import own_turn
from dasd_bench.types import Verdict

LONGEST = 1000
"""Characters of a number beyond which it is no answer but runaway text; Python reads no integer of 4300 digits."""
LARGEST_EXPONENT = 300
"""Powers of ten beyond which a number is not worked out."""

_GROUPED = rf"\d{{1,3}}(?:,\d{{3}})+|\d{{1,2}}(?:,\d{{2}})+,\d{{3}}|\d{{1,3}}(?:{THIN}\d{{3}})+|\d{{1,3}}(?:'\d{{3}})+"
_DECIMAL = rf"(?:{_GROUPED}|\d+)(?:\.\d+)?|\.\d+"
_POWER = r"\s*(?:\^|\*\*)\s*(?:\{\s*([-+]?\d+)\s*\}|\(\s*([-+]?\d+)\s*\)|([-+]?\d+))"
_SPACED = re.compile(r"(?<![\d.,])(?<!\d )\d{1,3}(?: \d{3})+(?:\.\d+)?(?![\d.,]*\d)(?! \d)")
_VALUE = re.compile(
    rf"(?P<sign>[-+]?)\s?(?:(?P<whole>\d+)\s(?P<part>\d+/\d+)|(?P<decimal>{_DECIMAL})(?:/(?P<below>-?(?:{_DECIMAL})))?)"
    rf"(?:[eE](?P<e>[-+]?\d+)|\s*[×x*·]\s*10{_POWER})?"
)
_SCALES = {"hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12}
_SCALE = re.compile(r"(?<=\d)\s+(hundred|thousand|lakh|million|crore|billion|trillion)s?\b", re.IGNORECASE)
_ONES = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_IN_WORDS = {word: number for number, word in enumerate(f"zero {_ONES} {_TEENS}".split())}
_IN_WORDS |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_SPELLED = re.compile(
    rf"(?P<tens>{'|'.join(_TENS.split())})(?:[- ](?P<ones>{'|'.join(_ONES.split())}))?\b"
    rf"|(?P<small>{'|'.join(f'zero {_TEENS} {_ONES}'.split())})\b(?! (?:of|that|which|who|we|i)\b)",
    re.IGNORECASE,
)
_NOT_WHOLE = re.compile(
    r"\d|\b(?:hal(?:f|ves)|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?)\b", re.IGNORECASE
)
_TEN = re.compile(rf"(?P<sign>[-+]?)\s?10{_POWER}")
_TOKEN = re.compile(
    # A sign belongs to a number where nothing stands before it that could be subtracted from.
    rf"(?:(?<![\w.,'^{THIN}])|(?<=\bRs\.))(?<!\^\{{)(?<!_\{{)(?:(?<![\w)\]}}%°])[-+])?"
    # Everything that hangs together, whether or not it is one number: 1,00 and 10:30 are none.
    rf"(?:\d+\s\d+/\d+|(?:\d|\.(?=\d))(?:[,.'{THIN}:/]?\d)*)(?:/-\d+)?"
    rf"(?:[eE][-+]?\d+(?!\w)|(?:\s*[×x*·]\s*10|(?<=\b10)){_POWER}(?!\w))?"
    r"(?!\w*\d)(?!(?:st|nd|rd|th)\b)"
)
_OPERATOR = re.compile(
    r"\s*\^|\s*[°%]?\s*(?:[a-zA-Z]+\s+)?(?:[-+*/×÷]|x(?=\s*\d)|\b(?:times|plus|minus|divided by|multiplied by)\b)"
    r"\s*[-(]?\s*(?:[\d(]|(?!a\b)[a-zA-Z]\b)"
)
_OPERAND = re.compile(r"[\w)]\s*[+*/×÷^]\s*$|(?<![a-zA-Z])[a-zA-Z]\s*-\s*$|=[^=]*\b(?:or|and)\b[^=]*=\s*$")
"""Before a number that is part of a formula, or the last of several equations."""
_JOINED = re.compile(
    r"^\s*(?:hours?|hrs?|minutes?|mins?|feet|ft|pounds?|lbs?|years?|weeks?|days?|dollars?|meters?|kg|km)\s+(?:and\s+)?$"
    r"|[-+*/×÷^%]|\bx\b|\b(?:of|times|plus|minus|and|by|percent|less|more|than|out|per|from|dozen|half|twice)\b",
    re.IGNORECASE,
)
_RESULT = re.compile(r"=|,?\s\b(?:which is|which equals|which gives|is equal to|equals)\b", re.IGNORECASE)
_ASIDE = re.compile(r",?\s(?:because|since|given that)\s|\s\((?=[^()]*[a-z=])", re.IGNORECASE)
_BREAK = re.compile(r"[,;:](?=\s)(?!\swhich (?:is|equals|gives)\b)")
_FILLER = re.compile(
    r"(?:\s|[(:~≈]|\b(?:therefore|thus|hence|so|then|now|indeed|clearly|simply|just|only|exactly|precisely|about|around"
    r"|approximately|approx\.?|roughly|nearly|almost|equal|to|given|by|as|follows|a|an|the|total|of|sum|number|value"
    r"|at|least|most|rs\.?|usd|eur|gbp|inr|that|there|are|is|final|answer)\b,?\.?)*",
    re.IGNORECASE,
)
_FORMULA_SIGN = re.compile(
    r"[\\±√π∞_≤≥]|[<>]\s*-?\d|\d\s*[<>]\s|\^(?!\{?-?\d\}?(?:\s|$|[/.,)]))|(?<![a-zA-Z])[a-zA-Z]\s?\("
)
_GLUED = re.compile(r"(?![mgslhLKNWVJC]\b)[a-zA-Z](?![^\W\d_])")
_UNITS = (
    r"hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?",
    r"feet|foot|ft|inch(?:es)?|in(?!\s+\w)|km|meters?|m|cm",
    r"pounds?|lbs?|ounces?|oz|kg|grams?|g",
    r"dollars?|cents?",
)
_IN_TWO_UNITS = re.compile(
    "|".join(rf"\s*(?:{unit}),?\s+(?:and\s+)?\d+\s*(?:{unit})\b" for unit in _UNITS), re.IGNORECASE
)
_IN_OTHER_WORDS = re.compile(
    rf"\d+(?:{_IN_TWO_UNITS.pattern})(?:,?\s*(?:\(|\bor\b|\bi\.e\.,?|=)\s*)+(?=\d)", re.IGNORECASE
)
_LIST = re.compile(r"[\s°%\w]{0,20}?\s*(?:[,;]|\b(?:and|or)\b|&)\s*(?:(?:and|or)\s+)?(?:[a-zA-Z]\s*=\s*)?[-+]?[.\d]")
_RANGE = re.compile(r"-\d|\s*(?:to|through)\s+[-+]?\d|\s\d")
_RANGE_BEFORE = re.compile(r"\bbetween\b|^from\b.*\bto\s*$", re.IGNORECASE)
_ADVERBIAL = re.compile(
    r"\b(?:in|after|for|within|over|per|every|during|from|on|with|than|by|at)\s+(?:the\s+)?$", re.IGNORECASE
)
_NEGATION = re.compile(r"\b(?:not|n't|isn't|never|instead of|rather than)\s+(?:\w+\s+)?$", re.IGNORECASE)
_MINUS_IN_WORDS = re.compile(r"\b(?:negative|minus)\s+(?=[\d.])", re.IGNORECASE)
_BESIDE_THE_POINT = re.compile(
    r"\b(?:step|decimal|decimals|part|page|figure|section|line|significant)s?\b", re.IGNORECASE
)
_LABEL_BEFORE = re.compile(r"\b(?:step|part|page|figure|section|line)\s*$|(?:^|\n)\s*$", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)(?:\n[ \t]*([-+$\d.,]+)[ \t]*$)?", re.MULTILINE)
_ORDINAL = re.compile(r"\d+\s*(?:[.):](?=\s*[^\s\d])|-\s+[a-zA-Z])")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def strip_calculator_marks(text: str) -> str:
    """A GSM8K answer without its calculator marks: ``48/2=<<48/2=24>>24`` becomes ``48/2=24``."""
    return _CALCULATOR.sub("", text)


def steps(answer: str) -> str:
    """The number of steps of a GSM8K answer: its lines before ``####`` that are not blank."""
    return str(sum(bool(line.strip()) for line in answer.rpartition("####")[0].splitlines()))


def number_in(text: str) -> Fraction | None:
    r"""The value of a text that is one number, whatever it is dressed in: ``$1,000.00``, ``50%``, ``12.``, ``3/4``,
    ``-\$3``, ``1{,}500``, ``1.5 \times 10^3``, ``18\text{ cm}^2``.

    None for anything else, and for numbers of more than :data:`LONGEST` characters.
    """
    if len(text) > LONGEST:
        return None
    bare = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}\d]*\}(?:\s*\^\s*\{?\d\}?)?\.?$", "", plain(text).strip().strip("$"))
    return _value(undressed(bare))


def _value(bare: str) -> Fraction | None:
    """The value of an undressed number."""
    bare = re.sub(r"\s*[%°.]+$", "", bare.strip()).strip()
    bare = re.sub(r"^\{(.*)\}$|^\((.*)\)$", r"\1\2", bare)
    bare = _SPACED.sub(lambda found: found[0].replace(" ", ""), bare)
    bare = re.sub(r"^-\s?-", "", bare)
    bare = _SCALE.sub(lambda found: f" × 10^{_SCALES[found[1].lower()]}", bare)
    match = _TEN.fullmatch(bare) or _VALUE.fullmatch(bare)
    if match is None or len(bare) > LONGEST:
        return None
    parts = match.groupdict()
    (*raised,) = (group for group in match.groups()[-3:] if group)
    exponent = int((parts.get("e") or (raised[0] if raised else "0"))[:9])
    if abs(exponent) > LARGEST_EXPONENT:
        return None
    if "decimal" not in parts:
        value = Fraction(1)
    elif parts["whole"] is not None:
        above, _, below = parts["part"].partition("/")
        if not int(below):
            return None
        value = int(parts["whole"]) + Fraction(int(above), int(below))
    else:
        value = _fraction(parts["decimal"])
        divisor = _fraction(parts["below"] or "1")
        if not divisor:
            return None
        value /= divisor
    value *= Fraction(10) ** exponent
    return -value if parts["sign"] == "-" else value


def _fraction(decimal: str) -> Fraction:
    return Fraction(re.sub(rf"[,'{THIN}]", "", decimal))


def same_number(a: str, b: str) -> bool:
    """True where both texts are numbers of equal value: ``1,000`` and ``1000``, ``5.0`` and ``5``, ``$7`` and ``7.``"""
    left, right = number_in(a), number_in(b)
    return left is not None and left == right


def extract_number(text: str) -> str | None:
    """What a text gives as its answer where a number is wanted; None where it declares nothing and has no number."""
    declared = declared_number(text)
    if declared is not None:
        return declared
    text = plain(text)
    last_line = text.strip().rpartition("\n")[2]
    for bold in reversed(_BOLD.findall(last_line)):
        inside = undressed(bold)
        if _starts_with_number(inside) and not _ORDINAL.match(inside):
            return _read(inside)
    bare = undressed(text)
    # "It is 7 (out of 10)."
    shorter = bare[: bare.rfind("\n") + 1] + _ASIDE.split(bare.rpartition("\n")[2], maxsplit=1)[0]
    return _last_number(shorter) or _last_number(bare)


def _last_number(bare: str) -> str | None:
    """The last number that is neither negated nor that of a step or an item of a list, unless all are."""
    found = labels = None
    for token in _TOKEN.finditer(bare):
        if _NEGATION.search(bare, max(0, token.start() - 30), token.start()):
            continue
        if _LABEL_BEFORE.search(bare, max(0, token.start() - 10), token.start()) and _ORDINAL.match(
            bare, token.start()
        ):
            labels = token[0]
        else:
            found = token[0]
    return found or labels


def declared_number(text: str) -> str | None:
    """The answer in the last box, else after ``####``, else after the last "answer is"; None where there is none."""
    text = plain(text)
    found = filled_boxes(text)
    if found and not retracted(text, found[-1][1]):
        return _boxed(text, found)
    return _hashed_or_stated(text)


def declares_answer(text: str) -> bool:
    """True where a text says what its answer is: boxed, after ``####`` or as "the answer is n"."""
    return declared_number(text) is not None


def grade_number(text: str, answer: str) -> Verdict:
    """The verdict on a worked solution whose final answer is a number."""
    found = extract_number(own_turn(text, declares_answer))
    return verdict_of(found, found is not None and same_number(found, answer))


def _boxed(text: str, found: list[tuple[int, int, str]]) -> str:
    """What the last box says; all of several that are listed ("5 and 6") are no number."""
    inside = found[-1][2]
    if (
        len(found) > 1
        and found[-2][2] != inside
        and re.fullmatch(r"[\s$\\().]*(?:,|;|and|or|&|,\s*and|,\s*or)[\s$\\()]*", text[found[-2][1] : found[-1][0]])
    ):
        return f"{found[-2][2]}, {inside}"
    return _read(_in_digits(undressed(inside))) or inside


def _hashed_or_stated(text: str) -> str | None:
    """``####`` is GSM8K's mark and a Markdown heading: a number alone is an answer; one with words after it only where
    no "answer is" follows, and 1, 2, 3 in a row are headings."""
    hashed: list[tuple[int, str, bool]] = []
    for line in _HASHES.finditer(text):
        content = undressed(line[1].strip() or line[2] or "")
        if _starts_with_number(content) and not _ORDINAL.match(content):
            hashed.append((line.start(), _read(content) or content, number_in(content) is not None))
    stated = _stated(text)
    if hashed:
        start, value, alone = hashed[-1]
        counted = len(hashed) > 1 and [_value(one) for _, one, _ in hashed] == list(range(1, len(hashed) + 1))
        if stated is None or (not counted and not retracted(text, start) and (alone or stated[0] < start)):
            return value
    return None if stated is None else stated[1]


def _stated(text: str) -> tuple[int, str] | None:
    """Where and what the last "answer is" says."""
    for clause in clauses(text):
        phrase = _in_digits(undressed(clause.text))
        said = _result_of(phrase)
        filler = _FILLER.match(said)
        if filler is not None and not _starts_with_number(said[filler.end() :]):
            # In words: a number of the first part, if it has one, unless it is that of a step or a page.
            first = _BREAK.split(phrase, maxsplit=1)[0]
            phrase = "" if not clause.stated or _BESIDE_THE_POINT.search(first) else first
        if phrase:
            value = _read(phrase)
            if value is not None:
                return clause.start, value
            if clause.stated and _FORMULA_SIGN.search(phrase):
                return clause.start, phrase
    return None


def _in_digits(phrase: str) -> str:
    """A phrase that begins with a whole number in words, with it in digits: ``twenty-five eggs``, ``one million``."""
    lead = re.match(rf"{_FILLER.pattern}(?:negative\s+|minus\s+)?", phrase, re.IGNORECASE)
    found = None if lead is None or _NOT_WHOLE.search(phrase) else _SPELLED.match(phrase, lead.end())
    if lead is None or found is None or re.search(r"\bthe one$", phrase[: found.end()], re.IGNORECASE):
        return phrase
    number = sum(_IN_WORDS[word.lower()] for word in found.groups() if word)
    return f"{phrase[: found.start()]}{number}{phrase[found.end() :]}"


def _starts_with_number(phrase: str) -> bool:
    return re.match(r"[-+~(]?\s?\.?\d|(?:negative|minus)\s+\d", phrase, re.IGNORECASE) is not None


def _read(phrase: str) -> str | None:
    """The number that an undressed phrase says; the phrase itself where it says a formula, a list or a range; None
    where it has no number."""
    phrase = _IN_OTHER_WORDS.sub("", _MINUS_IN_WORDS.sub("-", phrase.strip()))
    phrase = _ASIDE.split(phrase, maxsplit=1)[0].rstrip(" .")
    phrase = _SCALE.sub(lambda found: f" × 10^{_SCALES[found[1].lower()]}", phrase)
    phrase = re.sub(r"(?<=\d) and (?=\d+/\d)", " ", re.sub(r"^<\s*([-+\d.,]+)\s*>$", r"\1", phrase))
    phrase = _SPACED.sub(lambda found: found[0].replace(" ", ""), re.sub(r"^([-+])[\s(]+(?=[\d.])", r"\1", phrase))
    whole, phrase = phrase, _result_of(phrase)
    if _OPERAND.search(whole[: len(whole) - len(phrase)]):
        return whole
    tokens = [t for t in _TOKEN.finditer(phrase) if not _NEGATION.search(phrase, max(0, t.start() - 30), t.start())]
    if not tokens:
        # "The 18th" is 18 where nothing else is.
        ordinal = re.search(r"\b(\d+)(?:st|nd|rd|th)\b", phrase)
        return ordinal[1] if ordinal else None
    leads = _FILLER.match(phrase)
    if leads is not None and leads.end() >= tokens[0].start():
        first = tokens[0]
    else:
        # "Janet makes 18 dollars in 2 days": a number of how long or how often is not what was asked for.
        first = ([t for t in tokens if not _ADVERBIAL.search(phrase, max(0, t.start() - 20), t.start())] or tokens)[-1]
    before, after = phrase[: first.start()], phrase[first.end() :]
    glued = _GLUED.match(after)
    if (
        glued is not None
        or _OPERAND.search(before)
        or _RANGE.match(after)
        or _RANGE_BEFORE.search(before)
        or _OPERATOR.match(after)
        or _IN_TWO_UNITS.match(after)
        or _FORMULA_SIGN.search(phrase)
        or (first is tokens[0] and len({_value(t[0]) for t in tokens}) > 1 and _is_list(before, after))
    ):
        return phrase
    return first[0]


def _is_list(before: str, after: str) -> bool:
    """True for the start of "3, 4", "(3, 4)" and "3 and 4" where nothing but numbers is listed."""
    rest = _LIST.match(after)
    return (
        rest is not None and re.fullmatch(r"[\s\d.,;()+\-]|(?:[\s\d.,;()&+\-]|and|or|[a-zA-Z]\s*=)*", after) is not None
    )


def _result_of(phrase: str) -> str:
    """Of "18 + 24 = 42" and "20% of 50 = 10" the part after the last equals sign; of "18 since 5 + 13 = 18" all."""
    comma = _BREAK.search(phrase)
    signs = list(_RESULT.finditer(phrase, 0, len(phrase) if comma is None else comma.start()))
    if not signs:
        return phrase
    left, right = phrase[: signs[-1].start()], phrase[signs[-1].end() :].strip()
    numbers = list(_TOKEN.finditer(left))
    gaps = [left[a.end() : b.start()] for a, b in pairwise(numbers)]
    if not _TOKEN.search(right) or not all(_JOINED.search(gap) or _RESULT.search(gap) for gap in gaps):
        return left if numbers else phrase
    # "18, which is 3 * 6" explains the number before it.
    if len(numbers) == 1 and (
        ("which" in signs[-1][0] and not _JOINED.search(left))
        or (len(_TOKEN.findall(right)) > 1 and _OPERATOR.search(right))
    ):
        return left
    return right
