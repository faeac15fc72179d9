"""Training examples that were not trained on, or not whole: which ones, and for which one reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dasd_bench.errors import DataError
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import StoreLab
from dasd_bench.run.stages import Trained
from dasd_bench.types import Example, Floats, ScoredTarget, Target

NO_WEIGHT = "skipped: all their weights are 0"
NO_ROOM = "skipped: no token with a weight fits into the context behind their prompt"
CUT = "cut at the context"


def with_room(context: RunContext, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """The examples whose prompt leaves room for an answer, and the ids of the others, which no arm is trained on.

    Raises :class:`DataError` where none is left.
    """
    lab = StoreLab(context, 0)
    fitting = [example for example in examples if context.fits(lab.prompt_ids(example))]
    kept = {example.id for example in fitting}
    if not fitting:
        raise DataError(
            f"None of the {len(examples)} training prompts fits the model's context of {context.context_length} "
            "tokens; use a model with a longer context."
        )
    return fitting, [example.id for example in examples if example.id not in kept]


def cut_targets(
    context: RunContext, targets: Sequence[Target], examples: Sequence[Example]
) -> tuple[list[Target], list[str]]:
    """The targets, cut where the context ends behind their prompt, and the ids of those that were cut."""
    if context.context_length is None:
        return list(targets), []
    lab = StoreLab(context, 0)
    prompts = {example.id: example for example in examples}
    fitting, cut = [], []
    for target in targets:
        room = context.context_length - len(lab.prompt_ids(prompts[target.example_id]))
        if len(target.token_ids) > room:
            cut.append(target.example_id)
            ids, proposals = target.token_ids[:room], target.proposals
            target = replace(
                target,
                token_ids=ids,
                origin=target.origin[:room],
                marks=target.marks[:room],
                proposals=None if proposals is None else proposals[:room],
                text=context.tokenizer.decode(ids.tolist(), skip_special_tokens=True),
            )
        fitting.append(target)
    return fitting, cut


def left_out(scored: Sequence[ScoredTarget], weights: Sequence[Floats], trained: Trained) -> dict[str, list[str]]:
    """Ids of the examples of each reason that occurs; an example has one reason at most."""
    weighted = {item.target.example_id for item, weight in zip(scored, weights, strict=True) if weight.any()}
    skipped = set(trained.skipped)
    found = {
        NO_WEIGHT: [name for name in trained.skipped if name not in weighted],
        NO_ROOM: [name for name in trained.skipped if name in weighted],
        CUT: [name for name in trained.truncated if name not in skipped],
    }
    return {reason: ids for reason, ids in found.items() if ids}
