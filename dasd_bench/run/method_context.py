"""The lab given to methods: prompts, generation, dual decoding, scoring and grading over the store and the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.methods.context import GREEDY, DualGeneration, Generation, Sampling, StepRule
from dasd_bench.run.context import RunContext
from dasd_bench.run.sharded import Report, run_sharded
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import stage_key
from dasd_bench.tasks.base import Task
from dasd_bench.types import Bytes, Example, Ints, Mark, Message, Origin, Target, TokenScores, Verdict

if TYPE_CHECKING:
    from dasd_bench.engine import ScoreRequest

GUIDE = (
    "{prompt}\n\nA reference answer is given below.\n\n{reference}\n\n"
    "Use the reference as a guide and write your own full answer to the question."
)
"""The one-turn rewrite prompt (``prompt=guide``): SDFT's idea in this project's words."""


class StoreLab:
    """Implements :class:`dasd_bench.methods.context.Lab`. ``seed`` is the arm's seed, used where something is drawn."""

    def __init__(self, context: RunContext, seed: int) -> None:
        self._context = context
        self._seed = seed
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
        from dasd_bench.engine import GenerateRequest

        encoded = [self._context.chat.encode(prompt) for prompt in prompts]
        seeds = self._sample_seeds(len(encoded), label, drawn=sampling.temperature > 0)
        requests = [
            GenerateRequest(ids, budget, self._stop_ids, sampling=sampling, seed=seed, name=f"{label} {index}")
            for index, (ids, budget, seed) in enumerate(zip(encoded, max_new_tokens, seeds, strict=True))
        ]
        key = stage_key("generate", self._context.model_key, encoded, list(max_new_tokens), sampling, seeds)

        def compute(indices: Sequence[int], report: Report) -> list[Generation]:
            return self._context.engine().generate(
                [requests[i] for i in indices], on_result=lambda _, made: report(1, len(made.token_ids))
            )

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
        rule: StepRule,
        *,
        rule_key: Sequence[object],
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        draws: bool = False,
        label: str = "dual decode",
    ) -> list[DualGeneration]:
        from dasd_bench.engine import DualRequest

        base_ids = [self._context.chat.encode(prompt) for prompt in base]
        reference_ids = [self._context.chat.encode(prompt) for prompt in reference]
        seeds = self._sample_seeds(len(base_ids), label, drawn=draws or sampling.temperature > 0)
        requests = [
            DualRequest(b, r, budget, self._stop_ids, sampling=sampling, seed=seed, name=f"{label} {index}")
            for index, (b, r, budget, seed) in enumerate(
                zip(base_ids, reference_ids, max_new_tokens, seeds, strict=True)
            )
        ]
        key = stage_key(
            "dual",
            self._context.model_key,
            base_ids,
            reference_ids,
            list(rule_key),
            list(max_new_tokens),
            sampling,
            seeds,
        )

        def compute(indices: Sequence[int], report: Report) -> list[DualGeneration]:
            return self._context.engine().dual_decode(
                [requests[i] for i in indices], rule, on_result=lambda _, made: report(1, len(made.token_ids))
            )

        results, _ = run_sharded(
            self._context.store,
            self._context.console,
            "dual",
            key,
            DualGeneration,
            [len(b) + len(r) for b, r in zip(base_ids, reference_ids, strict=True)],
            compute,
            shard_size=self._context.shard_size,
            label=label,
        )
        return results

    def score(self, targets: Sequence[Target], examples: Sequence[Example]) -> list[TokenScores]:
        from dasd_bench.engine import ScoreRequest

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
            graded = task.grade_all([examples[index] for index in where], [texts[index] for index in where])
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
        spans = self._task(example).answer_spans(example, text)
        if spans:
            ends = self._character_ends(ids[:-1])
            starts = [0, *ends[:-1]]
            for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
                if any(start < last and end > first for first, last in spans):
                    marks[index] = Mark.FORMAT
        return Target(example.id, ids, origin, marks, text, accepted, reason, dict(notes or {}), proposals)

    def _character_ends(self, ids: Ints) -> list[int]:
        """Where each token's text ends in the decoded text; pieces of one character end together."""
        decode = self._context.tokenizer.decode
        return [len(decode(ids[: i + 1].tolist(), skip_special_tokens=True)) for i in range(len(ids))]

    def keep_token_ids(self, examples: Sequence[Example], keep: str) -> frozenset[int]:
        if keep == "none":
            return frozenset()
        ids = set(self._stop_ids)
        if keep == "end+format":
            markers = {marker for example in examples for marker in self._task(example).answer_markers}
            for marker in markers:
                for text in (marker, " " + marker, "\n" + marker):
                    ids.update(self._context.tokenizer.encode(text, add_special_tokens=False))
        return frozenset(ids)

    def rng(self, *key: object) -> np.random.Generator:
        return np.random.default_rng(self._seed_of(*key))

    def warn(self, text: str) -> None:
        self._context.console.warn(text)

    def _seed_of(self, *key: object) -> int:
        return int(digest("rng", self._seed, [str(part) for part in key])[:15], 16)

    def _sample_seeds(self, count: int, label: str, *, drawn: bool) -> list[int]:
        """One seed per request; zeros where nothing is drawn, so that all runs and seeds share the result."""
        return [self._seed_of(label, index) if drawn else 0 for index in range(count)]


def score_requests(context: RunContext, requests: Sequence[ScoreRequest], label: str) -> tuple[list[TokenScores], bool]:
    """Token scores under the base, stored by content: equal targets of two methods are scored once."""
    key = stage_key("score", context.model_key, [(list(r.prompt_ids), list(r.target_ids)) for r in requests])

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
