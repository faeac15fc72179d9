r"""Reads simple LaTeX formulas to a value: numbers, fractions, roots, powers, products, ``\pi``, ``\sin``, letters.

Letters take fixed values, so that two formulas that differ there are different formulas. What is rare or ambiguous
(``1/2x``, subscripts) is not read at all, or is read one way at the first point and the other way at the second:
``2\frac{1}{2}`` as a product and as a mixed number, ``f(x)`` as a product and as a function, degrees and radians.
"""

from __future__ import annotations

import cmath
import functools
import math
import re
from collections.abc import Callable
from fractions import Fraction

Value = Fraction | float | complex

_TOKEN = re.compile(r"\d+\.\d+|\.\d+|\d+|\\[a-zA-Z]+|[a-zA-Z]|[-+*/:^(){}\[\]]|(?P<space>\s+)|(?P<other>.)")
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "\\sin": cmath.sin,
    "\\cos": cmath.cos,
    "\\tan": cmath.tan,
    "\\cot": lambda z: 1 / cmath.tan(z),
    "\\sec": lambda z: 1 / cmath.cos(z),
    "\\csc": lambda z: 1 / cmath.sin(z),
    "\\log": cmath.log,
    "\\ln": cmath.log,
}
_GREEK = ("\\alpha", "\\beta", "\\gamma", "\\theta", "\\phi", "\\lambda", "\\omega", "\\rho", "\\mu")
LINE = (0.0, 1.0, 0.5, 2.0)
"""Where the points lie on the line that gives letters their values."""
LARGEST = 1 << 16
"""Largest exponent, in bits of the result, that is worked out exactly."""


class Unreadable(Exception):  # noqa: N818  (it is an answer of the reader, not a fault)
    """The formula is not of the simple kind."""


def evaluate(text: str, point: int) -> Value:
    """The value of a formula at one of the fixed points; :class:`Fraction` where it is rational."""
    value = _value(text, point)
    if value is None:
        raise Unreadable
    return value


@functools.lru_cache(1 << 12)
def _value(text: str, point: int) -> Value | None:
    """The value, None for what cannot be read: one comparison asks for the same values several times."""
    try:
        reader = _Reader(tokens_of(text), point)
        value = reader.sum()
    except (Unreadable, ZeroDivisionError, OverflowError, ValueError, RecursionError):
        return None
    return value if reader.at == len(reader.tokens) else None


def tokens_of(text: str) -> list[str]:
    """The numbers, commands, letters and signs of a formula; :class:`Unreadable` where something else is there."""
    tokens: list[str] = []
    number_before = False
    for match in _TOKEN.finditer(text):
        if match.group("other"):
            raise Unreadable
        if match.group("space"):
            continue
        is_number = match[0][0].isdigit() or match[0][0] == "."
        if is_number and number_before:
            raise Unreadable
        number_before = is_number
        tokens.append(match[0])
    return tokens


def letter_value(letter: str, point: int) -> Value:
    """A fixed value of a letter; ``i`` and ``e`` are the constants at the second point, letters at the others."""
    if point == 1 and letter == "i":
        return 1j
    if point == 1 and letter == "e":
        return math.e
    place = _GREEK.index(letter) + 200 if letter in _GREEK else ord(letter)
    return 0.7310585786 + (place * 37 % 101) / 37 + LINE[point] * (0.4123105626 + (place * 53 % 97) / 31)


