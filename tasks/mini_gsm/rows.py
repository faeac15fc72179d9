"""Rows of ``mini_gsm``: small word problems made from a fixed seed with the standard library alone.

Columns as in GSM8K (``question``, ``answer`` ending in ``#### n``) and ``level`` 1 to 3, the number of steps. The
worked answers are telegraphic on purpose ("s1: 7 + 5 = 12 stickers; s2: 12 - 3 = 9 left"), so that a model's own
wording differs from them. Stock lm-eval calls :func:`load` through the YAML beside this file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

SEED = 20261
SIZES = {"train": 480, "test": 480}
LEVELS = (1, 1, 1, 2, 2, 3)
"""One cycle of levels: half one-step, a third two-step, a sixth three-step."""

NAMES = [
    "Ada",
    "Ben",
    "Chloe",
    "Dev",
    "Elif",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kaito",
    "Lena",
    "Milo",
    "Nadia",
    "Oskar",
    "Petra",
    "Quinn",
    "Rosa",
    "Samir",
    "Tove",
    "Uma",
    "Viktor",
    "Wanda",
    "Yusuf",
    "Zora",
    "Abel",
    "Bruna",
    "Cyril",
    "Dalia",
    "Emil",
    "Fiona",
    "Gustav",
    "Hana",
    "Ivo",
    "Juno",
    "Kerem",
]
THINGS = [
    "stickers",
    "marbles",
    "pencils",
    "shells",
    "buttons",
    "beads",
    "coins",
    "cards",
    "stamps",
    "crayons",
    "pebbles",
    "acorns",
    "ribbons",
    "badges",
    "postcards",
    "feathers",
    "candles",
    "keys",
    "bottles",
    "spoons",
    "tiles",
    "bolts",
    "seeds",
    "balloons",
    "notebooks",
    "magnets",
    "dice",
    "puzzles",
    "lemons",
    "plums",
]
FRIENDS = ["a cousin", "a neighbour", "an uncle", "a classmate", "the teacher", "a friend", "an aunt", "the coach"]
HOLDERS = ["boxes", "bags", "jars", "trays", "drawers", "shelves", "baskets", "crates", "tins", "envelopes"]
GOODS = [
    "pen",
    "mug",
    "cap",
    "kite",
    "scarf",
    "torch",
    "lamp",
    "belt",
    "comb",
    "whistle",
    "basket",
    "poster",
    "brush",
    "bowl",
    "clock",
]
SEATS = ("bus", "seats"), ("car park", "places"), ("hall", "chairs"), ("ferry", "cabins"), ("rack", "hooks")
WORKS = (
    ("reads", "pages", "book"),
    ("paints", "panels", "fence"),
    ("lays", "bricks", "wall"),
    ("solves", "riddles", "booklet"),
    ("sews", "squares", "quilt"),
    ("folds", "napkins", "stack"),
)

Made = tuple[str, list[str], int]
"""Question, steps of the worked answer, final number."""


def _inventory(rng: random.Random, level: int) -> Made:
    name, things, friend = rng.choice(NAMES), rng.choice(THINGS), rng.choice(FRIENDS)
    n = rng.randint(4, 12)
    text = rng.choice(
        (
            f"{name} has {n} {things}.",
            f"There are {n} {things} on the desk of {name}.",
            f"{name} starts the day with {n} {things}.",
            f"In {name}'s bag are {n} {things}.",
        )
    )
    steps = []
    for _ in range(level):
        up = n < 6 or rng.random() < 0.5
        k = rng.randint(2, 9) if up else rng.randint(2, min(9, n - 1))
        if up:
            text += " " + rng.choice(
                (
                    f"{friend.capitalize()} brings {k} more.",
                    f"{name} finds another {k}.",
                    f"{k} more arrive by post.",
                    f"{name} buys {k} extra {things}.",
                )
            )
            steps.append(f"{n} + {k} = {n + k} {things}")
            n += k
        else:
            text += " " + rng.choice(
                (
                    f"{name} gives {k} to {friend}.",
                    f"{k} of them get lost.",
                    f"{friend.capitalize()} borrows {k}.",
                    f"{name} sells {k} at the market.",
                )
            )
            steps.append(f"{n} - {k} = {n - k} left")
            n -= k
    text += " " + rng.choice(
        (
            f"How many {things} does {name} have now?",
            f"How many {things} are left with {name}?",
            f"Count the {things} of {name} at the end.",
        )
    )
    return text, steps, n


def _groups(rng: random.Random, level: int) -> Made:
    name, things, holder = rng.choice(NAMES), rng.choice(THINGS), rng.choice(HOLDERS)
    g, k = rng.randint(2, 6), rng.randint(2, 6)
    text = rng.choice(
        (
            f"{name} fills {g} {holder} with {k} {things} each.",
            f"Each of {g} {holder} holds {k} {things}. All belong to {name}.",
            f"{name} stores {things} in {g} {holder}, {k} in each.",
        )
    )
    n = g * k
    steps = [f"{g} x {k} = {n} {things}"]
    if level >= 2:
        extra = rng.randint(2, 9)
        text += f" Beside them lie {extra} loose {things}."
        steps.append(f"{n} + {extra} = {n + extra}")
        n += extra
    if level >= 3:
        lost = rng.randint(2, min(9, n - 2))
        text += rng.choice((f" {lost} break.", f" {name} throws {lost} away.", f" Then {lost} are given away."))
        steps.append(f"{n} - {lost} = {n - lost} left")
        n -= lost
    return text + rng.choice((f" How many {things} are there?", f" How many {things} does {name} have?")), steps, n


def _shopping(rng: random.Random, level: int) -> Made:
    name, (good, other) = rng.choice(NAMES), rng.sample(GOODS, 2)
    price, k = rng.randint(2, 7), rng.randint(2, 5)
    total = price * k
    text = rng.choice(
        (
            f"A {good} costs ${price}. {name} buys {k}.",
            f"{name} picks {k} {good}s at ${price} each.",
            f"The shop asks ${price} for one {good}, and {name} wants {k}.",
        )
    )
    steps = [f"{k} x {price} = ${total}"]
    if level == 1:
        return (
            text + rng.choice((f" How many dollars does {name} pay?", " What is the price in dollars?")),
            steps,
            total,
        )
    extra = rng.randint(2, 9)
    text += rng.choice((f" A {other} for ${extra} is added.", f" {name} also takes a {other} at ${extra}."))
    steps.append(f"{total} + {extra} = ${total + extra} in all")
    total += extra
    if level == 2:
        return (
            text + rng.choice((f" How many dollars does {name} spend?", " What is the bill in dollars?")),
            steps,
            total,
        )
    bill = (total // 10 + 1) * 10
    steps.append(f"{bill} - {total} = ${bill - total} back")
    return text + f" {name} pays with ${bill}. How many dollars come back?", steps, bill - total


def _sharing(rng: random.Random, level: int) -> Made:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    people, each = rng.randint(2, 6), rng.randint(2, 8)
    total = people * each
    steps = []
    if level >= 2:
        more = rng.randint(2, min(9, total - 1))
        start = total - more
        text = f"{name} has {start} {things} and gets {more} more."
        steps.append(f"{start} + {more} = {total} {things}")
        text += f" They go in equal parts to {people} children."
    else:
        text = rng.choice(
            (
                f"{name} splits {total} {things} equally between {people} children.",
                f"{people} friends of {name} share {total} {things} evenly.",
            )
        )
    steps.append(f"{total} / {people} = {each} each")
    if level == 3:
        gone = rng.randint(1, each - 1)
        steps.append(f"{each} - {gone} = {each - gone}")
        return text + f" One child loses {gone}. How many {things} has that child left?", steps, each - gone
    return (
        text + rng.choice((f" How many {things} per child?", f" How many {things} does each child get?")),
        steps,
        each,
    )


def _ages(rng: random.Random, level: int) -> Made:
    one, two, three = rng.sample(NAMES, 3)
    age, gap = rng.randint(5, 14), rng.randint(2, 9)
    text = f"{one} is {age} years old. {two} is {gap} years older than {one}."
    second = age + gap
    steps = [f"{age} + {gap} = {second} ({two})"]
    if level == 1:
        return text + f" How old is {two}?", steps, second
    gap2 = rng.randint(2, min(8, second - 2))
    third = second - gap2
    text += f" {three} is {gap2} years younger than {two}."
    steps.append(f"{second} - {gap2} = {third} ({three})")
    if level == 2:
        return text + f" How old is {three}?", steps, third
    years = rng.randint(2, 9)
    steps.append(f"{third} + {years} = {third + years}")
    return text + f" How old will {three} be in {years} years?", steps, third + years


def _work(rng: random.Random, level: int) -> Made:
    name, (verb, units, whole) = rng.choice(NAMES), rng.choice(WORKS)
    rate, days = rng.randint(3, 9), rng.randint(2, 5)
    done = rate * days
    text = f"{name} {verb} {rate} {units} a day for {days} days."
    steps = [f"{rate} x {days} = {done} {units}"]
    if level == 1:
        return text + f" How many {units} is that?", steps, done
    left = rng.randint(2, 20)
    text += f" The {whole} has {done + left} {units}."
    steps.append(f"{done + left} - {done} = {left} to go")
    if level == 2:
        return text + f" How many {units} remain?", steps, left
    k = rng.randint(1, left - 1)
    steps.append(f"{left} - {k} = {left - k}")
    return text + f" A helper does {k} of the rest. How many {units} remain then?", steps, left - k


def _places(rng: random.Random, level: int) -> Made:
    place, seats = rng.choice(SEATS)
    name = rng.choice(NAMES)
    total = rng.randint(12, 40)
    taken = rng.randint(3, total - 3)
    free = total - taken
    text = rng.choice(
        (
            f"A {place} has {total} {seats}. {name} counts {taken} in use.",
            f"Of {total} {seats} in the {place}, {taken} are taken, {name} says.",
        )
    )
    steps = [f"{total} - {taken} = {free} free"]
    if level >= 2:
        back = rng.randint(2, min(9, taken))
        text += f" Then {back} become free."
        steps.append(f"{free} + {back} = {free + back} free")
        free += back
    if level >= 3:
        used = rng.randint(1, free - 1)
        text += f" Later {used} fill up again."
        steps.append(f"{free} - {used} = {free - used} free")
        free -= used
    return text + f" How many {seats} are free?", steps, free


def _distance(rng: random.Random, level: int) -> Made:
    name = rng.choice(NAMES)
    how, unit = rng.choice(
        (("walks", "km"), ("cycles", "km"), ("swims", "lengths"), ("runs", "laps"), ("rows", "miles"))
    )
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    text = f"{name} {how} {a} {unit} before lunch and {b} {unit} after lunch."
    steps = [f"{a} + {b} = {a + b} {unit}"]
    n = a + b
    if level >= 2:
        days = rng.randint(2, 3)
        text += f" The same happens on {days} days."
        steps.append(f"{n} x {days} = {n * days} {unit}")
        n *= days
    if level >= 3:
        c = rng.randint(2, 9)
        text += f" One more day adds {c} {unit}."
        steps.append(f"{n} + {c} = {n + c} {unit}")
        n += c
    return text + f" How many {unit} does {name} cover?", steps, n


KINDS: tuple[Callable[[random.Random, int], Made], ...] = (
    _inventory,
    _groups,
    _shopping,
    _sharing,
    _ages,
    _work,
    _places,
    _distance,
)


def _grams(text: str) -> set[tuple[str, ...]]:
    """The 13-grams of the prompt's words, the usual unit of train/test overlap."""
    words = [word.strip(".,;:!?\"'()[]") for word in f"Question: {text} Answer:".lower().split()]
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def make_rows() -> dict[str, list[dict[str, Any]]]:
    """Both splits, a pure function of :data:`SEED`; no question is in them twice,
    and no test row shares a run of 13 words with the train split."""
    rng = random.Random(SEED)
    seen: set[str] = set()
    train_grams: set[tuple[str, ...]] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    turn = 0
    for split, size in SIZES.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < size:
            level = LEVELS[turn % len(LEVELS)]
            kind = KINDS[turn // len(LEVELS) % len(KINDS)]
            turn += 1
            # A kind may have no new question left at a level; then it is passed over.
            for _ in range(40):
                question, steps, answer = kind(rng, level)
                grams = _grams(question)
                if question in seen or (split == "test" and not train_grams.isdisjoint(grams)):
                    continue
                seen.add(question)
                if split == "train":
                    train_grams.update(grams)
                worked = "; ".join(f"s{i}: {step}" for i, step in enumerate(steps, 1))
                rows.append({"question": question, "answer": f"{worked}\n#### {answer}", "level": level})
                break
        rng.shuffle(rows)
        splits[split] = rows
    return splits


def load(**_: Any) -> dict[str, Any]:
    """What lm-eval's ``custom_dataset`` wants: split name to ``datasets.Dataset``."""
    import datasets

    return {split: datasets.Dataset.from_list(rows) for split, rows in make_rows().items()}
