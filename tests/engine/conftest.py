"""Tiny models, prompts and naive references shared by the engine's tests."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.tiny_models import KINDS, Kind, tiny_model, tiny_tokenizer

KINDS = KINDS

DEVICE = os.environ.get("DASD_TEST_DEVICE", "cpu")
"""Where the engine's tests run: ``cuda`` runs the same tests on a GPU."""


@cache
def pair(kind: Kind) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A tiny model with its tokenizer, made once."""
    tokenizer = tiny_tokenizer(kind)
    return tiny_model(kind, tokenizer=tokenizer).to(DEVICE), tokenizer


def random_prompts(count: int, seed: int = 0, low: int = 3, high: int = 60, vocab: int = 300) -> list[list[int]]:
    """Token ids of unlike lengths; some share their first tokens."""
    rng = np.random.default_rng(seed)
    common = rng.integers(10, vocab, 20).tolist()
    prompts = []
    for number in range(count):
        own = rng.integers(10, vocab, int(rng.integers(low, high))).tolist()
        prompts.append(common + own if number % 3 else own)
    return prompts


@torch.no_grad()
def naive_logp(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [len(ids), V] from one plain forward pass of one sequence."""
    inputs = torch.tensor([ids], device=model.device)
    return torch.log_softmax(model(input_ids=inputs).logits[0].float(), dim=-1).cpu()
