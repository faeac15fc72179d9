"""What the engine takes and gives: plain dataclasses over numpy arrays. Importing them imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch truncation off.

    Order as in transformers: temperature, then top-k, then top-p.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled or greedy completion.

    ``token_ids`` int32 [T] includes the end token where one was produced; ``logp`` float32 [T] is the model's
    log-probability of each (temperature 1, no truncation); ``text`` has special tokens left out.
    """

    token_ids: Ints
    logp: Floats
    text: str
    finish: Finish


@dataclass(frozen=True, slots=True)
class DualGeneration:
    """One completion decoded with two contexts that share every generated token. All arrays have length T.

    ``origin`` uint8, what the rule gave as :attr:`Choice.origin`; ``base_logp`` and ``reference_logp`` float32 of the
    chosen token under each context; ``base_entropy`` nats and ``base_top1_logp`` of the base context;
    ``base_token`` and ``reference_token`` int32: what each stream proposed; ``keep`` uint8: 1 where ``keep`` protected
    the candidate.
    """

    token_ids: Ints
    origin: Bytes
    base_logp: Floats
    reference_logp: Floats
    base_entropy: Floats
    base_top1_logp: Floats
    base_token: Ints
    reference_token: Ints
    keep: Bytes
    text: str
    finish: Finish


@dataclass(frozen=True, slots=True)
class DualStep:
    """One decoding step of B live examples, as a rule sees it (torch tensors on the model's device).

    ``base_logp`` and ``reference_logp`` float32 [B, V], normalised; ``base_token`` and ``reference_token`` int64
    [B], each stream's own greedy or sampled proposal; ``uniform`` float32 [B], one draw per example from its own
    seeded generator; ``position`` int64 [B], the index of the token about to be chosen; ``keep`` bool [B]: the
    candidate ``reference_token`` is one that ``keep`` protects here. For rules with ``uses_tokens``: ``tokens``
    are the ids chosen so far, one tuple per example, and ``decode`` turns ids into text.
    ``parameters`` float32 [B, P] are numbers that each example brought with its request (None where none did);
    ``disagreed`` int64 [B] counts the steps so far at which the proposals differed and ``keep`` was silent, and
    ``replaced`` those of them at which the candidate was not taken. ``memo`` is empty at first: what rules that decide
    the same step compute of it alone, by name.
    ``draw(logits [B, V], sampling)`` gives a token int64 [B] by ``uniform``, in the way that the engine draws.
    """

    base_logp: Tensor
    reference_logp: Tensor
    base_token: Tensor
    reference_token: Tensor
    uniform: Tensor
    position: Tensor
    keep: Tensor
    tokens: Sequence[Sequence[int]] = ()
    decode: Callable[[Sequence[int]], str] | None = None
    draw: Callable[[Tensor, Sampling], Tensor] | None = None
    parameters: Tensor | None = None
    disagreed: Tensor | None = None
    replaced: Tensor | None = None
    memo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a rule decides: ``token`` int64 [B] and ``origin`` uint8 [B], its own code for the stream it took."""

    token: Tensor
    origin: Tensor


StepRule = Callable[[DualStep], Choice]
"""What the engine asks at each step of dual-context decoding."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Per token of a target under the frozen base, teacher-forced: arrays of length T, natural logarithms.

    ``logp`` of the token, ``top1_logp`` of the likeliest token, ``entropy`` in nats (float32);
    ``rank`` int32 of the token, 0 = likeliest.
    """

    logp: Floats
    top1_logp: Floats
    entropy: Floats
    rank: Ints
