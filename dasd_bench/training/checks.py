"""What cannot be trained as asked, said before anything is computed: without torch, so that a plan is quick."""

from __future__ import annotations

import importlib.util

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import UsageError
from dasd_bench.methods.base import Method


def check_quantization(config: TrainingConfig) -> None:
    """Raises :class:`UsageError` where QLoRA is asked for and cannot be had here."""
    if not config.qlora:
        return
    if config.lora_rank == 0:
        raise UsageError("training.qlora trains an adapter on a 4-bit base; set training.lora_rank above 0.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("training.qlora needs bitsandbytes; install it with: pip install 'dasd-bench[qlora]'.")


def check_teacher(method: Method, config: TrainingConfig) -> None:
    """Raises :class:`UsageError` for a teacher that this way of training cannot give."""
    if method.teacher == "base" and config.lora_rank == 0:
        raise UsageError(
            f"Method '{method.name}' has the untrained model as its teacher, which training.lora_rank=0 overwrites; "
            "set a rank above 0, so that the adapter can be disabled."
        )
    if method.teacher == "ema" and not 0.0 <= method.teacher_decay <= 1.0:
        raise UsageError(f"{method.name}.teacher_decay={method.teacher_decay} is out of range; use 0 to 1.")
    if method.teacher == "ema" and method.teacher_every < 1:
        raise UsageError(f"{method.name}.teacher_every={method.teacher_every} is out of range; use 1 or more.")


def check_rollouts(method: Method, *, sharded: bool) -> None:
    """Raises :class:`UsageError` where rollouts cannot be had."""
    if method.rollouts and sharded:
        raise UsageError(
            f"Method '{method.name}' draws completions during training, which sharded layers do not support; "
            "use --parallel data."
        )


def check_sharding(count: int, training: TrainingConfig, *, sharded: bool) -> None:
    """Refuses a model that cannot be sharded as asked."""
    if sharded and count == 1:
        raise UsageError("--parallel fsdp shards a model over several processes; use --processes 2 or more.")
    if sharded and training.qlora:
        raise UsageError("A 4-bit base cannot be sharded; use --parallel data with training.qlora.")


def check_devices(device: str, count: int) -> None:
    """Refuses more processes than this machine has GPUs."""
    if not device.startswith("cuda"):
        return
    import torch

    if torch.cuda.device_count() < count:
        raise UsageError(
            f"--processes {count} needs {count} GPUs and this machine has {torch.cuda.device_count()}; "
            "use fewer processes."
        )
