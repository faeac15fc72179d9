"""QLoRA: the base's linear layers in 4 bits (arXiv 2305.14314), through the optional package bitsandbytes.

The trainer's own layers run on top of them: the weight is dequantised one matmul at a time, forward and backward,
and base output and LoRA term are added inside one rounding as everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_quantized(layer: nn.Module) -> bool:
    """True for a linear layer in 4 bits."""
    return getattr(getattr(layer, "weight", None), "quant_state", None) is not None


def plain_weight(layer: Any) -> Tensor:
    """The weight [out, in] of a 4-bit layer in its compute dtype, made anew at every call."""
    from bitsandbytes.functional import dequantize_4bit

    weight: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.to(layer.compute_dtype)


def quantize(model: Any, device: torch.device) -> None:
    """Moves ``model`` to ``device`` with its linear layers (not the head) in 4 bits: nf4, double quantisation.

    Layers are converted one by one, so the device never holds the base in full precision.
    """
    import bitsandbytes

    head = model.get_output_embeddings()
    layers = [(name, m) for name, m in model.named_modules() if type(m) is nn.Linear and m is not head]
    for name, layer in layers:
        packed = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=layer.weight.dtype,
            compress_statistics=True,
            quant_type="nf4",
        )
        packed.weight = bitsandbytes.nn.Params4bit(
            layer.weight.detach(), requires_grad=False, compress_statistics=True, quant_type="nf4"
        )
        packed.bias = layer.bias
        # On a CPU it would turn the weights into a layout that only inference can read.
        packed.support_avx512bf16_for_cpu = False
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, packed.to(device))
    model.to(device)
    # peft asks this to put its 4-bit layers on top.
    model.is_loaded_in_4bit = True
