"""How the run's own engine is made from the model's files, in this process or in others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dasd_bench.registry import discover

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.requests import EngineSettings


@dataclass(frozen=True)
class EngineRecipe:
    """An engine on the weights in a folder, with an adapter or without, as another process makes it.

    ``plugins`` are the folders of the run's plugins: a rule of dual decoding is sent by the name of its module.
    """

    weights: Path
    adapter: Path | None
    dtype: str
    device: str
    merge: bool
    tokenizer: Any
    settings: EngineSettings
    plugins: tuple[Path, ...]

    def __call__(self) -> Engine:
        """Loads the weights and makes the engine."""
        from dasd_bench.engine.engine import Engine

        discover(self.plugins)
        model = load_weights(self.weights, self.adapter, dtype=self.dtype, device=self.device, merge=self.merge)
        return Engine(model, self.tokenizer, self.settings)


def load_weights(weights: Path, adapter: Path | None, *, dtype: str, device: str, merge: bool) -> PreTrainedModel:
    """A freshly loaded model; a fully fine-tuned one (an ``adapter`` without a configuration) is its own folder."""
    from dasd_bench.models.load import load_model

    if adapter is not None and not (adapter / "adapter_config.json").exists():
        return load_model(adapter, dtype=dtype, device=device)
    return load_model(weights, dtype=dtype, device=device, adapter=adapter, merge=merge)


def devices(device: str, count: int) -> list[str]:
    """The device of each of ``count`` processes: a GPU of its own, or the CPU."""
    return [f"cuda:{number}" for number in range(count)] if device.startswith("cuda") else [device] * count
