"""The data that passes between stages: plain dataclasses over numpy arrays, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Bools: TypeAlias = npt.NDArray[np.bool_]
Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task's train or test split, in the terms every method shares.

    ``prompt`` is the text of the user's turn, the same words at training and at evaluation.
    ``reference`` is the gold worked answer; ``answer`` the final answer where the task has one;
    ``tests`` the asserts of a code task. ``id`` is ``<task>/<split>/<row>``.
    """

    id: str
    task: str
    prompt: str
    reference: str
    answer: str | None = None
    tests: tuple[str, ...] = ()
    level: str | None = None
    subject: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Origin(IntEnum):
    """Where a target token came from; stored as uint8."""

    GOLD = 0
    CANDIDATE = 1
    BASE = 2


class Mark(IntEnum):
    """What a target token is for; stored as uint8. Selectors may exempt all but PLAIN tokens."""

    PLAIN = 0
    FORMAT = 1
    END = 2


@dataclass(frozen=True, slots=True)
class Target:
    """What one example is trained on; an example may have several.

    ``token_ids`` int32 [T] ends with the end-of-turn token (always trained); ``origin`` uint8 [T] holds
    :class:`Origin` values; ``marks`` uint8 [T] holds :class:`Mark` values (end-of-turn, answer format).
    ``accepted`` is False where a fallback stands in; ``reason`` says which (``gold``, ``rewrite``, ``gated``,
    ``fallback:<why>``). ``notes`` holds what the method counts (``replaced``, ``gate_broke``, ``gate_mended``).
    ``proposals`` int32 [T] is what the other stream wanted at each step of dual-context decoding (None elsewhere).
    ``prompt`` is the chat it answers, where that is not the example's own question. ``columns`` float32 [T] are numbers
    per token by name, for the method's ``select``.
    """

    example_id: str
    token_ids: Ints
    origin: Bytes
    marks: Bytes
    text: str
    accepted: bool
    reason: str
    notes: dict[str, float] = field(default_factory=dict)
    proposals: Ints | None = None
    prompt: tuple[Message, ...] | None = None
    columns: dict[str, Floats] = field(default_factory=dict)


def target_names(targets: Sequence[Target]) -> list[str]:
    """One name per target: its example's id; ``<id>#1``, ``<id>#2``, ... for an example's second, third, ... one."""
    seen: Counter[str] = Counter()
    names = []
    for target in targets:
        number = seen[target.example_id]
        seen[target.example_id] += 1
        names.append(f"{target.example_id}#{number}" if number else target.example_id)
    return names


def kept(target: Target, keep: str) -> Bools:
    """Bool [T]: the tokens a selector must neither replace nor mask, for ``keep`` = none, end or end+format."""
    if keep == "none":
        return np.zeros(len(target.marks), dtype=np.bool_)
    least = Mark.FORMAT if keep == "end+format" else Mark.END
    return target.marks >= least


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


@dataclass(frozen=True, slots=True)
class ScoredTarget:
    """A target with its example and its scores: what ``select`` sees."""

    example: Example
    target: Target
    scores: TokenScores


@dataclass(frozen=True, slots=True)
class WeightedTarget:
    """A scored target with its static weights, float32 [T]: what is trained on."""

    example: Example
    target: Target
    scores: TokenScores
    weights: Floats

    @staticmethod
    def of(scored: ScoredTarget, weights: Floats) -> WeightedTarget:
        """``scored`` with ``weights``."""
        return WeightedTarget(scored.example, scored.target, scored.scores, weights)


class Reason(StrEnum):
    """Why an item counts as it does. Four failures are never mixed: wrong, none found, time, infrastructure."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    INFRASTRUCTURE_ERROR = "infrastructure_error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a grader says of one completion."""

    correct: bool
    reason: Reason
    extracted: str | None = None
