"""What the engine is asked and how it may use the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dasd_bench.engine.types import GREEDY, Sampling


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine uses the machine.

    ``max_num_seqs`` examples decode at once (a dual-context example counts as one). ``memory_gib`` bounds the KV
    cache; None takes half of what the machine has free. ``prefill_tokens`` is the most prompt tokens in one forward
    pass. ``accelerate`` ``off`` takes transformers' own attention and cache, one sequence at a time: slow, and the
    reference that the accelerated path is tested against. ``fixed_shapes`` pads decoding steps to fixed shapes, which
    are replayed as CUDA graphs where there is CUDA; ``auto`` does so there only.
    """

    max_num_seqs: int = 64
    memory_gib: float | None = None
    prefill_tokens: int = 2048
    accelerate: Literal["auto", "off"] = "auto"
    fixed_shapes: Literal["auto", "on", "off"] = "auto"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One prompt to complete.

    Decoding ends with a token of ``stop_ids`` (kept in the output), when the decoded continuation contains one of
    ``stop_strings``, or after ``max_new_tokens``. ``name`` is what errors call the item.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int
    stop_ids: frozenset[int]
    stop_strings: tuple[str, ...] = ()
    sampling: Sampling = GREEDY
    seed: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class DualRequest:
    """One example to decode with two contexts that share every generated token.

    ``keep_ids`` and ``keep_texts`` say which candidates are protected (``DualStep.keep``): these tokens, and
    those that write a part of these texts. ``parameters`` are numbers that a rule may read (``DualStep.parameters``),
    as many in every request of a call.
    """

    base_ids: Sequence[int]
    reference_ids: Sequence[int]
    max_new_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling = GREEDY
    seed: int = 0
    name: str = ""
    keep_ids: frozenset[int] = frozenset()
    keep_texts: tuple[str, ...] = ()
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One target to score, teacher-forced after its prompt."""

    prompt_ids: Sequence[int]
    target_ids: Sequence[int]
    name: str = ""


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """``logp`` is the sum over the ``tokens`` target tokens; ``greedy`` says that each was the likeliest."""

    logp: float
    greedy: bool
    tokens: int
