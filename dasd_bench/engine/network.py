"""One Hugging Face causal LM as the engine uses it: hidden states of packed tokens, then logits where they are needed.

The model's own code runs; only its attention function and its linear layers are exchanged, and only while the engine
works. The vocabulary head is the model's own ``forward`` too (soft caps and scalings included), fed with given hidden
states in place of its decoder's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from dasd_bench.engine import attention
from dasd_bench.engine.attention import Plan
from dasd_bench.engine.exchange import Exchange
from dasd_bench.engine.kernels.decode import DecodeKernel, load_decode_kernel
from dasd_bench.engine.kernels.linear import LinearKernel, load_linear_kernel
from dasd_bench.engine.kernels.rows import RowKernels, load_row_kernels
from dasd_bench.engine.kernels.tree import TreeKernel, load_tree_kernel
from dasd_bench.engine.vocabulary import Vocabulary

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose keys and values the packed store can hold; others (linear attention, chunks) run unpacked."""


class _Given(nn.Module):
    """Stands in for the decoder: its output is its input."""

    def forward(self, input_ids: Any = None, inputs_embeds: Tensor | None = None, **_: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=cast(Any, inputs_embeds))


def body_stand_in() -> nn.Module:
    """A decoder that gives its input back, to run a model's vocabulary head alone."""
    return _Given()


class Network:
    """The parts of ``model`` (a PeftModel is unwrapped, its adapters stay) and what is known of them."""

    def __init__(self, model: Any, *, packed: bool = True) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.causal: PreTrainedModel = causal
        self.body: nn.Module = getattr(causal, causal.base_model_prefix)
        self.config = causal.config.get_text_config()
        embeddings = causal.get_input_embeddings()
        self.vocab_size = int(embeddings.weight.shape[0])
        self.device: torch.device = embeddings.weight.device
        self.dtype: torch.dtype = embeddings.weight.dtype
        self.layers = int(self.config.num_hidden_layers)
        self.heads = int(getattr(self.config, "num_attention_heads", None) or 1)
        self.key_heads = int(getattr(self.config, "num_key_value_heads", None) or self.heads)
        head_dim = getattr(self.config, "head_dim", None)
        self.head_dim = int(head_dim or self.config.hidden_size // self.heads)
        self.context_length = int(getattr(self.config, "max_position_embeddings", 0)) or None
        self.packed = packed and self._fits(causal)
        self._head = copy.copy(causal)
        self._exchange: Exchange | None = None
        self.kernel: DecodeKernel | None = None
        self.tree_kernel: TreeKernel | None = None
        self.row_kernels: RowKernels | None = None
        self.linear_kernel: LinearKernel | None = None
        if self.packed:
            attention.register()
            self.kernel = load_decode_kernel(self.device, self.dtype, self.head_dim)
            self.tree_kernel = load_tree_kernel(self.device, self.dtype, self.head_dim)
            self.row_kernels = load_row_kernels(self.device, self.dtype)
            self.linear_kernel = load_linear_kernel(self.device, self.dtype)
            self._exchange = Exchange(causal, self.row_kernels, self.linear_kernel)
        self.vocabulary = Vocabulary(self.row_kernels)

    def _fits(self, causal: PreTrainedModel) -> bool:
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        shared = bool(getattr(self.config, "num_kv_shared_layers", 0))
        return bool(getattr(causal, "_supports_attention_backend", False)) and kinds <= KNOWN_LAYERS and not shared

    def unpack(self) -> None:
        """Leaves the model to its own code altogether."""
        self.packed, self._exchange = False, None
        self.kernel, self.tree_kernel, self.row_kernels, self.linear_kernel = None, None, None, None
        self.vocabulary = Vocabulary(None)

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values of one token, all layers."""
        return 2 * self.layers * self.key_heads * self.head_dim * self.dtype.itemsize

    @property
    def packed_linears(self) -> int:
        """How many linear layers run on packed weights."""
        return 0 if self._exchange is None else self._exchange.count

    @contextmanager
    def active(self, packed: bool = True) -> Iterator[None]:
        """Evaluation mode, no gradient, and where ``packed`` the engine's attention and linear layers.

        All is as before afterwards.
        """
        training = [module for module in self.causal.modules() if module.training]
        configs: dict[int, Any] = {id(m.config): m.config for m in self.body.modules() if hasattr(m, "config")}
        before = [(config, config._attn_implementation) for config in configs.values()]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            self.causal.eval()
            if packed and self._exchange is not None:
                stack.enter_context(self._exchange.active())
                for config, _ in before:
                    config._attn_implementation = attention.NAME
            # The head's view of the modules follows what is in place now.
            self._head.__dict__["_modules"] = {**self.causal._modules, self.causal.base_model_prefix: _Given()}
            try:
                yield
            finally:
                for config, name in before:
                    config._attn_implementation = name
                for module in training:
                    module.training = True

    def hidden(self, tokens: Tensor, positions: Tensor, plan: Plan) -> Tensor:
        """Last hidden states [N, width] of N packed ``tokens`` (int64 [N]) at ``positions`` (int64 [N])."""
        out = self.body(
            input_ids=tokens.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, packed=plan
        )
        return cast(Tensor, out.last_hidden_state[0])

    def hidden_plain(self, tokens: Tensor, cache: Any) -> Tensor:
        """Hidden states [T, width] of one sequence's next tokens with transformers' own cache (None: no cache)."""
        out = self.body(input_ids=tokens.unsqueeze(0), past_key_values=cache, use_cache=cache is not None)
        return cast(Tensor, out.last_hidden_state[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits float32 [N, V] of hidden states [N, width]."""
        out = self._head(inputs_embeds=hidden.unsqueeze(0), use_cache=False)
        return cast(Tensor, out.logits[0]).float()
