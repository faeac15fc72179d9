"""DASD (arXiv 2606.00628): an answer-aware copy of the model proposes tokens, the base's confidence filters them.

The public text of the paper gives no exact rule, so the rules here are this project's own statement of it. Two streams
advance on the same prefix: p_b, the base given the question, and p_r, the same weights given question and reference.
With c_t the candidate of p_r, b_t the base's own token and conf_t = max_v p_b(v):

- ``confidence-gate``: b_t where conf_t >= tau, else c_t. ``reversed-gate`` and ``random-gate`` are its controls.
- ``candidate-floor``: c_t where p_b(c_t) >= tau, else b_t; tau below .5, since a token with half of the probability
  is the base's own already.
- ``relative-floor``: c_t where p_b(c_t) >= alpha conf_t, else the argmax of p_r over {v: p_b(v) >= alpha conf_t}.
- ``reference-sure``: c_t where max_v p_r(v) >= conf_t, else b_t.
- ``loss-mask``: the ungated rewrite throughout; weight 0 where ppl_t > k and conf_t >= tau.

tau = 0 of the gate is pure base output (``keep`` then protects nothing), tau > 1 the pure rewrite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dasd_bench.api import (
    Acceptance,
    Choice,
    DualGeneration,
    DualStep,
    Example,
    Generation,
    Message,
    Method,
    MethodContext,
    Note,
    Origin,
    Rule,
    Sampling,
    ScoredTarget,
    Target,
    check_rewrites,
    keep_option,
    option,
)

if TYPE_CHECKING:
    from torch import Tensor

UNSET = -1.0

IDLE = 0.01
"""Below this share of replaced tokens a gate has next to no effect."""

RULES = (
    "confidence-gate",
    "candidate-floor",
    "relative-floor",
    "reference-sure",
    "reversed-gate",
    "random-gate",
    "loss-mask",
)


@dataclass(frozen=True)
class Dasd(Method):
    """Targets by dual-context decoding; a wrong answer is handled by ``on_wrong``."""

    name = "dasd"
    summary = "DASD: answer-aware candidates, kept or replaced by the base model's confidence."
    paper = "arXiv 2606.00628"
    notes: ClassVar[tuple[Note, ...]] = (
        Note("ungated_right", "ungated", "share", "ungated rewrites that are correct", shown=False),
        Note("gate_broke", "gate broke", "sum", "answers that only the gate made wrong"),
        Note("gate_mended", "gate fixed", "sum", "answers that only the gate made right"),
        Note(
            "gated_replaced",
            "in gated",
            "share",
            "tokens of the gated answers that the gate took from the base, rejected answers included",
            of="gated_tokens",
            against="tau",
        ),
    )

    rule: str = option("confidence-gate", help="The gate; see the module's docstring.", choices=RULES)
    tau: float = option(
        -1.0,
        help="Confidence threshold, 0 to 2; above 1 = ungated (default 0.9). For candidate-floor, the minimum "
        "probability, below 0.5 (default 0.4).",
        minimum=0.0,
        maximum=2.0,
    )
    alpha: float = option(0.1, help="relative-floor: fraction of the base's top probability.", minimum=0.0, maximum=1.0)
    k: float = option(2.5, help="loss-mask: token perplexity above which a token may be masked.", minimum=1.0)
    on_wrong: str = option(
        "rewrite",
        help="What replaces a rejected gated answer: the ungated rewrite (or else gold), gold, or drop the example.",
        choices=("rewrite", "gold", "drop"),
    )
    prompt: str = option(
        "multi-turn", help="Answer-aware prompt: multi-turn (gold as a turn) or guide.", choices=("multi-turn", "guide")
    )
    temperature: float = option(
        0.0, help="Sampling temperature of both streams; 0 is greedy.", minimum=0.0, maximum=5.0
    )
    top_p: float = option(1.0, help="Nucleus truncation of both streams.", minimum=0.01, maximum=1.0)
    top_k: int = option(0, help="Top-k truncation of both streams; 0 disables it.", minimum=0)
    min_length_ratio: float = option(
        0.3, help="Reject answers shorter than this fraction of the gold answer.", minimum=0.0, maximum=1.0
    )
    keep: str = keep_option("end")

    def __post_init__(self) -> None:
        floor = self.rule == "candidate-floor"
        if self.tau == UNSET:
            object.__setattr__(self, "tau", 0.4 if floor else 0.9)
        if floor and self.tau >= 0.5:
            raise ValueError(
                f"tau={self.tau:g} with rule=candidate-floor only ever takes the base's own token: a candidate with "
                "half of the base's probability is the base's choice already. Use a tau below 0.5 (default 0.4)."
            )

    @property
    def sampling(self) -> Sampling:
        """How both streams draw their proposals."""
        return Sampling(self.temperature, self.top_p, self.top_k)

    @property
    def ungated(self) -> bool:
        """True where the options take every candidate, so that no effect of a gate is to be expected."""
        if self.rule in ("confidence-gate", "random-gate"):
            return self.tau > 1
        if self.rule in ("reversed-gate", "candidate-floor"):
            return self.tau == 0
        return self.rule == "relative-floor" and self.alpha == 0

    def stochastic(self) -> bool:
        return self.temperature > 0 or self.rule == "random-gate"

    def remark(self, notes: Mapping[str, float]) -> str:
        share = notes.get("gated_replaced", 1.0)
        if self.ungated or share >= IDLE:
            return ""
        return (
            f"the gate replaced only {100 * share:.1f} % of the tokens of its answers, so this row is in effect "
            "self-distill; check its rule and tau"
        )

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        budgets = [context.new_tokens(example) for example in examples]
        rewrite_prompts = [context.rewrite_prompt(example, self.prompt) for example in examples]
        rewrites = context.generate(rewrite_prompts, max_new_tokens=budgets, sampling=self.sampling, label="rewrite")
        ungated = check_rewrites(examples, rewrites, context, min_ratio=self.min_length_ratio)
        if self.rule == "loss-mask":
            return [
                target
                for example, rewrite, check in zip(examples, rewrites, ungated, strict=True)
                if (target := self._ungated_target(example, rewrite, check, {}, context)) is not None
            ]
        gated = self._decode(examples, rewrite_prompts, budgets, context)
        checks = check_rewrites(examples, gated, context, min_ratio=self.min_length_ratio)
        targets: list[Target] = []
        for example, rewrite, free, gate, check in zip(examples, rewrites, ungated, gated, checks, strict=True):
            notes = {
                "gated_right": float(check.accepted),
                "ungated_right": float(free.accepted),
                "gate_broke": float(free.accepted and not check.accepted),
                "gate_mended": float(check.accepted and not free.accepted),
                "gated_tokens": float(len(gate.token_ids)),
                "gated_replaced": float(np.sum(gate.origin == Origin.BASE)),
            }
            if check.accepted:
                targets.append(_gated_target(example, gate, notes, context))
            elif self.on_wrong == "rewrite":
                target = self._ungated_target(example, rewrite, free, notes, context, refused=check.reason)
                if target is not None:
                    targets.append(target)
            elif self.on_wrong == "gold":
                targets.append(context.reference_target(example, f"gold:{check.reason}", accepted=False, notes=notes))
        gated_right, ungated_right = (sum(check.accepted for check in made) for made in (checks, ungated))
        if gated_right < 0.8 * ungated_right:
            context.warn(
                f"dasd {self.rule} tau={self.tau:g}: the gate leaves {gated_right} of {len(examples)} answers right, "
                f"the ungated rewrite {ungated_right}; a larger tau breaks fewer answers."
            )
        return targets

    def select(self, scored: ScoredTarget) -> np.ndarray:
        if self.rule != "loss-mask" or not scored.target.accepted:
            return super().select(scored)
        surprising = -scored.scores.logp > np.log(self.k)
        base_sure = np.exp(scored.scores.top1_logp) >= self.tau
        return (~(surprising & base_sure) | self.keeps(scored.target)).astype(np.float32)

    def _ungated_target(
        self,
        example: Example,
        rewrite: Generation,
        check: Acceptance,
        notes: dict[str, float],
        context: MethodContext,
        refused: str = "",
    ) -> Target | None:
        """The rewrite where it is right, else gold (or nothing for ``drop``)."""
        if check.accepted:
            origin = np.full(len(rewrite.token_ids), Origin.CANDIDATE, dtype=np.uint8)
            reason = f"rewrite:{refused}" if refused else "rewrite"
            return context.target(example, rewrite.token_ids, origin, reason=reason, accepted=not refused, notes=notes)
        if self.on_wrong == "drop":
            return None
        return context.reference_target(example, f"gold:{refused or check.reason}", accepted=False, notes=notes)

    def _decode(
        self,
        examples: Sequence[Example],
        rewrite_prompts: Sequence[Sequence[Message]],
        budgets: Sequence[int],
        context: MethodContext,
    ) -> list[DualGeneration]:
        rate = 0.0
        if self.rule == "random-gate":
            gate = replace(self, rule="confidence-gate")._decode(examples, rewrite_prompts, budgets, context)
            checks = check_rewrites(examples, gate, context, min_ratio=self.min_length_ratio)
            trained = [made for made, check in zip(gate, checks, strict=True) if check.accepted]
            rate = replacement_rate(trained or gate)
        pure_base = self.rule == "confidence-gate" and self.tau == 0
        return context.dual_decode(
            [context.plain_prompt(example) for example in examples],
            rewrite_prompts,
            make_rule(self.rule, tau=self.tau, alpha=self.alpha, rate=rate),
            max_new_tokens=budgets,
            sampling=self.sampling,
            examples=examples,
            keep="none" if pure_base else self.keep,
            label=f"dual decode ({self.rule})",
        )


def _gated_target(example: Example, gate: DualGeneration, notes: dict[str, float], context: MethodContext) -> Target:
    other = np.where(gate.origin == Origin.BASE, gate.reference_token, gate.base_token).astype(np.int32)
    return context.target(
        example, gate.token_ids, gate.origin, reason="gated", accepted=True, notes=notes, proposals=other
    )


def replacement_rate(decoded: Sequence[DualGeneration]) -> float:
    """The share of base tokens among the steps where a gate had a say: the streams disagree, and ``keep`` is silent."""
    free = [(d.base_token != d.reference_token) & (d.keep == 0) for d in decoded]
    replaced = sum(int(np.sum(steps & (d.origin == Origin.BASE))) for steps, d in zip(free, decoded, strict=True))
    total = sum(int(np.sum(steps)) for steps in free)
    return replaced / total if total else 0.0


@dataclass(frozen=True)
class GateRule(Rule):
    """One of the rules above: candidate c or another token, by the two distributions. Protected candidates stay."""

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        """Bool [B]: where the candidate is taken. ``p_c`` is the base's probability of it, ``conf`` its largest."""
        raise NotImplementedError

    def other(self, step: DualStep, conf: Tensor) -> Tensor:
        """Int64 [B]: the token that stands in for a refused candidate; the base's own by default."""
        return step.base_token

    def __call__(self, step: DualStep) -> Choice:
        import torch

        candidate = step.reference_token
        conf = step.base_logp.amax(-1).exp()
        p_c = step.base_logp.gather(-1, candidate[:, None]).squeeze(-1).exp()
        other = self.other(step, conf)
        take = self.take(step, p_c, conf) | step.keep | (other == candidate)
        origin = torch.where(take, int(Origin.CANDIDATE), int(Origin.BASE)).to(torch.uint8)
        return Choice(torch.where(take, candidate, other), origin)


