"""The options of the warm-up: tuning the model on tasks before any method starts from it."""

from __future__ import annotations

from dataclasses import dataclass

from dasd_bench.config.training import TrainingConfig
from dasd_bench.options import option


@dataclass(frozen=True, slots=True)
class WarmupConfig:
    """What the model is tuned on before the run; without ``tasks`` there is no warm-up.

    The warmed model is the run's base: every method starts from it, and scores, drift and base rows are its own.
    """

    tasks: tuple[str, ...] = option((), help="Tasks to tune on first; none: no warm-up.")
    rows: int = option(
        0,
        help="Rows per task, the last N of the train split, kept from methods and validation; 0 for all, kept "
        "from nobody.",
        minimum=0,
    )
    style: str = option("", help="Style of their references (see: dasd-bench show TASK); none: as they are.")
    epochs: float = option(3.0, help="Passes over the rows.", minimum=0.01, maximum=1000)
    batch_size: int = option(16, help="Examples per optimiser step.", minimum=1, maximum=65536)
    lr: float = option(1e-4, help="Peak learning rate.", minimum=0.0, maximum=10.0)
    lora_rank: int = option(
        0, help="LoRA rank, merged into the weights; 0 trains all weights.", minimum=0, maximum=4096
    )
    lora_alpha: float = option(32.0, help="LoRA alpha (scale = alpha / rank).", minimum=0.0)
    seed: int = option(0, help="Seed of the order of the rows; the same for every arm.", minimum=0)

    @property
    def training(self) -> TrainingConfig:
        """The trainer's settings."""
        return TrainingConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
        )
