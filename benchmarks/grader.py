r"""Grading of mathematical answers: what the pool of workers costs or gains over plain math-verify, and that the
verdicts are the same.

    python benchmarks/grader.py --data-dir DATA              # all reference answers: minutes
    python benchmarks/grader.py --data-dir DATA --limit 300

Every reference answer of MATH (the rows of ``math`` that the folder has) is compared with itself and with perturbed
forms of itself: in another dress and rewritten (equal), one digit changed, the sign of the first number changed, and
the answer of another row (different). Plain math-verify is what its page says: ``verify(parse(gold), parse(answer))``
on ``\boxed{...}``, in this process. Ours asks the same of the pool of workers, all pairs of a form at once. The table
leaves out what either takes to start (imports, our workers, a first comparison), which is paid once. Every occurrence
of a pair is asked: distinct pairs are worked out once here.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

from dasd_bench.tasks.grading import Verifier, last_boxed
from dasd_bench.types import Reason


def same(answer: str, other: str) -> str:
    """The answer itself."""
    return answer


def dress(answer: str, other: str) -> str:
    r"""``\displaystyle``, ``\dfrac``, ``\left`` and ``\right``: equal."""
    bare = answer.replace("\\left", "").replace("\\right", "")
    big = re.sub(r"(?<!\\)\)", r"\\right)", re.sub(r"(?<!\\)\(", r"\\left(", bare))
    return "\\displaystyle " + big.replace("\\frac", "\\dfrac")


def rewrite(answer: str, other: str) -> str:
    """Integers as halves of their double, fractions times three: equal."""
    tripled = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", lambda m: f"\\frac{{{3 * int(m[1])}}}{{{3 * int(m[2])}}}", answer)
    return re.sub(r"^(-?)(\d+)$", lambda m: f"{m[1]}\\frac{{{2 * int(m[2])}}}{{2}}", tripled)


def digit(answer: str, other: str) -> str:
    """The first digit one higher: mostly different."""
    return re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), answer, count=1)


def sign(answer: str, other: str) -> str:
    """The first number with the other sign: mostly different."""
    return re.sub(r"(?<![\d_^])-?(\d)", lambda m: m[1] if m[0][0] == "-" else f"-{m[1]}", answer, count=1)


def another(answer: str, other: str) -> str:
    """The answer of another row."""
    return other


KINDS: dict[str, Callable[[str, str], str]] = {
    "itself": same,
    "dress": dress,
    "rewritten": rewrite,
    "digit": digit,
    "sign": sign,
    "other row": another,
}


def references(data_dir: Path) -> list[str]:
    """The reference answers of all rows of MATH in the folder, in file order."""
    found = []
    for split in ("train", "test"):
        with open(data_dir / "math" / f"{split}.jsonl", encoding="utf-8") as lines:
            found += [last_boxed(json.loads(line)["solution"]) or "" for line in lines]
    return found


def plain() -> Callable[[str, str], bool]:
    """math-verify as its page uses it."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)

    def compare(answer: str, gold: str) -> bool:
        return bool(verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}")))

    return compare


def main() -> None:
    """Prints the table and every differing pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="every k-th row, so that about this many remain")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--out", type=Path, help="also write the table here as JSON")
    args = parser.parse_args()
    golds = references(args.data_dir)
    if args.limit:
        golds = golds[:: max(1, len(golds) // args.limit)]
    started = time.perf_counter()
    peer = plain()
    peer("x/2", "\\frac{1}{2}x")
    their_start = time.perf_counter() - started
    started = time.perf_counter()
    verifier = Verifier()
    verifier.same("\\frac{1}{2}x", "x/2")
    our_start = time.perf_counter() - started
    print(
        f"{len(golds)} reference answers, {len(set(golds))} distinct; start: {their_start:.1f} s and {our_start:.1f} s"
    )
    print("| compared with | pairs | distinct | math-verify | ours | ratio | pairs that differ |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    table = []
    for kind in args.kinds.split(","):
        perturb = KINDS[kind]
        # The partner row lies far away, so that another subject's answers are met too.
        pairs = [(gold, perturb(gold, golds[(i + 1234) % len(golds)])) for i, gold in enumerate(golds)]
        started = time.perf_counter()
        mine = verifier.map(verifier.same, *zip(*pairs, strict=True))
        ours = time.perf_counter() - started
        started = time.perf_counter()
        right = [peer(answer, gold) for gold, answer in pairs]
        theirs = time.perf_counter() - started
        differing = {
            (*pair, verdict.value, their)
            for pair, verdict, their in zip(pairs, mine, right, strict=True)
            if (verdict is Reason.CORRECT) is not their
        }
        row = {"kind": kind, "pairs": len(pairs), "distinct": len(set(pairs)), "math_verify_seconds": theirs}
        row |= {"seconds": ours, "ratio": theirs / ours, "differing": sorted(differing)}
        table.append(row)
        print(
            f"| {kind} | {len(pairs)} | {len(set(pairs))} | {theirs:.1f} s | {ours:.1f} s | {theirs / ours:.1f} | "
            f"{len(differing)} |",
            flush=True,
        )
    for row in table:
        for gold, answer, our, their in row["differing"]:
            print(f"{row['kind']}: gold {gold!r}, answer {answer!r}: math-verify {their}, ours {our}")
    if verifier.kills:
        print(f"{verifier.kills} answers reached the limit of {verifier.cpu_seconds:g} s of CPU time")
    if args.out:
        args.out.write_text(json.dumps({"table": table, "start": [their_start, our_start]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
