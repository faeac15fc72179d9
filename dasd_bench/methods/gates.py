"""What a gate of dual-context decoding decides by, and the base classes of such gates.

Notation: p_b is the base's distribution given the question, p_r the reference stream's given question and reference;
c the candidate (the token that p_r proposes), b the base's own token, conf = max_v p_b(v).

A gate reads features only, with operators that torch tensors and numpy arrays share, so the same object decides while
decoding (lazily, on :class:`StepFeatures`) and afterwards on recorded :class:`GateFeatures`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dasd_bench.engine.types import Choice, DualStep
from dasd_bench.methods.context import Rule
from dasd_bench.types import Origin

if TYPE_CHECKING:
    from torch import Tensor

Mask: TypeAlias = Any
"""A bool tensor or array [B]."""


@dataclass(frozen=True, slots=True)
class GateFeatures:
    """Of B steps, float32 [B] unless said otherwise; tensors as made, numpy arrays from :meth:`arrays`.

    ``candidate`` and ``own`` int64 are c and b. ``conf`` = max p_b, ``conf_ref`` = max p_r. ``p_base_candidate`` =
    p_b(c), ``p_base_own`` = p_b(b), ``p_ref_candidate`` = p_r(c), ``p_ref_own`` = p_r(b); ``logp_base_candidate`` and
    ``logp_ref_candidate`` are logarithms of two of them, and ``log_ratio`` = log p_r(c) - log p_b(c), all in nats.
    ``entropy_base`` and ``entropy_ref`` in nats; ``certainty`` = 1 - H_b / log V, in [0, 1] up to rounding.
    ``margin_base`` and ``margin_ref`` are the largest probability less the second largest. ``rank_base_candidate`` is
    the rank of c under p_b and ``rank_ref_own`` that of b under p_r, int64, 0 = likeliest, ties share the better rank.
    """

    candidate: Any
    own: Any
    conf: Any
    conf_ref: Any
    p_base_candidate: Any
    p_base_own: Any
    p_ref_candidate: Any
    p_ref_own: Any
    logp_base_candidate: Any
    logp_ref_candidate: Any
    log_ratio: Any
    entropy_base: Any
    entropy_ref: Any
    certainty: Any
    margin_base: Any
    margin_ref: Any
    rank_base_candidate: Any
    rank_ref_own: Any

    def arrays(self) -> dict[str, np.ndarray]:
        """The features by name as numpy arrays."""
        return {f.name: np.asarray(_on_cpu(getattr(self, f.name))) for f in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> GateFeatures:
        """Recorded features, from what :meth:`arrays` gave, perhaps of many steps put together."""
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})


class StepFeatures:
    """The features of :class:`GateFeatures` by the same names, each computed when first read."""

    def __init__(self, base_logp: Tensor, reference_logp: Tensor, candidate: Tensor, own: Tensor) -> None:
        self._base = base_logp
        self._reference = reference_logp
        self.candidate = candidate
        self.own = own

    @cached_property
    def conf(self) -> Tensor:
        return self._base.amax(-1).exp()

    @cached_property
    def conf_ref(self) -> Tensor:
        return self._reference.amax(-1).exp()

    @cached_property
    def logp_base_candidate(self) -> Tensor:
        return _at(self._base, self.candidate)

    @cached_property
    def logp_ref_candidate(self) -> Tensor:
        return _at(self._reference, self.candidate)

    @cached_property
    def p_base_candidate(self) -> Tensor:
        return self.logp_base_candidate.exp()

    @cached_property
    def p_base_own(self) -> Tensor:
        return _at(self._base, self.own).exp()

    @cached_property
    def p_ref_candidate(self) -> Tensor:
        return self.logp_ref_candidate.exp()

    @cached_property
    def p_ref_own(self) -> Tensor:
        return _at(self._reference, self.own).exp()

    @cached_property
    def log_ratio(self) -> Tensor:
        return self.logp_ref_candidate - self.logp_base_candidate

    @cached_property
    def entropy_base(self) -> Tensor:
        return entropy(self._base)

    @cached_property
    def entropy_ref(self) -> Tensor:
        return entropy(self._reference)

    @cached_property
    def certainty(self) -> Tensor:
        return 1 - self.entropy_base / math.log(self._base.shape[-1])

    @cached_property
    def margin_base(self) -> Tensor:
        return _margin(self._base)

    @cached_property
    def margin_ref(self) -> Tensor:
        return _margin(self._reference)

    @cached_property
    def rank_base_candidate(self) -> Tensor:
        return (self._base > self.logp_base_candidate[:, None]).sum(-1)

    @cached_property
    def rank_ref_own(self) -> Tensor:
        return (self._reference > _at(self._reference, self.own)[:, None]).sum(-1)


Features: TypeAlias = GateFeatures | StepFeatures


def gate_features(base_logp: Tensor, reference_logp: Tensor, candidate: Tensor, own: Tensor) -> GateFeatures:
    """All features of one step: log-probabilities float32 [B, V] of the two streams, their proposals int64 [B]."""
    lazy = StepFeatures(base_logp, reference_logp, candidate, own)
    return GateFeatures(**{f.name: getattr(lazy, f.name) for f in fields(GateFeatures)})


def features_of(step: DualStep) -> StepFeatures:
    """The features of a step, computed once for all rules that decide it."""
    if "features" not in step.memo:
        own = step.base_token
        step.memo["features"] = StepFeatures(step.base_logp, step.reference_logp, step.reference_token, own)
    found: StepFeatures = step.memo["features"]
    return found


def entropy(logp: Tensor) -> Tensor:
    """Entropy in nats of normalised log-probabilities [..., V]; a token of probability 0 adds 0."""
    return -(logp.exp() * logp.masked_fill(logp == float("-inf"), 0.0)).sum(-1)


@dataclass(frozen=True)
class StepGate(Rule):
    """A rule that keeps the candidate or puts another token in its place, the base's own unless :meth:`other` differs.

    Candidates that ``keep`` protects, and those that equal the other token, are always kept.
    """

    @abstractmethod
    def take_step(self, features: Features, step: DualStep) -> Mask:
        """Bool [B]: where the candidate is kept."""

    def other(self, features: Features, step: DualStep) -> Tensor:
        """Int64 [B]: the token that stands in for a refused candidate."""
        return step.base_token

    def __call__(self, step: DualStep) -> Choice:
        import torch

        candidate = step.reference_token
        features = features_of(step)
        other = self.other(features, step)
        take = self.take_step(features, step) | step.keep | (other == candidate)
        origin = torch.where(take, int(Origin.CANDIDATE), int(Origin.BASE)).to(torch.uint8)
        return Choice(torch.where(take, candidate, other), origin)


@dataclass(frozen=True)
class GateRule(StepGate):
    """A gate that decides by the features alone, so that recorded :class:`GateFeatures` tell what it would refuse."""

    @abstractmethod
    def take(self, features: Features) -> Mask:
        """Bool [B]: where the candidate is kept."""

    def take_step(self, features: Features, step: DualStep) -> Mask:
        return self.take(features)


def _at(logp: Tensor, token: Tensor) -> Tensor:
    return logp.gather(-1, token[:, None]).squeeze(-1)


def _margin(logp: Tensor) -> Tensor:
    top = logp.topk(2, dim=-1).values.exp()
    return top[:, 0] - top[:, 1]


def _on_cpu(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else value.cpu()
