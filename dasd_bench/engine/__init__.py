"""The engine: decode, dual-context decode and score any Hugging Face causal LM, fast, on CPU and CUDA.

It imports nothing of the rest of dasd_bench. Importing this package or its ``types`` and ``errors`` imports no torch;
``dasd_bench.engine.engine`` does.
"""
