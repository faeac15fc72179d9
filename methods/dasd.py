"""DASD (arXiv 2606.00628): an answer-aware copy of the model proposes tokens, the base's confidence filters them.

The public text of the paper gives no exact rule, so the rules here are this project's own statement of it. Two streams
advance on the same prefix: p_b, the base given the question, and p_r, the reference stream given question and
reference. With c_t the candidate of p_r, b_t the base's own token and conf_t = max_v p_b(v), the base's token replaces
the candidate (b stands in for c):

- ``confidence-gate``: where conf >= tau. ``reversed-gate``: where conf < tau.
- ``as-stated``: where 1 / p_b(c) > k and conf >= tau, the rule nearest to the paper's words. Greedy it equals
  ``confidence-gate`` for tau >= 1 - 1/k; sampled it keeps candidates that the base finds likely.
- ``candidate-floor``: where p_b(c) < tau; tau below .5, since a token with half of the probability is the base's own.
- ``relative-floor``: where p_b(c) < alpha conf, the argmax of p_r over {v: p_b(v) >= alpha conf} takes its place.
- ``reference-sure``: where max_v p_r(v) < conf.
- ``insist``: where 1 / p_b(c) > k, conf >= eta and p_r(c) < rho.
- ``tolerated``: where conf >= tau and p_r(b) >= eps max_v p_r(v).
- ``typical``: where log p_b(c) + H_b < -delta.
- ``margin``: where the base's two largest probabilities differ by mu or more.
- ``entropy``: where 1 - H_b / log V >= tau.
- ``quantile``: where conf is among the largest ``share`` of those at the example's ungated disagreements.
- ``mix``: the argmax of (1 - l) log p_r + l log p_b, l = clamp(beta H_r / log V, 0, 1), which may be neither token.
- ``style-oracle``, ``logic-oracle``: by the class of the two tokens (digits, operators, names against wording).
- ``ungated``: nowhere; against the plainly generated rewrite it shows what float rounding alone changes.
- ``loss-mask``: the ungated rewrite throughout; weight 0 where ppl_t > k and conf_t >= tau.

``control`` puts chance in a rule's place: ``random`` replaces at its rate, ``shuffled`` as often in each example
(``random-gate`` is the control ``random`` of ``confidence-gate``). tau = 0 of ``confidence-gate`` is pure base output
(``keep`` then protects nothing), tau > 1 the pure rewrite.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dasd_bench.api import (
    REFERENCES,
    Acceptance,
    Bools,
    DualGeneration,
    Example,
    GateFeatures,
    GateRule,
    Generation,
    Message,
    Method,
    MethodContext,
    ModelRef,
    Note,
    Origin,
    Quantile,
    RandomGate,
    Rule,
    RunFacts,
    Sampling,
    ScoredTarget,
    ShuffledGate,
    Target,
    Ungated,
    check_rewrites,
    confidence_thresholds,
    gate_rule,
    keep_option,
    option,
    replacement_counts,
    replacement_rate,
    with_reference,
)

UNSET = -1.0

IDLE = 0.01
"""Below this share of replaced tokens a gate has next to no effect."""

DEFAULT_RULE = "insist"
"""The default gate, with rho = .3: of the rules that replace 1 % or more it left most answers right on validation rows
of the built-in tasks (results/premise). On 90 rows it replaces 2.0 % of the tokens of SmolLM2-135M's answers and leaves
55.6 % right, the ungated rewrite 62.2 %, confidence-gate at the same rate (tau = .7) 50.0 %. The default of the first
release, confidence-gate at tau = .9, replaces .5 % there and is in effect self-distill."""

TAUS = {"candidate-floor": 0.4, "tolerated": 0.5}
"""Default of ``tau`` by rule; 0.9 for all others."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "confidence-gate": ("tau",),
    "as-stated": ("tau", "k"),
    "candidate-floor": ("tau",),
    "relative-floor": ("alpha",),
    "reference-sure": (),
    "insist": ("rho", "eta", "k"),
    "tolerated": ("tau", "eps"),
    "typical": ("delta",),
    "margin": ("mu",),
    "entropy": ("tau",),
    "quantile": ("share",),
    "mix": ("beta",),
    "style-oracle": (),
    "logic-oracle": (),
    "reversed-gate": ("tau",),
    "random-gate": ("tau",),
    "ungated": (),
    "loss-mask": ("tau", "k"),
}
"""The rules, and the options that each of them reads."""


