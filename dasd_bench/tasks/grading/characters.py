r"""Text as ASCII would have it, and LaTeX without its dress: what every reader of answers works on.

Models write ``−3``, ``１２``, ``1 000`` with a thin space, ``cm²`` and ``2½``; each means what its plain form means.
"""

from __future__ import annotations

import re
import unicodedata

THIN = "\u2009"
"""What all narrow and non-breaking spaces become: they group digits, which an ordinary space seldom does."""

_NARROW = "\u00a0\u2007\u2008\u2009\u200a\u202f"
_WIDE = "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u205f\u3000"
_INVISIBLE = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufe0f\ufeff"
)
_PLAIN: dict[int, str | None] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, _NARROW), THIN),
    **dict.fromkeys(map(ord, _WIDE), " "),
    **dict.fromkeys(map(ord, _INVISIBLE), None),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2044\u2215"), "/"),
    ord("\ufe62"): "+",
    ord("\u066b"): ".",
    ord("\u066c"): ",",
    ord("\u22c5"): "·",
    **dict.fromkeys(map(ord, "➔➜➡➤👉"), "→"),
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED_RUN = re.compile(r"[⁰¹²³⁴-⁹⁻⁺]+")
_STYLED = re.compile("[\U0001d400-\U0001d7cbⒶ-ⓩ]")
_UNSPACED = r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
_BESIDE_CJK = re.compile(rf"(?<={_UNSPACED})(?=[-+$\\A-Za-z0-9])|(?<=[A-Za-z0-9])(?={_UNSPACED})")
"""Between a letter of a script without spaces and a number or word."""
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_ESCAPED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dt]?frac|sqrt|boxed|text|math[a-z]+|times|cdot|left|right|pi|infty|pm)(?![a-zA-Z]))"
)
_COLOR_OR_SIZE = re.compile(
    r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|bf|rm|it|sf|tt)(?![a-zA-Z])\s*"
    r"|\\underline(?=\s*\{)"
)

_WORDS_IN_MATH = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|sf|it|tt|bb)|mbox|operatorname|bm|boldsymbol|emph|underline)\s*"
    r"\{([^{}]*)\}"
)
_DEEPEST = 4
"""Levels of ``\\text{\\textbf{...}}`` that are taken off."""
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?[\d.,]+)\s*\}|(\d))\s*(?:\{\s*(-?[\d.,]+)\s*\}|(\d))")
_DRESS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"~~[^~\n]+~~|</?(?:[biup]|em|strong|mark|span|div)(?:\s[a-z]+=[^<>\n]*)?>"), ""),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\.?|\\(?:display|text)style(?![a-zA-Z])|\\!"), ""),
    (re.compile(r"\{([,.])\}"), r"\1"),
    (re.compile(r"(?<=\d)(?:\\[,;: ]|~|\\thinspace(?![a-z])\s*)(?=\d{3}(?!\d))"), THIN),
    (re.compile(r"\\[,;: ]|~|\\q?quad(?![a-zA-Z])|\\thinspace(?![a-zA-Z])|\\[()\[\]]"), " "),
    (re.compile(r"\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])"), "×"),
    (re.compile(r"\\div(?![a-zA-Z])"), "÷"),
    (re.compile(r"\\(?:approx|simeq)(?![a-zA-Z])|≈"), "="),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\(?:degree|textdegree)(?![a-zA-Z])"), "°"),
    (re.compile(r"\\([%#&_])"), r"\1"),
    (re.compile(r"([$€£₹]\s?\d[\d,.]*)[kK](?![\w$])|(?<=\d)k(?![\w$])"), r"\1 thousand"),
    (re.compile(r"([$€£₹]\s?\d[\d,.]*)(?:M|mn?)(?![\w$])"), r"\1 million"),
    (re.compile(r"([$€£₹]\s?\d[\d,.]*)(?:B|bn)(?![\w$])"), r"\1 billion"),
    (re.compile(r"\b(?:US|AU|CA|NZ|HK|[ACS])(?=\\?\$)"), ""),
    (re.compile(r"\\(?:textdollar|pounds|euro)(?![a-zA-Z])|\\?\$|[€£¥₹₽₩₪₫฿₱₦₴₺₿¢]"), ""),
    (re.compile(r"(?<![\w)*])\*{1,3}(?=\S)|(?<=[^\s*])\*{1,3}(?![\w(*])|`"), ""),
    (re.compile(r"(?<![A-Za-z0-9])_{1,2}(?=[-\w])|(?<=[A-Za-z0-9.%])_{1,2}(?![A-Za-z0-9{_])"), ""),
]


def plain(text: str) -> str:
    """The text with signs, digits, spaces, quotes and raised digits in their ASCII form; what is invisible is gone, as
    are LaTeX's colors and sizes, and the second backslash that JSON writes."""
    text = _ESCAPED.sub(r"\\", _COLOR_OR_SIZE.sub("", text))
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    text = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    text = _BESIDE_CJK.sub(" ", _STYLED.sub(lambda letter: unicodedata.normalize("NFKC", letter[0]), text))
    text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    return _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/"), text)


def undressed(text: str) -> str:
    r"""A plain text without LaTeX's and Markdown's dress: ``\text{}``, ``\left``, spacing, dollar and currency signs,
    bold; fractions of numbers become ``a/b``, ``\times`` becomes ``×``."""
    for _ in range(_DEEPEST):
        text = _WORDS_IN_MATH.sub(r" \1 ", text)
    for pattern, replacement in _DRESS:
        text = pattern.sub(replacement, text)
    text = _FRACTION.sub(lambda m: f"{_between(text, m.start())}{m[1] or m[2]}/{m[3] or m[4]}", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def _between(text: str, start: int) -> str:
    """The space of a mixed number: one and a half is ``1 1/2``."""
    return " " if text[start - 1 : start].isdigit() else ""
