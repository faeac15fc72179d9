"""The gates of dual-context decoding, one small class each; notation as in :mod:`dasd_bench.methods.gates`.

Each docstring states where b stands in for c. Rules are pure functions of the step and of their fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from dasd_bench.engine.types import Choice, DualStep
from dasd_bench.methods.context import Rule
from dasd_bench.methods.gates import Features, GateRule, Mask, StepGate, entropy
from dasd_bench.types import Origin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ungated(GateRule):
    """c everywhere."""

    def take(self, features: Features) -> Mask:
        return features.conf >= 0


@dataclass(frozen=True)
class ConfidenceGate(GateRule):
    """b where conf >= tau."""

    tau: float = 0.9

    def take(self, features: Features) -> Mask:
        return features.conf < self.tau


@dataclass(frozen=True)
class ReversedGate(GateRule):
    """b where conf < tau."""

    tau: float = 0.9

    def take(self, features: Features) -> Mask:
        return features.conf >= self.tau


@dataclass(frozen=True)
class AsStated(GateRule):
    """b where 1 / p_b(c) > k and conf >= tau: the paper's words (a high-perplexity token, and a confident base).

    With greedy streams and tau >= 1 - 1/k it equals :class:`ConfidenceGate`, for c != b implies p_b(c) <= 1 - conf.
    """

    tau: float = 0.9
    k: float = 2.5

    def take(self, features: Features) -> Mask:
        return ~((features.p_base_candidate < 1 / self.k) & (features.conf >= self.tau))


@dataclass(frozen=True)
class CandidateFloor(GateRule):
    """b where p_b(c) < tau."""

    tau: float = 0.4

    def take(self, features: Features) -> Mask:
        return features.p_base_candidate >= self.tau


@dataclass(frozen=True)
class RelativeFloor(GateRule):
    """Where p_b(c) < alpha conf, the argmax of p_r over {v: p_b(v) >= alpha conf}."""

    alpha: float = 0.1

    def take(self, features: Features) -> Mask:
        return features.p_base_candidate >= self.alpha * features.conf

    def other(self, features: Features, step: DualStep) -> Tensor:
        allowed = step.base_logp.exp() >= self.alpha * features.conf[:, None]
        return step.reference_logp.masked_fill(~allowed, float("-inf")).argmax(-1)


@dataclass(frozen=True)
class ReferenceSure(GateRule):
    """b where max_v p_r(v) < conf."""

    def take(self, features: Features) -> Mask:
        return features.conf_ref >= features.conf


@dataclass(frozen=True)
class Insist(GateRule):
    """b where 1 / p_b(c) > k, conf >= eta and p_r(c) < rho: the reference stream does not insist on c."""

    rho: float = 0.3
    eta: float = 0.3
    k: float = 2.5

    def take(self, features: Features) -> Mask:
        surprising = features.p_base_candidate < 1 / self.k
        return ~(surprising & (features.conf >= self.eta) & (features.p_ref_candidate < self.rho))


@dataclass(frozen=True)
class Tolerated(GateRule):
    """b where conf >= tau and p_r(b) >= eps max_v p_r(v): the reference stream would put up with b."""

    tau: float = 0.5
    eps: float = 0.1

    def take(self, features: Features) -> Mask:
        return ~((features.conf >= self.tau) & (features.p_ref_own >= self.eps * features.conf_ref))


@dataclass(frozen=True)
class Typical(GateRule):
    """b where log p_b(c) + H_b < -delta (nats): c is more surprising to the base than its tokens are on average."""

    delta: float = 1.0

    def take(self, features: Features) -> Mask:
        return features.logp_base_candidate + features.entropy_base >= -self.delta


@dataclass(frozen=True)
class Margin(GateRule):
    """b where the base's largest probability exceeds its second largest by at least mu."""

    mu: float = 0.5

    def take(self, features: Features) -> Mask:
        return features.margin_base < self.mu


@dataclass(frozen=True)
class Entropy(GateRule):
    """b where 1 - H_b / log V >= tau."""

    tau: float = 0.9

    def take(self, features: Features) -> Mask:
        return features.certainty < self.tau


@dataclass(frozen=True)
class Quantile(StepGate):
    """b where conf >= the threshold that the example itself brings as its first parameter."""

    def take_step(self, features: Features, step: DualStep) -> Mask:
        assert step.parameters is not None
        return features.conf < step.parameters[:, 0]


@dataclass(frozen=True)
class RandomGate(StepGate):
    """b with probability ``rate``, whatever the two distributions say."""

    uses_draws: ClassVar[bool] = True
    rate: float = 0.0

    def take_step(self, features: Features, step: DualStep) -> Mask:
        return step.uniform >= self.rate


