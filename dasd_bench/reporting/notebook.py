"""A run's results as a notebook shows and takes them: tables as HTML, pandas frames, matplotlib figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dasd_bench.errors import DasdError, unknown_name
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.plots import KINDS, Nothing, Source, draw
from dasd_bench.reporting.render.markup import html_table
from dasd_bench.reporting.show import run_tables
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.samples import read_samples
from dasd_bench.results.schema import RunResults
from dasd_bench.results.targets_file import read_targets
from dasd_bench.types import Mark, Origin

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass
class Results(RunResults):
    """The results of a run with its directory: what :func:`dasd_bench.api.run` and ``load_results`` give.

    A notebook shows it as the run's tables. :attr:`scores`, :attr:`items` and :attr:`tokens` are pandas frames in long
    form, one row per observation; :meth:`figure` draws one of the kinds of ``dasd-bench plot``.
    """

    run_dir: Path = Path()

    @staticmethod
    def of(results: RunResults, run_dir: Path) -> Results:
        """``results`` as those of the run in ``run_dir``."""
        return Results(**{f.name: getattr(results, f.name) for f in fields(RunResults)}, run_dir=run_dir)

    def to_json(self) -> str:
        """The text of ``results.json``, in which the directory is no part."""
        return RunResults(**{f.name: getattr(self, f.name) for f in fields(RunResults)}).to_json()

    def _repr_html_(self) -> str:
        """The run's tables: scores, retention, answers without a score, targets, cost."""
        return "\n".join(html_table(table) for table in run_tables([self]))

    @property
    def scores(self) -> pandas.DataFrame:
        """One row per method, seed and task: the headline score with its metric, items, tokens and reference NLL.

        ``seed`` is missing for the base. Not rounded; ``reference_nll`` in nats per token.
        """
        infos = {task.name: task for task in self.tasks}
        return _frame(
            {
                "method": entry.label,
                "seed": seed,
                "task": name,
                "metric": infos[name].metric,
                "score": score.mean,
                "items": score.n,
                "comparable": infos[name].comparable,
                "retention": infos[name].retention,
                "reference_nll": None if score.reference_nll is None else score.reference_nll.all_tokens_mean,
                "tokens": score.tokens,
                **{f"reason_{reason}": count for reason, count in score.reasons.items()},
            }
            for entry in entries(self)
            for name in infos
            for seed, score in zip(entry.seeds(name), entry.scores(name), strict=True)
        )

    @property
    def items(self) -> pandas.DataFrame:
        """One row per method, seed, task and item: the completion, the extracted answer, the score and the reason.

        Read from the run directory; raises :class:`~dasd_bench.errors.StoreError` where its files are missing.
        """
        return _frame(
            {
                "method": entry.label,
                "seed": seed,
                "task": task.name,
                "item": sample.id,
                "level": sample.level,
                "subject": sample.subject,
                "score": sample.score,
                "reason": sample.reason.value,
                "extracted": sample.extracted,
                "answer": sample.answer,
                "confidence": sample.confidence,
                "tokens": sample.tokens,
                "prompt": sample.prompt,
                "completion": sample.completion,
            }
            for entry in entries(self)
            for task in self.tasks
            for seed in entry.seeds(task.name)
            for sample in read_samples(entry.directory(self.run_dir, seed).samples(task.name))
        )

    @property
    def tokens(self) -> pandas.DataFrame:
        """One row per token of every training target, with its scores under the untrained model and its weight.

        ``logp``, ``top1_logp`` and ``entropy`` in nats; ``origin`` and ``mark`` in lower case (``gold``, ``end``).
        """
        return _frame(self._token_rows())

    def _token_rows(self) -> Iterator[dict[str, Any]]:
        for arm in self.arms:
            for one in arm.seeds if arm.adapter is None else ():
                stored = read_targets(RunDirectory(self.run_dir).arm(arm.directory, one.seed))
                for number, row in enumerate(stored.rows):
                    values = {name: parts[number] for name, parts in stored.arrays.items()}
                    for position, token_id in enumerate(values["token_ids"].tolist()):
                        yield {
                            "method": arm.label,
                            "seed": one.seed,
                            "target": row.id,
                            "position": position,
                            "token_id": token_id,
                            "text": stored.pieces.get(token_id),
                            "origin": Origin(int(values["origin"][position])).name.lower(),
                            "mark": Mark(int(values["marks"][position])).name.lower(),
                            "logp": float(values["logp"][position]),
                            "top1_logp": float(values["top1_logp"][position]),
                            "entropy": float(values["entropy"][position]),
                            "rank": int(values["rank"][position]),
                            "weight": float(values["weights"][position]),
                        }

    def figure(self, kind: str = "scores") -> Figure:
        """A figure of the kinds of ``dasd-bench plot``: scores, difficulty, ppl, notes, forgetting, training, cost.

        Raises :class:`UsageError` for another kind, and :class:`DasdError` that says why there is nothing to show.
        """
        if kind not in KINDS:
            raise unknown_name("kind of figure", kind, KINDS)
        (drawn,) = draw([Source(self.run_dir, self)], [kind])
        if isinstance(drawn, Nothing):
            raise DasdError(drawn.why)
        return drawn.figure


def _frame(rows: Iterator[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    frame = pandas.DataFrame(list(rows))
    if "seed" in frame:
        # Whole numbers with a gap: the base has no seed.
        frame["seed"] = frame["seed"].astype("Int64")
    return frame
