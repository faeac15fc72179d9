"""What a run measured: the dataclasses behind ``results.json``, the one place that defines its schema.

The pipeline fills these and calls :meth:`RunResults.save`; every table reads them with :meth:`RunResults.load`.
Per-item outcomes are kept, so that no interval and no test is ever computed from a rounded number.
The schema is documented for readers in ``docs/results-schema.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.json_file import parse
from dasd_bench.files.text import read_text
from dasd_bench.results.directory import RESULTS_FILE, RunDirectory
from dasd_bench.results.items_file import PATTERN, count_values, places, read_items, without_items, write_items
from dasd_bench.results.json_codec import DecodeError, decode, dumps
from dasd_bench.results.upgrade import upgraded
from dasd_bench.store.atomic import write_text

SCHEMA_VERSION = 2
"""Of a file that holds every value per item."""

ITEMS_VERSION = 3
"""Of a file as version 2 whose values per item are in a file beside it, named by ``items_file``."""

VALUES_IN_JSON = 200_000
"""Values per item that ``results.json`` holds at most."""

STATUSES = ("finished", "partial", "cancelled")


@dataclass(slots=True)
class TaskInfo:
    """One task as it was evaluated in this run.

    ``metric`` and ``filter`` name the headline score in lm-eval's terms; ``n_items`` is the number of test items that
    every row of the table should have; ``comparable`` is True where prompt, filter and metric are stock lm-eval's,
    and ``note`` says in a few words why not where it is False. A metric that is not a share of right answers sets
    ``percent`` False and is printed as it is.
    """

    name: str
    metric: str
    filter: str
    higher_is_better: bool
    comparable: bool
    num_fewshot: int
    n_items: int
    n_train: int
    version: int
    note: str = ""
    percent: bool = True
    retention: bool = False
    max_new_tokens: int | None = None


@dataclass(slots=True)
class ReferenceNll:
    """Teacher-forced negative log-likelihood of the test references, in nats per token.

    ``all_tokens_mean`` is over all tokens of all items; ``numeric_tokens_mean`` over tokens with a digit, None where
    there is none; ``per_item`` and ``numeric_per_item`` hold the mean per item, in the order of the items (0 for an
    item without such a token), over ``tokens_per_item`` and ``numeric_tokens_per_item`` tokens. ``own`` is the same
    for the answers of the base itself that were right.
    """

    all_tokens_mean: float
    numeric_tokens_mean: float | None
    per_item: list[float]
    numeric_per_item: list[float] = field(default_factory=list)
    tokens_per_item: list[int] = field(default_factory=list)
    numeric_tokens_per_item: list[int] = field(default_factory=list)
    own: OwnNll | None = None


@dataclass(slots=True)
class OwnNll:
    """Teacher-forced nll of the base's own right answers, in nats per token: how much of its own way is unlearnt.

    ``items`` are the indices of the items the base got right; ``per_item`` the mean over ``tokens_per_item`` tokens.
    """

    mean: float
    items: list[int]
    per_item: list[float]
    tokens_per_item: list[int]


@dataclass(slots=True)
class TaskScore:
    """The outcome of one model (base, or base with one adapter) on one task, item by item.

    ``correct`` (0 or 1) for pass/fail metrics, else ``scores``; one value per item in the order that ``item_hash``
    (see :func:`hash_items`) stands for. Where an item was sampled several times its value is the mean of its samples.
    ``confidence`` is the model's own in each answer (see :mod:`dasd_bench.evaluation.confidence`), empty where unknown.
    ``reasons`` counts the values of :class:`dasd_bench.types.Reason`. ``groups`` holds for a name such as
    ``level`` or ``subject`` the group of every item. ``answers`` is None for multiple choice.
    """

    mean: float
    n: int
    item_hash: str
    correct: list[int] | None = None
    scores: list[float] | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    reference_nll: ReferenceNll | None = None
    groups: dict[str, list[str]] = field(default_factory=dict)
    confidence: list[float] = field(default_factory=list)
    stderr: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    other_metrics: dict[str, float | None] = field(default_factory=dict)
    answers: AnswerStats | None = None

    def values(self) -> list[float]:
        """The per-item values as floats, pass/fail or not."""
        return list(map(float, self.correct)) if self.correct is not None else list(self.scores or ())

    @property
    def binary(self) -> bool:
        """True for a pass/fail metric."""
        return self.correct is not None

    @staticmethod
    def from_items(
        ids: Sequence[str],
        *,
        correct: Sequence[int] | None = None,
        scores: Sequence[float] | None = None,
        reasons: dict[str, int] | None = None,
        reference_nll: ReferenceNll | None = None,
        groups: dict[str, list[str]] | None = None,
    ) -> TaskScore:
        """A score from its items: ``mean``, ``n`` and ``item_hash`` follow from them."""
        values = [float(v) for v in (correct if correct is not None else scores or ())]
        return TaskScore(
            mean=sum(values) / len(values) if values else float("nan"),
            n=len(values),
            item_hash=hash_items(ids),
            correct=None if correct is None else [int(v) for v in correct],
            scores=None if correct is not None else values,
            reasons=dict(reasons or {}),
            reference_nll=reference_nll,
            groups=dict(groups or {}),
        )


@dataclass(slots=True)
class ClassStats:
    """Training targets' tokens of one kind (numbers and operators, wording, format and end).

    ``mean_nll`` in nats (None without tokens) and ``high_ppl`` (tokens with a perplexity above 2.5) are under the
    frozen base; ``weight_zero`` tokens are left out by the static selection. Of ``proposed`` candidates of this kind in
    dual-context decoding ``replaced`` gave way to another token of the base.
    """

    tokens: int
    mean_nll: float | None
    high_ppl: int
    weight_zero: int
    proposed: int
    replaced: int


@dataclass(slots=True)
class NoteStats:
    """One of the method's own counts (:class:`dasd_bench.methods.notes.Note`) over one arm's targets.

    ``value`` is a count for ``how`` = sum, a number for mean, a share for share; None where nothing was to be counted.
    ``n`` targets carry it. The other fields are as the method declares them.
    """

    name: str
    title: str
    how: str
    value: float | None
    n: int
    help: str = ""
    against: str = ""
    shown: bool = True


@dataclass(slots=True)
class TargetStats:
    """What one arm's training targets are like under the frozen base. See :func:`..target_stats.target_stats`.

    ``ppl`` is exp(``mean_nll``); ``hpr`` gives for a limit k (``"2.5"``) the share of tokens whose perplexity
    exceeds it. ``acceptance`` is the share of examples whose target is not a fallback, ``dropped`` the examples
    without a target, ``reasons`` the count of each ``Target.reason``. ``gold_share`` is a share of targets.
    ``base_share`` (tokens of origin BASE, such as those that dual-context decoding took from the base; None where the
    method has no such origin) and ``weight_zero_share`` are shares of the targets' tokens. ``notes`` are the method's
    own counts. ``classes`` counts by kind of token; ``auc_confidence`` and ``auc_probability`` say how well the base's
    confidence and its probability of the token tell wording from numbers (.5: not at all);
    ``gold_agreement`` is ROUGE-L with the gold answer, ``numbers_kept`` the share of its numbers that the targets have;
    ``lengths`` are the 10, 50, 90 and 100 % points of tokens per target. ``histogram_counts[i]`` tokens have an
    nll in [``histogram_edges[i]``, ``histogram_edges[i+1]``); the last bin is open.
    """

    n: int
    tokens: int
    mean_nll: float
    ppl: float
    hpr: dict[str, float]
    accepted: int
    acceptance: float
    reasons: dict[str, int]
    gold_share: float
    mean_length: float
    weight_zero_share: float
    dropped: int = 0
    base_share: float | None = None
    notes: list[NoteStats] = field(default_factory=list)
    classes: dict[str, ClassStats] = field(default_factory=dict)
    auc_confidence: float | None = None
    auc_probability: float | None = None
    gold_agreement: float | None = None
    numbers_kept: float | None = None
    lengths: list[float] = field(default_factory=list)
    histogram_edges: list[float] = field(default_factory=list)
    histogram_counts: list[int] = field(default_factory=list)


@dataclass(slots=True)
class TrainStats:
    """What training one adapter took. ``target_tokens`` and ``kept_tokens`` count all epochs.

    ``nll`` is the unweighted mean over all steps' tokens with a static weight, ``clipped_steps`` counts those whose
    gradient norm was above the limit, ``generated_tokens`` were drawn while training; None in runs made before they
    were kept. ``budget_tokens`` is the total of ``--budget tokens`` or ``compute`` and ``missed_tokens`` what was left
    of it at the end. ``best_step`` and ``best_held_out_nll`` (nats per token) belong to early stopping.
    """

    steps: int
    target_tokens: int
    kept_tokens: int
    seconds: float
    final_loss: float | None
    peak_memory_gib: float
    parameters: int = 0
    nll: float | None = None
    clipped_steps: int | None = None
    generated_tokens: int | None = None
    budget_tokens: int | None = None
    missed_tokens: int = 0
    best_step: int | None = None
    best_held_out_nll: float | None = None


@dataclass(slots=True)
class TargetCost:
    """What making one arm's targets took: tokens that models generated (each token of dual-context decoding counts
    twice, since it runs two contexts), target tokens trained on in rounds inside the method, and seconds.

    Tokens are counted whether or not the store had them; ``seconds`` are those that were really spent.
    """

    generated_tokens: int
    round_tokens: int
    seconds: float


@dataclass(slots=True)
class AnswerStats:
    """The length of one model's written answers to a task: ``n`` answers of ``mean_tokens`` tokens each, ``cut_share``
    of which ended at the token limit, whether or not they were right."""

    n: int
    mean_tokens: float
    cut_share: float


@dataclass(slots=True)
class PointScores:
    """An arm's scores during training: after ``step`` steps, at ``fraction`` of training, by task."""

    fraction: float
    step: int
    target_tokens: int
    kept_tokens: int
    scores: dict[str, TaskScore]

    @property
    def name(self) -> str:
        """Its folder under ``points/``."""
        return repr(self.fraction)


