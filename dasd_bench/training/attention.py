"""Attention inside the rows of a pack, as an attention function of transformers.

Registered under the name ``packed``; the lengths of the rows travel to it through the model's keyword arguments.
On a CPU all rows are one call of the compiled kernel, on a GPU in half precision one of torch's flash kernel. In
float32 on a GPU, and with soft caps or dropout, each row is a call of its own to torch's causal attention. Either way
no mask of [length, length] over the whole pack exists and the work grows with the sum of squared row lengths.
"""

from __future__ import annotations

import importlib.util
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from dasd_bench.engine.kernels.causal import CausalKernel, load_causal_kernel

IMPLEMENTATION = "packed"


def row_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    row_lengths: tuple[int, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of ``query`` [1, H, L, D] on ``key`` and ``value`` [1, G, L, D], row by row.

    Honours scale, sliding windows, soft-capping of scores (Gemma 2) and dropout; gives [1, L, H, D].
    """
    dtype = query.dtype
    lengths = list(row_lengths or (query.shape[2],))
    kernel = load_causal_kernel(query.device, query.shape[3]) if softcap is None and dropout == 0.0 else None
    if kernel is not None:
        tokens = [part[0].transpose(0, 1).float().contiguous() for part in (query, key, value)]
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        out: Tensor = _Causal.apply(*tokens, kernel, lengths, scale, sliding_window or 0)  # type: ignore[no-untyped-call]
        return out.unsqueeze(0).to(dtype), None
    if query.device.type == "cuda" and dtype != torch.float32 and softcap is None and dropout == 0.0 and has_varlen():
        return varlen_attention(query, key, value, lengths, scaling, sliding_window), None
    if query.device.type == "cpu" and dtype == torch.bfloat16:
        # torch's bfloat16 kernel is slower on a CPU than its float32 kernel, backward above all.
        query, key, value = query.float(), key.float(), value.float()
    pieces = [
        _row(q, k, v, dropout, scaling, sliding_window, softcap)
        for q, k, v in zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2).to(dtype), None


def has_varlen() -> bool:
    """Whether this torch has attention over rows of unlike length in one call (from 2.10)."""
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float | None, window: int | None
) -> Tensor:
    """The same [1, L, H, D] by torch's flash kernel for rows of unlike length, on a GPU in half precision.

    Not run yet: no GPU was at hand. The check when a model is loaded compares it with the model's own attention.
    """
    from torch.nn.attention.varlen import varlen_attn

    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=query.device)
    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    longest, left = max(lengths), -1 if window is None else window - 1
    grouped = q.shape[1] != k.shape[1]
    out = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(left, 0), enable_gqa=grouped
    )
    assert isinstance(out, Tensor)
    return out.unsqueeze(0)


class _Causal(torch.autograd.Function):
    """Attention [L, H, D] of queries [L, H, D] on keys and values [L, G, D] by the compiled kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kernel: CausalKernel,
        lengths: list[int],
        scaling: float,
        window: int,
    ) -> Tensor:
        out, lse = kernel.forward(query, key, value, lengths, scaling, window)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.kernel, ctx.how = kernel, (lengths, scaling, window)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.kernel.backward(*ctx.saved_tensors, grads[0].contiguous(), *ctx.how)
        return (*gradients, None, None, None, None)


def _row(
    q: Tensor, k: Tensor, v: Tensor, dropout: float, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    length = q.shape[2]
    banded = window is not None and window < length
    if softcap is None and not banded:
        return F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
    mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    if banded:
        assert window is not None
        mask = mask.triu(1 - window)
    if softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, enable_gqa=grouped
        )
    if grouped:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.tanh(q @ k.transpose(2, 3) * (scale / softcap)) * softcap
    probs = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return F.dropout(probs, p=dropout) @ v


# The registry is transformers' own; registering the same function again changes nothing.
AttentionInterface.register(IMPLEMENTATION, row_attention)
