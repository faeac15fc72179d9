"""One Hugging Face causal LM as the engine uses it: hidden states of packed tokens, then logits where they are needed.

The model's own code runs; only its attention function and its linear layers are replaced, and only while the engine
works. A model that this does not fit runs on transformers' own path (``packed`` False), and there, where it must be,
with body and head in one (``whole``) or without a cache (``cached`` False); ``probe.py`` finds out which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dasd_bench.engine import attention
from dasd_bench.engine.adapters import Adapters
from dasd_bench.engine.attention import AttentionMetadata
from dasd_bench.engine.head import VocabularyHead, body_name
from dasd_bench.engine.kernels.decode import DecodeKernel, load_decode_kernel
from dasd_bench.engine.kernels.linear import LinearKernel, load_linear_kernel
from dasd_bench.engine.kernels.rows import RowKernels, load_row_kernels
from dasd_bench.engine.kernels.tree import TreeKernel, load_tree_kernel
from dasd_bench.engine.module_overrides import ModuleOverrides
from dasd_bench.engine.vocabulary import Vocabulary

if TYPE_CHECKING:
    from dasd_bench.engine.kv_cache import KVCache


class LayerStep(Protocol):
    """A decoding step through all layers in one call (:mod:`dasd_bench.engine.layer_step`)."""

    def __call__(self, tokens: Tensor, lengths: Tensor, cache: KVCache, common: Tensor, width: int) -> Tensor:
        """Hidden states [B, width] of ``tokens`` int64 [B], one behind the ``lengths`` [B] tokens of each row."""


KNOWN_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose keys and values the packed store can hold; others (linear attention, chunks) run unpacked."""


class ModelRunner:
    """The parts of ``model`` (a PeftModel is unwrapped, its adapters stay) and what is known of them."""

    def __init__(self, model: Any, *, packed: bool = True) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.causal: PreTrainedModel = causal
        name = body_name(causal)
        body: nn.Module = causal if name is None else causal._modules[name]
        # OPT and BART call the decoder inside a wrapper, and not the wrapper.
        self.body: nn.Module = body._modules.get("decoder") or body
        self.config = causal.config.get_text_config()
        embeddings = causal.get_input_embeddings()
        self.vocab_size = int(embeddings.weight.shape[0])
        self.device: torch.device = embeddings.weight.device
        self.dtype: torch.dtype = embeddings.weight.dtype
        self.layers = int(getattr(self.config, "num_hidden_layers", None) or 1)
        self.heads = int(getattr(self.config, "num_attention_heads", None) or 1)
        self.key_heads = int(getattr(self.config, "num_key_value_heads", None) or self.heads)
        head_dim = getattr(self.config, "head_dim", None)
        self.head_dim = int(head_dim or embeddings.weight.shape[1] // self.heads)
        limit = getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "max_seq_len", None)
        self.context_length = int(limit) if isinstance(limit, int) and limit > 0 else None
        self.packed = packed and name is not None and self._fits(causal)
        self.cached = True
        self._head = None if name is None else VocabularyHead(causal, name)
        self.adapters = Adapters(causal, packed=self.packed)
        self._overrides: ModuleOverrides | None = None
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
            self._overrides = ModuleOverrides(causal, self.row_kernels, self.linear_kernel, self.adapters.bases)
        self.layer_step: LayerStep | None = None
        self.vocabulary = Vocabulary(self.row_kernels)

    def _fits(self, causal: PreTrainedModel) -> bool:
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        shared = bool(getattr(self.config, "num_kv_shared_layers", 0))
        return bool(getattr(causal, "_supports_attention_backend", False)) and kinds <= KNOWN_LAYERS and not shared

    @property
    def whole(self) -> bool:
        """True where the head cannot be run apart from the body: hidden states are logits then."""
        return self._head is None

    def join_head(self) -> None:
        """Leaves the model to its own code, body and head in one."""
        self.unpack()
        self._head, self.body = None, self.causal

    def unpack(self) -> None:
        """Leaves the model's body to its own code altogether."""
        self.packed, self._overrides = False, None
        self.kernel, self.tree_kernel, self.row_kernels, self.linear_kernel = None, None, None, None
        self.vocabulary = Vocabulary(None)

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values of one token, all layers."""
        return 2 * self.layers * self.key_heads * self.head_dim * self.dtype.itemsize

    @property
    def packed_linears(self) -> int:
        """How many linear layers run on packed weights."""
        return 0 if self._overrides is None else self._overrides.count

    @contextmanager
    def active(self, packed: bool = True) -> Iterator[None]:
        """Evaluation mode, no gradient, adapters, and where ``packed`` the engine's attention and linear layers.

        All is as before afterwards.
        """
        training = [module for module in self.causal.modules() if module.training]
        configs: dict[int, Any] = {id(m.config): m.config for m in self.body.modules() if hasattr(m, "config")}
        before = [(config, config._attn_implementation) for config in configs.values()]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            self.causal.eval()
            stack.enter_context(self.adapters.active())
            if packed and self._overrides is not None:
                stack.enter_context(self._overrides.active())
                for config, _ in before:
                    config._attn_implementation = attention.NAME
            if self._head is not None:
                self._head.follow(self.causal)
            try:
                yield
            finally:
                for config, name in before:
                    config._attn_implementation = name
                for module in training:
                    module.training = True

    def hidden(self, tokens: Tensor, positions: Tensor, metadata: AttentionMetadata) -> Tensor:
        """Last hidden states [N, width] of N packed ``tokens`` (int64 [N]) at ``positions`` (int64 [N])."""
        out = self.body(
            input_ids=tokens.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, packed=metadata
        )
        return cast(Tensor, out.last_hidden_state[0])

    def hidden_plain(self, tokens: Tensor, cache: Any) -> Tensor:
        """Hidden states [T, width] of one sequence's next tokens with transformers' own cache (None: no cache)."""
        more = {} if cache is None else {"past_key_values": cache}
        out = self.body(input_ids=tokens.unsqueeze(0), use_cache=cache is not None, **more)
        return cast(Tensor, out.logits[0] if self.whole else out.last_hidden_state[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits float32 [N, V] of hidden states [N, width]."""
        return hidden.float() if self._head is None else self._head(hidden)
