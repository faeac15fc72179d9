"""A short check that the packed path gives what the model's own does, before anything relies on it."""

from __future__ import annotations

import numpy as np
import torch

from dasd_bench.engine.network import Network
from dasd_bench.engine.plans import Tree, TreePlan

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
"""The largest relative difference (norm of the difference by norm) that counts as rounding."""


def agrees(network: Network) -> bool:
    """True where eight tokens in two packed sequences give the hidden states of two separate plain passes.

    A model may say that it supports other attention functions and yet drop the arguments they need, or place tokens by
    other means than positions: such a model runs on transformers' own path.
    """
    ids = np.arange(1, 9, dtype=np.int64) % network.vocab_size
    parts = [ids[:5], ids[5:]]
    with network.active():
        trees = [Tree(part, np.arange(len(part)), [(0, len(part), -1)]) for part in parts]
        plan = TreePlan(trees, None, network.device, network.dtype)
        try:
            packed = network.hidden(plan.tokens, plan.positions, plan)
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False
    with network.active(packed=False):
        plain = torch.cat([network.hidden_plain(torch.from_numpy(part).to(network.device), None) for part in parts])
    difference = (packed.float() - plain.float()).norm() / plain.float().norm()
    # Not a number on both sides is a model's own trouble, which decoding reports by item.
    return not bool(difference > TOLERANCE.get(network.dtype, 1e-3))