@dataclass(slots=True)
class Drift:
    """How far a model is from the base on held-out prompts, by the base's own measure; no reference answers needed.

    ``tasks`` names the task of each prompt. The model's own greedy output on a prompt has ``output_tokens`` tokens,
    whose summed nll under the base is ``output_nll`` (nats). ``js_distance`` is the mean over the tokens of the base's
    own greedy output of the square root of the Jensen-Shannon divergence between the two models' next-token
    distributions, ``js_divergence`` that of the divergence itself (nats), both over ``base_tokens`` tokens.
    """

    tasks: list[str]
    output_nll: list[float]
    output_tokens: list[int]
    js_distance: list[float]
    js_divergence: list[float]
    base_tokens: list[int]


@dataclass(slots=True)
class SeedArm:
    """One method trained with one seed. ``points`` are its scores at ``training.evaluate_at``, in order."""

    seed: int
    scores: dict[str, TaskScore]
    target_stats: TargetStats | None = None
    train_stats: TrainStats | None = None
    drift: Drift | None = None
    target_cost: TargetCost | None = None
    points: list[PointScores] = field(default_factory=list)


@dataclass(slots=True)
class GivenAdapter:
    """An adapter that was trained elsewhere. ``sha256`` is over its configuration and weights, ``base`` what it names
    as its base model, ``line`` its rank and target modules in words."""

    path: str
    sha256: str
    base: str
    line: str


