"""Which of a model's modules have faster overrides, and putting those in place while the engine works.

An override is taken only where it gives what the module does, seen by trying both: linear layers once per kind, gated
feed-forward blocks and norms one by one. The function that gives queries and keys their rotary positions is no module
but a global of the file that defines the model's attention: it is replaced there, for all of the process, in the same
way and for as long; the override hands on what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dasd_bench.engine.kernels.layers import NormParts
from dasd_bench.engine.kernels.linear import LinearKernel
from dasd_bench.engine.kernels.rows import RowKernels
from dasd_bench.engine.linears import ACTIVATIONS, GatedBlock, Packer, room_to_pack

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""The largest difference to the module, in shares of its largest output, that counts as rounding."""


ROTARY = "apply_rotary_pos_emb"
"""The name that the function has in transformers' model files."""


class RowNorm(nn.Module):
    """Root-mean-square norm in one pass; inference on CPU only. See :meth:`RowKernels.rms_norm`."""

    def __init__(self, kernels: RowKernels, weight: Tensor, eps: float, plus: float, late: bool) -> None:
        super().__init__()
        self._kernels = kernels
        self.parts = NormParts(weight, eps, plus, late)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., width] to the same shape."""
        own = self.parts
        return self._kernels.rms_norm(hidden, own.weight, own.eps, own.plus, own.late)


class Rotation:
    """Stands in for transformers' ``apply_rotary_pos_emb``."""

    def __init__(self, kernels: RowKernels, original: Callable[..., Any]) -> None:
        self._kernels = kernels
        self.original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 4 or not _rotates(*args):
            return self.original(*args, **kwargs)
        query, key, cosine, sine = args
        return self._kernels.rotate(query, cosine, sine), self._kernels.rotate(key, cosine, sine)