@dataclass(frozen=True)
class Dasd(Method):
    """Targets by dual-context decoding; a wrong answer is handled by ``on_wrong``."""

    name = "dasd"
    summary = "DASD: answer-aware candidates, kept or replaced by the base model's confidence."
    paper = "arXiv 2606.00628"
    grids: ClassVar[tuple[str, ...]] = (
        "rule=ungated",
        "rule=confidence-gate;tau=0.3,0.5,0.7,0.9",
        "rule=candidate-floor;tau=0.01,0.05,0.2",
        "rule=relative-floor;alpha=0.02,0.1,0.3",
        "rule=reference-sure",
        "rule=insist;rho=0.3,0.5,0.7",
        "rule=tolerated;tau=0.3;eps=0.03,0.1,0.3",
        "rule=typical;delta=1,2,4",
        "rule=margin;mu=0.1,0.3,0.6",
        "rule=entropy;tau=0.7,0.8,0.9",
        "rule=quantile;share=0.05,0.1,0.2",
        "rule=mix;beta=0.5,1,3",
        "rule=style-oracle,logic-oracle",
    )
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
        Note(
            "gated_refused",
            "refused",
            "share",
            "disagreements of the two streams at which the gate replaced the candidate",
            of="gated_disagreed",
            shown=False,
        ),
        Note("gated_changed", "changed", "share", "gated answers that differ from the ungated rewrite", shown=False),
    )

    rule: str = option(
        DEFAULT_RULE,
        help="The gate: where the base's token replaces the candidate (rules: docs/methods.md). The default was chosen "
        "on validation rows, where it replaced 2.0 % of the tokens; as-stated is nearest to the paper's words.",
        choices=tuple(OPTIONS),
    )
    control: str = option(
        "none",
        help="Chance in the rule's place: random (at the rate of the rule's answers that are trained on) or shuffled "
        "(as many replacements in each example, at random disagreements).",
        choices=("none", "random", "shuffled"),
    )
    tau: float = option(
        -1.0,
        help="Threshold of confidence-gate, as-stated, tolerated and entropy, 0 to 2; above 1 = ungated (default 0.9; "
        "tolerated 0.5). For candidate-floor, the minimum probability, below 0.5 (default 0.4).",
        minimum=0.0,
        maximum=2.0,
    )
    alpha: float = option(0.1, help="relative-floor: fraction of the base's top probability.", minimum=0.0, maximum=1.0)
    k: float = option(
        2.5,
        help="loss-mask, as-stated, insist: token perplexity above which a token may be masked or replaced.",
        minimum=1.0,
    )
    rho: float = option(
        0.3, help="insist: probability from which on the reference stream insists.", minimum=0.0, maximum=1.0
    )
    eta: float = option(
        0.3, help="insist: confidence from which on the base may replace a candidate.", minimum=0.0, maximum=1.0
    )
    eps: float = option(
        0.1,
        help="tolerated: fraction of the reference stream's top probability that the base's token needs.",
        minimum=0.0,
        maximum=1.0,
    )
    delta: float = option(1.0, help="typical: nats that a candidate may be more surprising than the average token.")
    mu: float = option(
        0.5, help="margin: difference of the base's two largest probabilities.", minimum=0.0, maximum=1.0
    )
    share: float = option(
        0.1, help="quantile: share of each example's disagreements to replace.", minimum=0.0, maximum=1.0
    )
    beta: float = option(1.0, help="mix: how soon the base takes over; 0 is a plain rewrite.", minimum=0.0)
    reference: str = option(
        "own",
        help="What the answer-aware prompt shows: the example's own reference, another example's (swapped), or the "
        "final answer alone (answer-only).",
        choices=REFERENCES,
    )
    reference_model: str = option(
        "base",
        help="Weights of the reference stream: the base's, or the base tuned on the references (tuned).",
        choices=("base", "tuned"),
    )
    on_wrong: str = option(
        "rewrite",
        help="What replaces a rejected gated answer: the ungated rewrite (or else gold), gold, or drop the example.",
        choices=("rewrite", "gold", "drop"),
    )
    prompt: str = option(
        "multi-turn",
        help="Answer-aware prompt: multi-turn (gold as a turn) or guide; plain shows the question alone, for a tuned "
        "reference model.",
        choices=("multi-turn", "guide", "plain"),
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
        if self.tau == UNSET:
            object.__setattr__(self, "tau", TAUS.get(self.rule, 0.9))
        if self.rule == "candidate-floor" and self.tau >= 0.5:
            raise ValueError(
                f"tau={self.tau:g} with rule=candidate-floor only ever takes the base's own token: a candidate with "
                "half of the base's probability is the base's choice already. Use a tau below 0.5 (default 0.4)."
            )
        if self.prompt == "plain" and self.reference_model == "base":
            raise ValueError("prompt=plain makes both streams the same; it needs reference_model=tuned.")
        if self.control != "none" and self.rule in ("random-gate", "loss-mask", "ungated"):
            raise ValueError(f"control={self.control} has nothing to be matched to with rule={self.rule}.")

    @property
    def trains(self) -> bool:  # type: ignore[override]
        """A tuned reference is trained by ``make_targets``."""
        return self.reference_model == "tuned"

    @property
    def sampling(self) -> Sampling:
        """How both streams draw their proposals."""
        return Sampling(self.temperature, self.top_p, self.top_k)

    @property
    def ungated(self) -> bool:
        """True where the options take every candidate, so that no effect of a gate is to be expected."""
        if self.rule in ("confidence-gate", "random-gate", "as-stated", "tolerated", "entropy"):
            return self.tau > 1
        if self.rule in ("reversed-gate", "candidate-floor"):
            return self.tau == 0
        off = {
            "ungated": 0.0,
            "insist": self.rho,
            "relative-floor": self.alpha,
            "quantile": self.share,
            "mix": self.beta,
        }
        return off.get(self.rule) == 0

    @property
    def matched(self) -> str:
        """The control in place of the rule: ``none``, ``random`` or ``shuffled``."""
        return "random" if self.rule == "random-gate" else self.control

    def stochastic(self) -> bool:
        return self.temperature > 0 or self.matched != "none"

    def lacking(self, facts: RunFacts) -> str:
        if self.rule in ("entropy", "typical", "mix") and facts.backend == "vllm":
            return f"rule={self.rule} needs whole distributions, which vLLM does not give: leave out --engine vllm"
        if self.reference_model == "tuned" and facts.backend == "vllm":
            return "reference_model=tuned decodes two models at once, which vLLM does not: leave out --engine vllm"
        return ""

    def unread(self, given: Collection[str]) -> str:
        for name in given:
            rules = [rule for rule, options in OPTIONS.items() if name in options]
            if rules and self.rule not in rules:
                named = f"rule={self.rule}" + (", the default" if "rule" not in given else "")
                return f"{name} has no effect with {named}; add rule={' or '.join(rules)}, or omit {name}"
        return ""

    def remark(self, notes: Mapping[str, float]) -> str:
        share = notes.get("gated_replaced", 1.0)
        if self.ungated or share >= IDLE:
            return ""
        return (
            f"the gate replaced only {100 * share:.1f} % of the tokens of its answers, so this row is in effect "
            "self-distill; check its rule and tau"
        )

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        streams = self._streams(examples, context)
        gated = self._decode(streams, context) if self.rule != "loss-mask" else []
        rewrites = context.generate(
            streams.reference,
            max_new_tokens=streams.budgets,
            sampling=self.sampling,
            label="rewrite",
            model=streams.model,
        )
        ungated = check_rewrites(examples, rewrites, context, min_ratio=self.min_length_ratio)
        if self.rule == "loss-mask":
            return [
                target
                for example, rewrite, check in zip(examples, rewrites, ungated, strict=True)
                if (target := self._ungated_target(example, rewrite, check, {}, context)) is not None
            ]
        checks = check_rewrites(examples, gated, context, min_ratio=self.min_length_ratio)
        targets: list[Target] = []
        outcomes = zip(examples, rewrites, ungated, gated, checks, strict=True)
        for example, rewrite, free, gate, check in outcomes:
            notes = _outcome(rewrite, free, gate, check)
            if check.accepted:
                targets.append(_gated_target(example, gate, notes, context))
            elif self.on_wrong == "rewrite":
                target = self._ungated_target(example, rewrite, free, notes, context, refused=check.reason)
                if target is not None:
                    targets.append(target)
            elif self.on_wrong == "gold":
                targets.append(context.reference_target(example, f"gold:{check.reason}", accepted=False, notes=notes))
        self._warn(gated, checks, ungated, context)
        return targets

    def select(self, scored: ScoredTarget) -> np.ndarray:
        if self.rule != "loss-mask" or not scored.target.accepted:
            return super().select(scored)
        surprising = -scored.scores.logp > np.log(self.k)
        base_sure = np.exp(scored.scores.top1_logp) >= self.tau
        return (~(surprising & base_sure) | self.keeps(scored.target)).astype(np.float32)

    def refused(self, features: GateFeatures) -> Bools | None:
        rule = self._gate() if self.rule != "loss-mask" and self.matched == "none" else None
        disagree = features.own != features.candidate
        if isinstance(rule, Quantile):
            conf = np.sort(features.conf[disagree])[::-1]
            count = int(np.floor(self.share * len(conf) + 0.5))
            return disagree & (features.conf >= (conf[count - 1] if count else np.inf))
        if not isinstance(rule, GateRule):
            return None
        return np.asarray(~rule.take(features) & disagree)

    def _warn(
        self,
        gated: Sequence[DualGeneration],
        checks: Sequence[Acceptance],
        ungated: Sequence[Acceptance],
        context: MethodContext,
    ) -> None:
        """Says where the gate does next to nothing, and where it breaks many answers."""
        name = " ".join([f"dasd {self.rule}", *(f"{key}={getattr(self, key):g}" for key in OPTIONS[self.rule])])
        tokens = sum(len(one.token_ids) for one in gated)
        replaced = sum(int(np.sum(one.origin == Origin.BASE)) for one in gated)
        if remark := self.remark({"gated_replaced": replaced / max(1, tokens)}):
            context.warn(f"{name}: {remark}.")
        gated_right, ungated_right = (sum(check.accepted for check in made) for made in (checks, ungated))
        if gated_right < 0.8 * ungated_right:
            context.warn(
                f"{name}: the gate leaves {gated_right} of {len(gated)} answers right, "
                f"the ungated rewrite {ungated_right}; a gate that replaces less breaks fewer answers."
            )

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

    def _streams(self, examples: Sequence[Example], context: MethodContext) -> Streams:
        """The two prompts of every example, and the reference stream's model."""
        plain = [context.plain_prompt(example) for example in examples]
        if self.prompt == "plain":
            reference = plain
        else:
            reference = [context.rewrite_prompt(one, self.prompt) for one in with_reference(examples, self.reference)]
        model = None
        if self.reference_model == "tuned":
            model = context.train([context.reference_target(example) for example in examples], label="reference")
        return Streams(examples, plain, reference, [context.new_tokens(example) for example in examples], model)

    def _decode(self, streams: Streams, context: MethodContext) -> list[DualGeneration]:
        """The gated answers; a control is matched to the rule's own answers, decoded before."""
        if self.matched == "none":
            parameters: list[tuple[float, ...]] = []
            if self.rule == "quantile":
                free = streams.decode(self, Ungated(), context)
                parameters = [(threshold,) for threshold in confidence_thresholds(free, self.share)]
            return streams.decode(self, self._gate(), context, parameters)
        own = "confidence-gate" if self.rule == "random-gate" else self.rule
        gate = replace(self, rule=own, control="none")._decode(streams, context)
        if self.matched == "shuffled":
            return streams.decode(self, ShuffledGate(), context, replacement_counts(gate))
        checks = check_rewrites(streams.examples, gate, context, min_ratio=self.min_length_ratio)
        trained = [made for made, check in zip(gate, checks, strict=True) if check.accepted]
        return streams.decode(self, RandomGate(replacement_rate(trained or gate)), context)

    def _gate(self) -> Rule:
        """The rule as an object."""
        if self.rule == "quantile":
            return Quantile()
        return gate_rule(self.rule, {name: getattr(self, name) for name in OPTIONS[self.rule]})


@dataclass(frozen=True)
class Streams:
    """What both streams are given: prompts and token budgets by example, and the reference stream's own model."""

    examples: Sequence[Example]
    plain: Sequence[Sequence[Message]]
    reference: Sequence[Sequence[Message]]
    budgets: Sequence[int]
    model: ModelRef | None

    def decode(
        self, method: Dasd, rule: Rule, context: MethodContext, parameters: Sequence[Sequence[float]] = ()
    ) -> list[DualGeneration]:
        """One answer per example by ``rule``."""
        pure_base = method.rule == "confidence-gate" and method.tau == 0
        return context.dual_decode(
            self.plain,
            self.reference,
            rule,
            max_new_tokens=self.budgets,
            sampling=method.sampling,
            examples=self.examples,
            keep="none" if pure_base else method.keep,
            label=f"dual decode ({method.rule})",
            parameters=parameters,
            reference_model=self.model,
        )


def _outcome(rewrite: Generation, free: Acceptance, gate: DualGeneration, check: Acceptance) -> dict[str, float]:
    """The notes of one example."""
    ((refused, disagreed),) = replacement_counts([gate])
    return {
        "gated_right": float(check.accepted),
        "ungated_right": float(free.accepted),
        "gate_broke": float(free.accepted and not check.accepted),
        "gate_mended": float(check.accepted and not free.accepted),
        "gated_tokens": float(len(gate.token_ids)),
        "gated_replaced": float(np.sum(gate.origin == Origin.BASE)),
        "gated_disagreed": disagreed,
        "gated_refused": refused,
        "gated_changed": float(not np.array_equal(gate.token_ids, rewrite.token_ids)),
    }


def _gated_target(example: Example, gate: DualGeneration, notes: dict[str, float], context: MethodContext) -> Target:
    other = np.where(gate.origin == Origin.BASE, gate.reference_token, gate.base_token).astype(np.int32)
    return context.target(
        example, gate.token_ids, gate.origin, reason="gated", accepted=True, notes=notes, proposals=other
    )
