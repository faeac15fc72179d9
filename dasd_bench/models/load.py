"""Loading a model folder: weights only as safetensors, never code, in a dtype the device does well."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models.files import format_bytes, missing_parts, read_safetensors_header, safetensors_parameters
from dasd_bench.models.gguf import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DtypeName = Literal["auto", "fp32", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]


def resolve_device(device: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one. Raises :class:`UsageError` for CUDA that is not there."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f"Unknown device '{device}'; use auto, cpu or cuda.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu.")
    return chosen


def cpu_features() -> frozenset[str]:
    """The instruction-set flags of this CPU as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def fast_bf16(device: torch.device) -> bool:
    """True where bf16 matrix products run on their own instructions."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(cpu_features() & {"avx512_bf16", "amx_bf16", "bf16"})


def resolve_dtype(dtype: str, device: torch.device, console: Console | None = None) -> torch.dtype:
    """``auto`` is fp32 on a CPU and bf16 on a GPU that has it. Warns about bf16 on a device that emulates it."""
    import torch

    if dtype == "fp32":
        return torch.float32
    if dtype == "bf16":
        if console is not None and not fast_bf16(device):
            console.warn("This device has no bf16 instructions, so bf16 is slower than fp32 here; use --dtype fp32.")
        return torch.bfloat16
    if dtype != "auto":
        raise UsageError(f"Unknown dtype '{dtype}'; use auto, fp32 or bf16.")
    return torch.bfloat16 if device.type == "cuda" and fast_bf16(device) else torch.float32


def load_model(
    path: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    adapter: Path | None = None,
    merge: bool = True,
    console: Console | None = None,
) -> PreTrainedModel:
    """The causal language model of a folder, in eval mode, with an optional LoRA adapter of the same base.

    ``merge`` folds the adapter into the weights (a plain model comes back); without it a PEFT model is returned.
    Raises :class:`ModelError` for an incomplete folder, weights that do not fit the config or memory, or an adapter
    made for another base.
    """
    lacking = missing_parts(path)
    if lacking:
        raise ModelError(f"'{path}' is not a complete model folder: it has no {lacking}.")
    where = resolve_device(device)
    kind = resolve_dtype(dtype, where, console)
    shapes = safetensors_parameters(path)
    _check_memory(path, shapes, kind.itemsize, where)
    if adapter is not None:
        adapter_config(adapter)

    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except (ValueError, KeyError, RuntimeError, OSError, ImportError) as error:
            raise ModelError(f"'{path}' cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise ModelError(
            f"'{path}' lacks {len(absent)} of its weights ('{absent[0]}' first); fetch or copy the model again."
        )
    if adapter is not None:
        check_adapter(adapter, model)
        model = _with_adapter(model, adapter, merge)
    model.to(where)
    model.eval()
    result: PreTrainedModel = model
    return result


def _check_memory(path: Path, shapes: dict[str, list[int]], itemsize: int, device: torch.device) -> None:
    needed = sum(math.prod(shape) for shape in shapes.values()) * itemsize
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        shrink = "--dtype bf16, " if itemsize > 2 else ""
        raise ModelError(
            f"'{path}' needs {format_bytes(needed)} for its weights but {format_bytes(free)} of {device.type} memory "
            f"is free; use {shrink}a smaller model or a larger machine."
        )


def adapter_config(adapter: Path) -> dict[str, Any]:
    """The ``adapter_config.json`` of an adapter folder. Raises :class:`ModelError` where there is none."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"'{adapter}' is not an adapter folder: it has no adapter_config.json.") from None
    except ValueError as error:
        raise ModelError(f"'{adapter}': adapter_config.json is not readable JSON; copy the adapter again.") from error
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"'{adapter}' has no adapter_model.safetensors, the only weights that are loaded here.")
    return dict(config)


def check_adapter(adapter: Path, model: PreTrainedModel) -> None:
    """Checks that every LoRA factor fits a layer of the base, by name and width.

    The layers decide and not the recorded base name, because a base may have moved. Raises :class:`ModelError`.
    """
    recorded = adapter_config(adapter).get("base_model_name_or_path") or "an unnamed base"
    layers = dict(model.named_modules())
    for name, entry in read_safetensors_header(adapter / "adapter_model.safetensors").items():
        layer_name, _, factor = name.removeprefix("base_model.model.").partition(".lora_")
        if not factor.startswith(("A.", "B.")):
            continue
        layer = layers.get(layer_name)
        if layer is None:
            raise ModelError(
                f"Adapter '{adapter}' was made for another model ({recorded}): it changes '{layer_name}', which "
                f"'{model.name_or_path}' does not have."
            )
        rows, columns = entry["shape"]
        # transformers' Conv1D (GPT-2) keeps its sizes as nx and nf.
        width, own = (
            (columns, getattr(layer, "in_features", None) or getattr(layer, "nx", columns))
            if factor.startswith("A.")
            else (rows, getattr(layer, "out_features", None) or getattr(layer, "nf", rows))
        )
        if width != own:
            raise ModelError(
                f"Adapter '{adapter}' was made for another model ({recorded}): '{layer_name}' has width {width} there "
                f"and {own} in '{model.name_or_path}'."
            )


def _with_adapter(model: Any, adapter: Path, merge: bool) -> Any:
    from peft import PeftModel

    try:
        with quiet_transformers():
            tuned = PeftModel.from_pretrained(model, str(adapter))
            # PEFT keeps the factors in fp32, so a merge rounds to the base's dtype once.
            return tuned.merge_and_unload(safe_merge=True) if merge else tuned
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"Adapter '{adapter}' cannot be used: {' '.join(str(error).split())[:300]}") from error


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with a pad token (the end-of-sequence token where it has none of its own).

    Raises :class:`ModelError` for a folder without a tokenizer, or one with more tokens than the model has rows.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"'{path}' has no usable tokenizer: {' '.join(str(error).split())[:300]}") from error
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if rows is not None and highest >= rows:
        raise ModelError(
            f"'{path}': the tokenizer has token {highest} but the model has {rows} rows; they do not belong together."
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    result: PreTrainedTokenizerBase = tokenizer
    return result
