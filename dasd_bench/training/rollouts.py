"""Rollouts: completions of the live model, drawn anew for every optimiser step and trained on in that step.

The engine decodes on the very weights that are being trained, adapter unmerged. It is made anew at every step, since it
packs what it finds; on a CPU that copies the model's linear layers once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, GenerateRequest
from dasd_bench.methods.base import Method
from dasd_bench.methods.context import GREEDY, Generation, RolloutContext, Sampling
from dasd_bench.methods.plugin_calls import rollout
from dasd_bench.store.atomic import digest
from dasd_bench.training.batching import Row, build_row, check_alike, numbered
from dasd_bench.training.distributed import Processes
from dasd_bench.types import TrainExample


@dataclass(frozen=True, slots=True)
class Decoding:
    """What decoding needs beside the model: its ``tokenizer``, and the token ids that end a completion."""

    tokenizer: Any
    stop_ids: frozenset[int]


class Rollouts:
    """Makes the rows of a step from the completions that ``method`` draws; all processes share the work."""

    def __init__(
        self, method: Method, model: Any, decoding: Decoding, processes: Processes, seed: int, max_length: int
    ) -> None:
        self.method, self.model, self.decoding = method, model, decoding
        self.processes, self.seed, self.max_length = processes, seed, max_length

    def rows(self, examples: Sequence[TrainExample], step: int, progress: float) -> tuple[list[Row], int]:
        """The rows of step ``step`` (0-based) on ``examples``, and how many tokens were generated for them."""
        context = _StepContext(self, step, progress)
        rolled = rollout(self.method, examples, context)
        check_alike(rolled)
        taught = self.method.teacher != "none"
        return numbered([build_row(one, self.max_length, taught=taught) for one in rolled]), context.generated


class _StepContext(RolloutContext):
    """What ``rollout`` may ask at one step."""

    def __init__(self, rollouts: Rollouts, step: int, progress: float) -> None:
        self.step, self.progress = step, progress
        self.generated = 0
        self._rollouts, self._calls = rollouts, 0

    def generate(
        self, examples: Sequence[TrainExample], *, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Generation]:
        run, self._calls = self._rollouts, self._calls + 1
        ranks, rank = run.processes.size, run.processes.rank
        requests = [
            GenerateRequest(
                prompt_ids=example.prompt_ids.tolist(),
                max_new_tokens=max_new_tokens,
                stop_ids=run.decoding.stop_ids,
                sampling=sampling,
                seed=int(digest("rollout", run.seed, self.step, self._calls, index)[:15], 16),
                name=example.example_id,
            )
            for index, example in enumerate(examples)
        ]
        engine = Engine(run.model, run.decoding.tokenizer, EngineSettings(fixed_shapes="off"))
        own = engine.generate(requests[rank::ranks])
        engine.close()
        every = run.processes.gather_objects(own)
        found = [every[index % ranks][index // ranks] for index in range(len(requests))]
        self.generated += sum(len(one.token_ids) for one in found)
        return found
