"""The engine: decode, dual-context decode and score any Hugging Face causal LM, fast, on CPU and CUDA.

Importing this package imports torch and transformers; the command line does so only when it runs something.
"""

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import DualRequest, EngineSettings, GenerateRequest, LogLikelihood, ScoreRequest

__all__ = ["DualRequest", "Engine", "EngineSettings", "GenerateRequest", "LogLikelihood", "ScoreRequest"]
