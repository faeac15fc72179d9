"""The lab given to methods: prompts, generation, dual decoding, scoring and grading over the store and the engine."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.errors import PluginError, unknown_name
from dasd_bench.methods.base import KEEP_CHOICES
from dasd_bench.methods.context import GREEDY, DualGeneration, Generation, Rule, Sampling
from dasd_bench.methods.plugin_calls import step_rule
from dasd_bench.methods.plugin_source import source_hash
from dasd_bench.run.context import RunContext
from dasd_bench.run.sharded import Report, run_sharded
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import stage_key
from dasd_bench.tasks import plugin_calls
from dasd_bench.tasks.base import Task
from dasd_bench.types import Bytes, Example, Ints, Mark, Message, Origin, Target, TokenScores, Verdict

if TYPE_CHECKING:
    from dasd_bench.engine.requests import ScoreRequest

VERSIONS = {"generate": 2, "dual": 2, "score": 2}
"""The form of each kind of stored engine work; raising one makes its old entries unreachable."""

GUIDE = (
    "{prompt}\n\nA reference answer is given below.\n\n{reference}\n\n"
    "Use the reference as a guide and write your own full answer to the question."
)
"""The one-turn rewrite prompt (``prompt=guide``): SDFT's idea in this project's words."""


_NO_IDS, _NO_NUMBERS, _NO_BYTES = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
NO_ANSWER = Generation(_NO_IDS, _NO_NUMBERS, "", "length")
NO_DUAL_ANSWER = DualGeneration(
    _NO_IDS, _NO_BYTES, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS, _NO_IDS, _NO_IDS, _NO_BYTES, "", "length"
)
"""What a prompt that leaves no room for an answer gives: nothing, cut off at once."""


def work_key(kind: str, *parts: object) -> str:
    """The store's key of engine work that is stored by its content."""
    return stage_key(kind, VERSIONS[kind], *parts)


