"""Loading a model folder: weights only as safetensors, never code, in a dtype the device does well."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models.files import (
    TOKENIZER_FILES,
    config_number,
    format_bytes,
    missing_parts,
    read_json_object,
    read_model_config,
    read_safetensors_header,
    safetensors_parameters,
)
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
        raise UsageError("--device cuda: torch finds no CUDA device; use --device cpu.")
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
            console.warn("This device has no bf16 instructions, so bf16 is slower than fp32; use --dtype fp32.")
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
    layers = config_number(read_model_config(path), "num_hidden_layers")
    if layers is not None and layers > len(shapes):
        raise ModelError(
            f"'{path / 'config.json'}' says {layers} layers, but the weights are {len(shapes)} tensors; download "
            "or copy the model again."
        )
    _check_memory(path, shapes, kind.itemsize, where)
    if adapter is not None:
        adapter_config(adapter)

    with quiet_transformers():
        try:
            model, report = auto_class(path).from_pretrained(
                path,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except (MemoryError, ModelError):
            raise
        except Exception as error:  # a configuration can make transformers fail in any way
            raise ModelError(
                f"'{path}' cannot be loaded, because its config.json and weights do not fit transformers' model: "
                f"{reason(error)}"
            ) from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise ModelError(
            f"'{path}' lacks {len(absent)} of its weights ('{absent[0]}' first); download or copy the model again."
        )
    if adapter is not None:
        check_adapter(adapter, model)
        model = _with_adapter(model, adapter, merge)
    model.to(where)
    model.eval()
    result: PreTrainedModel = model
    return result


def auto_class(path: Path) -> Any:
    """The class that loads a folder's model: a causal language model, or a wrapper of one that sees images, too.

    Raises :class:`ModelError` for an architecture that is neither.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    config = config_of(path)
    if not config.is_encoder_decoder:
        for auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
            if type(config) in auto._model_mapping:
                return auto
    architecture = next(iter(config.architectures or []), config.model_type)
    raise ModelError(f"'{path}' is a {architecture}, which is not a causal language model; use a decoder-only one.")


def config_of(path: Path) -> Any:
    """The configuration of a folder as transformers reads it. Raises :class:`ModelError` where it cannot."""
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a configuration can make transformers fail in any way
        raise ModelError(f"'{path / 'config.json'}' is not usable: {reason(error)}") from error


def _check_memory(path: Path, shapes: dict[str, list[int]], itemsize: int, device: torch.device) -> None:
    from dasd_bench.engine.limits import available_bytes

    needed = sum(math.prod(shape) for shape in shapes.values()) * itemsize
    free = available_bytes(device)
    if needed > free:
        shrink = "--dtype bf16, " if itemsize > 2 else ""
        raise ModelError(
            f"'{path}' needs {format_bytes(needed)} for its weights but {format_bytes(free)} of {device.type} memory "
            f"is free; use {shrink}a smaller model or a larger machine."
        )


def adapter_config(adapter: Path) -> dict[str, Any]:
    """The ``adapter_config.json`` of an adapter folder. Raises :class:`ModelError` where there is none."""
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise ModelError(f"'{adapter}' is not an adapter folder: it has no adapter_config.json.")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"'{adapter}' has no adapter_model.safetensors, the only weight format that is loaded.")
    return read_json_object(path)


def check_adapter(adapter: Path, model: PreTrainedModel, name: str = "") -> None:
    """Checks that every LoRA factor fits a layer of the base, by name and width.

    The layers decide and not the recorded base name, because a base may have moved. ``name`` is what messages call the
    model (default: its path). Raises :class:`ModelError`.
    """
    name = name or str(model.name_or_path)
    recorded = adapter_config(adapter).get("base_model_name_or_path") or "an unnamed base"
    layers = dict(model.named_modules())
    for key, entry in read_safetensors_header(adapter / "adapter_model.safetensors").items():
        layer_name, _, factor = key.removeprefix("base_model.model.").partition(".lora_")
        # A block of experts has one adapter inside another, one for each of its parameters.
        layer_name = layer_name.replace(".base_layer", "")
        if not factor.startswith(("A.", "B.")):
            continue
        layer = layers.get(layer_name)
        if layer is None:
            raise ModelError(
                f"Adapter '{adapter}' was made for another model ({recorded}): it changes '{layer_name}', which "
                f"'{name}' does not have."
            )
        if len(entry["shape"]) != 2:
            raise ModelError(f"Adapter '{adapter}': '{key}' must be a matrix; copy the adapter again.")
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
                f"and {own} in '{name}'."
            )


def _with_adapter(model: Any, adapter: Path, merge: bool) -> Any:
    from peft import PeftModel

    try:
        with quiet_transformers():
            tuned = PeftModel.from_pretrained(model, str(adapter))
            if merge:
                _untie_head(tuned)
            # PEFT keeps the factors in fp32, so a merge rounds to the base's dtype once.
            return tuned.merge_and_unload(safe_merge=True) if merge else tuned
    except MemoryError:
        raise
    except Exception as error:  # an adapter's configuration can make peft fail in any way
        raise ModelError(f"Adapter '{adapter}' cannot be used: {reason(error)}") from error


def _untie_head(tuned: Any) -> None:
    """Gives an adapted vocabulary head weights of its own, where it shares them with the embeddings.

    Merging would change the embeddings, too, which were not trained: the merged model would not be the trained one.
    """
    head: Any = getattr(tuned.get_base_model().get_output_embeddings(), "base_layer", None)
    embeddings = tuned.get_base_model().get_input_embeddings()
    if head is not None and head.weight is embeddings.weight:
        import torch

        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        tuned.get_base_model().config.tie_word_embeddings = False


MOST_BEYOND = 64
"""Tokens that a tokenizer may have beyond the model's rows, besides added ones; a foreign tokenizer has more."""


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with a pad token (the end-of-sequence token where it has none of its own).

    Some tokenizers have a few tokens more than the model has rows (an image token, say): they are accepted, and the
    engine and the trainer name an example in which such a token occurs. Raises :class:`ModelError` for a folder without
    a readable tokenizer, or one that belongs to another model.
    """
    from transformers import AutoTokenizer

    rows = config_number(read_model_config(path), "vocab_size")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
            vocabulary = tokenizer.get_vocab()
            tokenizer.decode(tokenizer("x 1")["input_ids"])
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        config_of(path)
        for name in TOKENIZER_FILES:
            if name.endswith(".json") and (path / name).is_file():
                read_json_object(path / name)
        raise ModelError(f"'{path}' has no usable tokenizer: {reason(error)}") from error
    added = set(tokenizer.added_tokens_decoder)
    beyond = [] if rows is None else [token for token in vocabulary.values() if token >= rows and token not in added]
    if len(beyond) > MOST_BEYOND:
        raise ModelError(
            f"'{path}': the tokenizer has token {max(beyond)} but the model has {rows} rows; use the model's "
            "own tokenizer."
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    result: PreTrainedTokenizerBase = tokenizer
    return result


def reason(error: BaseException) -> str:
    """What a library said, on one line and not too long; its kind where it said nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
