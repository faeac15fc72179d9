"""The passes of one optimiser step over its packs: weights of a whole batch, forward and backward, held-out loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from dasd_bench.methods.base import Method, has_token_loss
from dasd_bench.methods.plugin_calls import online_rule, token_loss
from dasd_bench.training.batch_scope import weigh_batch
from dasd_bench.training.batching import Pack
from dasd_bench.training.distributed import Processes
from dasd_bench.training.live_loss import backward_live
from dasd_bench.training.loss import (
    Objective,
    TokenLoss,
    Tokens,
    backward_tokens,
    decide_weights,
    forward_tokens,
    live_statistics,
    row_means,
)
from dasd_bench.training.memory import Memory
from dasd_bench.training.model import PackedModel
from dasd_bench.training.teacher import Teacher


class Passes:
    """What one process runs on its packs. ``model`` is ``packed`` with its adapter."""

    def __init__(
        self,
        packed: PackedModel,
        model: nn.Module,
        method: Method,
        teacher: Teacher | None,
        processes: Processes,
        memory: Memory,
    ) -> None:
        self.packed, self.model, self.processes, self.memory = packed, model, processes, memory
        self.head, self.teacher = packed.head(), teacher
        self.token_loss = token_loss(method) if has_token_loss(type(method)) else None
        self.rule = Objective(online_rule(method) if method.online else None, method.needs_entropy)
        self.by_batch = method.scope == "batch"
        self.by_row = method.denominator == "rows"

    def weigh(self, packs: Sequence[Pack], progress: float) -> list[Pack]:
        """The packs with the weights of a rule that sees the whole batch; unchanged where it sees tokens alone."""
        if not self.by_batch:
            return list(packs)
        pieces = []
        self.model.eval()
        with torch.no_grad():
            for pack in packs:
                tokens = self._taught(pack)
                pieces.append((tokens, live_statistics(self.packed.trained(pack), tokens, self.head, self.rule)))
        self.model.train()
        weights = weigh_batch(pieces, self.rule, self.processes, progress)
        return [replace(pack, static=own) for pack, own in zip(packs, weights, strict=True)]

    def backward(self, pack: Pack, progress: float) -> TokenLoss:
        """Adds the gradient of the pack's summed loss to the parameters."""
        objective = Objective() if self.by_batch else self.rule
        # A batch rule has seen the teacher already.
        taught = objective.rule is not None or self.token_loss is not None
        tokens = self._taught(pack) if taught else self._tokens(pack)
        trained = self.packed.trained(pack)
        self.memory.sample()
        if self.by_row:
            # How many tokens of a row are kept is known only when the rule has seen all of them.
            weights = decide_weights(trained.detach(), tokens, self.head, objective, progress)
            tokens, objective = replace(tokens, static=row_means(weights, tokens.row)), Objective()
        if self.token_loss is None:
            loss, gradient = backward_tokens(trained.detach(), tokens, self.head, objective, progress)
        else:
            loss, gradient = backward_live(trained, tokens, self.head, objective, self.token_loss, progress)
        if trained.requires_grad:
            torch.autograd.backward(trained, gradient)
        self.memory.sample()
        return loss

    @torch.no_grad()
    def held_out(self, packs: Sequence[Pack]) -> tuple[float, float]:
        """Summed nll of the packs' tokens in nats, each times its weight, and the sum of those weights."""
        self.model.eval()
        loss = weight = 0.0
        for pack in packs:
            tokens = self._tokens(pack)
            loss += forward_tokens(self.packed.trained(pack), tokens.labels, tokens.static, self.head)
            weight += float(tokens.static.double().sum())
        self.model.train()
        return loss, weight

    def _taught(self, pack: Pack) -> Tokens:
        """The pack's trained positions with what the teacher says of them."""
        return replace(self._tokens(pack), teacher=None if self.teacher is None else self.teacher.states(pack))

    def _tokens(self, pack: Pack) -> Tokens:
        """The pack's trained positions on the device."""
        device = self.packed.device
        return Tokens(
            labels=torch.from_numpy(pack.labels).to(device),
            static=torch.from_numpy(pack.static).to(device),
            keep=torch.from_numpy(pack.keep).to(device),
            row=torch.from_numpy(pack.row).to(device),
            position=torch.from_numpy(pack.target_positions).to(device),
            columns={name: torch.from_numpy(values).to(device) for name, values in pack.columns.items()},
        )