@dataclass(slots=True)
class Arm:
    """One row of the table: a method with its options. ``folder`` is its name under ``arms/``.

    ``training`` holds the arm's own resolved training settings, empty in runs made before they were kept; ``online``
    says whether weights are decided on the live model while training, None where the run does not say. ``remark`` is
    what the method says of its own notes (see :meth:`dasd_bench.methods.base.Method.remark`), or empty. ``adapter`` is
    set for an adapter that was trained elsewhere: such a row has one seed, 0, and neither targets nor training.
    """

    method: str
    options: dict[str, Any]
    label: str
    seeds: list[SeedArm]
    denominator: str = ""
    folder: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    online: bool | None = None
    remark: str = ""
    adapter: GivenAdapter | None = None

    @property
    def directory(self) -> str:
        """The arm's folder under ``arms/``."""
        return self.folder or self.method


@dataclass(slots=True)
class TrainSummary:
    """How arms were trained. ``line`` (adapter, learning rate, batch, epochs) and ``budget`` go into the caption.

    ``arms`` has a line per arm's label instead where they were not trained alike.
    """

    line: str = ""
    budget: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class StageTime:
    """One stage's cost; ``reused`` where the store had it. ``arm`` is empty for a stage that arms share.

    ``waited_seconds`` of the ``seconds`` other processes had the cores that its main thread would have run on.
    """

    name: str
    seconds: float
    reused: bool = False
    cpu_seconds: float = 0.0
    peak_memory_gib: float = 0.0
    arm: str = ""
    seed: int | None = None
    waited_seconds: float = 0.0


