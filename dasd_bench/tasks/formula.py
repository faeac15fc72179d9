r"""Reads simple LaTeX formulas to a value: numbers, ``\frac``, ``\sqrt``, powers, products, ``\pi`` and letters.

Letters take fixed values, so that two formulas that differ there are different formulas. What is rare or ambiguous
(``1/2x``, functions, subscripts) is not read at all, or, as ``2\frac{1}{2}``, read one way at each point.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

Value = Fraction | float | complex

_TOKEN = re.compile(r"\d+\.\d+|\.\d+|\d+|\\[a-zA-Z]+|[a-zA-Z]|[-+*/^(){}\[\]]|(?P<space>\s+)|(?P<other>.)")
_POINTS = ((0.7310585786, 0.2689414214), (1.3180508, 0.4123105626))
LARGEST = 1 << 16
"""Largest exponent, in bits of the result, that is worked out exactly."""


class Unreadable(Exception):  # noqa: N818  (it is an answer of the reader, not a fault)
    """The formula is not of the simple kind."""


def evaluate(text: str, point: int) -> Value:
    """The value of a formula at one of two fixed points; :class:`Fraction` where it is rational."""
    reader = _Reader(text, point)
    try:
        value = reader.sum()
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise Unreadable from error
    if reader.at != len(reader.tokens):
        raise Unreadable
    return value


def letter_value(letter: str, point: int) -> Value:
    """A fixed value of a letter; ``i`` and ``e`` are the constants at the second point, letters at the first."""
    if point == 1 and letter == "i":
        return 1j
    if point == 1 and letter == "e":
        return math.e
    base, step = _POINTS[point]
    return base + step * ((ord(letter) * 37) % 101) / 10


class _Reader:
    """A recursive-descent reader of one formula."""

    def __init__(self, text: str, point: int) -> None:
        self.tokens: list[str] = []
        self.point = point
        self.at = 0
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
            self.tokens.append(match[0])

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
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        total: Value = sign * self.product()
        while self.peek() in ("+", "-"):
            plus = self.take() == "+"
            term = self.product()
            total = total + term if plus else total - term
        return total

    def product(self) -> Value:
        """Factors side by side, with a dot, or one division."""
        total = self.power()
        before = self.tokens[self.at - 1]
        divided = False
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                sign = 1
                if self.peek() == "-":
                    self.take()
                    sign = -1
                total = total * sign * self.power()
            elif token == "/":
                self.take()
                if divided:
                    raise Unreadable
                divided = True
                total = total / self.power()
            elif token and (token[0].isalnum() or token == "(" or token in ("\\frac", "\\sqrt", "\\pi")):
                if divided or token[0].isdigit():
                    raise Unreadable  # 1/2x and x2 mean different things to different readers
                if token == "\\frac" and before.replace(".", "").isdigit() and self.point == 1:
                    total = total + self.power()  # a mixed number; at the first point it is read as a product
                else:
                    total = total * self.power()
            else:
                return total
            before = self.tokens[self.at - 1]

    def power(self) -> Value:
        """An atom and its exponent."""
        is_letter = self.peek().isalpha()
        base = self.atom()
        if self.peek() == "(" and is_letter:
            raise Unreadable  # f(x) is a function or a product
        if self.peek() != "^":
            return base
        self.take()
        exponent = self.argument()
        if self.peek() == "^":
            raise Unreadable
        if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(exponent) > LARGEST:
                raise Unreadable
            return base ** int(exponent)
        return complex(base) ** complex(exponent)

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
        if token == "\\frac":
            above = self.argument()
            return above / self.argument()
        if token == "\\sqrt":
            return self.root()
        if len(token) == 1 and token.isalpha():
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
