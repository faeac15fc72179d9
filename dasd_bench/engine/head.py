"""A model's vocabulary head alone: the model's own ``forward``, fed with given hidden states in its decoder's place.

So soft caps, scalings and whatever else a model does between its last hidden states and its logits is the model's code.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

_BODY_NAMES = ("model", "transformer", "backbone", "decoder", "language_model", "rwkv", "gpt_neox")


def body_name(causal: Any) -> str | None:
    """The name under which a causal language model holds its decoder; None where it is none of the usual ones."""
    names = (causal.base_model_prefix, *_BODY_NAMES)
    return next((name for name in names if name and isinstance(causal._modules.get(name), nn.Module)), None)


class _Output(BaseModelOutputWithPast):  # type: ignore[misc]  # untyped in transformers
    """What a decoder gives: the hidden states, and None for all else that some models' ``forward`` asks for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _Given(nn.Module):
    """Stands in for the decoder, or for a wrapper that holds one: its output is its input."""

    @property
    def decoder(self) -> nn.Module:
        """OPT's wrapper is asked for the decoder inside."""
        return self

    def forward(self, input_ids: Any = None, inputs_embeds: Tensor | None = None, **_: Any) -> BaseModelOutputWithPast:
        """``inputs_embeds`` as they are."""
        return _Output(last_hidden_state=cast(Any, inputs_embeds))


class VocabularyHead:
    """The head of ``causal``; keeps nothing else of the model alive."""

    def __init__(self, causal: Any, body: str) -> None:
        self._body = body
        self._head = copy.copy(causal)
        self.follow(causal)

    def follow(self, causal: Any) -> None:
        """Takes the modules that are in the model now (the engine replaces some while it works)."""
        self._head.__dict__["_modules"] = {**causal._modules, self._body: _Given()}

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits float32 [N, V] of hidden states [N, width]."""
        out = self._head(inputs_embeds=hidden.unsqueeze(0), use_cache=False)
        return cast(Tensor, out.logits[0]).float()


class OutputHead:
    """The vocabulary head of a model (a PeftModel's with its adapter); keeps nothing else of the model alive."""

    def __init__(self, model: Any) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        name = body_name(causal)
        self._head = None if name is None else VocabularyHead(causal, name)

    @torch.inference_mode()
    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits float32 [N, V]; the input itself for a model whose head cannot be told from its body."""
        return hidden.float() if self._head is None else self._head(hidden)