@dataclass(frozen=True)
class ShuffledGate(StepGate):
    """b at n of the m disagreements of each example, drawn without replacement; (n, m) are its two parameters.

    Selection sampling (Knuth, vol. 2, algorithm S): with j of i disagreements behind replaced, the next one is replaced
    with probability (n - j) / (m - i). m is known for the gate's own answer only; where this one has more disagreements
    nothing more is replaced, and where it has fewer some replacements may be missing.
    """

    uses_draws: ClassVar[bool] = True

    def take_step(self, features: Features, step: DualStep) -> Mask:
        assert step.parameters is not None
        assert step.replaced is not None
        assert step.disagreed is not None
        wanted = step.parameters[:, 0] - step.replaced
        left = step.parameters[:, 1] - step.disagreed
        return (wanted <= 0) | (step.uniform * left >= wanted)


@dataclass(frozen=True)
class ClassOracle(StepGate):
    """b where the two tokens differ in wording only (``replace_logic`` False), or where one carries logic (True).

    A token carries logic where :func:`carries_logic` says so of its text in its place.
    """

    uses_tokens: ClassVar[bool] = True
    replace_logic: bool = False

    def take_step(self, features: Features, step: DualStep) -> Mask:
        import torch

        assert step.decode is not None
        pairs = zip(step.tokens, features.candidate.tolist(), features.own.tolist(), strict=True)
        logic = [any(_is_logic(step, before, token) for token in pair) for before, *pair in pairs]
        found = torch.tensor(logic, device=features.candidate.device)
        return ~found if self.replace_logic else found


@dataclass(frozen=True)
class Mix(Rule):
    """The argmax of (1 - l) log p_r + l log p_b with l = clamp(beta H_r / log V, 0, 1): Hinted Decoding's mixture.

    The token may be neither proposal; its origin is CANDIDATE where it is c, else BASE. c stays where ``keep`` says so.
    """

    beta: float = 1.0

    def __call__(self, step: DualStep) -> Choice:
        import torch

        mixed = mixture(step.reference_logp, step.base_logp, mixture_weight(step.reference_logp, self.beta))
        token = torch.where(step.keep, step.reference_token, mixed.argmax(-1))
        taken = token == step.reference_token
        return Choice(token, torch.where(taken, int(Origin.CANDIDATE), int(Origin.BASE)).to(torch.uint8))


def mixture_weight(reference_logp: Tensor, beta: float) -> Tensor:
    """The base's share in Hinted Decoding's mixture, clamp(beta H_r / log V, 0, 1): float32 [B] of [B, V]."""
    return (beta * entropy(reference_logp) / math.log(reference_logp.shape[-1])).clamp(0.0, 1.0)


def mixture(reference_logp: Tensor, base_logp: Tensor, weight: Tensor) -> Tensor:
    """(1 - l) log p_r + l log p_b, not normalised: [B, V]; ``weight`` is l [B]."""
    import torch

    share = weight[:, None]
    mixed = (1 - share) * reference_logp + share * base_logp
    # 0 times minus infinity is no number: where one side has all the weight it is taken as it is.
    return torch.where(share == 0, reference_logp, torch.where(share == 1, base_logp, mixed))


def gate_rule(name: str, options: Mapping[str, float]) -> Rule:
    """The rule that the ``dasd`` method calls ``name``, with those of its fields that ``options`` has.

    Raises :class:`KeyError` for a name without a rule of its own.
    """
    if name in ("style-oracle", "logic-oracle"):
        return ClassOracle(replace_logic=name == "logic-oracle")
    kind = BY_NAME[name]
    return kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})


BY_NAME: Mapping[str, type[Rule]] = {
    "ungated": Ungated,
    "confidence-gate": ConfidenceGate,
    "reversed-gate": ReversedGate,
    "as-stated": AsStated,
    "candidate-floor": CandidateFloor,
    "relative-floor": RelativeFloor,
    "reference-sure": ReferenceSure,
    "insist": Insist,
    "tolerated": Tolerated,
    "typical": Typical,
    "margin": Margin,
    "entropy": Entropy,
    "mix": Mix,
}
"""The rules that are made of options alone, by the names of ``dasd``'s option ``rule``."""

OPERATORS = frozenset("+-*/=<>%^×÷·√±≤≥≈≠$")
LOOKBACK_TOKENS = 4
"""Tokens before a word that tell whether it begins a sentence."""


def carries_logic(text: str, before: str = "") -> bool:
    """True for a token of digits, operators or a name; ``before`` is the text it follows.

    A name is an identifier with an underscore, or a word with a capital that does not begin a sentence. A proxy: words
    that negate or compare count as wording.
    """
    bare = text.strip()
    if any(char.isdigit() for char in bare) or (bare and set(bare) <= OPERATORS):
        return True
    if any(char.isalpha() for char in bare) and "_" in bare:
        return True
    begins = not before.strip() or before.rstrip(" ")[-1] in ".!?:\n*"
    return bare[:1].isupper() and not begins


def _is_logic(step: DualStep, before: Sequence[int], token: int) -> bool:
    assert step.decode is not None
    head = list(before[-LOOKBACK_TOKENS:])
    lead = step.decode(head)
    return carries_logic(step.decode([*head, token])[len(lead) :], lead)
