"""A short check that the packed path gives what the model's own does, before anything relies on it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.network import Network
from dasd_bench.engine.plans import Tree
from dasd_bench.engine.tree_plan import plan_trees

TOKENS = 24
"""Tokens tried, from all over the vocabulary, in two sequences."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
"""The largest relative difference (norm of the difference by norm, of the middle token) that counts as rounding."""


def agrees(network: Network) -> bool:
    """True where a few tokens in two packed sequences give the hidden states of two separate plain passes.

    A model may say that it supports other attention functions and yet drop the arguments they need, or place tokens by
    other means than positions: such a model runs on transformers' own path. What is wrong in that way is wrong for all
    tokens but the first; rounding is not: in half precision single tokens, special ones most of all, may come out far
    from what they are in float32 on either path. So the middle one of the tokens' differences is looked at.
    """
    # A step that shares no factor with the vocabulary's size would be best; a prime mostly is one.
    ids = (np.arange(1, TOKENS + 1, dtype=np.int64) * 7919) % network.vocab_size
    parts = [ids[: TOKENS // 3], ids[TOKENS // 3 :]]
    with network.active():
        trees = [Tree(part, np.arange(len(part)), [(0, len(part), -1)]) for part in parts]
        plan = plan_trees(network, trees, None)
        try:
            packed = network.hidden(plan.tokens, plan.positions, plan)
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False
    with network.active(packed=False):
        plain = torch.cat([network.hidden_plain(torch.from_numpy(part).to(network.device), None) for part in parts])
    # Not a number on both sides is a model's own trouble, which decoding reports by item.
    return not bool(_difference(packed.float(), plain.float()) > TOLERANCE.get(network.dtype, 1e-3))


def _difference(packed: Tensor, plain: Tensor) -> Tensor:
    differences: Tensor = (packed - plain).norm(dim=-1) / plain.norm(dim=-1)
    return differences.median()
