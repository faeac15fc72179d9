"""A model cut over several processes (FSDP), and the trained weights as the optimiser sees them.

Each decoder layer is cut along its weights' first dimension; a process holds its part and borrows the rest of a layer
only while that layer runs. Embeddings, last norm and head stay whole on every process: they may share one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dasd_bench.errors import TrainingError
from dasd_bench.training import adapter
from dasd_bench.training.distributed import Processes


def shard(model: Any, body: nn.Module, processes: Processes) -> None:
    """Cuts the decoder layers of ``body`` over ``processes`` and moves all else of ``model`` to their device.

    Layers travel one by one, so no device ever holds the whole model. Gradients of cut weights arrive as sums, not
    means: the trainer divides by its own denominator.
    """
    mesh = init_device_mesh(processes.device.type, (processes.size,))
    layers = _layers(body)
    inside: set[int] = set()
    for layer in layers:
        inside |= {id(p) for p in layer.parameters()}
        fully_shard(layer, mesh=mesh)
    cut = {id(p) for layer in layers for p in layer.parameters()}
    fully_shard(body, mesh=mesh, ignored_params={p for p in body.parameters() if id(p) not in inside | cut})
    for module in body.modules():
        if isinstance(module, FSDPModule):
            # gloo has no scaled sum, and a plain one is what is wanted.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    model.to(processes.device)


def _layers(body: nn.Module) -> list[nn.Module]:
    lists = [module for module in body.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise TrainingError(
            f"{type(body).__name__} has no list of layers, so it cannot be sharded; use --parallel data."
        )
    largest: nn.ModuleList = max(lists, key=lambda found: sum(p.numel() for p in nn.Module.parameters(found)))
    return list(largest)


class Weights:
    """The trained parameters of a model by name; ``own`` is the part of each that this process updates."""

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        self.parameters = adapter.trained(model)
        self._processes = processes
        self.own: dict[str, nn.Parameter] = {}
        for name, parameter in self.parameters.items():
            # The local part shares its memory with the cut parameter: the optimiser works on plain tensors.
            data = parameter.data
            self.own[name] = nn.Parameter(data.to_local()) if isinstance(data, DTensor) else parameter

    def gradients(self) -> list[Tensor]:
        """This process's gradients, summed over all processes."""
        whole = [p for p in self.parameters.values() if not adapter.is_cut(p)]
        if not self._processes.alone:
            for parameter in whole:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self._processes.add([p.grad for p in whole if p.grad is not None])
        for name, parameter in self.parameters.items():
            if adapter.is_cut(parameter):
                self.own[name].grad = None if parameter.grad is None else parameter.grad.to_local()  # type: ignore[attr-defined]
        return [p.grad for p in self.own.values() if p.grad is not None]

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm of the whole gradient, the same on every process."""
        if not any(adapter.is_cut(p) for p in self.parameters.values()):
            return nn.utils.get_total_norm(gradients)
        cut = [self.own[n].grad for n, p in self.parameters.items() if adapter.is_cut(p)]
        whole = [p.grad for p in self.parameters.values() if not adapter.is_cut(p)]
        squares = [sum(float(g.double().square().sum()) for g in group if g is not None) for group in (cut, whole)]
        total = sum(part[0] for part in self._processes.gather(squares[:1])) + squares[1]
        return torch.tensor(math.sqrt(total))

    def clear(self) -> None:
        """Drops all gradients."""
        for table in (self.own, self.parameters):
            for parameter in table.values():
                parameter.grad = None

    def whole(self, name: str, part: Tensor) -> Tensor | None:
        """The whole of a tensor of which every process has the part that goes with parameter ``name``.

        The first process gets it, in main memory; the others, who must ask along, get None and keep nothing.
        """
        parameter = self.parameters[name]
        if not isinstance(parameter.data, DTensor):
            return part.cpu() if self._processes.first else None
        found = DTensor.from_local(
            part,
            parameter.data.device_mesh,
            parameter.data.placements,
            run_check=False,
            shape=parameter.data.shape,
            stride=parameter.data.stride(),
        )
        whole = found.full_tensor()
        return whole.cpu() if self._processes.first else None

    def wholes(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole tensors of ``parts`` by the parameters' names on the first process; nothing on the others.

        One by one, so that no device ever holds more than one of them.
        """
        every = ((name, self.whole(name, part)) for name, part in parts.items())
        return {name: whole for name, whole in every if whole is not None}

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This process's part of ``whole``, cut as parameter ``name`` is."""
        parameter = self.parameters[name]
        if not isinstance(parameter.data, DTensor):
            return whole
        mesh, placements = parameter.data.device_mesh, parameter.data.placements
        return distribute_tensor(whole.to(parameter.device), mesh, placements, src_data_rank=None).to_local()

    def state(self) -> dict[str, Tensor]:
        """The whole parameters by name, as :meth:`wholes` gives them."""
        return self.wholes({name: p.detach() for name, p in self.own.items()})

    def load(self, state: dict[str, Tensor]) -> None:
        """Sets the parameters from what :meth:`state` gave, on any number of processes."""
        with torch.no_grad():
            for name, own in self.own.items():
                own.copy_(self.part(name, state[name]))

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimiser's ``state_dict`` with whole tensors, which only the first process gets."""
        found = optimizer.state_dict()
        names = self._names(optimizer)
        found["state"] = {
            index: {key: self.whole(names[index], v) if v.ndim else v for key, v in values.items()}
            for index, values in found["state"].items()
        }
        return found

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Sets the optimiser from what :meth:`optimizer_state` gave."""
        names = self._names(optimizer)
        parts = {
            index: {key: self.part(names[index], v) if v.ndim else v for key, v in values.items()}
            for index, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": parts})

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        by_id = {id(p): name for name, p in self.own.items()}
        return [by_id[id(p)] for group in optimizer.param_groups for p in group["params"]]
