"""What a run gives to methods: prompts, generation, scoring, training and grading over the store and the engine."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import PluginError, TrainingError, unknown_name
from dasd_bench.methods import plugin_calls as method_calls
from dasd_bench.methods.base import KEEP_CHOICES
from dasd_bench.methods.context import GREEDY, DualGeneration, Generation, MethodContext, ModelRef, Rule, Sampling
from dasd_bench.methods.plugin_calls import step_rule
from dasd_bench.methods.plugin_source import source_hash
from dasd_bench.results.directory import ADAPTER_FOLDER
from dasd_bench.run.adapters import held_out_ids, references, train_adapter, train_examples
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import data_folder
from dasd_bench.run.dual_calls import VERSIONS, DeferredError, DualCall, dual_decode, work_key
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.sharded import Report, run_sharded
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import Entry, Row
from dasd_bench.tasks import plugin_calls
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.types import (
    Example,
    Floats,
    Message,
    Target,
    TokenScores,
    TrainingSet,
    Verdict,
)

if TYPE_CHECKING:
    from dasd_bench.engine.requests import ScoreRequest

Answer = TypeVar("Answer", Generation, DualGeneration)

_NO_IDS, _NO_NUMBERS = np.zeros(0, np.int32), np.zeros(0, np.float32)
REMEMBERED = "arrays.safetensors"
NO_ANSWER = Generation(_NO_IDS, _NO_NUMBERS, "", "length")
"""What a prompt that leaves no room for an answer gives: nothing, cut off at once."""


class EngineMethodContext(MethodContext):
    """The method context of one call of an arm's ``make_targets``.

    ``seed`` is used where something is drawn or trained; ``examples`` are those it is called with. The hash of the
    plugin's source is part of the key of all that the plugin's own code decides. With ``deferring`` a dual decoding
    that is not in the store raises :class:`DeferredError`, so that it can be done together with those of other arms.

    ``generated_tokens`` and ``round_tokens`` count what was asked for, whether or not the store had it: tokens that
    models wrote (twice those of dual-context decoding, which runs two contexts), and tokens trained on in rounds.
    """

    def __init__(
        self, run: RunContext, arm: ArmSpec, seed: int, examples: Sequence[Example] = (), *, deferring: bool = False
    ) -> None:
        self._run = run
        self._deferring = deferring
        self._arm = arm
        self._seed = seed
        self._source = arm.plugin.sha256
        self._prompts = Prompts(run)
        self._asked = Prompts(run, teacher=True)
        self._drawn: Counter[tuple[object, ...]] = Counter()
        self._examples = {example.id: example for example in examples}
        self.end_token_id = run.chat.end_token_id
        self._stop_ids = run.stop_ids
        self.generated_tokens = self.round_tokens = 0

    def rewrite_prompt(self, example: Example, style: str = "multi-turn") -> list[Message]:
        return self._prompts.rewrite(example, style)

    def new_tokens(self, example: Example) -> int:
        thinking = self._run.spec.thinking.tokens if self._run.teacher_chat.thinking else 0
        return thinking + (self._run.spec.max_new_tokens or self._prompts.task(example).train_new_tokens)

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        label: str = "generate",
        model: ModelRef | None = None,
    ) -> list[Generation]:
        encoded = [self._asked.encode(prompt) for prompt in prompts]
        seeds = self._sample_seeds(encoded, label, drawn=sampling.temperature > 0)
        results = generate_tokens(self._run, encoded, max_new_tokens, sampling, seeds, label, model)
        self.generated_tokens += sum(len(one.token_ids) for one in results)
        return [self._without_thought(one) for one in results]

    def dual_decode(
        self,
        base: Sequence[Sequence[Message]],
        reference: Sequence[Sequence[Message]],
        rule: Rule,
        *,
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        examples: Sequence[Example] = (),
        keep: str = "none",
        label: str = "dual decode",
        parameters: Sequence[Sequence[float]] = (),
        reference_model: ModelRef | None = None,
    ) -> list[DualGeneration]:
        from dasd_bench.engine.requests import DualRequest

        decided_by = rule_key(rule, self._source)
        base_ids = [self._asked.encode(prompt) for prompt in base]
        reference_ids = [self._asked.encode(prompt) for prompt in reference]
        pairs = list(zip(base_ids, reference_ids, strict=True))
        markers = self._keep_texts(examples, keep, len(pairs))
        own = [tuple(map(float, numbers)) for numbers in parameters] or [()] * len(pairs)
        seeds = self._sample_seeds(pairs, label, drawn=rule.uses_draws or sampling.temperature > 0)
        requests = [
            DualRequest(
                b,
                r,
                budget,
                self._stop_ids,
                sampling=sampling,
                seed=seed,
                name=f"{label} {index}",
                keep_ids=frozenset() if keep == "none" else self._stop_ids,
                keep_texts=marked,
                parameters=numbers,
            )
            for index, ((b, r), budget, seed, marked, numbers) in enumerate(
                zip(pairs, max_new_tokens, seeds, markers, own, strict=True)
            )
        ]
        key = work_key(
            "dual",
            self._run.model_key,
            base_ids,
            reference_ids,
            decided_by,
            keep,
            markers,
            list(max_new_tokens),
            sampling,
            seeds,
            *([[list(map(str, numbers)) for numbers in own]] if parameters else ()),
            *_trained(reference_model),
        )

        asked = DualCall(self._run, requests, step_rule(rule), key, _adapter(reference_model), label)
        if self._deferring and not asked.stored:
            raise DeferredError(asked)
        results = dual_decode(asked)
        self.generated_tokens += 2 * sum(len(one.token_ids) for one in results)
        return [self._without_thought(one) for one in results]

    def score(
        self,
        targets: Sequence[Target],
        examples: Sequence[Example],
        *,
        prompts: Sequence[Sequence[Message]] | None = None,
        model: ModelRef | None = None,
    ) -> list[TokenScores]:
        from dasd_bench.engine.requests import ScoreRequest

        if prompts is None:
            before = [self._prompts.target_ids(*pair) for pair in zip(targets, examples, strict=True)]
        else:
            before = [self._prompts.encode(prompt) for prompt in prompts]
        requests, bare = [], []
        for ids, target in zip(before, targets, strict=True):
            tokens = target.token_ids.tolist()
            bare.append(not ids)
            requests.append(ScoreRequest(ids or tokens[:1], tokens if ids else tokens[1:], name=target.example_id))
        wanted = [index for index, request in enumerate(requests) if request.target_ids]
        made, _ = score_requests(self._run, [requests[index] for index in wanted], "score", model)
        found = dict(zip(wanted, made, strict=True))
        return [_from_second(found.get(index)) if bare[index] else found[index] for index in range(len(requests))]

    def train(
        self,
        targets: Sequence[Target],
        weights: Sequence[Floats] | None = None,
        *,
        label: str = "round",
        init: ModelRef | None = None,
    ) -> ModelRef:
        from dasd_bench.training.batching import examples_digest

        # Rounds are trained by the method's own loss, whatever weights the arm's targets get in the end.
        run, arm = self._run, dataclasses.replace(self._arm, second=None, training=round_training(self._arm))
        if not arm.method.trains:
            raise PluginError(f"{arm.plugin.path}: method '{arm.plugin.name}' trains, so its class sets trains = True.")
        if not targets:
            raise TrainingError(f"{arm.label}: {label} has no target to train on.")
        own = weights if weights is not None else [np.ones(len(one.token_ids), dtype=np.float32) for one in targets]
        held = held_out_ids(arm, self._seed, list(self._examples.values()))
        if held:
            kept = [index for index, one in enumerate(targets) if one.example_id not in held]
            targets, own = [targets[i] for i in kept], [own[i] for i in kept]
        behind = [self._examples[one.example_id] for one in targets]
        taught = arm.method.teacher != "none"
        chats = method_calls.teacher_prompts(arm.method, behind, self) if taught else [[]] * len(targets)
        data = TrainingSet(
            train_examples(run, arm, targets, behind, own, chats), references(run, list(self._examples.values()), held)
        )
        key = work_key(
            *("round", self._source, arm.method.name, dataclasses.asdict(arm.method)),
            *(run.model_key, arm.training, self._seed, examples_digest(data.examples), examples_digest(data.held_out)),
            *_trained(init),
        )

        def make(entry: Entry) -> Row:
            run.console.say(f"[{label} {arm.label} seed {self._seed}] training on {len(data.examples)} targets")
            return train_adapter(run, arm, self._seed, data, entry.path, init=_adapter(init))

        entry, _ = run.get_or_make("round", key, make)
        stats = entry.meta["stats"]
        self.generated_tokens += stats["generated_tokens"]
        self.round_tokens += stats["target_tokens"]
        return ModelRef(label, entry.path / ADAPTER_FOLDER)

    def remember(self, kind: str, key: object, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        from safetensors.numpy import load, save

        where = f"{self._arm.plugin.path}: remember({kind!r}, ...)"
        if not _plain(key):
            raise PluginError(f"{where}: its key must be made of numbers, texts, lists and dictionaries of them.")

        def computed(entry: Entry) -> Row:
            made = make()
            if not isinstance(made, Mapping) or not all(isinstance(value, np.ndarray) for value in made.values()):
                raise PluginError(f"{where}: what is remembered must be numpy arrays by name.")
            entry.put(REMEMBERED, save({name: np.ascontiguousarray(value) for name, value in made.items()}))
            return {"kind": kind}

        stored = work_key("remember", self._source, self._arm.plugin.name, kind, key)
        entry, _ = self._run.get_or_make("remember", stored, computed)
        return dict(load(entry.read(REMEMBERED)))

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        for name in dict.fromkeys(example.task for example in examples):
            where = [index for index, example in enumerate(examples) if example.task == name]
            task = self._run.registry.task(name).item
            answers = [self._run.teacher_chat.answer_text(texts[index]) for index in where]
            graded = plugin_calls.grade_all(task, [examples[index] for index in where], answers)
            verdicts.update(zip(where, graded, strict=True))
        return [verdicts[index] for index in range(len(examples))]

    def _answer_ids(self, text: str) -> list[int]:
        return self._prompts.answer_ids(text)

    def _decode(self, ids: list[int]) -> str:
        return str(self._run.tokenizer.decode(ids, skip_special_tokens=True))

    def _answer_spans(self, example: Example, text: str) -> list[tuple[int, int]]:
        return plugin_calls.answer_spans(self._prompts.task(example), example, text)

    def _without_thought(self, made: Answer) -> Answer:
        """What a student that does not think is shown: the answer without the think block before it."""
        start = 0 if self._run.chat.thinking else self._run.teacher_chat.answer_start(made.token_ids.tolist())
        if not start:
            return made
        whole = len(made.token_ids)
        fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
        cut: dict[str, Any] = {k: v[start:] for k, v in fields.items() if isinstance(v, np.ndarray) and len(v) == whole}
        return dataclasses.replace(made, **cut, text=self._run.teacher_chat.answer_text(made.text))

    def _keep_texts(self, examples: Sequence[Example], keep: str, count: int) -> list[tuple[str, ...]]:
        """The answer markers that ``keep`` protects in each of ``count`` answers."""
        if keep not in KEEP_CHOICES:
            raise unknown_name("value of keep", keep, KEEP_CHOICES)
        if keep != "end+format":
            return [()] * count
        if len(examples) != count:
            raise PluginError(f"dual_decode with keep=end+format needs one example per pair, not {len(examples)}.")
        return [tuple(self._prompts.task(example).answer_markers) for example in examples]

    def task_examples(self, task: str) -> list[Example]:
        if task not in self._arm.method.other_tasks():
            raise PluginError(f"{self._arm.plugin.path}: task '{task}' is not among what other_tasks() gives.")
        return train_split(self._run, task)[0]

    def warn(self, text: str) -> None:
        self._run.console.warn(text)

    def _sample_seeds(self, requests: Sequence[object], label: str, *, drawn: bool) -> list[int]:
        """One seed per request; zeros where nothing is drawn, so that all runs and seeds share the result.

        A request that was drawn before at the same place under the same label gets another seed each time.
        """
        if not drawn:
            return [0] * len(requests)
        seeds = []
        for index, request in enumerate(requests):
            place = (label, index, digest(request))
            again = self._drawn[place]
            self._drawn[place] += 1
            seeds.append(self._seed_of(label, index, again) if again else self._seed_of(label, index))
        return seeds


def round_training(arm: ArmSpec) -> TrainingConfig:
    """How rounds inside a method are trained: as the arm, without adapters saved during training."""
    return dataclasses.replace(arm.training, evaluate_at=())


def train_split(run: RunContext, name: str) -> tuple[list[Example], str]:
    """All examples of a task's train split, and the hash of the rows and the plugin that made them."""
    plugin = run.registry.task(name)
    rows = load_rows(plugin.item, "train", data_dir=data_folder(run.spec), offline=run.spec.offline)
    return examples_of(plugin.item, rows, "train"), digest(rows.sha256, plugin.sha256)


