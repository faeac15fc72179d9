"""Rows of ``mini_mbpp``: one-function Python problems made from a fixed seed with the standard library alone.

Columns as in MBPP (``task_id``, ``text``, ``code``, ``test_list``, ``test_setup_code``, ``challenge_test_list``) and
``level`` 1 to 3. The expected values of the asserts come from running the reference on arguments drawn by the seed.
Stock lm-eval calls :func:`load` through the YAML beside this file.
"""

from __future__ import annotations

import random
from typing import Any

SEED = 20264
SIZES = {"train": 300, "test": 300}
LEVELS = (1, 1, 1, 2, 2, 3)

WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "tiger",
    "lemon",
    "piano",
    "radio",
    "salad",
    "eagle",
    "ocean",
    "candle",
    "forest",
    "garden",
    "silver",
    "yellow",
]

# ruff: noqa: E501 (one family a line reads best)
# Level, wordings, function name, body expression, kinds of arguments. {k} is a number, {c} a letter of the row.
FAMILIES: tuple[tuple[int, tuple[str, ...], str, str, str], ...] = (
    (1, ("Write a function to add {k} to a number.", "Return the number plus {k}."), "add_{k}", "a+{k}", "i"),
    (1, ("Write a function to subtract {k} from a number.", "Return the number minus {k}."), "minus_{k}", "a-{k}", "i"),
    (1, ("Write a function to multiply a number by {k}.", "Return {k} times the number."), "times_{k}", "a*{k}", "i"),
    (1, ("Write a function to check if a number is larger than {k}.",), "above_{k}", "a>{k}", "i"),
    (1, ("Write a function to check if a number is divisible by {k}.",), "divisible_by_{k}", "a%{k}==0", "i"),
    (1, ("Write a function to find the remainder of a number divided by {k}.",), "rest_{k}", "a%{k}", "i"),
    (1, ("Write a function to repeat a text {k} times.",), "repeat_{k}", "a*{k}", "s"),
    (1, ("Write a function to get the first {k} items of a list.",), "first_{k}", "a[:{k}]", "l"),
    (1, ("Write a function to get the last {k} items of a list.",), "last_{k}", "a[-{k}:]", "l"),
    (1, ("Write a function to append {k} to a list.",), "append_{k}", "a+[{k}]", "l"),
    (1, ("Write a function to put {k} at the front of a list.",), "front_{k}", "[{k}]+a", "l"),
    (1, ("Write a function to check if {k} is in a list.",), "has_{k}", "{k} in a", "l"),
    (1, ("Write a function to count how often {k} is in a list.",), "count_{k}", "a.count({k})", "l"),
    (1, ("Write a function to count the letter {c} in a text.",), "count_{c}", "a.count('{c}')", "s"),
    (1, ("Write a function to check if a text starts with {c}.",), "starts_{c}", "a[:1]=='{c}'", "s"),
    (1, ("Write a function to check if a text ends with {c}.",), "ends_{c}", "a[-1:]=='{c}'", "s"),
    (1, ("Write a function to add the letter {c} to the end of a text.",), "end_with_{c}", "a+'{c}'", "s"),
    (1, ("Write a function to find the larger of a number and {k}.",), "at_least_{k}", "max(a,{k})", "i"),
    (1, ("Write a function to find the smaller of a number and {k}.",), "at_most_{k}", "min(a,{k})", "i"),
    (2, ("Write a function to add {k} to every number of a list.",), "add_{k}_all", "[x+{k} for x in a]", "l"),
    (2, ("Write a function to multiply every number of a list by {k}.",), "times_{k}_all", "[x*{k} for x in a]", "l"),
    (2, ("Write a function to keep the numbers of a list above {k}.",), "keep_above_{k}", "[x for x in a if x>{k}]", "l"),
    (2, ("Write a function to keep the numbers of a list below {k}.",), "keep_below_{k}", "[x for x in a if x<{k}]", "l"),
    (2, ("Write a function to remove every {k} from a list.",), "without_{k}", "[x for x in a if x!={k}]", "l"),
    (2, ("Write a function to sum a list and add {k}.",), "sum_plus_{k}", "sum(a)+{k}", "l"),
    (2, ("Write a function to count the numbers of a list above {k}.",), "count_above_{k}", "sum(x>{k} for x in a)", "l"),
    (2, ("Write a function to remove the letter {c} from a text.",), "drop_{c}", "a.replace('{c}','')", "s"),
    (2, ("Write a function to replace the letter {c} in a text by a star.",), "star_{c}", "a.replace('{c}','*')", "s"),
    (2, ("Write a function to find where {c} first stands in a text, or -1.",), "find_{c}", "a.find('{c}')", "s"),
    (2, ("Write a function to join a list of texts with {c}.",), "join_{c}", "'{c}'.join(a)", "w"),
    (2, ("Write a function to keep the texts of a list that contain {c}.",), "with_{c}", "[x for x in a if '{c}' in x]", "w"),
    (2, ("Write a function to take every item of a list at a step of {k}.",), "step_{k}", "a[::{k}]", "l"),
    (2, ("Write a function to add two numbers and multiply the sum by {k}.",), "sum_times_{k}", "(a+b)*{k}", "ii"),
    (2, ("Write a function to check if two numbers differ by less than {k}.",), "within_{k}", "abs(a-b)<{k}", "ii"),
    (3, ("Write a function to sum the multiples of {k} in a list.",), "sum_mult_{k}", "sum(x for x in a if x%{k}==0)", "l"),
    (3, ("Write a function to get the {k} largest numbers of a list, largest first.",), "top_{k}", "sorted(a)[::-1][:{k}]", "l"),
    (3, ("Write a function to get the {k} smallest numbers of a list in order.",), "low_{k}", "sorted(a)[:{k}]", "l"),
    (3, ("Write a function to rotate a list to the left by {k}.",), "rotate_{k}", "a[{k}%len(a):]+a[:{k}%len(a)]", "l"),
    (3, ("Write a function to cut a list into pieces of {k}.",), "pieces_{k}", "[a[i:i+{k}] for i in range(0,len(a),{k})]", "l"),
    (3, ("Write a function to limit every number of a list to at most {k}.",), "clip_{k}", "[min(x,{k}) for x in a]", "l"),
    (3, ("Write a function to sort texts by how often they contain {c}, then by the alphabet.",), "sort_by_{c}", "sorted(a,key=lambda x:(x.count('{c}'),x))", "w"),
    (3, ("Write a function to count the texts of a list with more than {k} letters.",), "longer_{k}", "sum(len(x)>{k} for x in a)", "w"),
    (3, ("Write a function to list the numbers from 1 to n that leave no rest by {k}.",), "multiples_{k}", "[x for x in range(1,a+1) if x%{k}==0]", "p"),
)  # fmt: skip


