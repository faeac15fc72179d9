"""From the stages of a probe to labelled tokens, with what each arm would do to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods import plugin_calls
from dasd_bench.methods.base import Method
from dasd_bench.methods.context import LiveTokens
from dasd_bench.methods.edits.constructed import is_program
from dasd_bench.results.probe import CORRECTION, DAMAGE, LABELS, NEUTRAL, LabelledToken
from dasd_bench.results.targets_file import piece_text
from dasd_bench.results.token_classes import NAMES as KIND_NAMES
from dasd_bench.results.token_classes import TokenClass, TokenClasses, program_kinds
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.stages.disagreements import NAMES, ProbeTarget, Views
from dasd_bench.run.stages.flip_test import Flips
from dasd_bench.types import Bytes, Example, Floats, Origin, ScoredTarget, Target, TokenScores, WeightedTarget


@dataclass(frozen=True, slots=True)
class Viewed:
    """One text as a target with its scores under the base, and what the flip test found of it."""

    example: Example
    text: ProbeTarget
    view: Views
    target: Target
    scores: TokenScores
    flips: Flips | None


def viewed(
    context: RunContext,
    examples: Sequence[Example],
    texts: Sequence[ProbeTarget],
    views: Sequence[Views],
    flips: Sequence[Flips] | None,
) -> Iterator[Viewed]:
    """Each text with all that is known of it."""
    by_id = {example.id: example for example in examples}
    own = EngineMethodContext(context, context.arms[0], 0, examples)
    for number, (text, view) in enumerate(zip(texts, views, strict=True)):
        example, size = by_id[text.example_id], len(text.token_ids)
        origin = Origin.CANDIDATE if flips is not None or text.source == "own" else Origin.GOLD
        origins = np.full(size, origin, dtype=np.uint8)
        whole = own.target(
            example, text.token_ids, origins, reason=text.source, accepted=True, proposals=view.own.copy()
        )
        # A rewrite that was cut off is looked at as it is, without the end token that a target has.
        cut = replace(whole, origin=whole.origin[:size], marks=whole.marks[:size], token_ids=text.token_ids)
        target = replace(cut, proposals=view.own, text=text.text)
        scores = TokenScores(
            logp=view.column("logp_base_candidate"),
            top1_logp=np.log(view.column("conf")),
            entropy=view.column("entropy_base"),
            rank=view.column("rank_base_candidate").astype(np.int32),
        )
        yield Viewed(example, text, view, target, scores, None if flips is None else flips[number])


def labelled_tokens(
    context: RunContext,
    examples: Sequence[Example],
    texts: Sequence[ProbeTarget],
    views: Sequence[Views],
    flips: Sequence[Flips] | None,
) -> list[LabelledToken]:
    """Every labelled token, text by text, in order of position."""
    classes = TokenClasses(partial(piece_text, context.tokenizer), context.tokenizer.all_special_ids)
    own = EngineMethodContext(context, context.arms[0], 0, examples)
    piece = partial(piece_text, context.tokenizer)
    everything = list(viewed(context, examples, texts, views, flips))
    by_arm = {arm.label: [refusals(arm, one) for one in everything] for arm in context.arms}
    # An arm that decides about no token of any text is left out.
    by_arm = {label: own for label, own in by_arm.items() if any(values is not None for values in own)}
    found = []
    for number, one in enumerate(everything):
        kinds = [KIND_NAMES[TokenClass(kind)] for kind in classes(one.target.token_ids, one.target.marks).tolist()]
        if is_program(one.example):
            whole = replace(one.target, token_ids=np.append(one.target.token_ids, np.int32(own.end_token_id)))
            programs = program_kinds(one.text.text, own.character_ends(whole))
            kinds = [
                kind if KIND_NAMES[TokenClass.FORMAT] == kind and mark else program
                for kind, program, mark in zip(kinds, programs, one.target.marks.tolist(), strict=True)
            ]
        nothing = np.zeros(len(one.target.token_ids), dtype=np.float32)
        found_by = {label: own[number] for label, own in by_arm.items()}
        refused = {label: nothing if values is None else values for label, values in found_by.items()}
        features = {name: one.view.column(name) for name in NAMES if name not in ("candidate", "own")}
        for place, label, answers in _labels(one):
            found.append(
                LabelledToken(
                    example=one.example.id,
                    task=one.example.task,
                    position=place,
                    candidate=piece(int(one.text.token_ids[place])),
                    own=piece(int(one.view.own[place])),
                    kind=kinds[place],
                    label=label,
                    features={name: float(values[place]) for name, values in features.items()},
                    replaced={name: float(values[place]) for name, values in refused.items()},
                    level=one.example.level,
                    source=one.text.source,
                    answers=answers,
                )
            )
    return found


def _labels(one: Viewed) -> Iterator[tuple[int, str, tuple[str | None, str | None] | None]]:
    """Position, label and the two answers of each labelled token of a text."""
    if one.flips is None:
        for place in np.flatnonzero(one.text.labels).tolist():
            yield place, LABELS[int(one.text.labels[place]) - 1], None
        return
    test = one.flips
    for number, place in enumerate(test.positions.tolist()):
        gained = int(test.candidate_right[number]) - int(test.own_right[number])
        label = {1: CORRECTION, -1: DAMAGE, 0: NEUTRAL}[gained]
        yield place, label, (test.own_answers[number], test.candidate_answers[number])


def viewed_targets(
    context: RunContext,
    examples: Sequence[Example],
    texts: Sequence[ProbeTarget],
    views: Sequence[Views],
    flips: Sequence[Flips] | None,
) -> tuple[list[WeightedTarget], list[Bytes]]:
    """The texts for the token viewer, all of weight 1, and the labels of their tokens: uint8 [T], 0 for none."""
    targets, labels = [], []
    for one in viewed(context, examples, texts, views, flips):
        weights = np.ones(len(one.target.token_ids), dtype=np.float32)
        targets.append(WeightedTarget(one.example, one.target, one.scores, weights))
        mine = np.zeros(len(weights), dtype=np.uint8)
        for place, label, _ in _labels(one):
            mine[place] = LABELS.index(label) + 1
        labels.append(mine)
    return targets, labels


def refusals(arm: ArmSpec, one: Viewed) -> Floats | None:
    """How far the arm refuses each token, float32 [T]: 1 where it is replaced or has weight 0, 0 where it is kept.

    A decoding rule and weights are taken together. A weight w between counts as 1 - w; online weights are those of an
    untrained model at the first step. None where the arm has no rule that features decide and all weights are 1.
    """
    weighing = arm.weighing.method
    refused = plugin_calls.refused(arm.method, one.view.gate_features(), one.target)
    weights = plugin_calls.weights(weighing, ScoredTarget(one.example, one.target, one.scores))
    if weighing.online and weighing.scope == "token" and weighing.teacher == "none":
        weights = _online(weighing, one, weights)
    if refused is None and (weights == 1).all():
        return None
    rule = np.zeros(len(weights), dtype=np.bool_) if refused is None else refused
    return np.where(rule, 1.0, 1.0 - weights).astype(np.float32)


def _online(method: Method, one: Viewed, static: Floats) -> Floats:
    import torch

    size = len(static)
    live = LiveTokens(
        logp=torch.from_numpy(one.scores.logp),
        entropy=torch.from_numpy(one.scores.entropy),
        static=torch.from_numpy(static),
        keep=torch.from_numpy(plugin_calls.keeps(method, one.target)),
        progress=0.0,
        row=torch.zeros(size, dtype=torch.int64),
        position=torch.arange(size),
        columns={name: torch.from_numpy(values[:size]) for name, values in one.target.columns.items()},
    )
    return plugin_calls.online_rule(method)(live).numpy()
