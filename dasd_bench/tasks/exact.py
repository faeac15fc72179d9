r"""Canonical forms of simple formulas: two formulas with one form are equal, ``\sqrt{12}`` and ``2\sqrt{3}`` for one.

A form is a sum of rational multiples of square roots and powers of letters, ``\pi`` and degrees. Read are integers,
letters, ``+ - * / ^``, ``\frac``, ``\sqrt`` and brackets; anything that could mean two things (decimals, mixed numbers,
``f(x)``, ``1/2x``) has no form. Equal forms settle equality; different ones settle nothing.
"""

from __future__ import annotations

import math
from fractions import Fraction

from dasd_bench.tasks.formula import Unreadable, tokens_of

Monomial = tuple[int, tuple[tuple[str, int], ...]]
"""The square-free number under the root, and letters with their exponents, in alphabetical order."""
Form = dict[Monomial, Fraction]

ONE: Form = {(1, ()): Fraction(1)}
SYMBOLS = (
    "\\pi",
    "\\degree",
    "\\alpha",
    "\\beta",
    "\\gamma",
    "\\theta",
    "\\phi",
    "\\lambda",
    "\\omega",
    "\\rho",
    "\\mu",
)
MOST_TERMS = 64
"""Terms of a form beyond which a formula is not expanded."""
MOST_BITS = 1 << 12
"""Bits of a number beyond which it is not worked out."""
LARGEST_ROOT = 10**8
"""Largest number whose square factors are looked for."""


def canonical(text: str) -> Form | None:
    """The form of a formula; None where it has none."""
    try:
        reader = _Reader(tokens_of(text))
        form = reader.sum()
    except (Unreadable, ZeroDivisionError, RecursionError):
        return None
    return form if reader.at == len(reader.tokens) else None


def _added(a: Form, b: Form) -> Form:
    total = dict(a)
    for monomial, factor in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + factor
    return {monomial: factor for monomial, factor in total.items() if factor}


def _times(a: Form, b: Form) -> Form:
    if len(a) * len(b) > MOST_TERMS:
        raise Unreadable
    total: Form = {}
    for (root, letters), factor in a.items():
        for (other_root, other_letters), other in b.items():
            shared = math.gcd(root, other_root)
            powers = dict(letters)
            for letter, exponent in other_letters:
                powers[letter] = powers.get(letter, 0) + exponent
            key = (
                root * other_root // shared**2,
                tuple(sorted((letter, exponent) for letter, exponent in powers.items() if exponent)),
            )
            product = factor * other * shared
            if product.numerator.bit_length() + product.denominator.bit_length() > MOST_BITS:
                raise Unreadable
            total[key] = total.get(key, Fraction(0)) + product
    return {monomial: factor for monomial, factor in total.items() if factor}


def _inverse(a: Form) -> Form:
    """One over a single term."""
    if len(a) != 1:
        raise Unreadable
    ((root, letters), factor), *_ = a.items()
    return {(root, tuple((letter, -exponent) for letter, exponent in letters)): 1 / (factor * root)}


def _raised(base: Form, exponent: Form) -> Form:
    power = exponent.get((1, ()), Fraction(0))
    if exponent.keys() - ONE.keys() or power.denominator != 1 or abs(power) > MOST_BITS:
        raise Unreadable
    result, square = ONE, base if power >= 0 else _inverse(base)
    left = abs(int(power))
    while left:
        result = _times(result, square) if left & 1 else result
        left >>= 1
        square = _times(square, square) if left else square
    return result


def _root(inside: Form) -> Form:
    """The square root of a rational number that is not negative."""
    value = inside.get((1, ()), Fraction(0))
    if inside.keys() - ONE.keys() or value < 0:
        raise Unreadable
    number = value.numerator * value.denominator
    if number > LARGEST_ROOT:
        raise Unreadable
    outside, divisor = 1, 2
    while divisor * divisor <= number:
        while number % divisor**2 == 0:
            number //= divisor**2
            outside *= divisor
        divisor += 1
    return {(number, ()): Fraction(outside, value.denominator)} if number else {}


class _Reader:
    """A recursive-descent reader of one formula."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        """The next token."""
        self.at += 1
        if self.at > len(self.tokens):
            raise Unreadable
        return self.tokens[self.at - 1]

    def sum(self) -> Form:
        """Terms between plus and minus signs."""
        total = self.signed()
        while self.peek() in ("+", "-"):
            total = _added(total, self.signed())
        return total

    def signed(self) -> Form:
        """A product and the signs before it."""
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        product = self.product()
        return {monomial: -factor for monomial, factor in product.items()} if negative else product

    def product(self) -> Form:
        """Factors side by side or with a dot, or one division at the end."""
        total = self.power()
        while True:
            token, before = self.peek(), self.tokens[self.at - 1]
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                total = _times(total, self.power())
            elif token == "/":
                self.take()
                total = _times(total, _inverse(self.power()))
                if self.begins_factor() or self.peek() in ("/", "*", "\\cdot", "\\times"):
                    raise Unreadable
            elif self.begins_factor():
                if (
                    token[0].isdigit()
                    or (token == "(" and before.isalpha())
                    or (token == "\\frac" and before.isdigit())
                ):
                    raise Unreadable
                total = _times(total, self.power())
            else:
                return total

    def begins_factor(self) -> bool:
        """Whether the next token can begin a factor that stands beside another one."""
        token = self.peek()
        return token.isalnum() or token in ("(", "\\frac", "\\sqrt") or token in SYMBOLS

    def power(self) -> Form:
        """An atom and its exponent."""
        base = self.atom()
        if self.peek() != "^":
            return base
        self.take()
        raised = _raised(base, self.argument())
        if self.peek() == "^":
            raise Unreadable
        return raised

    def argument(self) -> Form:
        """A group in braces, or the one digit or letter that stands for one."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
        if token != "{" and not token.isalnum():
            raise Unreadable
        return self.atom()

    def atom(self) -> Form:
        """An integer, a letter, a fraction, a root, or a group."""
        token = self.take()
        if token.isdigit() and len(token) < MOST_BITS // 4:
            return {(1, ()): Fraction(int(token))} if int(token) else {}
        if token.isalpha() or token in SYMBOLS:
            return {(1, ((token, 1),)): Fraction(1)}
        if token == "\\frac":
            above = self.argument()
            return _times(above, _inverse(self.argument()))
        if token == "\\sqrt":
            return _root(self.argument())
        if token in ("(", "{"):
            inside = self.sum()
            if self.take() != (")" if token == "(" else "}"):
                raise Unreadable
            return inside
        raise Unreadable
