"""How much memory a stage needs, in bytes, part by part, from the model's shape.

The parts are counted from what the engine and the trainer allocate, and tests compare them with that. Not counted:
a few megabytes a stage, and what examples and results themselves take.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from dasd_bench.config.training import TrainingConfig
from dasd_bench.resources.shapes import ModelShape

FLOAT = 4
"""Bytes of a float32 value."""

PROCESS = 700 << 20
"""The interpreter with torch, transformers and lm-eval, and heap that is free but not given back."""

PACK_SHARE = 0.5
"""The share of the free memory that the engine lets packed weights take, and then the KV cache of what is left."""

ROW_MULTIPLE = 128
"""Rows of the KV cache have a multiple of this many tokens."""

HEAD_ROWS = 256
"""Rows of logits that the engine has at a time while it scores."""

TRAIN_ROWS = 128
"""Rows of logits that the trainer has at a time."""

ADAM_BYTES = 16
"""Bytes of one trained value: itself, its gradient and the two moments of AdamW, all float32."""

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block, in the order of :attr:`ModelShape.matrix_widths`."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one stage at its peak.

    ``weights`` of the model, ``packed`` copies of them for faster products, ``kv_cache``, ``activations``, ``trained``
    values with gradients and optimizer state, ``logits``, and the ``process`` itself.
    """

    weights: int = 0
    packed: int = 0
    kv_cache: int = 0
    activations: int = 0
    trained: int = 0
    logits: int = 0
    process: int = PROCESS

    @property
    def total(self) -> int:
        """All of it: the process's peak."""
        return sum(getattr(self, f.name) for f in fields(self))

    @property
    def to_allocate(self) -> int:
        """What a process that is running already must still allocate."""
        return self.total - self.process


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What the engine is asked: up to ``sequences`` at once, each with at most ``prompt`` tokens to read and ``new`` to
    write (0 where it only scores), in ``contexts`` contexts (2 for dual decoding)."""

    sequences: int
    prompt: int
    new: int
    contexts: int = 1
    prefill: int = 2048


def engine_need(shape: ModelShape, load: EngineLoad, itemsize: int, free: int, *, packs: bool) -> Need:
    """What decoding or scoring takes where ``free`` bytes are available.

    ``packs`` is True on a CPU, where the engine packs the linear layers if that leaves half of the free memory. The KV
    cache has as many rows as were asked for or as fit.
    """
    least = engine_minimum(shape, load, itemsize)
    room = free - least.weights
    copies = (shape.linear + shape.head) * itemsize
    packed = copies if packs and copies <= room * PACK_SHARE else 0
    budget = int(max(0, room - packed) * PACK_SHARE)
    rows = min(load.sequences, max(1, budget // least.kv_cache)) if least.kv_cache else 0
    tokens = min(load.prefill, load.sequences * load.prompt)
    return Need(
        weights=least.weights,
        packed=packed,
        kv_cache=rows * least.kv_cache,
        activations=_forward_bytes(shape, tokens, itemsize),
        logits=2 * FLOAT * shape.vocabulary * (rows * load.contexts or min(HEAD_ROWS, tokens)),
    )


def engine_minimum(shape: ModelShape, load: EngineLoad, itemsize: int) -> Need:
    """What the engine cannot do without: weights, one sequence at its longest, one row of logits."""
    longest = -(-(load.prompt + load.new + 1) // ROW_MULTIPLE) * ROW_MULTIPLE
    token = 2 * shape.layers * shape.key_heads * shape.head_dim * itemsize
    return Need(
        weights=shape.parameters * itemsize,
        kv_cache=longest * token * load.contexts if load.new else 0,
        activations=_forward_bytes(shape, min(load.prefill, load.prompt), itemsize),
        logits=2 * FLOAT * shape.vocabulary * load.contexts,
    )


def _forward_bytes(shape: ModelShape, tokens: int, itemsize: int) -> int:
    """What one block has at a time without gradients: its widest moment is the feed-forward block."""
    return tokens * (4 * shape.width + 3 * shape.inner) * itemsize


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """What the trainer is asked: packs of at most ``config.microbatch_tokens`` tokens, rows of at most ``longest``.

    ``batch_tokens`` of a whole batch limit a pack, too; ``teachers`` is how many distributions a teacher gives;
    ``shards`` how many processes the weights are cut over.
    """

    config: TrainingConfig
    longest: int
    batch_tokens: int
    teachers: int = 0
    shards: int = 1


def training_need(
    shape: ModelShape, load: TrainingLoad, itemsize: int, *, packed: bool, checkpointing: bool, microbatch: int
) -> Need:
    """What training takes with or without packed weights and checkpointing, in packs of ``microbatch`` tokens.

    Packed weights are two copies, for the forward and the backward pass, of every frozen linear layer and the head.
    """
    config = load.config
    whole = config.lora_rank == 0
    if whole:
        itemsize = FLOAT
    tokens = max(load.longest, min(microbatch, load.batch_tokens))
    fused = packed and not whole and not shape.capped
    saved = _saved_bytes(shape, config, tokens, min(load.longest, tokens), itemsize, fused=fused)
    if checkpointing:
        kept = shape.layers * tokens * shape.width * itemsize + saved
    else:
        kept = shape.layers * saved
    passing = tokens * (4 * shape.inner + 6 * shape.width) * itemsize
    weights = shape.parameters * itemsize
    if config.qlora:
        # Four bits a value and the scales of their blocks.
        weights = (shape.parameters - shape.linear) * itemsize + int(shape.linear * 0.57)
    return Need(
        weights=weights // load.shards,
        packed=2 * (shape.linear + shape.head) * itemsize if packed and not whole else 0,
        activations=kept + passing,
        trained=_trained_bytes(shape, config) // load.shards - (weights // load.shards if whole else 0),
        logits=TRAIN_ROWS * shape.vocabulary * (3 * FLOAT + 2 * itemsize + 2 * FLOAT * load.teachers),
    )


def lora_parameters(shape: ModelShape, config: TrainingConfig) -> int:
    """Values of the adapter: rank times (in + out) of every layer it is on."""
    names = {name.strip() for name in config.lora_targets.split(",")}
    every = not names & set(LINEARS)
    widths = [sum(pair) for name, pair in zip(LINEARS, shape.matrix_widths, strict=True) if every or name in names]
    return config.lora_rank * shape.layers * sum(widths)


def _trained_bytes(shape: ModelShape, config: TrainingConfig) -> int:
    return ADAM_BYTES * (lora_parameters(shape, config) if config.lora_rank else shape.parameters)


def _saved_bytes(
    shape: ModelShape, config: TrainingConfig, tokens: int, longest: int, itemsize: int, *, fused: bool
) -> int:
    """What one block keeps for its backward pass: inputs of the linear layers, both sides of the gate, and in float32
    the inputs of norms and of attention.

    ``fused``: with the kernels that a CPU has where weights are packed (``training.fused``, ``training.attention``);
    the gate's activation is not kept then, nor are copies in float32 of what is float32 or a norm's input.
    """
    queries, keys = shape.heads * shape.head_dim, shape.key_heads * shape.head_dim
    own = 2 * shape.width + queries + (3 if fused else 4) * shape.inner + len(LINEARS) * config.lora_rank
    norms = shape.norms * shape.width + (queries + keys if shape.query_norm else 0)
    attended = 2 * queries + 2 * keys - (queries if fused and itemsize == FLOAT else 0)
    saved = tokens * (itemsize * own + (itemsize if fused else FLOAT) * norms + FLOAT * attended)
    if shape.capped:
        # Scores before and after the softmax, and keys and values repeated for every head.
        saved += tokens * FLOAT * (2 * shape.heads * longest + queries)
    return saved