class StoreLab:
    """Implements :class:`dasd_bench.methods.context.Lab` for one call of ``make_targets``.

    ``seed`` is the arm's seed, used where something is drawn; ``source`` is the hash of the plugin's source, part of
    the key of all that the plugin's own code decides.
    """

    def __init__(self, context: RunContext, seed: int, source: str = "") -> None:
        self._context = context
        self._seed = seed
        self._source = source
        self._drawn: Counter[tuple[object, ...]] = Counter()
        self.end_token_id = context.chat.end_token_id
        self._stop_ids = context.stop_ids

    def plain_prompt(self, example: Example) -> list[Message]:
        return [Message("user", example.prompt)]

    def rewrite_prompt(self, example: Example, style: str = "multi-turn") -> list[Message]:
        if style == "guide":
            return [Message("user", GUIDE.format(prompt=example.prompt, reference=example.reference))]
        return [
            Message("user", example.prompt),
            Message("assistant", example.reference),
            Message("user", self._task(example).rewrite_instruction),
        ]

    def _task(self, example: Example) -> Task:
        return self._context.registry.task(example.task).item

    def new_tokens(self, example: Example) -> int:
        return self._context.spec.max_new_tokens or self._task(example).train_new_tokens

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        label: str = "generate",
    ) -> list[Generation]:
        from dasd_bench.engine.requests import GenerateRequest

        encoded = [self._context.chat.encode(prompt) for prompt in prompts]
        seeds = self._sample_seeds(encoded, label, drawn=sampling.temperature > 0)
        requests = [
            GenerateRequest(ids, budget, self._stop_ids, sampling=sampling, seed=seed, name=f"{label} {index}")
            for index, (ids, budget, seed) in enumerate(zip(encoded, max_new_tokens, seeds, strict=True))
        ]
        key = digest(
            "generate", VERSIONS["generate"], self._context.model_key, encoded, list(max_new_tokens), sampling, seeds
        )

        def compute(indices: Sequence[int], report: Report) -> list[Generation]:
            # A prompt that fills the context has no answer; what the method does without one is its own decision.
            fitting = [i for i in indices if self._context.fits(encoded[i])]
            made = self._context.engine().generate(
                [requests[i] for i in fitting], on_result=lambda _, one: report(1, len(one.token_ids))
            )
            found = dict(zip(fitting, made, strict=True))
            return [found.get(i) or NO_ANSWER for i in indices]

        results, _ = run_sharded(
            self._context.store,
            self._context.console,
            "generate",
            key,
            Generation,
            [len(ids) for ids in encoded],
            compute,
            shard_size=self._context.shard_size,
            label=label,
        )
        return results

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
    ) -> list[DualGeneration]:
        from dasd_bench.engine.requests import DualRequest

        decided_by = rule_key(rule, self._source)
        base_ids = [self._context.chat.encode(prompt) for prompt in base]
        reference_ids = [self._context.chat.encode(prompt) for prompt in reference]
        pairs = list(zip(base_ids, reference_ids, strict=True))
        markers = self._keep_texts(examples, keep, len(pairs))
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
            )
            for index, ((b, r), budget, seed, marked) in enumerate(
                zip(pairs, max_new_tokens, seeds, markers, strict=True)
            )
        ]
        key = work_key(
            "dual",
            self._context.model_key,
            base_ids,
            reference_ids,
            decided_by,
            keep,
            markers,
            list(max_new_tokens),
            sampling,
            seeds,
        )

        contained = step_rule(rule)

        def compute(indices: Sequence[int], report: Report) -> list[DualGeneration]:
            fitting = [i for i in indices if all(map(self._context.fits, (base_ids[i], reference_ids[i])))]
            made = self._context.engine().dual_decode(
                [requests[i] for i in fitting], contained, on_result=lambda _, one: report(1, len(one.token_ids))
            )
            found = dict(zip(fitting, made, strict=True))
            return [found.get(i) or NO_DUAL_ANSWER for i in indices]

        results, _ = run_sharded(
            self._context.store,
            self._context.console,
            "dual",
            key,
            DualGeneration,
            [len(b) + len(r) for b, r in pairs],
            compute,
            shard_size=self._context.shard_size,
            label=label,
        )
        return results

    def score(self, targets: Sequence[Target], examples: Sequence[Example]) -> list[TokenScores]:
        from dasd_bench.engine.requests import ScoreRequest

        requests = [
            ScoreRequest(self.prompt_ids(example), target.token_ids.tolist(), name=example.id)
            for target, example in zip(targets, examples, strict=True)
        ]
        return score_requests(self._context, requests, "score")[0]

    def prompt_ids(self, example: Example) -> list[int]:
        """Token ids of the plain prompt: what training, scoring and chat evaluation all see."""
        return self._context.chat.encode(self.plain_prompt(example))

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        for name in dict.fromkeys(example.task for example in examples):
            where = [index for index, example in enumerate(examples) if example.task == name]
            task = self._context.registry.task(name).item
            graded = plugin_calls.grade_all(
                task, [examples[index] for index in where], [texts[index] for index in where]
            )
            verdicts.update(zip(where, graded, strict=True))
        return [verdicts[index] for index in range(len(examples))]

    def reference_ids(self, example: Example) -> list[int]:
        """Token ids of the gold answer, end-of-turn token included."""
        return [*self._context.encode_reply(example.reference), self.end_token_id]

    def reference_length(self, example: Example) -> int:
        return len(self.reference_ids(example))

    def reference_target(
        self,
        example: Example,
        reason: str = "gold",
        accepted: bool = True,
        notes: dict[str, float] | None = None,
    ) -> Target:
        ids = np.array(self.reference_ids(example), dtype=np.int32)
        origin = np.full(len(ids), Origin.GOLD, dtype=np.uint8)
        return self._build(example, ids, origin, reason, accepted, notes, None)

    def target(
        self,
        example: Example,
        token_ids: Sequence[int] | Ints,
        origin: Bytes,
        *,
        reason: str,
        accepted: bool,
        notes: dict[str, float] | None = None,
        proposals: Ints | None = None,
    ) -> Target:
        ids = np.array(token_ids, dtype=np.int32)
        if len(ids) and int(ids[-1]) in self._stop_ids:
            # A model may close with its end-of-text token; what is trained is always the end-of-turn token.
            ids[-1] = self.end_token_id
        else:
            ids = np.append(ids, np.int32(self.end_token_id))
            origin = np.append(origin, np.uint8(Origin.GOLD))
            if proposals is not None:
                proposals = np.append(proposals, np.int32(self.end_token_id))
        return self._build(example, ids, origin, reason, accepted, notes, proposals)

    def _build(
        self,
        example: Example,
        ids: Ints,
        origin: Bytes,
        reason: str,
        accepted: bool,
        notes: dict[str, float] | None,
        proposals: Ints | None,
    ) -> Target:
        text = self._context.tokenizer.decode(ids[:-1].tolist(), skip_special_tokens=True)
        marks = np.zeros(len(ids), dtype=np.uint8)
        marks[-1] = Mark.END
        spans = plugin_calls.answer_spans(self._task(example), example, text)
        if spans:
            ends = self._character_ends(ids[:-1])
            starts = [0, *ends[:-1]]
            for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
                if any(start < last and end > first for first, last in spans):
                    marks[index] = Mark.FORMAT
        return Target(example.id, ids, origin, marks, text, accepted, reason, dict(notes or {}), proposals)

    def _character_ends(self, ids: Ints) -> list[int]:
        """Where each token's text ends in the decoded text; pieces of one character end together."""
        return character_ends(partial(self._context.tokenizer.decode, skip_special_tokens=True), ids.tolist())

    def _keep_texts(self, examples: Sequence[Example], keep: str, count: int) -> list[tuple[str, ...]]:
        """The answer markers that ``keep`` protects in each of ``count`` answers."""
        if keep not in KEEP_CHOICES:
            raise unknown_name("value of keep", keep, KEEP_CHOICES)
        if keep != "end+format":
            return [()] * count
        if len(examples) != count:
            raise PluginError(f"dual_decode with keep=end+format needs one example per pair, not {len(examples)}.")
        return [tuple(self._task(example).answer_markers) for example in examples]

    def rng(self, *key: object) -> np.random.Generator:
        return np.random.default_rng(self._seed_of(*key))

    def warn(self, text: str) -> None:
        self._context.console.warn(text)

    def _seed_of(self, *key: object) -> int:
        return int(digest("rng", self._seed, [str(part) for part in key])[:15], 16)

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


