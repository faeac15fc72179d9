"""Learning rate and optimiser, the same formulas as transformers' schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from dasd_bench.config.training import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """The rate of update ``step`` (0-based) of ``total``.

    Warm-up is linear from 0 over ``config.warmup_steps(total)`` updates, so update 0 of a warm-up changes nothing; then
    cosine or linear to 0, or constant.
    """
    warm = config.warmup_steps(total)
    if step < warm:
        return config.lr * step / warm
    done = (step - warm) / max(1, total - warm)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1.0 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return config.lr * (1.0 - done)
    return config.lr


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW, fused where torch has it; vectors (norms, biases) are not decayed."""
    params = list(parameters)
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        fused=params[0].device.type in ("cpu", "cuda"),
    )
