"""Attention over token-packed rows: the function registered with transformers, and the parts it is made of.

A forward pass holds N tokens of many sequences side by side, batch size 1, no padding. Which keys a token may see is
the business of the :class:`AttentionMetadata` that travels through the model as the keyword argument ``packed``. It
writes the new keys and values where they belong and merges partial attentions (own tokens, a shared prefix), each with
its log-sum-exp: softmax over a union of key sets is the mix of the softmaxes over each, weighted
by the sums of exponentials. Grouped queries are never expanded: queries of one key-value head are folded together.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

NAME = "dasd_packed"
"""The name under which transformers knows :func:`packed_attention`."""


class Scale:
    """How one layer turns dot products into weights: scaling, soft cap, window (None where the layer has none)."""

    __slots__ = ("scaling", "softcap", "window")

    def __init__(self, scaling: float, softcap: float | None, window: int | None) -> None:
        self.scaling = scaling
        self.softcap = softcap
        self.window = window


class AttentionMetadata(Protocol):
    """What a forward pass does with the keys and values of each layer."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """Stores ``key`` and ``value`` [Hkv, N, D] and gives the attention output [N, H, D] of ``query`` [H, N, D]."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    packed: AttentionMetadata | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: ``query`` [1, H, N, D], ``key`` and ``value`` [1, Hkv, N, D] to [1, N, H, D].

    The model must be called with ``packed=metadata``; :class:`dasd_bench.engine.model_runner.ModelRunner` does.
    """
    assert packed is not None
    how = Scale(float(query.shape[-1] ** -0.5 if scaling is None else scaling), softcap, sliding_window)
    out = packed.attend(int(module.layer_idx), query[0], key[0], value[0], how)  # type: ignore[arg-type]
    return out.unsqueeze(0), None


def register() -> None:
    """Makes :data:`NAME` known to transformers (idempotent)."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def attend(
    query: Tensor, key: Tensor, value: Tensor, how: Scale, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention with its log-sum-exp.

    ``query`` [B, H, Q, D], ``key`` and ``value`` [B, Hkv, K, D], ``mask`` additive [B or 1, 1, Q, K] in the query's
    dtype; ``causal`` needs Q == K. Gives output [B, H, Q, D] and log-sum-exp float32 [B, H, Q].
    """
    if query.device.type == "cpu" and how.softcap is None:
        # The kernel behind scaled_dot_product_attention on CPU: grouped queries and the log-sum-exp come with it.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=how.scaling
        )
        return out, lse
    if query.device.type == "cuda" and how.softcap is None and mask is None and query.dtype != torch.float32:
        return _flash(query, key, value, how.scaling, causal)
    batch, heads, length, dim = query.shape
    groups = key.shape[1]
    folded = query.reshape(batch, groups, heads // groups * length, dim)
    scores = torch.matmul(folded, key.transpose(2, 3)).float().view(batch, heads, length, key.shape[2])
    scores = cap(scores * how.scaling, how.softcap)
    if causal:
        mask = causal_mask(length, query.device, query.dtype)
    if mask is not None:
        scores = scores + mask
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse.unsqueeze(-1)).to(value.dtype)
    out = torch.matmul(weights.view(batch, groups, -1, weights.shape[-1]), value)
    return out.view(batch, heads, length, dim), lse


def _flash(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> tuple[Tensor, Tensor]:
    """:func:`attend` in half precision by the GPU's flash kernel, which has no masks and no soft cap."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        batch, heads, length, dim = key.shape
        shape = batch, heads, groups, length, dim
        key, value = (x.unsqueeze(2).expand(shape).reshape(batch, heads * groups, length, dim) for x in (key, value))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, scale=scaling)[:2]
    return out, lse


def cap(scores: Tensor, softcap: float | None) -> Tensor:
    """Gemma 2's soft cap: ``softcap * tanh(scores / softcap)``."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def causal_mask(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Additive [length, length]: 0 on and under the diagonal, -inf over it."""
    return torch.full((length, length), float("-inf"), device=device, dtype=dtype).triu(1)


def merge(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Joins partial attentions over disjoint keys: outputs [..., D] with log-sum-exps [...] to [..., D]."""
    if len(parts) == 1:
        return parts[0][0]
    lses = torch.stack([lse for _, lse in parts])
    weights = torch.softmax(lses, dim=0).unsqueeze(-1)
    total = parts[0][0].float() * weights[0]
    for (out, _), weight in zip(parts[1:], weights[1:], strict=True):
        total = total + out.float() * weight
    return total.to(parts[0][0].dtype)