WINDOW = 64
"""Tokens after which :func:`character_ends` takes a new start."""


def character_ends(decode: Callable[[list[int]], str], ids: list[int]) -> list[int]:
    """``len(decode(ids[: i + 1]))`` of every i, in time linear in the number of tokens.

    Both decodings that are compared begin a whole window before the tokens they differ in, so what a decoder does at
    a beginning, and the pieces of a character at an end, are the same in both.
    """
    ends: list[int] = []
    for start in range(0, len(ids), WINDOW):
        first = max(0, start - WINDOW)
        before = (ends[-1] if ends else 0) - (len(decode(ids[first:start])) if start else 0)
        ends += [before + len(decode(ids[first : i + 1])) for i in range(start, min(start + WINDOW, len(ids)))]
    return ends


def score_requests(context: RunContext, requests: Sequence[ScoreRequest], label: str) -> tuple[list[TokenScores], bool]:
    """Token scores under the base, stored by content: equal targets of two methods are scored once."""
    key = digest(
        "score", VERSIONS["score"], context.model_key, [(list(r.prompt_ids), list(r.target_ids)) for r in requests]
    )

    def compute(indices: Sequence[int], report: Report) -> list[TokenScores]:
        return context.engine().score(
            [requests[i] for i in indices], on_result=lambda _, scores: report(1, len(scores.logp))
        )

    return run_sharded(
        context.store,
        context.console,
        "score",
        key,
        TokenScores,
        [len(r.prompt_ids) + len(r.target_ids) for r in requests],
        compute,
        shard_size=context.shard_size,
        label=label,
    )