@dataclass(frozen=True)
class ConfidenceGate(GateRule):
    tau: float = 0.9

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return conf < self.tau


@dataclass(frozen=True)
class ReversedGate(GateRule):
    tau: float = 0.9

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return conf >= self.tau


@dataclass(frozen=True)
class RandomGate(GateRule):
    """Refuses a candidate that the base would not have written with probability ``rate``."""

    uses_draws = True
    rate: float = 0.0

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return step.uniform >= self.rate


@dataclass(frozen=True)
class CandidateFloor(GateRule):
    tau: float = 0.4

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return p_c >= self.tau


@dataclass(frozen=True)
class RelativeFloor(GateRule):
    alpha: float = 0.1

    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return p_c >= self.alpha * conf

    def other(self, step: DualStep, conf: Tensor) -> Tensor:
        allowed = step.base_logp.exp() >= self.alpha * conf[:, None]
        return step.reference_logp.masked_fill(~allowed, float("-inf")).argmax(-1)


@dataclass(frozen=True)
class ReferenceSure(GateRule):
    def take(self, step: DualStep, p_c: Tensor, conf: Tensor) -> Tensor:
        return step.reference_logp.amax(-1).exp() >= conf


def make_rule(rule: str, *, tau: float = 0.9, alpha: float = 0.1, rate: float = 0.0) -> GateRule:
    """The rule of that name; ``rate`` is random-gate's replacement probability."""
    made: dict[str, GateRule] = {
        "confidence-gate": ConfidenceGate(tau),
        "reversed-gate": ReversedGate(tau),
        "random-gate": RandomGate(rate),
        "candidate-floor": CandidateFloor(tau),
        "relative-floor": RelativeFloor(alpha),
        "reference-sure": ReferenceSure(),
    }
    return made[rule]
