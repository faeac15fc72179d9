"""The data that passes between stages: plain dataclasses over numpy arrays, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dasd_bench.engine.types import Bytes as Bytes
from dasd_bench.engine.types import Finish as Finish
from dasd_bench.engine.types import Floats as Floats
from dasd_bench.engine.types import Ints as Ints
from dasd_bench.engine.types import TokenScores as TokenScores

Bools: TypeAlias = npt.NDArray[np.bool_]
Role = Literal["system", "user", "assistant"]


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
    ``tests`` the asserts of a code task. ``id`` is ``<task>/<split>/<row>``. ``chat`` holds the turns before the answer
    where they are more than the prompt (a system prompt, earlier turns); its last user turn is the prompt.
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
    chat: tuple[Message, ...] = ()

    def plain_chat(self) -> list[Message]:
        """The chat that the trained model will see: the question alone, or the turns that lead to it."""
        return list(self.chat) or [Message("user", self.prompt)]


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
    ``fallback:<why>``). ``notes`` holds what the method counts, by name: see :class:`dasd_bench.api.Note`.
    ``proposals`` int32 [T] is the other stream's proposal at each step of dual-context decoding (None elsewhere).
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


def protected(target: Target, keep: str) -> Bools:
    """Bool [T]: the tokens a selector must neither replace nor mask, for ``keep`` = none, end or end+format."""
    if keep == "none":
        return np.zeros(len(target.marks), dtype=np.bool_)
    least = Mark.FORMAT if keep == "end+format" else Mark.END
    return target.marks >= least


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


@dataclass(frozen=True, slots=True)
class TrainExample:
    """One prompt and its target, with the static weight of every target token.

    ``prompt_ids`` int32 [P], ``target_ids`` int32 [T], ``weights`` float32 [T] (finite, not negative; 0 masks the
    token), ``keep`` bool [T]: tokens that an online rule may not push below their static weight. ``columns``: further
    numbers per token by name, float32 [T], for the method's online rule or loss; the same names in all examples.
    ``teacher_prompts``: the prompt int32 [P_k] of each of K teachers, as many in all examples; without one there is one
    teacher, which sees ``prompt_ids``. ``example_id`` may repeat: an example may have several targets.
    """

    example_id: str
    prompt_ids: Ints
    target_ids: Ints
    weights: Floats
    keep: Bools
    columns: Mapping[str, Floats] = field(default_factory=dict)
    teacher_prompts: tuple[Ints, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What one adapter is trained on, and the ``held_out`` references that early stopping measures."""

    examples: Sequence[TrainExample]
    held_out: Sequence[TrainExample] = ()


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
