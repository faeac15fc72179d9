r"""Grading of mathematical answers: speed against plain math-verify, and where the two verdicts differ.

    python benchmarks/grader.py --data-dir DATA              # all reference answers: minutes, nearly all math-verify's
    python benchmarks/grader.py --data-dir DATA --limit 300

Every reference answer of MATH (the rows of ``math`` that the folder has) is compared with itself and with perturbed
forms of itself: in another dress and rewritten (equal), one digit changed, the sign of the first number changed, and
the answer of another row (different). Plain math-verify is what its page says: ``verify(parse(gold), parse(answer))``
on ``\boxed{...}``, in this process. Ours is ``same_answer``: the shape first, then math-verify in its process. The
table leaves out what either takes to start (imports, our process, a first comparison), which is paid once; the last
line has it in, as one who grades these pairs once waits for it. Distinct pairs are asked once; rows says how many rows
of MATH they stand for, and times count a pair as often as it occurs.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dasd_bench.tasks.grading import last_boxed
from dasd_bench.tasks.mathematics import Verifier, same_answer, settle


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


def timed(work: Callable[[str, str], Any], pairs: Counter[tuple[str, str]]) -> tuple[float, dict[Any, Any]]:
    """Seconds, each pair counted as often as it occurs, and verdicts by pair."""
    seconds, verdicts = 0.0, {}
    for (answer, gold), count in pairs.items():
        started = time.perf_counter()
        verdicts[(answer, gold)] = work(answer, gold)
        seconds += (time.perf_counter() - started) * count
    return seconds, verdicts


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
    print(f"{len(golds)} reference answers, {len(set(golds))} distinct")
    print("| compared with | rows | pairs | settled by shape | math-verify | ours | ratio | rows that differ |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    table, differing = [], []
    for kind in args.kinds.split(","):
        perturb = KINDS[kind]
        # The partner row lies far away, so that another subject's answers are met too.
        pairs = Counter((perturb(gold, golds[(i + 1234) % len(golds)]), gold) for i, gold in enumerate(golds))
        ours, mine = timed(lambda answer, gold: same_answer(answer, gold, verifier), pairs)
        theirs, right = timed(peer, pairs)
        wrong = [pair for pair in pairs if mine[pair] is not right[pair]]
        differing += [(kind, *pair, right[pair], mine[pair], pairs[pair]) for pair in wrong]
        settled = sum(count for pair, count in pairs.items() if settle(*pair) is not None) / len(golds)
        table.append(
            {
                "kind": kind,
                "rows": len(golds),
                "pairs": len(pairs),
                "settled": settled,
                "math_verify_seconds": theirs,
                "seconds": ours,
                "ratio": theirs / ours,
                "differing_rows": sum(pairs[pair] for pair in wrong),
            }
        )
        row = table[-1]
        print(
            f"| {kind} | {row['rows']} | {row['pairs']} | {100 * settled:.1f} % | {theirs:.1f} s | {ours:.2f} s | "
            f"{row['ratio']:.0f} | {row['differing_rows']} |",
            flush=True,
        )
    theirs, ours = (sum(row[name] for row in table) for name in ("math_verify_seconds", "seconds"))
    print(f"| all | | | | {theirs:.1f} s | {ours:.2f} s | {theirs / ours:.0f} | {sum(d[-1] for d in differing)} |")
    theirs, ours = theirs + their_start, ours + our_start
    print(f"| with the start | | | | {theirs:.1f} s | {ours:.2f} s | {theirs / ours:.0f} | |")
    for kind, answer, gold, their, our, count in differing:
        print(f"{kind}: gold {gold!r}, answer {answer!r}: math-verify {their}, ours {our} ({count} rows)")
    if verifier.kills:
        print(f"{verifier.kills} questions hit the time limit of {verifier.seconds:g} s")
    if args.out:
        args.out.write_text(
            json.dumps({"table": table, "start": [their_start, our_start], "differing": differing}, indent=1),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