STEPS: tuple[tuple[str, str], ...] = (
    ("add {k} to every number", "{x}+{k}"),
    ("multiply every number by {k}", "{x}*{k}"),
    ("subtract {k} from every number", "{x}-{k}"),
    ("take every number's rest by {k}", "{x}%{k}"),
    ("raise numbers below {k} to {k}", "max({x},{k})"),
    ("lower numbers above {k} to {k}", "min({x},{k})"),
)
"""Two of these make a level 3 problem: words, and an expression on one number."""


def _argument(rng: random.Random, kind: str, k: int, letter: str) -> Any:
    if kind == "i":
        return rng.choice((k, k * rng.randint(2, 6), rng.randint(1, 60)))
    if kind == "p":
        return rng.randint(k, 4 * k + 3)
    if kind == "l":
        values = [rng.randint(1, 20) for _ in range(rng.randint(3, 6))]
        return [*values, k] if rng.random() < 0.5 else values
    words = rng.sample(WORDS, rng.randint(2, 4))
    if kind == "w":
        return words
    return rng.choice((words[0], words[0] + letter, letter + words[1]))


def _row(rng: random.Random, level: int) -> dict[str, Any]:
    letter = rng.choice("aeiorltnsdgpcm")
    if level == 3 and rng.random() < 0.6:
        (first, one), (second, two) = rng.sample(STEPS, 2)
        k, j = rng.randint(2, 12), rng.randint(2, 12)
        text = f"Write a function to {first.format(k=k)} of a list and then {second.format(k=j)}."
        inner = one.format(x="x", k=k)
        body = f"[{two.format(x=f'({inner})', k=j)} for x in a]"
        name, kinds = f"change_{k}_{j}", "l"
    else:
        _, texts, name, body, kinds = rng.choice([family for family in FAMILIES if family[0] == level])
        k = rng.randint(2, 30 if kinds in ("i", "ii") else 12)
        text, name, body = (part.format(k=k, c=letter) for part in (rng.choice(texts), name, body))
    code = f"def {name}({','.join('ab'[: len(kinds)])}):return {body}"
    space: dict[str, Any] = {}
    exec(code, space)
    tests: list[str] = []
    while len(tests) < 3:
        arguments = [_argument(rng, kind, k, letter) for kind in kinds]
        call = f"{name}({', '.join(map(repr, arguments))})"
        test = f"assert {call} == {space[name](*arguments)!r}"
        if test not in tests:
            tests.append(test)
    return {
        "task_id": 0,
        "text": text,
        "code": code,
        "test_list": tests,
        "test_setup_code": "",
        "challenge_test_list": [],
        "level": level,
    }


def make_rows() -> dict[str, list[dict[str, Any]]]:
    """Both splits, a pure function of :data:`SEED`; no function is in them twice."""
    rng = random.Random(SEED)
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SIZES}
    turn = task_id = 0
    while any(len(splits[split]) < size for split, size in SIZES.items()):
        level = LEVELS[turn % len(LEVELS)]
        turn += 1
        for split, rows in splits.items():
            for _ in range(50):
                row = _row(rng, level)
                if row["code"] not in seen and len(rows) < SIZES[split]:
                    seen.add(row["code"])
                    task_id += 1
                    rows.append({**row, "task_id": task_id})
                    break
    return splits


def load(**_: Any) -> dict[str, Any]:
    """What lm-eval's ``custom_dataset`` wants: split name to ``datasets.Dataset``."""
    import datasets

    return {split: datasets.Dataset.from_list(rows) for split, rows in make_rows().items()}
