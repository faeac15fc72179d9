"""A short check, before anything relies on it, of which path through a model gives what its own forward does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention_metadata import Tree
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.session import packed_continues, plain_continues
from dasd_bench.engine.tree_metadata import build_tree_metadata

TOKENS = 24
"""Tokens tried, from all over the vocabulary, in two sequences."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
"""The largest relative difference (norm of the difference by norm, of the middle token) that counts as rounding."""


def choose_path(runner: ModelRunner) -> None:
    """Gives ``runner`` the fastest path that agrees with the model's own whole forward pass.

    In order: packed tokens, transformers' own body with its cache, the same without a cache, and body and head in one.
    A model may say that it supports other attention functions and yet drop the arguments they need, place tokens by
    other means than positions, or do more between hidden states and logits than its head; then the next path is taken.

    Raises :class:`EngineError` for a model that transformers cannot run, or that looks ahead in the text.
    """
    # A step that shares no factor with the vocabulary's size would be best; a prime mostly is one.
    ids = (np.arange(1, TOKENS + 1, dtype=np.int64) * 7919) % runner.vocab_size
    parts = [ids[: TOKENS // 3], ids[TOKENS // 3 :]]
    close = _Close(runner.dtype)
    with runner.active(packed=False):
        reference = [_reference(runner, part) for part in parts]
        if not runner.whole and not _head_agrees(runner, reference, close):
            runner.join_head()
        wanted = [logits if hidden is None or runner.whole else hidden for hidden, logits in reference]
    if runner.packed and _packed_agrees(runner, parts, wanted, close):
        return
    runner.unpack()
    with runner.active():
        tokens = torch.from_numpy(parts[1]).to(runner.device)
        half = len(tokens) // 2
        if not close(runner.hidden_plain(tokens[:half], None), wanted[1][:half]):
            raise EngineError(
                f"{type(runner.causal).__name__} attends to later tokens, so its predictions are not "
                "next-token distributions; use a causal language model."
            )
        runner.cached = plain_continues(runner, parts, wanted, close)


class _Close:
    """Whether two tensors [N, width] are the same up to rounding.

    What is wrong in a path is wrong for all tokens but the first; rounding is not: in half precision single tokens,
    special ones most of all, may come out far from what they are in float32 on either path. So the middle one of the
    tokens' differences is looked at. Not a number on both sides is a model's own trouble, which is reported by item.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._bound = TOLERANCE.get(dtype, 1e-3)

    def __call__(self, found: Tensor, wanted: Tensor) -> bool:
        if found.shape != wanted.shape:
            return False
        found, wanted = found.float(), wanted.float()
        difference = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)
        return not bool(difference.median() > self._bound)


def _reference(runner: ModelRunner, part: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[Tensor | None, Tensor]:
    """The model's own hidden states [T, width] (None where they are not seen) and logits [T, V] of one sequence."""
    seen: list[Tensor] = []

    def keep(_module: object, _args: object, output: object) -> None:
        hidden = getattr(output, "last_hidden_state", None)
        if isinstance(hidden, Tensor):
            seen.append(hidden[0])

    handle = None if runner.whole else runner.body.register_forward_hook(keep)
    try:
        tokens = torch.from_numpy(part).to(runner.device)
        logits: Tensor = runner.causal(input_ids=tokens.unsqueeze(0), use_cache=False).logits[0]
    except Exception as error:  # any model's code may run here
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EngineError(
            f"transformers cannot run {type(runner.causal).__name__} on token ids alone: {reason}"
        ) from error
    finally:
        if handle is not None:
            handle.remove()
    return (seen[-1] if seen else None), logits


def _head_agrees(runner: ModelRunner, reference: list[tuple[Tensor | None, Tensor]], close: _Close) -> bool:
    try:
        return all(hidden is not None and close(runner.logits(hidden), logits) for hidden, logits in reference)
    except Exception:  # a head may need anything of its body
        return False


def _packed_agrees(
    runner: ModelRunner,
    parts: list[np.ndarray[tuple[int], np.dtype[np.int64]]],
    wanted: list[Tensor],
    close: _Close,
) -> bool:
    with runner.active():
        trees = [Tree(part, np.arange(len(part)), [(0, len(part), -1)]) for part in parts]
        metadata = build_tree_metadata(runner, trees, None)
        try:
            if not close(runner.hidden(metadata.tokens, metadata.positions, metadata), torch.cat(wanted)):
                return False
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False
        return packed_continues(runner, parts, wanted, close)
