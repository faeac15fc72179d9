"""Decoding steps of models of Llama's form in one compiled call: at few rows their own code takes as long as the sums.

A model fits whose layers have the parts of Llama's and nothing else, all of them with this project's kernels. Whether
they also mean the same is seen by trying: a step through the model's own code must give the same bits.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dasd_bench.engine.attention import AttentionMetadata, Scale
from dasd_bench.engine.kernels.layers import LayerParts, LayersKernel, NormParts, load_layers_kernel
from dasd_bench.engine.kv_cache import KVCache
from dasd_bench.engine.linears import GatedBlock, PanelGate, PanelLinear
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.module_overrides import RowNorm
from dasd_bench.engine.session import PackedSession

LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}

TRIAL = (5, 3, 6)
"""Tokens of the prompts that are tried."""


class LayerStep:
    """See :class:`dasd_bench.engine.model_runner.LayerStep`."""

    def __init__(self, body: nn.Module, kernel: LayersKernel) -> None:
        self._body = cast(Any, body)
        self._kernel = kernel

    def __call__(self, tokens: Tensor, lengths: Tensor, cache: KVCache, common: Tensor, width: int) -> Tensor:
        """See :class:`dasd_bench.engine.model_runner.LayerStep`."""
        hidden = self._body.embed_tokens(tokens)
        cosine, sine = self._body.rotary_emb(hidden.unsqueeze(0), lengths.unsqueeze(0))
        out = self._kernel(hidden, cosine[0], sine[0], cache.keys, cache.values, lengths, common, width)
        return cast(Tensor, self._body.norm(out))


class _Recorded:
    """Attention of a step that notes how each layer attends."""

    def __init__(self, inner: AttentionMetadata) -> None:
        self._inner = inner
        self.how: dict[int, Scale] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""
        self.how[layer] = how
        return self._inner.attend(layer, query, key, value, how)


def fit_layer_step(runner: ModelRunner) -> LayerStep | None:
    """The step for a model that it fits, None for others."""
    layers = getattr(runner.body, "layers", None)
    if not runner.packed or runner.kernel is None or not isinstance(layers, nn.ModuleList):
        return None
    with runner.active():
        try:
            return _fitted(runner, list(layers))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):  # parts of the same names, other forms
            return None


def _fitted(runner: ModelRunner, layers: list[nn.Module]) -> LayerStep | None:
    ids = (torch.arange(1, sum(TRIAL) + 1) * 7919 % runner.vocab_size).numpy()
    prompts = np.split(ids, np.cumsum(TRIAL)[:-1])
    session = PackedSession(runner, len(prompts), 1, prompts, 2048, max(TRIAL) + 2)
    session.admit([[prompt] for prompt in prompts])
    lengths = torch.tensor(TRIAL)
    metadata = session.step_metadata(TRIAL)
    recorded = _Recorded(metadata)
    tokens = torch.from_numpy(ids[: len(prompts)].copy())
    wanted = runner.hidden(tokens, metadata.positions, recorded).clone()
    parts = [_parts(layer, recorded.how[number]) for number, layer in enumerate(layers)]
    if any(one is None for one in parts):
        return None
    kernel = load_layers_kernel(cast("list[LayerParts]", parts), runner.heads, runner.head_dim, runner.dtype)
    if kernel is None:
        return None
    step = LayerStep(runner.body, kernel)
    found = step(tokens, lengths, session.cache, torch.zeros_like(lengths), 1)
    return step if torch.equal(found, wanted) else None


def _parts(layer: Any, how: Scale) -> LayerParts | None:
    """A layer's parts; None for one of another form, or where a part has no compiled kernel."""
    if set(layer._modules) != LAYER:
        return None
    attention, block = layer.self_attn, layer.mlp
    names = {name for name, module in attention._modules.items() if module is not None}
    if names - HEAD_NORMS != ATTENTION or not isinstance(block, GatedBlock) or not isinstance(block.inner, PanelGate):
        return None
    linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, block.down]
    norms = [
        layer.input_layernorm,
        layer.post_attention_layernorm,
        *(attention._modules[n] for n in names & HEAD_NORMS),
    ]
    if not all(isinstance(one, PanelLinear) for one in linears) or not all(isinstance(one, RowNorm) for one in norms):
        return None
    queries, keys, values, output, down = (one.panels for one in linears)
    return LayerParts(
        before_attention=layer.input_layernorm.parts,
        of_queries=_head_norm(attention, "q_norm"),
        of_keys=_head_norm(attention, "k_norm"),
        before_block=layer.post_attention_layernorm.parts,
        queries=queries,
        keys=keys,
        values=values,
        output=output,
        gated=block.inner.panels,
        activation=block.inner.activation,
        down=down,
        how=how,
    )


def _head_norm(attention: nn.Module, name: str) -> NormParts | None:
    norm = attention._modules.get(name)
    return norm.parts if isinstance(norm, RowNorm) else None
