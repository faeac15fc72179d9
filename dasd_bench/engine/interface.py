"""What a back end offers: :class:`~dasd_bench.engine.engine.Engine`, :class:`~dasd_bench.engine.vllm.VllmEngine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dasd_bench.engine.requests import DualRequest, GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.engine.types import DualGeneration, Generation, StepRule, TokenScores


class InferenceEngine(Protocol):
    """Results come in the order of the requests; ``on_result(index, result)`` as each is known."""

    @property
    def processes(self) -> int:
        """How many calls may be made side by side, from as many threads."""

    @property
    def context_length(self) -> int | None:
        """The most tokens a sequence may have, or None without a limit."""

    def describe(self) -> dict[str, Any]:
        """The path taken, for the manifest."""

    def generate(
        self, requests: Sequence[GenerateRequest], on_result: Callable[[int, Generation], None] | None = None
    ) -> list[Generation]:
        """Completions."""

    def dual_decode(
        self,
        requests: Sequence[DualRequest],
        rule: StepRule,
        on_result: Callable[[int, DualGeneration], None] | None = None,
    ) -> list[DualGeneration]:
        """Completions decoded with two contexts."""

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, TokenScores], None] | None = None
    ) -> list[TokenScores]:
        """Scores of every target token."""

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, LogLikelihood], None] | None = None
    ) -> list[LogLikelihood]:
        """Sums of log-probabilities per target."""

    def close(self) -> None:
        """Gives the memory back; the engine is not used again."""
