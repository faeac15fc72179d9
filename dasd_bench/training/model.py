"""The model as the trainer drives it: decoder body on packs, vocabulary head apart, checked against the whole."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from dasd_bench.engine.head import body_name
from dasd_bench.training.attention import IMPLEMENTATION
from dasd_bench.training.batching import Inputs
from dasd_bench.training.loss import Head

PROBE_LENGTHS = (23, 14)
"""Rows of the check below: short, unlike, and longer than nothing that matters to a causal model."""


class PackedModel:
    """A causal language model whose body runs on packs of rows.

    On construction two short rows are run through the model as it came and through body and head packed together.
    Where the logits differ the model gets one row per forward pass with its own attention (``packs`` False); where
    they differ even then, body and head run in one, and what goes for hidden states are logits (``whole``). Use as a
    context manager: on exit the model's own attention is put back.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device
        config = model.config.get_text_config()
        self._attention: str = config._attn_implementation
        self.body: nn.Module = _decoder(model)
        self._scale = _logit_scale(config)
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.packs = True
        self.whole = False
        self._choose()

    def head(self) -> Head:
        """The head as it is now (an adapter may have wrapped it)."""
        if self.whole:
            return Head(nn.Identity())
        return Head(self.model.get_output_embeddings(), self._scale, self._softcap)

    def hidden(self, input_ids: Tensor, position_ids: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Last hidden states [L, D] of a pack: ``input_ids`` and ``position_ids`` int64 [L]."""
        extra: dict[str, Any] = {}
        if self.packs:
            extra = {"position_ids": position_ids[None], "attention_mask": None, "row_lengths": lengths}
        output = self.body(input_ids=input_ids[None], use_cache=False, **extra)
        hidden: Tensor = output.logits[0] if self.whole else output.last_hidden_state[0]
        return hidden

    def trained(self, inputs: Inputs) -> Tensor:
        """Last hidden states [N, D] at the trained positions of ``inputs``."""
        ids, places, positions = (
            torch.from_numpy(array).to(self.device)
            for array in (inputs.input_ids, inputs.position_ids, inputs.positions)
        )
        return self.hidden(ids, places, inputs.lengths)[positions]

    def __enter__(self) -> PackedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.set_attn_implementation(self._attention)

    @torch.no_grad()
    def _choose(self) -> None:
        training = self.model.training
        self.model.eval()
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        rows = [(torch.arange(n, device=self.device) * 7919 + 11 * n) % vocabulary for n in PROBE_LENGTHS]
        wanted = torch.cat([self.model(input_ids=row[None], use_cache=False).logits[0].float() for row in rows])
        positions = torch.cat([torch.arange(len(row), device=self.device) for row in rows])
        try:
            if not mixes_by_attention(self.body):
                raise ValueError("rows of a pack would meet outside of attention")
            self.model.set_attn_implementation(IMPLEMENTATION)
            got = self.head().logits(self.hidden(torch.cat(rows), positions, PROBE_LENGTHS))
            self.packs = self._agree(got, wanted)
        except Exception:  # a body may take no extra arguments or no foreign attention, and fail in its own way
            self.packs = False
        if not self.packs:
            self.model.set_attn_implementation(self._attention)
            self.whole = not self._rows_agree(rows, wanted)
            if self.whole:
                self.body = self.model
        self.model.train(training)

    def _rows_agree(self, rows: list[Tensor], wanted: Tensor) -> bool:
        try:
            got = torch.cat([self.head().logits(self.hidden(row, row, (len(row),))) for row in rows])
        except Exception:  # a model without a head or a body of its own
            return False
        return self._agree(got, wanted)

    def _agree(self, got: Tensor, wanted: Tensor) -> bool:
        """Relative difference within the rounding of the model's dtype. Attention across rows changes logits far more
        than either bound (by 0.2 in SmolLM2-135M)."""
        bound = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        return got.shape == wanted.shape and bool((got - wanted).norm() <= bound * wanted.norm())


def mixes_by_attention(body: nn.Module) -> bool:
    """True where tokens meet in attention alone; convolutions and recurrences run over the rows of a pack.

    A freshly made model hides that: its states are small.
    """
    config: Any = body.config
    kinds = set(getattr(config, "layer_types", None) or ()) | set(getattr(config, "layers_block_type", None) or ())
    convolves = any(isinstance(module, (nn.Conv1d, nn.Conv2d)) for module in body.modules())
    return not convolves and kinds <= {"full_attention", "sliding_attention", "attention"}


def _decoder(model: Any) -> nn.Module:
    """The decoder below the vocabulary head; the model itself where it cannot be told."""
    body: nn.Module = model.get_decoder()
    name = body_name(model)
    return model.get_submodule(name) if body is model and name is not None else body


def set_checkpointing(model: Any, *, on: bool) -> None:
    """Switches recomputation of activations (transformers renamed it during version 5)."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{name}_checkpointing_disable")()


def _logit_scale(config: Any) -> float:
    """Cohere multiplies logits by ``logit_scale``; Granite divides them by ``logits_scaling``."""
    return float(getattr(config, "logit_scale", 1.0) or 1.0) / float(getattr(config, "logits_scaling", 1.0) or 1.0)
