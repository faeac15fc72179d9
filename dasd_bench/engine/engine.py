"""The engine's one face: generate, dual_decode, score, loglikelihood over any Hugging Face causal LM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np

from dasd_bench.engine.allocator import keep_freed_memory
from dasd_bench.engine.checks import check_dual, check_generate, check_targets
from dasd_bench.engine.collectors import NotFiniteError, ScoreCollector, SumCollector
from dasd_bench.engine.cuda_graphs import FixedShapePool
from dasd_bench.engine.decoding import Decoder
from dasd_bench.engine.divergence import DivergenceCollector, Head, HeadlessRunner, HiddenStateCollector
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.layer_step import fit_layer_step
from dasd_bench.engine.many_rules import ManyRulesDecoder, ManyRulesSampler, SharedCost
from dasd_bench.engine.memory import budget_bytes
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.pairs import Measure, PairCollector
from dasd_bench.engine.probe import choose_path
from dasd_bench.engine.requests import DualRequest, EngineSettings, GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.engine.samplers import DualSampler, PlainSampler
from dasd_bench.engine.scoring import Collector, Scorer
from dasd_bench.engine.trie import Tokens
from dasd_bench.engine.types import DualGeneration, Floats, Generation, StepRule, TokenScores


class Engine:
    """Decodes and scores with ``model`` (a causal LM or a PeftModel, already on its device and in its dtype).

    The model is used as it is now: make a new engine after its weights change. Between calls the model is left as it
    was found. Equal requests in equal order give equal bits; another order or other neighbours change results by
    rounding only. Raises :class:`~dasd_bench.engine.errors.EngineError`.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        self._tokenizer = tokenizer
        keep_freed_memory()
        self._runner = ModelRunner(model, packed=self.settings.accelerate != "off")
        choose_path(self._runner)
        self._runner.layer_step = fit_layer_step(self._runner)
        wanted = (
            self._runner.device.type == "cuda"
            if self.settings.fixed_shapes == "auto"
            else self.settings.fixed_shapes == "on"
        )
        self._fixed = FixedShapePool(self._runner) if wanted and self._runner.packed else None

    processes = 1
    """Calls are made one after the other."""

    @property
    def context_length(self) -> int | None:
        """The most tokens a sequence may have, or None where the model's configuration sets no limit."""
        return self._runner.context_length

    def describe(self) -> dict[str, Any]:
        """The path taken, for the manifest."""
        runner = self._runner
        return {
            "attention": "packed" if runner.packed else self._plain_path(),
            "prefill": "torch" if runner.tree_kernel is None else "compiled kernel",
            "decode": self._decode_path(),
            "rows": "compiled kernels" if runner.row_kernels is not None else "torch",
            "linears": self._linear_path(),
            "dtype": str(runner.dtype).removeprefix("torch."),
            "device": str(runner.device),
            "max_num_seqs": self.settings.max_num_seqs,
            "prefill_tokens": self.settings.prefill_tokens,
        }

    def _plain_path(self) -> str:
        runner = self._runner
        more = [] if runner.cached else ["no cache"]
        return ", ".join(["transformers", *more, *(["body and head in one"] if runner.whole else [])])

    def _linear_path(self) -> str:
        if not self._runner.packed_linears:
            return "torch"
        kind = "compiled kernel" if self._runner.linear_kernel is not None else "onednn-packed"
        return f"{kind} ({self._runner.packed_linears})"

    def _decode_path(self) -> str:
        if self._fixed is not None:
            return "fixed shapes, cuda graphs" if self._fixed.graphs else "fixed shapes"
        if self._runner.layer_step is not None:
            return "compiled kernels, all layers in one call"
        return "compiled kernel" if self._runner.kernel is not None else "torch"

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Completions in the order of ``requests``; ``on_result(index, completion)`` as each one is finished."""
        requests = check_generate(requests, self.context_length, self._runner.vocab_size)
        prompts = [[np.array(request.prompt_ids, dtype=np.int64)] for request in requests]
        return self._decode(requests, prompts, PlainSampler(self._runner.vocabulary), on_result)

    def dual_decode(
        self,
        requests: Sequence[DualRequest],
        rule: StepRule,
        on_result: Callable[[int, DualGeneration], None] | None = None,
        *,
        reference: Engine | None = None,
    ) -> list[DualGeneration]:
        """Completions decoded with two contexts; ``rule`` picks each token from both distributions.

        The second context is ``reference``'s, an engine with the same tokenizer; by default this one's.
        """
        requests = check_dual(requests, self.context_length, self._runner.vocab_size)
        sampler = DualSampler(rule, self._runner.vocabulary, self._tokenizer)
        return self._decode(requests, _contexts(requests), sampler, on_result, reference)

    def dual_decode_many(
        self,
        requests: Sequence[Sequence[DualRequest]],
        rules: Sequence[StepRule],
        on_result: Callable[[int, list[DualGeneration]], None] | None = None,
        *,
        reference: Engine | None = None,
    ) -> tuple[list[list[DualGeneration]], SharedCost]:
        """What :meth:`dual_decode` gives for each rule, in one pass that shares tokens until the rules part.

        ``requests[rule]`` are its requests, which differ between rules in their ``parameters`` alone. Results come by
        rule, then by request; ``on_result(index, by_rule)`` when all rules are done with a request. Raises
        :class:`EngineError` where requests differ in more.
        """
        first = check_dual(requests[0], self.context_length, self._runner.vocab_size)
        for own in requests:
            if [replace(one, parameters=(), name="") for one in own] != [
                replace(one, parameters=(), name="") for one in first
            ]:
                raise EngineError("The requests of rules that are decoded together may differ in parameters alone.")
        if not first:
            return [[] for _ in rules], SharedCost()
        given = [[one.parameters for one in own] for own in requests]
        sampler = ManyRulesSampler(rules, given, self._runner.vocabulary, self._tokenizer)
        with self._active(reference):
            decoder = ManyRulesDecoder(sampler, len(rules), *self._decoder_parts(sampler, reference))
            made = decoder.run(first, _contexts(first), on_result)
        return [[by_rule[rule] for by_rule in made] for rule in range(len(rules))], decoder.cost

    def score(
        self,
        requests: Sequence[ScoreRequest],
        on_result: Callable[[int, TokenScores], None] | None = None,
    ) -> list[TokenScores]:
        """Log-probability, top-1 log-probability, entropy and rank of every target token, teacher-forced."""
        requests = check_targets(requests, self.context_length, self._runner.vocab_size)
        collector = ScoreCollector(requests, self._runner.vocabulary, on_result)
        self._score(requests, collector)
        return [collector.result(number) for number in range(len(requests))]

    def loglikelihood(
        self,
        requests: Sequence[ScoreRequest],
        on_result: Callable[[int, LogLikelihood], None] | None = None,
    ) -> list[LogLikelihood]:
        """Sum of log-probabilities per target, and whether greedy decoding would give it."""
        requests = check_targets(requests, self.context_length, self._runner.vocab_size)
        collector = SumCollector(requests, self._runner.vocabulary, on_result)
        self._score(requests, collector)
        return [collector.result(number) for number in range(len(requests))]

    def close(self) -> None:
        """Drops what is held between calls; the model belongs to the caller."""
        if self._fixed is not None:
            self._fixed.clear()

    def _decode(
        self, requests: Any, prompts: Any, sampler: Any, on_result: Any, reference: Engine | None = None
    ) -> list[Any]:
        if not requests:
            return []
        with self._active(reference):
            decoder: Decoder[Any] = Decoder(*self._decoder_parts(sampler, reference))
            return decoder.run(requests, prompts, on_result)

    def _decoder_parts(self, sampler: Any, reference: Engine | None) -> tuple[Any, ...]:
        memory = budget_bytes(self._runner.device, self.settings.memory_gib)
        if self._fixed is not None and self.settings.memory_gib is None:
            memory += self._fixed.bytes
        other = None if reference is None else reference._runner
        return self._runner, self._tokenizer, self.settings, memory, sampler, self._fixed, other

    @contextmanager
    def _active(self, reference: Engine | None) -> Iterator[None]:
        with self._runner.active(), nullcontext() if reference is None else reference._runner.active():
            yield

    def hidden_states(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """The states before the vocabulary head, float32 [T, width]: row t predicts target token t.

        What :meth:`divergence` of an engine on another model of the same family takes.
        """
        requests = check_targets(requests, self.context_length, self._runner.vocab_size)
        collector = HiddenStateCollector(requests)
        if requests:
            memory = budget_bytes(self._runner.device, self.settings.memory_gib)
            with self._runner.active():
                headless = cast(ModelRunner, HeadlessRunner(self._runner))
                Scorer(headless, self.settings.prefill_tokens, memory, collector).run(requests)
        return collector.found

    def divergence(
        self,
        requests: Sequence[ScoreRequest],
        hidden: Sequence[Floats],
        head: Head | None = None,
        on_result: Callable[[int, int], None] | None = None,
    ) -> list[Floats]:
        """Jensen-Shannon divergence, nats, float32 [T] per request, to the model that gave ``hidden``.

        ``head`` is that model's vocabulary head; None takes this one's (an adapter that leaves the head alone).
        """
        requests = check_targets(requests, self.context_length, self._runner.vocab_size)
        collector = DivergenceCollector(requests, hidden, head or self._runner.logits, self._runner.dtype, on_result)
        self._score(requests, collector)
        return collector.found

    def compare_contexts(
        self,
        first: Sequence[ScoreRequest],
        second: Sequence[ScoreRequest],
        measure: Measure,
        on_result: Callable[[int, int], None] | None = None,
    ) -> list[Floats]:
        """``measure`` of every target token's two distributions, float32 [T, K] per pair of requests.

        The requests of a pair have the same target behind two prompts; the first one's distribution comes first.
        """
        first = check_targets(first, self.context_length, self._runner.vocab_size)
        hidden = self.hidden_states(second)
        collector = PairCollector(first, hidden, self._runner.logits, self._runner.dtype, measure, on_result)
        self._score(first, collector)
        return collector.found

    def _score(self, requests: Sequence[ScoreRequest], collector: Collector) -> None:
        if requests:
            memory = budget_bytes(self._runner.device, self.settings.memory_gib)
            with self._runner.active():
                try:
                    Scorer(self._runner, self.settings.prefill_tokens, memory, collector).run(requests)
                except NotFiniteError as error:
                    # Sequences that share tokens are computed as one tree, where one NaN spreads: ask each alone.
                    for number in error.suspects if len(error.suspects) > 1 else []:
                        alone = [requests[number]]
                        Scorer(
                            self._runner,
                            self.settings.prefill_tokens,
                            memory,
                            SumCollector(alone, self._runner.vocabulary),
                        ).run(alone)
                    raise


def _contexts(requests: Sequence[DualRequest]) -> list[list[Tokens]]:
    """The two prompts of each request."""
    return [[np.array(r.base_ids, dtype=np.int64), np.array(r.reference_ids, dtype=np.int64)] for r in requests]