def rule_key(rule: Rule, source: str) -> list[object]:
    """What a rule decides by: the plugin's source, its class, the source of the class's own file, its fields.

    Raises :class:`PluginError` for what such a key cannot name.
    """
    kind = type(rule)
    name = f"The rule {kind.__name__}"
    if not isinstance(rule, Rule) or not kind.__dict__.get("__dataclass_params__", _Unfrozen).frozen:
        raise PluginError(f"{name} must be a dataclass(frozen=True) that derives from dasd_bench.api.Rule.")
    if "<locals>" in kind.__qualname__:
        raise PluginError(f"{name} is defined inside a function; define it at the top level of its module.")
    fields = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}
    for field, value in fields.items():
        if not _plain(value):
            raise PluginError(
                f"{name}: field '{field}' is a {type(value).__name__}; use numbers, strings, or tuples or sets of them."
            )
    file = Path(str(sys.modules[kind.__module__].__file__))
    return [source, kind.__qualname__, source_hash(file), fields]


class _Unfrozen:
    frozen = False


def _plain(value: object) -> bool:
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(_plain(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _adapter(model: ModelRef | None) -> Path | None:
    return None if model is None else model.adapter


def _trained(model: ModelRef | None) -> list[str]:
    """What tells a trained model's work from the base's in a key: the entry of the store that holds its adapter."""
    return [] if model is None else [model.adapter.parent.name]


def _from_second(scores: TokenScores | None) -> TokenScores:
    """Scores of all tokens but the first, with NaN (rank -1) for the first."""
    nothing = np.full(1, np.nan, dtype=np.float32)
    if scores is None:
        return TokenScores(nothing, nothing, nothing, np.full(1, -1, dtype=np.int32))
    return TokenScores(
        logp=np.append(nothing, scores.logp),
        top1_logp=np.append(nothing, scores.top1_logp),
        entropy=np.append(nothing, scores.entropy),
        rank=np.append(np.int32(-1), scores.rank),
    )


def generate_tokens(
    run: RunContext,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: Sequence[int],
    sampling: Sampling,
    seeds: Sequence[int],
    label: str,
    model: ModelRef | None = None,
) -> list[Generation]:
    """One completion per prompt of token ids under the base or ``model``, stored by content."""
    from dasd_bench.engine.requests import GenerateRequest

    requests = [
        GenerateRequest(ids, budget, run.stop_ids, sampling=sampling, seed=seed, name=f"{label} {index}")
        for index, (ids, budget, seed) in enumerate(zip(encoded, max_new_tokens, seeds, strict=True))
    ]
    key = digest(
        *("generate", VERSIONS["generate"], run.model_key, encoded, list(max_new_tokens), sampling, seeds),
        *_trained(model),
    )

    def compute(indices: Sequence[int], report: Report) -> list[Generation]:
        # A prompt that fills the context has no answer; what the method does without one is its own decision.
        fitting = [i for i in indices if run.fits(encoded[i])]
        made = run.engine(_adapter(model)).generate(
            [requests[i] for i in fitting], on_result=lambda _, one: report(1, len(one.token_ids))
        )
        found = dict(zip(fitting, made, strict=True))
        return [found.get(i) or NO_ANSWER for i in indices]

    results, _ = run_sharded(
        run.store,
        run.console,
        "generate",
        key,
        Generation,
        [len(ids) for ids in encoded],
        compute,
        shard_size=run.shard_size,
        label=label,
        at_once=run.calls_at_once,
    )
    return results


def score_requests(
    run: RunContext, requests: Sequence[ScoreRequest], label: str, model: ModelRef | None = None
) -> tuple[list[TokenScores], bool]:
    """Token scores under the base or ``model``, stored by content: equal targets of two methods are scored once."""
    key = digest(
        "score",
        VERSIONS["score"],
        run.model_key,
        [(list(r.prompt_ids), list(r.target_ids)) for r in requests],
        *_trained(model),
    )

    def compute(indices: Sequence[int], report: Report) -> list[TokenScores]:
        return run.engine(_adapter(model)).score(
            [requests[i] for i in indices], on_result=lambda _, scores: report(1, len(scores.logp))
        )

    return run_sharded(
        run.store,
        run.console,
        "score",
        key,
        TokenScores,
        [len(r.prompt_ids) + len(r.target_ids) for r in requests],
        compute,
        shard_size=run.shard_size,
        label=label,
        at_once=run.calls_at_once,
    )
