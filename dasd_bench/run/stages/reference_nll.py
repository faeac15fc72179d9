"""The reference nll stage: teacher-forced nll of the test references and of the base's right answers.

Finer than accuracy: it moves where accuracy is stuck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save

from dasd_bench.config.spec import ArmSpec
from dasd_bench.engine.side_by_side import side_by_side
from dasd_bench.resources.work import Work
from dasd_bench.results.samples import Sample
from dasd_bench.results.schema import OwnNll, ReferenceNll
from dasd_bench.run.context import RunContext
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.evaluate import Evaluate
from dasd_bench.run.work import score_work
from dasd_bench.store.store import Entry, Finished, Row, shards_of
from dasd_bench.types import Bools, Reason, TokenScores

if TYPE_CHECKING:
    from dasd_bench.engine.requests import ScoreRequest


@dataclass(eq=False)
class NllOfReferences(Stage[ReferenceNll]):
    """Teacher-forced nll of one model on one task, in nats per token.

    References follow the plain prompt, as in training. The base's own right answers follow the prompt they were
    written for; for multiple choice they are the references of the items that the base got right. ``evaluated`` is
    the same model's evaluation, ``base`` the untrained model's.
    """

    evaluated: Evaluate
    base: Evaluate

    kind = "nll"
    version = 3

    @property
    def name(self) -> str:
        return f"reference nll {self.evaluated.data.name}"

    @property
    def arm(self) -> ArmSpec | GivenAdapter | None:
        return self.evaluated.arm

    def parts(self) -> Sequence[object]:
        data, train = self.evaluated.data, self.evaluated.train
        return (
            self.context.model_key,
            None if train is None else train.key,
            data.name,
            data.plugin_sha256,
            data.test_key,
            self.context.spec.limit,
            self.base.key,
        )

    def work(self) -> Work:
        return score_work(self.evaluated.data.test)

    @property
    def trained(self) -> str | None:
        return self.evaluated.trained

    def needs(self) -> Sequence[Stage[Any]]:
        return (self.base, *self.evaluated.needs())

    def make(self, entry: Entry) -> Row:
        from dasd_bench.engine.requests import ScoreRequest

        context, data = self.context, self.evaluated.data
        prompts = Prompts(context)
        requests = []
        for example in data.test:
            prompt, reference = prompts.ids(example), prompts.reference_ids(example)
            if context.context_length is not None:
                # The part of a long reference that the model can see; its last token needs no position of its own.
                reference = reference[: max(1, context.context_length - len(prompt) + 1)]
            requests.append(ScoreRequest(prompt, reference, name=example.id))
        records = self.base.value.records
        right = [index for index, record in enumerate(records) if record.reason is Reason.CORRECT]
        written = own_requests(context, records, right) if data.task.max_new_tokens is not None else {}
        scores = self._scores([*requests, *written.values()])
        nll = summarise_nll(scores[: len(requests)], [_numeric(context, list(r.target_ids)) for r in requests])
        if written:
            nll.own = own_nll(list(written), scores[len(requests) :])
        elif right and data.task.max_new_tokens is None:
            nll.own = own_nll(right, [scores[index] for index in right])
        # Lists per item go into a file: an entry's metadata has one size, however many items there are.
        facts = asdict(nll)
        own = facts.pop("own")
        lists = _lists(facts) | {f"own.{name}": values for name, values in _lists(own or {}).items()}
        entry.put(ITEMS, save({name: np.array(values, dtype=KINDS[name]) for name, values in lists.items()}))
        return facts | {"own": own}

    def _scores(self, requests: Sequence[ScoreRequest]) -> list[TokenScores]:
        """Shard by shard, of which a run with several processes computes some side by side."""
        context = self.context
        found: dict[int, TokenScores] = {}

        def score(indices: Sequence[int]) -> None:
            with meter.part(len(indices)) as report:
                made = context.engine(self.evaluated.adapter).score(
                    [requests[index] for index in indices], on_result=lambda _, one: report(1, len(one.logp))
                )
            found.update(zip(indices, made, strict=True))

        lengths = [len(one.prompt_ids) + len(one.target_ids) for one in requests]
        with context.console.progress(self.name, len(requests)) as meter:
            side_by_side(score, shards_of(lengths, context.shard_size), context.calls_at_once)
        return [found[index] for index in range(len(requests))]

    def read(self, entry: Finished) -> ReferenceNll:
        found: dict[str, Any] = {**entry.meta}
        own = found.pop("own")
        for name, values in load(entry.read(ITEMS)).items():
            head, _, tail = name.rpartition(".")
            (own if head else found)[tail] = values.tolist()
        return ReferenceNll(**found, own=None if own is None else OwnNll(**own))


ITEMS = "items.safetensors"

KINDS = {
    **dict.fromkeys(("per_item", "numeric_per_item", "own.per_item"), np.float64),
    **dict.fromkeys(("tokens_per_item", "numeric_tokens_per_item", "own.tokens_per_item", "own.items"), np.int64),
}
"""The lists of :data:`ITEMS` and their dtypes."""


def _lists(facts: dict[str, Any]) -> dict[str, list[Any]]:
    """Takes the lists out of ``facts``."""
    return {name: facts.pop(name) for name, value in list(facts.items()) if isinstance(value, list)}


def own_requests(context: RunContext, records: Sequence[Sample], right: Sequence[int]) -> dict[int, ScoreRequest]:
    """The base's right answers by item, each after the very prompt it was written for."""
    from dasd_bench.engine.requests import ScoreRequest

    tokenizer = context.tokenizer
    bos = tokenizer.bos_token
    found = {}
    for index in right:
        prompt, completion = records[index].prompt, records[index].completion
        # A chat template's text holds its own beginning-of-sequence token, as in evaluation.
        special = not (bos and prompt.lstrip().startswith(bos))
        answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
        if answer:
            prompt_ids = tokenizer(prompt, add_special_tokens=special)["input_ids"]
            found[index] = ScoreRequest(prompt_ids, answer, name=records[index].id)
    return found


def own_nll(items: Sequence[int], scores: Sequence[TokenScores]) -> OwnNll:
    """Mean nll over all tokens of the answers, and per answer."""
    sums = [float(-one.logp.astype(np.float64).sum()) for one in scores]
    tokens = [len(one.logp) for one in scores]
    means = [total / count for total, count in zip(sums, tokens, strict=True)]
    return OwnNll(math.fsum(sums) / sum(tokens), list(items), means, tokens)


def summarise_nll(scores: Sequence[TokenScores], numeric: Sequence[Bools]) -> ReferenceNll:
    """Mean nll in nats over all tokens, over tokens with a digit (None where there is none), and both per item."""
    nll = [-one.logp.astype(np.float64) for one in scores]
    digits = [values[mask] for values, mask in zip(nll, numeric, strict=True)]
    tokens, numbers = [len(values) for values in nll], [len(values) for values in digits]
    return ReferenceNll(
        all_tokens_mean=_mean(nll),
        numeric_tokens_mean=_mean(digits) if sum(numbers) else None,
        per_item=[float(values.mean()) for values in nll],
        numeric_per_item=[float(values.mean()) if len(values) else 0.0 for values in digits],
        tokens_per_item=tokens,
        numeric_tokens_per_item=numbers,
    )


def _mean(parts: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> float:
    count = sum(len(part) for part in parts)
    return sum(float(part.sum()) for part in parts) / count if count else math.nan


def _numeric(context: RunContext, ids: list[int]) -> Bools:
    pieces = context.tokenizer.convert_ids_to_tokens(ids)
    return np.array([any(c.isdigit() for c in piece) for piece in pieces], dtype=np.bool_)