class _Reader:
    """A recursive-descent reader of one formula."""

    def __init__(self, tokens: list[str], point: int) -> None:
        self.tokens = tokens
        self.point = point
        self.at = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        """The next token, which must be ``wanted`` where that is given."""
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable
        self.at += 1
        return token

    def sum(self) -> Value:
        """Terms between plus and minus signs."""
        total: Value = self.sign() * self.product()
        while self.peek() in ("+", "-"):
            total = total + self.sign() * self.product()
        return total

    def sign(self) -> int:
        """The product of the signs that come next."""
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign

    def product(self) -> Value:
        """Factors side by side, with a dot, or one division."""
        total = self.power()
        before = self.tokens[self.at - 1]
        divided = False
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                total = total * self.sign() * self.power()
            elif token in ("/", ":"):
                self.take()
                if divided:
                    raise Unreadable
                divided = True
                total = total / self.power()
            elif self.begins_factor(token):
                if divided or token[0].isdigit():
                    raise Unreadable  # 1/2x and x2 mean different things to different readers
                if token == "\\frac" and before.replace(".", "").isdigit() and self.point == 1:
                    total = total + self.power()  # a mixed number; at the first point it is read as a product
                elif token == "(" and before.isalpha() and self.point == 1:
                    inside = self.power()  # a function of a bracket; at the first point it is read as a product
                    total = total * (inside**3 + 2 * inside + 1)
                else:
                    total = total * self.power()
            else:
                return total
            before = self.tokens[self.at - 1]

    @staticmethod
    def begins_factor(token: str) -> bool:
        """Whether a token can begin a factor that stands beside another one."""
        return (
            token[:1].isalnum()
            or token in ("(", "\\frac", "\\sqrt", "\\pi", "\\degree")
            or token in _FUNCTIONS
            or token in _GREEK
        )

    def power(self) -> Value:
        """An atom and its exponent."""
        if self.peek() in _FUNCTIONS:
            return self.function()
        base = self.atom()
        if self.peek() != "^":
            return base
        self.take()
        return self.raised(base, self.argument())

    def raised(self, base: Value, exponent: Value) -> Value:
        """A power: exact where base and exponent allow it."""
        if self.peek() == "^":
            raise Unreadable
        if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(exponent) > LARGEST:
                raise Unreadable
            return base ** int(exponent)
        return complex(base) ** complex(exponent)

    def function(self) -> Value:
        r"""A function with its power and its argument: a bracket, or the factors up to the next function or sign."""
        function = _FUNCTIONS[self.take()]
        exponent: Value = Fraction(1)
        if self.peek() == "^":
            self.take()
            exponent = self.argument()
        if self.peek() in ("(", "{"):
            inside = self.power()
        else:
            inside = self.sign() * self.power()
            while self.begins_factor(self.peek()) and self.peek() not in _FUNCTIONS and self.peek() != "(":
                inside = inside * self.power()
        return self.raised(function(complex(inside)), exponent)

    def argument(self) -> Value:
        """A group in braces, or the one digit, letter or command that stands for one."""
        token = self.peek()
        if token == "{":
            return self.group("{", "}")
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
        if token in ("-", "\\pi") or token[:1] == ".":
            raise Unreadable
        return self.atom()

    def group(self, left: str, right: str) -> Value:
        """A sum in brackets."""
        self.take(left)
        value = self.sum()
        self.take(right)
        return value

    def atom(self) -> Value:
        """A number, a letter, a constant, a fraction, a root, or a group."""
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return Fraction(token)
        if token == "\\pi":
            return math.pi
        if token == "\\degree":
            return math.pi / 180 if self.point == 1 else Fraction(1)
        if token == "\\frac":
            above = self.argument()
            return above / self.argument()
        if token == "\\sqrt":
            return self.root()
        if (len(token) == 1 and token.isalpha()) or token in _GREEK:
            return letter_value(token, self.point)
        if token in ("(", "{"):
            self.at -= 1
            return self.group(token, ")" if token == "(" else "}")
        raise Unreadable

    def root(self) -> Value:
        """The radicand of the given or second degree; exact where it is a perfect power."""
        degree: Value = Fraction(2)
        if self.peek() == "[":
            degree = self.group("[", "]")
        inside = self.argument()
        if isinstance(inside, Fraction) and isinstance(degree, Fraction) and inside >= 0 and degree == 2:
            exact = Fraction(math.isqrt(inside.numerator), math.isqrt(inside.denominator))
            if exact * exact == inside:
                return exact
        return complex(inside) ** (1 / complex(degree))
