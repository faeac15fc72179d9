"""The same interface on vLLM (extra ``[vllm]``): generation, scoring, and DASD in blocks over its log-probabilities.

vLLM lists the likeliest tokens of a distribution, not all of it. So the entropy of token scores is not known (nan), and
a rule of dual decoding sees rows where the mass of the tokens not listed is spread evenly over them. Rules that look at
the likeliest token and at the two proposals, as DASD's gates do, lose nothing by that; the recorded entropy is an upper
bound. Sampled generation draws from vLLM's own generator, seeded by the request.
"""

from __future__ import annotations

import gc
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.blocks import Draft, Rows, block_decode
from dasd_bench.engine.checks import check_dual, check_generate, check_targets
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import DualRequest, GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.engine.types import DualGeneration, Generation, Sampling, StepRule, TokenScores

LISTED = 20
"""Likeliest tokens asked for per position; vLLM's own upper bound unless it is raised."""

BLOCK = 16
"""Tokens drafted at once in dual decoding."""

Listing = dict[int, Any]
"""vLLM's ``{token: Logprob}`` of one position."""


class VllmEngine:
    """Offers what :class:`dasd_bench.engine.engine.Engine` does, for the model in the folder ``path``.

    An adapter is merged before (:func:`merged_folder`), and :meth:`load` takes the weights into the running engine:
    vLLM 0.32 cannot give the log-probabilities of a prompt under an adapter that it applies at run time (on CPU it
    raises, see docs/engine.md). ``eager`` leaves out vLLM's compilation: a quick start, slower tokens.
    ``tensor_parallel`` GPUs share the weights. Raises :class:`EngineError`
    where vLLM is not installed.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: Any,
        *,
        dtype: str,
        max_num_seqs: int = 64,
        memory_share: float = 0.85,
        eager: bool = False,
        tensor_parallel: int = 1,
    ) -> None:
        # One process: memory is given back with the object, Ctrl-C reaches it, batches form the same way every time.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        try:
            import vllm
        except ModuleNotFoundError as error:
            raise EngineError("vLLM is not installed: pip install 'dasd-bench[vllm]', or use --engine hf.") from error
        self._vllm = vllm
        self._tokenizer = tokenizer
        self._max_num_seqs = max_num_seqs
        self._llm = vllm.LLM(
            model=str(path),
            dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype],
            max_logprobs=LISTED,
            max_num_seqs=2 * max_num_seqs,
            gpu_memory_utilization=memory_share,
            enable_prefix_caching=True,
            enforce_eager=eager,
            tensor_parallel_size=tensor_parallel,
            seed=0,
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        self._dtype = dtype
        self._vocabulary = int(self._llm.llm_engine.model_config.get_vocab_size())

    processes = 1
    """Calls are made one after the other."""

    @property
    def context_length(self) -> int | None:
        """The most tokens a sequence may have."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    def describe(self) -> dict[str, Any]:
        """The path taken, for the manifest."""
        return {
            "engine": f"vllm {self._vllm.__version__}",
            "dtype": self._dtype,
            "device": str(self._vllm.platforms.current_platform.device_type),
            "max_num_seqs": self._max_num_seqs,
            "listed": LISTED,
            "block": BLOCK,
        }

    def load(self, path: Path) -> None:
        """Exchanges the weights for those of the folder ``path`` (same architecture and dtype)."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})
        # Keys and values of the weights before.
        self._llm.reset_prefix_cache()

    def close(self) -> None:
        """Gives the memory back."""
        del self._llm
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def generate(
        self, requests: Sequence[GenerateRequest], on_result: Callable[[int, Generation], None] | None = None
    ) -> list[Generation]:
        """See :meth:`dasd_bench.engine.engine.Engine.generate`."""
        requests = check_generate(requests, self.context_length)
        asked = [(r.prompt_ids, self._decoding(r)) for r in requests]
        results: list[Any] = [None] * len(requests)
        for number, output in self._run(asked):
            made = output.outputs[0]
            ids = list(made.token_ids)
            logp = [listing[token].logprob for token, listing in zip(ids, made.logprobs, strict=True)]
            _finite(logp, requests[number].name)
            results[number] = Generation(
                np.array(ids, dtype=np.int32),
                np.array(logp, dtype=np.float32),
                self._tokenizer.decode(ids, skip_special_tokens=True),
                "length" if made.finish_reason == "length" else "stop",
            )
            if on_result is not None:
                on_result(number, results[number])
        return results

    def dual_decode(
        self,
        requests: Sequence[DualRequest],
        rule: StepRule,
        on_result: Callable[[int, DualGeneration], None] | None = None,
    ) -> list[DualGeneration]:
        """See :meth:`dasd_bench.engine.engine.Engine.dual_decode`; by drafts of :data:`BLOCK` tokens."""
        requests = check_dual(requests, self.context_length)
        return block_decode(
            requests,
            rule,
            self,
            self._tokenizer,
            block=BLOCK,
            context_length=self.context_length,
            on_result=on_result,
        )

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, TokenScores], None] | None = None
    ) -> list[TokenScores]:
        """See :meth:`dasd_bench.engine.engine.Engine.score`; ``entropy`` is nan."""
        assert self.context_length is not None
        # A scored prompt must leave room for one more token, which vLLM always makes.
        requests = check_targets(requests, self.context_length - 2)
        results: list[Any] = [None] * len(requests)
        for number, listings in self._targets(requests, 1):
            request = requests[number]
            chosen = [listing[int(t)] for t, listing in zip(request.target_ids, listings, strict=True)]
            logp = np.array([entry.logprob for entry in chosen], dtype=np.float32)
            _finite(logp, request.name)
            results[number] = TokenScores(
                logp=logp,
                top1_logp=np.array([max(e.logprob for e in x.values()) for x in listings], dtype=np.float32),
                entropy=np.full(len(logp), np.nan, dtype=np.float32),
                rank=np.array([entry.rank - 1 for entry in chosen], dtype=np.int32),
            )
            if on_result is not None:
                on_result(number, results[number])
        return results

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, LogLikelihood], None] | None = None
    ) -> list[LogLikelihood]:
        """See :meth:`dasd_bench.engine.engine.Engine.loglikelihood`."""
        scores = self.score(requests)
        results = [LogLikelihood(float(s.logp.sum()), bool((s.rank == 0).all()), len(s.logp)) for s in scores]
        for number, result in enumerate(results):
            if on_result is not None:
                on_result(number, result)
        return results

    def draft(self, contexts: Sequence[list[int]], counts: Sequence[int], stop: frozenset[int]) -> list[Draft]:
        """See :class:`dasd_bench.engine.blocks.Streams`."""
        asked = [
            (context, self._params(max_tokens=count, stop_token_ids=sorted(stop), logprobs=LISTED))
            for context, count in zip(contexts, counts, strict=True)
        ]
        drafts: list[Any] = [None] * len(asked)
        for number, output in self._run(asked):
            made = output.outputs[0]
            drafts[number] = Draft(list(made.token_ids), _Rows(made.logprobs, self._vocabulary))
        return drafts

    def verify(self, contexts: Sequence[list[int]], drafts: Sequence[list[int]]) -> list[Rows]:
        """See :class:`dasd_bench.engine.blocks.Streams`."""
        requests = [ScoreRequest(context, draft) for context, draft in zip(contexts, drafts, strict=True)]
        rows: list[Any] = [None] * len(requests)
        for number, listings in self._targets(requests, LISTED):
            rows[number] = _Rows(listings, self._vocabulary)
        return rows

    def _targets(self, requests: Sequence[ScoreRequest], listed: int) -> Iterator[tuple[int, list[Listing]]]:
        """Per request, as finished, vLLM's listing at each target token."""
        # Read from the prefix cache, a prompt's log-probabilities depended on the requests before it (vllm#42019).
        params = self._params(max_tokens=1, prompt_logprobs=listed, skip_reading_prefix_cache=True)
        # The last target token predicts nothing, but a prompt is scored up to its last token only.
        asked = [([*r.prompt_ids, *r.target_ids], params) for r in requests]
        for number, output in self._run(asked):
            yield number, list(output.prompt_logprobs)[len(requests[number].prompt_ids) :]

    def _decoding(self, request: GenerateRequest) -> Any:
        sampling: Sampling = request.sampling
        assert self.context_length is not None
        return self._params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=request.seed,
            max_tokens=min(request.max_new_tokens, self.context_length - len(request.prompt_ids)),
            stop_token_ids=sorted(request.stop_ids),
            stop=list(request.stop_strings) or None,
            include_stop_str_in_output=True,
            skip_special_tokens=False,
            logprobs=0,
        )

    def _params(self, **settings: Any) -> Any:
        # Only the tokens named by a request end it, whatever the model's own configuration says.
        return self._vllm.SamplingParams(**{"temperature": 0.0, "ignore_eos": True, **settings})

    def _run(self, asked: Sequence[tuple[Sequence[int], Any]]) -> Iterator[tuple[int, Any]]:
        """(index, output) of each request; vLLM's public call gives them when all are finished."""
        prompts = [{"prompt_token_ids": [int(i) for i in ids]} for ids, _ in asked]
        params = [params for _, params in asked]
        yield from enumerate(self._llm.generate(prompts, params, use_tqdm=False))


def merged_folder(model: Any, tokenizer: Any) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder with ``model`` (its adapter already merged) as vLLM loads it; as large as the model."""
    folder = tempfile.TemporaryDirectory(prefix="dasd-merged-")
    model.save_pretrained(folder.name)
    tokenizer.save_pretrained(folder.name)
    return folder


class _Rows:
    """Log-probability rows [V] made when asked for: the listed tokens, and the rest of the mass spread evenly."""

    def __init__(self, listings: Sequence[Listing], vocabulary: int) -> None:
        self._listings = listings
        self._vocabulary = vocabulary

    def __getitem__(self, index: int) -> Tensor:
        listing = self._listings[index]
        values = torch.tensor([entry.logprob for entry in listing.values()], dtype=torch.float64)
        rest = max(1.0 - float(values.exp().sum()), 1e-12)
        row = torch.full((self._vocabulary,), math.log(rest / (self._vocabulary - len(listing))), dtype=torch.float32)
        row[torch.tensor(list(listing))] = values.float()
        return row


def _finite(logp: Any, name: str) -> None:
    if not np.isfinite(np.asarray(logp, dtype=np.float64)).all():
        raise EngineError(f"vLLM returned non-finite log-probabilities for {name}; check the weights and dtype.")
