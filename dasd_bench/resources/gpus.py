"""GPUs that a plan can be made for on a machine without one, by the figures that their makers publish."""

from __future__ import annotations

from dataclasses import dataclass

from dasd_bench.errors import unknown_name
from dasd_bench.resources.work import Speed

USABLE = 0.95
"""The share of a GPU's memory that is left for a process beside the driver's."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """``memory_gb`` is in units of 10^9 bytes, ``bf16`` and ``fp32`` in dense TFLOP/s, ``bandwidth`` in GB/s."""

    name: str
    memory_gb: float
    bf16: float
    fp32: float
    bandwidth: float

    @property
    def free(self) -> int:
        """Bytes that one process can use."""
        return int(self.memory_gb * 1e9 * USABLE)

    def speed(self, dtype: str) -> Speed:
        """The published throughput in ``bf16`` or ``fp32``."""
        flops = self.bf16 if dtype == "bf16" else self.fp32
        return Speed(flops * 1e12, self.bandwidth * 1e9, self.name)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a10", 24, 125, 31.2, 600),
        Gpu("l4", 24, 121, 30.3, 300),
        Gpu("rtx-4090", 24, 165, 82.6, 1008),
        Gpu("l40s", 48, 362, 91.6, 864),
        Gpu("a100-40gb", 40, 312, 19.5, 1555),
        Gpu("a100-80gb", 80, 312, 19.5, 2039),
        Gpu("h100", 80, 989, 67, 3350),
        Gpu("h200", 141, 989, 67, 4800),
    )
}
"""SXM versions where there are several; without sparsity. fp32 is without TF32, which torch leaves off."""

DEFAULT = "a100-80gb"


def planned_gpu(device: str, name: str) -> Gpu | None:
    """The GPU that a plan has to assume: the one called ``name``, or a usual one where ``device`` is CUDA and this
    machine has none. None where the device is here and can be measured.

    Raises :class:`UsageError` for an unknown name.
    """
    if name:
        if name not in GPUS:
            raise unknown_name("GPU", name, GPUS)
        return GPUS[name]
    if not device.startswith("cuda"):
        return None
    import torch

    return None if torch.cuda.is_available() else GPUS[DEFAULT]
