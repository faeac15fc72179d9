"""GGUF files: what they hold, and their conversion to a safetensors folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import ModelError

_GENERIC_PRE_TOKENIZERS = ("default", "gpt-2", "gpt2")
"""Pre-tokenizers for which the plain GPT-2 split, which transformers falls back to, is right."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps the progress bars and the advice of transformers and tqdm off the terminal while the block runs."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def read_gguf_facts(path: Path) -> dict[str, Any]:
    """Scalar metadata of a GGUF file. Raises :class:`ModelError` where it is not one or is cut short."""
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
        facts = {
            name: field.contents()
            for name, field in reader.fields.items()
            if field.types and field.types[0] != gguf.GGUFValueType.ARRAY
        }
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"'{path}' is not a readable GGUF file; download or copy it again.") from error
    if not reader.tensors:
        raise ModelError(f"'{path}' contains no weights.")
    return facts


def convert_gguf(path: Path, folder: Path, console: Console) -> None:
    """Writes the model of a GGUF file into ``folder``: dequantised fp32 safetensors, config and tokenizer.

    fp32 keeps every dequantised value as it is. Raises :class:`ModelError` where transformers cannot read the file's
    architecture or tokenizer, and :class:`OSError` where ``folder`` cannot be written.
    """
    facts = read_gguf_facts(path)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        except (ValueError, KeyError, NotImplementedError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            architecture = facts.get("general.architecture", "unknown")
            raise ModelError(f"'{path}' (architecture '{architecture}') cannot be converted: {reason}") from error
        _restore_pre_tokenizer(tokenizer, str(facts.get("tokenizer.ggml.pre", "default")), path, console)
        # transformers 5 refuses to save a model that came from a GGUF file until it forgets how it was quantised.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        with _rust_disk_errors():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        _drop_invented_tokens(folder / "tokenizer.json", model.config.vocab_size)


@contextlib.contextmanager
def _rust_disk_errors() -> Iterator[None]:
    """safetensors and tokenizers report a full disk as an error of their own; here it becomes an :class:`OSError`."""
    try:
        yield
    except Exception as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _drop_invented_tokens(path: Path, rows: int) -> None:
    """Removes tokens that transformers adds to a file that names no unknown token: the model has no rows for them."""
    state = json.loads(path.read_text(encoding="utf-8"))
    kept = [token for token in state["added_tokens"] if token["id"] < rows]
    if kept != state["added_tokens"]:
        path.write_text(json.dumps(state | {"added_tokens": kept}, ensure_ascii=False), encoding="utf-8")


def _restore_pre_tokenizer(tokenizer: Any, name: str, path: Path, console: Console) -> None:
    """Gives the tokenizer the split that its merges were learned with, where transformers does not know it.

    SmolLM splits every digit off before the GPT-2 split (llama.cpp, ``LLAMA_VOCAB_PRE_TYPE_SMOLLM``). Without it
    white space before a number becomes other tokens than the model was trained on.
    """
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if name == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        return
    if name in _GENERIC_PRE_TOKENIZERS or backend.pre_tokenizer is None:
        return
    # The generic split has use_regex on; a split that transformers knows comes as a sequence with its own regex.
    state = json.loads(backend.to_str())["pre_tokenizer"]
    if state.get("type") == "ByteLevel" and state.get("use_regex"):
        console.warn(
            f"The tokenizer of '{path.name}' splits text by the rule '{name}', which is unknown, so the plain GPT-2 "
            "rule is used; some texts become other tokens than the model was trained on."
        )