@dataclass(slots=True)
class RunResults:
    """Everything the tables need from one run.

    ``conditions`` names what must be equal for two runs to be compared (``dtype``, ``chat template``, ``budget``,
    ``data gsm8k``, ...) with its value or hash; ``seeds`` and ``methods`` are what was asked for, so that a missing
    arm is seen. ``base`` holds the untrained model's scores by task. ``items_file`` names the file beside
    ``results.json`` that holds the values per item of a large run; it is empty once they are read.
    """

    run_id: str
    status: str
    model: str
    tasks: list[TaskInfo]
    arms: list[Arm]
    base: dict[str, TaskScore]
    base_drift: Drift | None = None
    seeds: list[int] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    train: TrainSummary = field(default_factory=TrainSummary)
    stages: list[StageTime] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items_file: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of ``results.json``."""
        return dumps(self)

    @staticmethod
    def from_json(text: str, where: str = RESULTS_FILE, folder: Path | None = None) -> RunResults:
        """Reads ``to_json``'s text; raises :class:`StoreError` naming ``where`` and the field or the schema version.

        Values per item in a file of their own are read from ``folder``, and left out without one.
        """
        try:
            raw = parse(text)
        except ValueError as err:
            raise StoreError(f"{where}: not valid JSON ({err}); run the command again.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version not in range(1, ITEMS_VERSION + 1):
            raise StoreError(
                f"{where} has schema version {version}, this dasd-bench reads versions 1 to {ITEMS_VERSION}: "
                "read it with the release that wrote it, or run it again."
            )
        try:
            results = decode(RunResults, upgraded(raw))
        except DecodeError as err:
            raise StoreError(f"{where}: {err}; the file is damaged, rerun the command to rebuild it.") from None
        if results.items_file and folder is None:
            return results
        if results.items_file and folder is not None:
            read_items(folder / Path(results.items_file).name, results)
            results.items_file, results.schema_version = "", SCHEMA_VERSION
        _check(results, where)
        return results

    def save(self, run_dir: Path) -> Path:
        """Writes ``results.json`` into ``run_dir`` atomically and gives its path.

        Where it would hold more than :data:`VALUES_IN_JSON` values per item, they go into a file beside it.
        """
        path = RunDirectory(run_dir).results
        kept = self
        if count_values(self) > VALUES_IN_JSON:
            kept = replace(self, items_file=write_items(run_dir, self), schema_version=ITEMS_VERSION)
            kept.base = dict(self.base)
            kept.arms = [
                replace(
                    arm,
                    seeds=[
                        replace(
                            one,
                            scores=dict(one.scores),
                            points=[replace(point, scores=dict(point.scores)) for point in one.points],
                        )
                        for one in arm.seeds
                    ],
                )
                for arm in self.arms
            ]
            for place in places(kept):
                place.put(without_items(place.score))
        write_text(path, kept.to_json())
        if self.status == "finished":
            for other in run_dir.glob(PATTERN):
                if other.name != kept.items_file:
                    other.unlink()
        return path

    @staticmethod
    def load(run_dir: Path, *, items: bool = True) -> RunResults:
        """Reads ``run_dir/results.json``; raises :class:`StoreError` where there is none.

        ``items`` False leaves the values per item of a large run out: enough for an overview.
        """
        path = RunDirectory(run_dir).results
        try:
            text = read_text(path, StoreError)
        except FileNotFoundError:
            raise StoreError(
                f"{run_dir} has no {RESULTS_FILE}: no task was finished; rerun the same command to resume."
            ) from None
        return RunResults.from_json(text, str(path), run_dir if items else None)

    def task(self, name: str) -> TaskInfo:
        """The task called ``name``."""
        return next(task for task in self.tasks if task.name == name)


def hash_items(ids: Sequence[str]) -> str:
    """A short hash of item ids in order: equal hashes mean that the same items can be paired by position."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def _check(results: RunResults, where: str) -> None:
    if results.status not in STATUSES:
        raise StoreError(f"{where}: status '{results.status}' is not one of {', '.join(STATUSES)}; rerun the command.")
    named = [("base", results.base)]
    named += [(f"{arm.label} seed {one.seed}", one.scores) for arm in results.arms for one in arm.seeds]
    named += [
        (f"{arm.label} seed {one.seed} at {point.fraction:g}", point.scores)
        for arm in results.arms
        for one in arm.seeds
        for point in one.points
    ]
    tasks = {task.name for task in results.tasks}
    for label, scores in named:
        for task, score in scores.items():
            if task not in tasks:
                raise StoreError(f"{where}: {label} has a score for '{task}', which is not among the run's tasks.")
            if not {*(score.correct or ())} <= {0, 1}:
                raise StoreError(
                    f"{where}: 'correct' of {label} on {task} must hold 0 and 1 only; the file is damaged."
                )
            lengths = {len(score.values()), *(len(group) for group in score.groups.values())}
            if lengths != {score.n}:
                raise StoreError(
                    f"{where}: {label} on {task} says n = {score.n} but holds {sorted(lengths)} items; "
                    "the file is damaged, rerun the command to rebuild it."
                )
