"""What each kind of stage computes, from the specification and the data alone: for estimates, before any model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dasd_bench.config.spec import RunSpec
from dasd_bench.config.training import TrainingConfig
from dasd_bench.methods.base import Method
from dasd_bench.resources.work import Work
from dasd_bench.run.data import TaskData
from dasd_bench.tasks.base import Task
from dasd_bench.types import Example

CHARACTERS_PER_TOKEN = 3.5

TEMPLATE_TOKENS = 30
"""Tokens that a chat template puts around a prompt, roughly."""


def text_tokens(text: str) -> int:
    """A rough count of tokens without a tokenizer."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def prompt_tokens(example: Example) -> int:
    """A rough count of a prompt's tokens in its template."""
    return text_tokens(example.prompt) + TEMPLATE_TOKENS


def makes_own_targets(method: Method) -> bool:
    """False where a method trains on the gold answers: such methods share targets and scores."""
    return type(method).make_targets is not Method.make_targets


def targets_work(method: Method, examples: Sequence[Example], budget: int) -> Work:
    """Writing a target for every example: about twice its reference, in one context, or two for the longest moment."""
    if not makes_own_targets(method):
        return Work()
    references = [text_tokens(example.reference) for example in examples]
    prompts = [prompt_tokens(example) + tokens for example, tokens in zip(examples, references, strict=True)]
    longest = max(references, default=0)
    return Work(
        "generate",
        read=sum(prompts),
        new=2 * sum(references),
        sequences=len(examples),
        longest=max(prompts, default=0),
        longest_new=budget or 2 * longest,
        contexts=2,
    )


def answers_work(examples: Sequence[Example], each: int = 1) -> Work:
    """``each`` answers to every example, as long as its reference."""
    references = [text_tokens(example.reference) for example in examples]
    prompts = [prompt_tokens(example) for example in examples]
    return Work(
        "generate",
        read=each * sum(prompts),
        new=each * sum(references),
        sequences=each * len(examples),
        longest=max(prompts, default=0),
        longest_new=max(references, default=0),
    )


def score_work(examples: Sequence[Example], contexts: int = 1) -> Work:
    """Teacher-forced scores of every example's target, as long as its reference, behind ``contexts`` prompts."""
    references = [text_tokens(example.reference) for example in examples]
    whole = [prompt_tokens(example) + tokens for example, tokens in zip(examples, references, strict=True)]
    return Work(
        "score",
        read=contexts * sum(whole),
        new=contexts * sum(references),
        sequences=contexts * len(examples),
        longest=max(whole, default=0),
        contexts=contexts,
    )


def train_work(training: TrainingConfig, examples: Sequence[Example], context: int | None) -> Work:
    """Every example once an epoch, as long as its reference."""
    most = min(training.max_length or 2**31, context or 2**31)
    whole = [min(most, prompt_tokens(example) + text_tokens(example.reference)) for example in examples]
    return Work(
        "train",
        read=int(sum(whole) * training.epochs),
        sequences=len(examples),
        longest=max(whole, default=0),
        config=training,
        steps=math.ceil(len(examples) / training.batch_size * training.epochs),
    )


def answer_budget(task: Task, spec: RunSpec) -> int | None:
    """Most tokens of an answer in evaluation; None where nothing is generated."""
    budget = task.max_new_tokens
    return budget if budget is None else min(budget, spec.max_answer_tokens or budget)


def evaluate_work(data: TaskData, spec: RunSpec) -> Work:
    """Answers to every test row, half as long as they may be; for multiple choice four choices are scored."""
    shots = max(0, spec.num_fewshot)
    own = [prompt_tokens(example) for example in data.test]
    # A shot is a question with its answer, about one and a half prompts long.
    prompts = [tokens + int(1.5 * shots * tokens) for tokens in own]
    budget = answer_budget(data.task, spec)
    if budget is None:
        return Work("score", sum(prompts), 4 * len(prompts), len(prompts), max(prompts, default=0))
    return Work("generate", sum(prompts), len(prompts) * budget // 2, len(prompts), max(prompts, default=0), budget)


def outputs_work(prompts: Sequence[Sequence[int]], budget: int) -> Work:
    """Greedy outputs on the held-out prompts."""
    longest = max(map(len, prompts), default=0)
    return Work("generate", sum(map(len, prompts)), len(prompts) * budget, len(prompts), longest, budget)


def drift_work(prompts: Sequence[Sequence[int]], budget: int) -> Work:
    """Both models' outputs under the base."""
    longest = max(map(len, prompts), default=0) + budget
    each = len(prompts) * budget
    return Work("score", 2 * (sum(map(len, prompts)) + each), 2 * each, len(prompts), longest)
