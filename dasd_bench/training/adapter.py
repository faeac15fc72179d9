"""LoRA through peft: attach, make fast, write."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.pytorch_utils import Conv1D

from dasd_bench.config.training import TrainingConfig
from dasd_bench.engine.kernels.rows import load_row_kernels
from dasd_bench.engine.kernels.thin import load_thin_kernel
from dasd_bench.models.gguf import quiet_transformers
from dasd_bench.store.atomic import apply_umask, disk_errors, make_scratch, remove
from dasd_bench.training.fused import fused_forward
from dasd_bench.training.linear import frozen_forward, lora_forward, worth_packing
from dasd_bench.training.quantize import is_quantized
from dasd_bench.training.targets import lora_targets, transposed

ADAPTER = "default"


def attach(model: Any, config: TrainingConfig, base_model_name: str, init: Path | None = None) -> Any:
    """Makes what is trained trainable, and only that; gives the peft model, or ``model`` itself where rank is 0.

    The adapter begins with the weights of the one in the folder ``init``, else as one that changes nothing.

    Adapters are float32 whatever the base. Full fine-tuning turns the whole model to float32: bfloat16 weights
    would swallow most updates. Raises :class:`TrainingError` for a LoRA target that no layer has.
    """
    if config.lora_rank == 0:
        model.float()
        model.requires_grad_(True)
        return model
    targets = lora_targets(model, config.lora_targets)
    alpha = config.lora_alpha
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        use_rslora=config.rslora,
        use_dora=config.dora,
        fan_in_fan_out=transposed(model, targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft asks for an attribute that transformers 5 renamed; nothing a user can act on.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # A tied head is untied when the adapter is merged: see models/load.py.
        warnings.filterwarnings("ignore", "Model with `tie_word_embeddings=True`", UserWarning)
        # Where only some of the layers are Conv1D, peft sets the option layer by layer.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
        adapted = get_peft_model(model, lora)
    adapted.peft_config[ADAPTER].base_model_name_or_path = base_model_name
    if init is not None:
        set_peft_model_state_dict(adapted, load_file(init / "adapter_model.safetensors"), adapter_name=ADAPTER)
    return adapted


def accelerate(model: nn.Module, *, dora: bool, pack: bool = True) -> list[nn.Module]:
    """Gives frozen linear layers and plain LoRA layers the faster, once-rounded forward of ``training.linear``.

    On a CPU frozen norms and gated blocks get theirs, too (``training.fused``). Without ``pack`` no weight is copied,
    and frozen layers without LoRA keep their own. DoRA layers keep peft's own.
    Returns the layers changed, for :func:`restore`.
    """
    changed: list[nn.Module] = []
    first = next(model.parameters())
    kernel = load_thin_kernel(first.device, first.dtype)
    row_kernels = load_row_kernels(first.device, first.dtype) if pack else None
    inside = {id(m.base_layer) for m in model.modules() if isinstance(m, LoraLayer)}
    for module in model.modules():
        replacement: Any = None
        if isinstance(module, LoraLayer) and not dora and _plain_linear(module.base_layer):
            replacement = lora_forward(module, ADAPTER, pack=pack, kernel=kernel)
        elif _frozen_linear(module, pack=pack) and (dora or id(module) not in inside):
            replacement = frozen_forward(cast(nn.Linear, module))
        elif row_kernels is not None:
            replacement = fused_forward(module, row_kernels)
        if replacement is not None:
            module.forward = replacement
            changed.append(module)
    return changed


def rounds_twice(model: nn.Module, *, dora: bool) -> str | None:
    """What keeps peft's own forward, which rounds between base and adapter; None where nothing does."""
    if dora:
        return "DoRA"
    return "LoRA on experts" if any(isinstance(module, ParamWrapper) for module in model.modules()) else None


def _plain_linear(layer: nn.Module) -> bool:
    return type(layer) in (nn.Linear, Conv1D) or is_quantized(layer)


def _frozen_linear(module: nn.Module, *, pack: bool) -> bool:
    if is_quantized(module):
        return True
    return pack and type(module) is nn.Linear and not module.weight.requires_grad and worth_packing(module.weight)


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The block runs ``model`` without its adapter.

    peft's own ``disable_adapter`` also takes the gradient off the parameters, which cut layers would remember.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def restore(changed: list[nn.Module]) -> None:
    """Gives the layers their own forward back."""
    for module in changed:
        del module.forward


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, in the model's order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def whole_state(model: Any, *, keep: bool) -> dict[str, Tensor]:
    """What is saved: the adapter's tensors under peft's names, or all weights; whole, whatever they are cut over.

    All processes must ask together; the one that saves says ``keep``, the others get nothing. Cut tensors are put
    together one by one and taken to main memory, so that no device ever holds more than one of them.
    """
    if hasattr(model, "peft_config"):
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        every = ((name, whole_tensor(tensor.detach())) for name, tensor in state.items())
        return {name: whole.to("cpu", copy=True).contiguous() for name, whole in every if keep}
    # Weights that are not cut stay what they are: some of them are one tensor under two names.
    return {
        name: whole.cpu() if is_cut(tensor) else whole
        for name, tensor in model.state_dict().items()
        for whole in [whole_tensor(tensor.detach())]
        if keep
    }


def save(model: Any, state: dict[str, Tensor], folder: Path) -> None:
    """Writes the adapter to ``folder`` in peft's format, whole or not at all; without LoRA the whole model.

    The same weights give the same bytes: JSON keys and target names are sorted, and no path of this machine is in it.
    """
    with disk_errors(folder):
        for stale in folder.parent.glob(f".{folder.name}.*"):
            remove(stale)
        partial = make_scratch(folder.parent, f".{folder.name}.")
        if hasattr(model, "peft_config"):
            save_file(dict(sorted(state.items())), partial / "adapter_model.safetensors", metadata={"format": "pt"})
            fields = model.peft_config[ADAPTER].to_dict()
            fields["inference_mode"] = True
            text = json.dumps(fields, indent=2, sort_keys=True, default=_plain)
            (partial / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
        else:
            with quiet_transformers():
                model.save_pretrained(partial, state_dict=state)
        apply_umask(partial)
        sync_tree(partial)
        remove(folder)
        os.rename(partial, folder)
        sync(folder.parent)


def _plain(value: Any) -> Any:
    """Sets in a fixed order (peft's own writer leaves it to the hash seed), enumerations by value."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value.value


def is_cut(parameter: Tensor) -> bool:
    """True for a parameter of which a process holds a part."""
    return isinstance(parameter.data, DTensor)


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole of a possibly cut tensor; all processes must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sync_tree(folder: Path) -> None:
    """Makes every file of ``folder`` and the folder itself durable."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """fsync of one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
