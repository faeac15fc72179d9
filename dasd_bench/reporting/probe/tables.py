"""The tables of a probe: answers, labels by kind of token, scores at equal rates, rules at their own rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dasd_bench.reporting.format import count, number, percent
from dasd_bench.reporting.table import Cell, Column, Note, Row, Table
from dasd_bench.results.probe import CORRECTION, LABELS, Counts, ProbeResults, Selector
from dasd_bench.results.selectors import ALL, RATES, SCORES
from dasd_bench.stats.separation import Estimate

KEPT = {"label": "corrections", "kind": "numbers and names"}
FREED = {"label": "other tokens", "kind": "wording"}

SHOWN = 0.25
"""The rate whose precision and recall are shown; JSON has those of all rates, and their losses are always shown."""

INTERVALS = "Brackets: 95 % bootstrap intervals; examples are resampled, since tokens of one text are not independent."


def probe_tables(results: ProbeResults, *, parts: bool = True) -> list[Table]:
    """All tables that the probe has something for; without ``parts`` only rows of all tokens together."""
    if not parts:
        results = replace(
            results,
            counts=[one for one in results.counts if one.group == ALL],
            scores=[one for one in results.scores if one.group == ALL],
            arms=[one for one in results.arms if one.group == ALL],
        )
    tables = [
        _outcomes(results),
        _labels(results),
        *(_scores(results, truth) for truth in KEPT),
        *(_arms(results, truth) for truth in KEPT),
    ]
    return [table for table in tables if table.rows]


def _outcomes(results: ProbeResults) -> Table:
    columns = [
        Column("examples", "examples"),
        Column("base", "base's own\ncorrect %"),
        Column("rewrite", "ungated rewrite\ncorrect %"),
        Column("each", "disagreements\nper rewrite"),
        Column("tested", "tested\ndisagreements"),
    ]
    rows = [
        Row(
            one.task,
            {
                "examples": Cell(count(one.examples), one.examples),
                "base": _share(one.base_right, one.examples),
                "rewrite": _share(one.rewrite_right, one.examples),
                "each": Cell(number(one.disagreements / one.examples, 1), one.disagreements / one.examples),
                "tested": Cell(f"{one.tested:,} of {one.disagreements:,}", one.tested),
            },
        )
        for one in results.outcomes
    ]
    caption = [
        "A disagreement is a token of the greedy, ungated, answer-aware rewrite at which the base, given the question "
        "and the same prefix, would write another one."
    ]
    return Table("answers", "The two streams", columns, rows, caption, row_title="task")


def _share(right: int, total: int) -> Cell:
    return Cell(percent(right / total), right / total, n=total)


def _labels(results: ProbeResults) -> Table:
    names = [name for name in LABELS if any(name in one.labels for one in results.counts)]
    columns = [Column("examples", "examples"), Column("tokens", "tokens")]
    columns += [Column(name, f"{name}\n%") for name in names]
    rows = []
    for one in results.counts:
        rows.append(_label_row("all kinds", one, one.labels, one.tokens, names))
        for kind, found in one.kinds.items():
            rows.append(_label_row(kind, one, found, sum(found.values()), names))
    caption = [_meaning(results)]
    return Table("labels", "Labels by kind of token", columns, rows, caption, row_title="kind")


def _label_row(title: str, group: Counts, found: dict[str, int], total: int, names: Sequence[str]) -> Row:
    cells = {"tokens": Cell(count(total), total)}
    if title == "all kinds":
        cells["examples"] = Cell(count(group.examples), group.examples)
    for name in names:
        cells[name] = Cell(percent(found.get(name, 0) / total), found.get(name, 0) / total, n=total)
    return Row(title, cells, group.group)


def _meaning(results: ProbeResults) -> str:
    if results.labels == "constructed":
        return (
            "Labels by construction. Correction: the token mends an own wrong answer where it first goes wrong. Style: "
            "it re-words a right answer without changing a number, name or operator. The task's grader confirmed both."
        )
    stream = "the plain base" if results.settings.get("continuation") == "base" else "the answer-aware stream"
    return (
        f"Flip test: the base's token or the candidate is forced, then {stream} goes on greedily and ungated, and both "
        "answers are graded. Correction: right after the candidate only. Damage: right after the base's token only. "
        "Neutral: the verdict is the same."
    )


def _scores(results: ProbeResults, truth: str) -> Table:
    columns = [Column("n", "tokens"), Column("freed", f"{FREED[truth]}\n%"), Column("auc", "AUC")]
    for rate in RATES:
        key = f"at{100 * rate:g}"
        columns += [
            Column(f"{key}:precision", f"at {100 * rate:g} % replaced\nprecision %", block=key, shown=rate == SHOWN),
            Column(f"{key}:recall", f"at {100 * rate:g} % replaced\nrecall %", block=key, shown=rate == SHOWN),
            Column(f"{key}:lost", f"at {100 * rate:g} % replaced\n{KEPT[truth]} lost %", block=key),
        ]
    rows = []
    for one in results.scores:
        if one.truth == truth:
            cells = _common(one)
            for rate, found in zip(RATES, one.at, strict=True):
                key = f"at{100 * rate:g}"
                cells[f"{key}:precision"] = _percent(found.precision)
                cells[f"{key}:recall"] = _percent(found.recall)
                cells[f"{key}:lost"] = _percent(found.lost)
            rows.append(Row(one.name, cells, one.group))
    caption = [
        f"AUC: chance that a score ranks {_one(truth)} (what may be replaced) above one of the {KEPT[truth]}; .5 says "
        "nothing, below it the score is right the other way round. " + INTERVALS,
        f"At equal replacement rates: precision, the share of the replaced tokens that are {FREED[truth]}; lost, the "
        f"share of the {KEPT[truth]} that is replaced all the same (at random: the rate itself).",
    ]
    notes = [Note("; ".join(f"{name}: {score.help}" for name, score in SCORES.items()) + ".")]
    return Table(f"scores-{truth}", _title("Scores", truth), columns, rows, caption, row_title="score", notes=notes)


def _arms(results: ProbeResults, truth: str) -> Table:
    columns = [
        Column("n", "tokens"),
        Column("freed", f"{FREED[truth]}\n%"),
        Column("rate", "replaced\n%"),
        Column("precision", "precision\n%"),
        Column("recall", "recall\n%"),
        Column("lost", f"{KEPT[truth]}\nlost %"),
        Column("auc", "AUC"),
    ]
    rows = []
    for one in results.arms:
        if one.truth == truth:
            found = one.at[0]
            cells = _common(one)
            cells["rate"] = Cell(percent(found.rate), found.rate, n=one.tokens)
            cells["precision"] = _percent(found.precision)
            cells["recall"] = _percent(found.recall)
            cells["lost"] = _percent(found.lost)
            rows.append(Row(one.name, cells, one.group))
    caption = [
        "Rules of dual-context decoding refuse a candidate; selection methods give its token weight 0. A rule that "
        "tells nothing loses as large a share of the "
        f"{KEPT[truth]} as it replaces, and its AUC, (1 + recall - lost) / 2, is .5. " + INTERVALS
    ]
    return Table(f"rules-{truth}", _title("Rules and selections", truth), columns, rows, caption, row_title="arm")


def _title(what: str, truth: str) -> str:
    return f"{what}: {KEPT[truth]} against {FREED[truth]}"


def _one(truth: str) -> str:
    return "another token" if truth == "label" else "a wording token"


def _common(one: Selector) -> dict[str, Cell]:
    return {
        "n": Cell(count(one.tokens), one.tokens),
        "freed": Cell(percent(one.freed / one.tokens), one.freed / one.tokens, n=one.tokens),
        "auc": _cell(one.auc, 1.0, 3),
    }


def _percent(found: Estimate | None) -> Cell:
    return _cell(found, 100.0, 1)


def _cell(found: Estimate | None, scale: float, digits: int) -> Cell:
    if found is None:
        return Cell(number(None))
    text = number(scale * found.value, digits)
    if found.low is None or found.high is None:
        return Cell(text, found.value)
    detail = f"[{number(scale * found.low, digits)}, {number(scale * found.high, digits)}]"
    return Cell(text, found.value, detail, found.low, found.high)


def headline(results: ProbeResults) -> list[str]:
    """The answer in sentences: the best and the worst score, and how many corrections it rests on."""
    mine = [one for one in results.scores if one.group == ALL and one.truth == "label" and one.auc is not None]
    if not mine:
        whole = results.group(ALL) if results.counts else None
        corrections = whole.labels.get(CORRECTION, 0) if whole else 0
        return [
            f"No score can be judged: {corrections} of the tested tokens are corrections, and both sides are needed."
        ]
    best = max(mine, key=lambda one: one.auc.value if one.auc else 0.0)
    conf = next(one for one in mine if one.name == "conf")
    kept = best.tokens - best.freed
    return [
        f"{kept} corrections among {best.tokens} labelled tokens of {results.group('all').examples} examples.",
        f"The base's confidence: AUC {_cell(conf.auc, 1.0, 3).plain}; the best score, {best.name}: "
        f"{_cell(best.auc, 1.0, 3).plain}.",
    ]
