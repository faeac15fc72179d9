"""The shape of a model: what its memory and its arithmetic follow from, known without its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dasd_bench.errors import ModelError
from dasd_bench.models.aliases import BUILT_IN, ModelAlias
from dasd_bench.models.files import read_model_config, safetensors_parameters
from dasd_bench.models.resolve import local_folder


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder's sizes. ``linear`` counts the weights and biases of the linear layers of all blocks, ``other`` norms
    and the rest; the vocabulary head is counted once more than the embeddings unless ``tied``.

    ``context`` is None where the configuration sets no limit. ``capped`` is True where attention scores are capped
    (Gemma 2), so that they are materialised. ``norms`` counts the norms of a block; ``query_norm`` is True where
    queries and keys have their own.
    """

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    linear: int
    other: int
    context: int | None = None
    capped: bool = False
    norms: int = 2
    query_norm: bool = False

    @property
    def parameters(self) -> int:
        """All of them, those that are tied once."""
        return self.vocabulary * self.width * (1 if self.tied else 2) + self.linear + self.other

    @property
    def head(self) -> int:
        """Weights of the vocabulary head."""
        return self.vocabulary * self.width

    @property
    def matrix_widths(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the seven linear layers of a block: queries, keys, values, output, gate, up, down."""
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        d, i = self.width, self.inner
        return (d, queries), (d, keys), (d, keys), (queries, d), (d, i), (d, i), (i, d)


FAMILIES = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"}
"""The model types whose parameters are counted from the configuration; others from the headers of their weights."""


def shape_of_config(config: Mapping[str, Any], tensors: Mapping[str, Sequence[int]] | None = None) -> ModelShape:
    """The shape that a ``config.json`` describes; ``tensors`` are the shapes of the weights where they are here.

    Raises :class:`ModelError` where the configuration is of an unknown family and there are no weights to look at.
    """
    text: Mapping[str, Any] = config.get("text_config") or config

    def number(*names: str) -> int | None:
        found = next((text[name] for name in names if isinstance(text.get(name), int)), None)
        return None if found is None else int(found)

    kind = str(text.get("model_type", ""))
    layers, width, vocabulary = (
        number(*names) for names in (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"), ("vocab_size",))
    )
    heads = number("num_attention_heads", "n_head")
    if layers is None or width is None or vocabulary is None or heads is None or not (tensors or kind in FAMILIES):
        raise ModelError(
            f"The memory of a model of type '{kind or 'unknown'}' cannot be estimated without its weights."
        )
    shape = ModelShape(
        layers=layers,
        width=width,
        inner=number("intermediate_size", "n_inner", "ffn_dim") or 4 * width,
        heads=heads,
        key_heads=number("num_key_value_heads") or heads,
        head_dim=number("head_dim") or width // heads,
        vocabulary=vocabulary,
        tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", kind.startswith("gemma")))),
        linear=0,
        other=0,
        context=number("max_position_embeddings", "n_positions"),
        capped=text.get("attn_logit_softcapping") is not None,
        norms=4 if kind in ("gemma2", "gemma3_text") else 2,
        query_norm=kind in ("qwen3", "gemma3_text"),
    )
    if tensors is not None:
        return _counted(shape, tensors)
    queries, keys = shape.heads * shape.head_dim, shape.key_heads * shape.head_dim
    linear = sum(rows * columns for rows, columns in shape.matrix_widths)
    if kind == "qwen2":
        linear += queries + 2 * keys
    elif text.get("attention_bias"):
        linear += queries + 2 * keys + width
    if text.get("mlp_bias"):
        linear += 2 * shape.inner + width
    norms = shape.norms * width + (2 * shape.head_dim if shape.query_norm else 0)
    return replace(shape, linear=layers * linear, other=layers * norms + width)


def _counted(shape: ModelShape, tensors: Mapping[str, Sequence[int]]) -> ModelShape:
    """The counts that the weights themselves give: matrices with a row per token are embeddings and head."""
    rows = max((one[0] for one in tensors.values() if len(one) == 2 and one[1] == shape.width), default=0)
    rows = max(rows, shape.vocabulary)
    tables = [one for one in tensors.values() if list(one) == [rows, shape.width]]
    linear = sum(math.prod(one) for one in tensors.values() if len(one) > 1) - sum(map(math.prod, tables))
    other = sum(math.prod(one) for one in tensors.values() if len(one) < 2)
    return replace(shape, vocabulary=rows, linear=linear, other=other, tied=len(tables) < 2)


def _config(
    kind: str,
    layers: int,
    width: int,
    inner: int,
    heads: int,
    key_heads: int,
    head_dim: int,
    vocabulary: int,
    context: int,
    *,
    tied: bool = True,
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        **({"attn_logit_softcapping": 50.0} if kind == "gemma2" else {}),
    }


ALIASES: dict[str, dict[str, Any]] = {
    "smollm2-135m": _config("llama", 30, 576, 1536, 9, 3, 64, 49152, 8192),
    "smollm2-360m": _config("llama", 32, 960, 2560, 15, 5, 64, 49152, 8192),
    "smollm2-1.7b": _config("llama", 24, 2048, 8192, 32, 32, 64, 49152, 8192),
    "gemma3-270m": _config("gemma3_text", 18, 640, 2048, 4, 1, 256, 262144, 32768),
    "gemma3-1b": _config("gemma3_text", 26, 1152, 6912, 4, 1, 256, 262144, 32768),
    "gemma2-2b": _config("gemma2", 26, 2304, 9216, 8, 4, 256, 256000, 8192),
    "gemma2-9b": _config("gemma2", 42, 3584, 14336, 16, 8, 256, 256000, 8192),
    "qwen3-0.6b": _config("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960),
    "qwen3-1.7b": _config("qwen3", 28, 2048, 6144, 16, 8, 128, 151936, 40960),
    "qwen3-4b": _config("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 40960),
    "qwen3-8b": _config("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, tied=False),
    "qwen3-14b": _config("qwen3", 40, 5120, 17408, 40, 8, 128, 151936, 40960, tied=False),
    "qwen2.5-7b": _config("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 32768, tied=False),
    "llama3-8b": _config("llama", 32, 4096, 14336, 32, 8, 128, 128256, 8192, tied=False),
    "llama3.1-8b": _config("llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, tied=False),
    "llama3.2-1b": _config("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072),
    "llama3.2-3b": _config("llama", 28, 3072, 8192, 24, 8, 128, 128256, 131072),
    "llama2-7b": _config("llama", 32, 4096, 11008, 32, 32, 128, 32000, 4096, tied=False),
}
"""The published configurations of the built-in aliases; base and instruct models have one shape."""


def shape_of_alias(alias: ModelAlias) -> ModelShape | None:
    """The shape of a model that is not here; None for one of the user's own table that is not built in."""
    # A hub id has the shape of the alias that stands for it.
    known = next((one.name for one in BUILT_IN.values() if one.hub_id == alias.hub_id), alias.name)
    config = ALIASES.get(known.removesuffix("-base").removesuffix("-it"))
    return None if config is None else shape_of_config(config)


def shape_of_model(name: str) -> ModelShape:
    """The shape of a model by alias or folder; looks at its configuration and the headers of its weights.

    Raises :class:`UsageError` for an unknown name and :class:`ModelError` where nothing is known of the model's shape.
    """
    alias, folder = local_folder(name)
    if folder is not None:
        return shape_of_config(read_model_config(folder), safetensors_parameters(folder))
    shape = None if alias is None else shape_of_alias(alias)
    if shape is None:
        raise ModelError(
            f"Nothing is known of the shape of '{name}' before it is downloaded; run 'dasd-bench models fetch {name}'."
        )
    return shape
