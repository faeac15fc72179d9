"""The training options every arm shares. No torch here: the command line reads this file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dasd_bench.errors import UsageError
from dasd_bench.files.text import shown
from dasd_bench.options import option


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How an adapter is trained: the same for every arm of a run under ``--budget equal``."""

    epochs: float = option(2.0, help="Passes over the training examples.", minimum=0.01, maximum=1000)
    batch_size: int = option(8, help="Examples per optimiser step.", minimum=1, maximum=65536)
    microbatch_tokens: int = option(
        1024, help="Tokens per forward pass; a batch is split into packs of at most this size.", minimum=16
    )
    max_length: int = option(
        0, help="Tokens of prompt and target; longer targets are truncated; 0 for the model's context.", minimum=0
    )
    lr: float = option(2e-4, help="Peak learning rate.", minimum=0.0, maximum=10.0)
    schedule: str = option("cosine", help="Learning-rate schedule.", choices=("cosine", "linear", "constant"))
    warmup: float = option(
        0.05, help="Fraction of the steps used for warm-up; above 1, a number of steps.", minimum=0.0, maximum=1e9
    )
    weight_decay: float = option(0.0, help="AdamW weight decay.", minimum=0.0, maximum=10.0)
    grad_clip: float = option(1.0, help="Maximum gradient norm; 0 disables clipping.", minimum=0.0, maximum=math.inf)
    adam_beta1: float = option(0.9, help="AdamW beta 1.", minimum=0.0, maximum=1.0)
    adam_beta2: float = option(0.999, help="AdamW beta 2.", minimum=0.0, maximum=1.0)
    lora_rank: int = option(16, help="LoRA rank; 0 trains all weights.", minimum=0, maximum=4096)
    lora_alpha: float = option(32.0, help="LoRA alpha (scale = alpha / rank).", minimum=0.0)
    lora_dropout: float = option(0.0, help="LoRA dropout.", minimum=0.0, maximum=0.99)
    lora_targets: str = option("all-linear", help="'all-linear' or module names, comma-separated.")
    rslora: bool = option(False, help="Scale by alpha / sqrt(rank) (rsLoRA).")
    dora: bool = option(False, help="Weight-decomposed LoRA (DoRA).")
    qlora: bool = option(False, help="Train on a base quantised to 4 bits (QLoRA; needs the extra [qlora]).")
    gradient_checkpointing: bool = option(False, help="Recompute activations to save memory.")
    checkpoint_steps: int = option(20, help="Optimiser steps between checkpoints; 0 for no checkpoints.", minimum=0)
    keep_checkpoints: int = option(1, help="Checkpoints kept on disk.", minimum=1)
    early_stop_patience: int = option(
        0,
        help="Stop after this many held-out NLLs without improvement and keep the best adapter; 0 disables it.",
        minimum=0,
    )
    early_stop_steps: int = option(0, help="Steps between held-out NLLs; 0 for once per epoch.", minimum=0)
    held_out: float = option(
        0.1, help="Fraction of the training examples held out for early stopping.", minimum=0.0, maximum=0.9
    )
    evaluate_at: tuple[str, ...] = option(
        (), help="Also evaluate the adapter at these fractions of training, such as 0.25,0.5,1 (1: the final one)."
    )
    max_loss: float = option(50.0, help="A loss above this stops the run as diverged.", minimum=0.0, maximum=math.inf)

    def warmup_steps(self, total: int) -> int:
        """Steps of ``total`` spent warming up; the first of them has learning rate 0."""
        return math.ceil(self.warmup * total) if self.warmup <= 1 else min(math.ceil(self.warmup), total)

    @property
    def points(self) -> dict[float, str]:
        """The fractions below 1 of ``evaluate_at`` in rising order, each with its name; 1 is the final adapter.

        Raises :class:`UsageError` for what is no fraction.
        """
        found: dict[float, str] = {}
        for text in self.evaluate_at:
            try:
                fraction = float(text)
            except ValueError:
                fraction = math.nan
            if not 0 < fraction <= 1:
                raise UsageError(
                    f"training.evaluate_at={shown(text)} is not a fraction of training; use numbers above 0 and up to "
                    "1, such as 0.25,0.5,1."
                )
            found[fraction] = repr(fraction)
        return {fraction: found[fraction] for fraction in sorted(found) if fraction < 1}
