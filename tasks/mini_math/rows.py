r"""Rows of ``mini_math``: short mathematics problems made from a fixed seed with the standard library alone.

Columns as in MATH: ``problem``, ``level`` ("Level 1" to "Level 3"), ``type`` and ``solution`` ending in ``\boxed{}``.
The solutions are telegraphic on purpose. Stock lm-eval calls :func:`load` through the YAML beside this file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

SEED = 20262
SIZES = {"train": 480, "test": 480}
LEVELS = (1, 1, 1, 2, 2, 3)

Made = tuple[str, list[str], str]
"""Problem, steps of the solution, final answer in LaTeX."""


def _latex(value: Fraction | int) -> str:
    value = Fraction(value)
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _arithmetic(rng: random.Random, level: int) -> Made:
    a, b, c = rng.randint(2, 12), rng.randint(2, 12), rng.randint(2, 9)
    ask = rng.choice(("What is ${}$?", "Compute ${}$.", "Evaluate ${}$.", "Find the value of ${}$."))
    if level == 1:
        how = rng.choice(("What is {}?", "Compute {}.", "How much is {}?"))
        if rng.random() < 0.6:
            return how.format(f"{a} + {b}"), [f"{a}+{b}={a + b}"], str(a + b)
        return how.format(f"{a} times {c}"), [f"{a}*{c}={a * c}"], str(a * c)
    if level == 2:
        return ask.format(f"{a} \\cdot {b} + {c}"), [f"{a}*{b}={a * b}", f"+{c}"], str(a * b + c)
    return ask.format(f"({a} - {b}) \\cdot {c}"), [f"{a}-{b}={a - b}", f"*{c}"], str((a - b) * c)


def _equation(rng: random.Random, level: int) -> Made:
    var = rng.choice("xyztnk")
    root, k, c = rng.randint(1, 12), rng.randint(2, 6), rng.randint(2, 12)
    ask = rng.choice(("Solve ${}$ for $V$.", "If ${}$, what is $V$?", "Find $V$ when ${}$.")).replace("V", var)
    if level == 1:
        if rng.random() < 0.5:
            return f"Solve {var} + {c} = {root + c} for {var}.", [f"{var}={root + c}-{c}"], str(root)
        return f"Solve {k}{var} = {k * root} for {var}.", [f"{var}={k * root}/{k}"], str(root)
    if level == 2:
        total = k * root + c
        return ask.format(f"{k}{var} + {c} = {total}"), [f"{k}{var}={total - c}", f"{var}={total - c}/{k}"], str(root)
    j = k + rng.randint(1, 4)
    right = (j - k) * root
    sides = f"{j}{var} - {c} = {k}{var} + {right - c}" if right > c else f"{j}{var} = {k}{var} + {right}"
    return ask.format(sides), [f"{j - k}{var}={right}", f"{var}={right}/{j - k}"], str(root)


def _remainder(rng: random.Random, level: int) -> Made:
    if level == 1:
        a, b = rng.randint(2, 12), rng.randint(2, 9)
        how = rng.choice(("What is {} divided by {}?", "Divide {} by {}.", "How many times does {1} go into {0}?"))
        return how.format(a * b, b), [f"{b}*{a}={a * b}"], str(a)
    d = rng.randint(3, 4 + 3 * level)
    q, r = rng.randint(2, 4 + 3 * level), rng.randint(1, d - 1)
    n = d * q + r
    text = rng.choice(
        (
            f"What is the remainder when {n} is divided by {d}?",
            f"Divide {n} by {d}. What remains?",
            f"Find ${n} \\bmod {d}$.",
        )
    )
    return text, [f"{d}*{q}={d * q}", f"{n}-{d * q}={r}"], str(r)


def _divisors(rng: random.Random, level: int) -> Made:
    if level == 1:
        lo, step = rng.randint(2, 30), rng.choice((2, 3, 5, 10))
        n = (lo // step + 1) * step
        return (
            f"What is the smallest multiple of {step} greater than {lo}?",
            [f"{lo}/{step}->{n // step}", f"{step}*{n // step}={n}"],
            str(n),
        )
    a, b = rng.sample(range(4, 20 * level // 2), 2)
    if level == 2:
        g = math.gcd(a, b)
        return (
            f"What is the greatest common divisor of {a} and {b}?",
            [f"{a}={g}*{a // g}", f"{b}={g}*{b // g}"],
            str(g),
        )
    m = math.lcm(a, b)
    return f"What is the least common multiple of {a} and {b}?", [f"{m}={a}*{m // a}", f"{m}={b}*{m // b}"], str(m)


def _shape(rng: random.Random, level: int) -> Made:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    if level == 1:
        what = rng.choice(
            ("What is the area of a rectangle with sides {} and {}?", "A field is {} by {}. Find its area.")
        )
        return what.format(a, b), [f"A={a}*{b}"], str(a * b)
    if level == 2:
        if rng.random() < 0.5:
            sides, shape = rng.choice(((4, "square"), (5, "regular pentagon"), (6, "regular hexagon")))
            return f"What is the perimeter of a {shape} with side {a}?", [f"{sides}*{a}={sides * a}"], str(sides * a)
        return (
            f"A rectangle is {a} wide and {b} long. What is its perimeter?",
            [f"{a}+{b}={a + b}", "*2"],
            str(2 * (a + b)),
        )
    if rng.random() < 0.5:
        area = Fraction(a * b, 2)
        return f"A triangle has base {a} and height {b}. What is its area?", [f"{a}*{b}={a * b}", "/2"], _latex(area)
    first = 5 * rng.randint(4, 16)
    second = 5 * rng.randint(4, 35 - first // 5 - 2)
    third = 180 - first - second
    text = f"Two angles of a triangle are {first} and {second} degrees. How many degrees is the third?"
    return text, [f"{first}+{second}={first + second}", f"180-{first + second}"], str(third)


def _counting(rng: random.Random, level: int) -> Made:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    if level == 1:
        one, two = rng.choice(
            (("shirts", "hats"), ("soups", "salads"), ("pens", "inks"), ("cups", "plates"), ("roads", "trails"))
        )
        return f"How many ways to pick one of {a} {one} and one of {b} {two}?", [f"{a}*{b}"], str(a * b)
    if level == 2:
        red, blue = a, b
        chance = Fraction(red, red + blue)
        text = f"A bag holds {red} red and {blue} blue balls. How likely is red?"
        return text, [f"{red}+{blue}={red + blue}", f"{red}/{red + blue}"], _latex(chance)
    n = rng.randint(4, 9)
    kind = rng.choice(("points", "players", "towns", "friends"))
    text = f"How many pairs can be made from {n} {kind}?"
    return text, [f"{n}*{n - 1}={n * (n - 1)}", "/2"], str(n * (n - 1) // 2)


def _fraction(rng: random.Random, level: int) -> Made:
    if level == 1:
        (part, word), k = rng.choice(((2, "half"), (2, "one half"), (10, "10\\%"), (2, "50\\%"))), rng.randint(2, 25)
        return f"What is {word} of {part * k}?", [f"{part * k}/{part}={k}"], str(k)
    if level == 2:
        if rng.random() < 0.5:
            (part, word), k = rng.choice(((3, "a third"), (4, "a quarter"), (10, "a tenth"))), rng.randint(2, 12)
            return f"What is {word} of {part * k}?", [f"{part * k}/{part}={k}"], str(k)
        p, k = rng.choice((20, 25, 75)), 4 * rng.randint(1, 8) if rng.random() < 0.5 else 20 * rng.randint(1, 5)
        share = Fraction(p * k, 100)
        return f"What is {p}\\% of {k}?", [f"{p}*{k}={p * k}", "/100"], _latex(share)
    x, y = Fraction(rng.randint(1, 4), rng.randint(2, 6)), Fraction(rng.randint(1, 4), rng.randint(2, 6))
    text = f"Compute ${_latex(x)} + {_latex(y)}$ in lowest terms."
    den = math.lcm(x.denominator, y.denominator)
    return text, [f"{x * den}/{den}+{y * den}/{den}", f"={(x + y) * den}/{den}"], _latex(x + y)


def _powers(rng: random.Random, level: int) -> Made:
    if level == 1:
        n = rng.randint(2, 15)
        if rng.random() < 0.5:
            return rng.choice((f"What is ${n}^2$?", f"Find the square of {n}.")), [f"{n}*{n}"], str(n * n)
        return (
            rng.choice((f"What is $\\sqrt{{{n * n}}}$?", f"Find the square root of {n * n}.")),
            [f"{n}*{n}={n * n}"],
            str(n),
        )
    first, step = rng.randint(1, 12), rng.randint(2, 9)
    if level == 2:
        seq = [first + step * i for i in range(4)]
        text = f"What comes next: {', '.join(map(str, seq))}?"
        return text, [f"step {step}", f"{seq[-1]}+{step}"], str(seq[-1] + step)
    n = rng.randint(5, 12)
    text = f"A sequence starts at {first} and grows by {step}. What is term {n}?"
    return text, [f"{n - 1}*{step}={(n - 1) * step}", f"{first}+{(n - 1) * step}"], str(first + (n - 1) * step)


KINDS: tuple[tuple[str, Callable[[random.Random, int], Made]], ...] = (
    ("Prealgebra", _arithmetic),
    ("Algebra", _equation),
    ("Number Theory", _remainder),
    ("Number Theory", _divisors),
    ("Geometry", _shape),
    ("Counting & Probability", _counting),
    ("Prealgebra", _fraction),
    ("Algebra", _powers),
)


def _grams(text: str) -> set[tuple[str, ...]]:
    """The 13-grams of the prompt's words, the usual unit of train/test overlap."""
    words = [word.strip(".,;:!?\"'()[]") for word in f"Problem: {text} Solution:".lower().split()]
    words = [word for word in words if word]
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def make_rows() -> dict[str, list[dict[str, Any]]]:
    """Both splits, a pure function of :data:`SEED`; no problem is in them twice, and none
    shares a run of 13 words with a problem of the other split.

    A kind that has run out of new problems at a level (there are only so many squares) is passed over.
    """
    rng = random.Random(SEED)
    seen: set[str] = set()
    grams: dict[str, set[tuple[str, ...]]] = {split: set() for split in SIZES}
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SIZES}
    turn = 0
    while any(len(splits[split]) < size for split, size in SIZES.items()):
        level = LEVELS[turn % len(LEVELS)]
        subject, kind = KINDS[turn // len(LEVELS) % len(KINDS)]
        turn += 1
        for split, rows in splits.items():
            for _ in range(40):
                problem, steps, answer = kind(rng, level)
                shared = any(not found.isdisjoint(_grams(problem)) for other, found in grams.items() if other != split)
                if problem not in seen and not shared and len(rows) < SIZES[split]:
                    seen.add(problem)
                    grams[split].update(_grams(problem))
                    solution = f"{'; '.join(steps)} => $\\boxed{{{answer}}}$"
                    row = {"problem": problem, "level": f"Level {level}", "type": subject, "solution": solution}
                    rows.append(row)
                    break
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def load(**_: Any) -> dict[str, Any]:
    """What lm-eval's ``custom_dataset`` wants: split name to ``datasets.Dataset``."""
    import datasets

    return {split: datasets.Dataset.from_list(rows) for split, rows in make_rows().items()}
