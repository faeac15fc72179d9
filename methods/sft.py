"""Plain supervised fine-tuning on the reference answers: weight 1 on every target token."""

from dataclasses import dataclass

from dasd_bench.api import Method


@dataclass(frozen=True)
class Sft(Method):
    """The baseline every other method is compared with."""

    name = "sft"
    summary = "Plain SFT on the gold answers, all tokens weighted 1."