def _rotates(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> bool:
    """True for query [1, H, N, D], key [1, Hkv, N, D], cosine and sine [1, N, D] of one dtype on the CPU."""
    if not all(isinstance(tensor, Tensor) for tensor in (query, key, cosine, sine)) or query.dim() != 4:
        return False
    dtypes = {query.dtype, key.dtype, cosine.dtype, sine.dtype}
    if len(dtypes) != 1 or query.dtype not in TOLERANCE or query.device.type != "cpu" or torch.is_grad_enabled():
        return False
    _, _, count, width = query.shape
    return query.shape[0] == 1 and key.shape[2:] == (count, width) and cosine.shape == sine.shape == (1, count, width)


class ModuleOverrides:
    """The overrides for modules below ``root``, put in place only inside :meth:`active`.

    ``count`` is how many linear layers run on packed weights; those ``without``, by ``id``, are left alone.
    """

    def __init__(
        self,
        root: nn.Module,
        kernels: RowKernels | None,
        linear_kernel: LinearKernel | None = None,
        without: Collection[int] = (),
    ) -> None:
        self._places: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        self._functions = [] if kernels is None else _rotations(root, kernels)
        packer = Packer(linear_kernel)
        packable = {key: linear for key, linear in _packable(root, packer).items() if key not in without}
        # Blocks first: the layers inside one are not packed a second time.
        overrides: dict[int, nn.Module] = {}
        inside: set[int] = set()
        for block in root.modules():
            found = _gated(block, packer, packable)
            if found is not None:
                overrides[id(block)] = found
                inside |= {id(child) for child in block.children()}
        self.count = len(packable)
        for parent in root.modules():
            for name, child in parent.named_children():
                if id(child) in packable and id(child) not in inside and id(child) not in overrides:
                    overrides[id(child)] = packer.linear(packable[id(child)])
                override = overrides.get(id(child)) or norm_override(child, kernels)
                if override is not None:
                    self._places.append((parent, name, child, override))

    @contextmanager
    def active(self) -> Iterator[None]:
        """The overrides are in the model while the block runs."""
        for parent, name, _, override in self._places:
            parent._modules[name] = override
        for names, rotation in self._functions:
            names[ROTARY] = rotation
        try:
            yield
        finally:
            for names, rotation in self._functions:
                names[ROTARY] = rotation.original
            for parent, name, module, _ in self._places:
                parent._modules[name] = module


def _packable(root: nn.Module, packer: Packer) -> dict[int, nn.Linear]:
    """The linear layers to pack, by ``id``: none where the copies would take too much memory."""
    linears = [module for module in root.modules() if type(module) is nn.Linear]
    if not room_to_pack(linears):
        return {}
    return {id(linear): linear for linear in linears if packer.fits(linear)}


def _gated(block: nn.Module, packer: Packer, packable: dict[int, nn.Linear]) -> GatedBlock | None:
    """An override for a block that has the parts of Llama's feed-forward block and gives what they mean there."""
    parts = block._modules
    gate, up, down = (packable.get(id(parts.get(name))) for name in ("gate_proj", "up_proj", "down_proj"))
    activation = type(parts.get("act_fn")).__name__
    if gate is None or up is None or down is None or activation not in ACTIVATIONS:
        return None
    override = GatedBlock(packer.gated(gate, up, activation), packer.linear(down))
    dtype = gate.weight.dtype
    return override if difference(block, override, gate.in_features, dtype) <= TOLERANCE[dtype] else None


def _rotations(root: nn.Module, kernels: RowKernels) -> list[tuple[dict[str, Any], Rotation]]:
    """The global names of the files that define attention below ``root``, with the override for their function."""
    found: dict[int, tuple[dict[str, Any], Rotation]] = {}
    for module in root.modules():
        names = getattr(type(module).forward, "__globals__", {})
        if id(names) in found or {"q_proj", "k_proj"} - set(module._modules) or ROTARY not in names:
            continue
        original = names[ROTARY]
        original = original.original if isinstance(original, Rotation) else original
        rotation = Rotation(kernels, original)
        if all(_turns_alike(rotation, dtype) for dtype in TOLERANCE):
            found[id(names)] = names, rotation
    return list(found.values())


@torch.inference_mode()
def _turns_alike(rotation: Rotation, dtype: torch.dtype) -> bool:
    rows = torch.linspace(-3, 3, 4 * 3 * 8).sin().view(1, 4, 3, 8).to(dtype)
    angles = torch.linspace(0, 9, 3 * 8).view(1, 3, 8)
    args = rows[:, :3], rows[:, 3:], angles.cos().to(dtype), angles.sin().to(dtype)
    try:
        wanted, found = rotation.original(*args), rotation(*args)
        return all(torch.allclose(a, b, rtol=0, atol=TOLERANCE[dtype]) for a, b in zip(wanted, found, strict=True))
    except (RuntimeError, TypeError, AttributeError, ValueError):  # a function that takes other arguments
        return False


def norm_override(module: nn.Module, kernels: RowKernels | None) -> RowNorm | None:
    """An override for a root-mean-square norm: Llama's way, or Gemma's with one added to the weight."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if kernels is None or "RMSNorm" not in type(module).__name__ or not isinstance(weight, Tensor):
        return None
    if not isinstance(eps, float) or weight.dim() != 1 or weight.dtype not in TOLERANCE:
        return None
    kinds = [RowNorm(kernels, weight.detach(), eps, *how) for how in ((0.0, False), (1.0, True), (0.0, True))]
    differences = [difference(module, kind, weight.numel(), weight.dtype) for kind in kinds]
    best = min(range(len(kinds)), key=differences.__getitem__)
    return kinds[best] if differences[best] <= TOLERANCE[weight.dtype] else None


@torch.inference_mode()
def difference(module: nn.Module, override: Callable[[Tensor], Tensor], width: int, dtype: torch.dtype) -> float:
    """The largest difference between the two over the largest output; infinite where they are not comparable."""
    rows = torch.linspace(-3, 3, 2 * width).sin().view(2, width).to(dtype)
    try:
        wanted: Any = module(rows)
        found = override(rows)
    except (RuntimeError, TypeError, AttributeError, ValueError):  # a module that takes other arguments
        return float("inf")
    if not isinstance(wanted, Tensor) or wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    largest = float((wanted.float() - found.float()).abs().max() / wanted.float().abs().max())
    return largest if largest == largest else float("inf")
