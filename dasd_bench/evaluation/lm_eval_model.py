"""This package's engine as an lm-eval model: the same tokens in and the same text out as lm-eval's ``hf`` backend.

What must agree with ``lm_eval.models.huggingface.HFLM`` (0.4.13): how context and continuation are tokenised, one
beginning-of-sequence token, left truncation, stop strings with the end-of-sequence text appended, text cut at the
first stop. Where its answer depends on the batch (it goes on after an end token that the generation configuration
does not list until the whole batch has one), we do what it does at its default batch size of 1.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text

from dasd_bench.console import Console
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.interface import InferenceEngine
from dasd_bench.engine.requests import GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.engine.side_by_side import side_by_side
from dasd_bench.evaluation.confidence import answer_confidence
from dasd_bench.evaluation.records import ShardStore
from dasd_bench.methods.context import Sampling
from dasd_bench.store.store import even_shards
from dasd_bench.tasks.base import Row
from dasd_bench.types import Message

SHARD = 64
"""Log-likelihoods per shard, at least; the choices of one question stay together."""

DECODED_SHARD = 256
"""Completions per shard, at most. A shard ends with part of the batch empty, so there should be few shards."""

GEN_DEFAULT = 256
"""lm-eval's generation budget where a task names none."""


class PromptTooLongError(EngineError):
    """A prompt with its continuation or generation budget exceeds the context."""

    def __init__(self, doc_id: int, tokens: int, room: int) -> None:
        super().__init__(f"Item {doc_id} needs a prompt of {tokens} tokens, but {room} fit.")
        self.doc_id, self.tokens, self.room = doc_id, tokens, room


class ShareDone(Exception):  # noqa: N818  (no error: it leaves lm-eval once a share of the shards is there)
    """All shards of the share that was asked for are in the store."""


class EngineLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """See the module. ``answers`` holds, by (document, request index), what lm-eval does not keep of each answer.

    With ``share`` (i, n) only every n-th shard from the i-th on is computed, and :class:`ShareDone` raised then.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        tokenizer: Any,
        *,
        max_length: int,
        stop_ids: frozenset[int],
        shards: ShardStore,
        console: Console,
        label: str,
        chat: Any = None,
        truncate: bool = False,
        thinking_tokens: int = 0,
        max_answer_tokens: int = 0,
        seed: int = 0,
        on_texts: Callable[[list[Row], list[str]], None] | None = None,
        share: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.share = share
        self.on_texts = on_texts
        self.engine = engine
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.stop_ids = stop_ids
        self.shards = shards
        self.console = console
        self.label = label
        self.chat = chat
        self.truncate = truncate
        self.thinking_tokens = thinking_tokens
        self.max_answer_tokens = max_answer_tokens
        self.seed = seed
        self.truncated = 0
        self.answers: dict[tuple[int, int], Row] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-sequence token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before an empty context: the beginning-of-sequence token, else the end-of-sequence token."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    @property
    def tokenizer_name(self) -> str:
        """A name for caches; none are used."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm-eval's records."""
        return None if not chat_template else str(self.tokenizer.chat_template or "")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The chat as text, by the run's own template: the one targets were made and trained with."""
        if self.chat is None:
            return str(
                self.tokenizer.apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    enable_thinking=False,
                )
            )
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]  # type: ignore[arg-type]
        return str(self.chat.render(messages, add_generation_prompt, continue_final=not add_generation_prompt))

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
    ) -> list[int]:
        """Token ids; the tokenizer adds its special tokens unless the text begins with one already."""
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if add_special_tokens is None and has_bos_prefix(string.lstrip(), self.tokenizer.decode(self.prefix_token_id)):
            special = {"add_special_tokens": False}
        ids: list[int] = self.tokenizer.encode(string, **special)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def _context_ids(self, context: str) -> list[int]:
        """Token ids of a prompt to complete; like ``tok_encode``, but only a real BOS counts as one."""
        special = {"add_special_tokens": False} if has_bos_prefix(context.lstrip(), self.tokenizer.bos_token) else {}
        ids: list[int] = self.tokenizer(context, **special)["input_ids"]
        return ids

    def _one_bos(self, ids: Sequence[int], doc_id: int) -> None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and list(ids[:2]) == [bos, bos]:
            raise EngineError(f"The prompt of item {doc_id} begins with two '{self.tokenizer.bos_token}' tokens.")

    def _too_long(self, doc_id: int, tokens: int, room: int) -> None:
        if not self.truncate:
            raise PromptTooLongError(doc_id, tokens, room)
        self.truncated += 1

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The text of each completion behind its think block, cut at its stop strings."""
        eos = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        thinks = self.thinking_tokens > 0
        asked: list[GenerateRequest] = []
        stops: list[list[str]] = []
        for request in requests:
            context, options = request.args
            kwargs: dict[str, Any] = dict(normalize_gen_kwargs(options, GEN_DEFAULT))
            until = handle_stop_sequences(kwargs["until"], eos=eos)
            answer = kwargs["max_gen_toks"]
            budget = min(answer, self.max_answer_tokens or answer) + self.thinking_tokens
            room = self.max_length - budget
            if room <= 0:
                raise EngineError(
                    f"A budget of {budget} tokens leaves no room for a prompt in a context of "
                    f"{self.max_length}; lower max_gen_toks in the task's YAML"
                    f"{', or thinking.tokens' if self.thinking_tokens else ''}."
                )
            ids = self._context_ids(context)
            self._one_bos(ids, request.doc_id)
            if len(ids) > room:
                self._too_long(request.doc_id, len(ids), room)
                ids = ids[-room:]
            marks = {self._single_token(text) for text in until} - {None}
            asked.append(
                GenerateRequest(
                    prompt_ids=ids,
                    max_new_tokens=budget,
                    stop_ids=self.stop_ids | {int(mark) for mark in marks if mark is not None},
                    # A thought may hold what ends an answer.
                    stop_strings=() if thinks else tuple(text for text in until if text and text != eos),
                    sampling=_sampling(kwargs),
                    seed=_seed(self.seed, request.doc_id, request.idx, len(asked)),
                    name=f"{self.label} item {request.doc_id}",
                )
            )
            stops.append(until)
        order = sorted(range(len(asked)), key=lambda i: (-len(asked[i].prompt_ids), list(asked[i].prompt_ids), i))
        shards = even_shards(order, DECODED_SHARD)

        def compute(batch: Sequence[GenerateRequest], report: Callable[..., None]) -> list[Row]:
            made = self.engine.generate(batch, on_result=report)
            return [
                {
                    "token_ids": [int(t) for t in g.token_ids],
                    "finish": g.finish,
                    "confidence": answer_confidence(g.logp),
                }
                for g in made
            ]

        rows = self._sharded("generate", asked, shards, compute)
        texts = []
        # An item that is sampled several times comes as several equal requests.
        sampled: dict[tuple[int, int], Row] = {}
        for request, row, until in zip(requests, rows, stops, strict=True):
            whole = self.tokenizer.decode(row["token_ids"], skip_special_tokens=True)
            answer = whole if self.chat is None else self.chat.answer_text(whole)
            texts.append(postprocess_generated_text(answer, until, None))
            row["tokens"] = len(row["token_ids"])
            first = sampled.setdefault((request.doc_id, request.idx), row)
            if first is not row:
                first["tokens"] += row["tokens"]
                first["seconds"] += row["seconds"]
        self.answers.update(sampled)
        if self.on_texts is not None:
            self.on_texts([request.doc for request in requests], texts)
        return texts

    def _single_token(self, text: str) -> int | None:
        """The id of a stop string that is one special token: decoding leaves it out, so text search cannot see it."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return int(ids[0]) if len(ids) == 1 and ids[0] in self.tokenizer.all_special_ids else None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As lm-eval's, with the shared context of a question's choices kept together; records tokens per request."""
        pairs = []
        for request in requests:
            context, continuation = request.args
            if context == "":
                target = self.tok_encode(continuation, add_special_tokens=False)
                prefix = [self.prefix_token_id]
                # A continuation that begins with the prefix token itself gives it up as context, as in lm-eval.
                pair = (prefix, target) if target[0] != prefix[0] else (target[:1], target[1:])
            else:
                pair = self._encode_pair(context, continuation)
            self._one_bos(pair[0], request.doc_id)
            pairs.append(((context, continuation), *pair))
        rows = self._score(pairs, [request.doc_id for request in requests])
        for request, row in zip(requests, rows, strict=True):
            self.answers[(request.doc_id, request.idx)] = row
        return [(row["logp"], row["greedy"]) for row in rows]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return [(row["logp"], row["greedy"]) for row in self._score(requests, list(range(len(requests))))]

    def _score(self, requests: Sequence[tuple[Any, list[int], list[int]]], doc_ids: Sequence[int]) -> list[Row]:
        asked = []
        for (_, context, target), doc_id in zip(requests, doc_ids, strict=True):
            if not target or len(target) > self.max_length:
                raise EngineError(
                    f"{self.label} item {doc_id}: a continuation of {len(target)} tokens cannot be scored."
                )
            if len(context) + len(target) > self.max_length + 1:
                self._too_long(doc_id, len(context), self.max_length + 1 - len(target))
                context = context[len(context) + len(target) - self.max_length - 1 :]
            asked.append(ScoreRequest(context, target, name=f"{self.label} item {doc_id}"))
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, request in enumerate(asked):
            groups.setdefault(tuple(request.prompt_ids), []).append(i)
        shards: list[list[int]] = [[]]
        for context_ids in sorted(groups, key=lambda ids: (-len(ids), ids)):
            if len(shards[-1]) >= SHARD:
                shards.append([])
            shards[-1] += groups[context_ids]

        def compute(batch: Sequence[ScoreRequest], report: Callable[..., None]) -> list[Row]:
            scored = self.engine.loglikelihood(batch, on_result=report)
            return [{"logp": float(s.logp), "greedy": bool(s.greedy), "tokens": int(s.tokens)} for s in scored]

        return self._sharded("loglikelihood", asked, shards, compute)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts in disjoint windows, each with as much context as fits."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (string,) = request.args
            rolling = utils.get_rolling_token_windows(
                token_list=self.tok_encode(string),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, target in map(utils.make_disjoint_window, rolling):
                windows.append((None, context, target))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, row in zip(owners, self._score(windows, owners), strict=True):
            totals[owner] += row["logp"]
        return totals

    def _sharded(
        self,
        kind: str,
        asked: Sequence[Any],
        shards: Sequence[Sequence[int]],
        compute: Callable[[Sequence[Any], Callable[..., None]], list[Row]],
    ) -> list[Row]:
        """All answers in order; shards that the store has are not computed again."""
        answers: list[Row] = [{} for _ in asked]

        def keep(indices: Sequence[int], rows: Sequence[Row]) -> None:
            for i, row in zip(indices, rows, strict=True):
                answers[i] = dict(row)

        with self.console.progress(self.label, len(asked), "requests") as meter:

            def make(missing: tuple[str, Sequence[int]]) -> None:
                key, indices = missing
                started = time.monotonic()
                with meter.part(len(indices)) as count:

                    def report(_: int, result: Any) -> None:
                        count(1, result.tokens if isinstance(result, LogLikelihood) else len(result.token_ids))

                    rows = compute([asked[i] for i in indices], report)
                seconds = (time.monotonic() - started) / max(len(indices), 1)
                rows = [{**row, "seconds": seconds} for row in rows]
                self.shards.put(key, rows)
                keep(indices, rows)

            missing = []
            for number, indices in enumerate(shards):
                key = f"{kind}-{number:04d}-{_digest([asked[i] for i in indices])}"
                rows = self.shards.get(key)
                if self.share is not None and number % self.share[1] != self.share[0]:
                    meter.go_on(len(indices))
                elif rows is None:
                    missing.append((key, indices))
                else:
                    meter.advance(len(indices))
                    keep(indices, rows)
            side_by_side(make, missing, self.engine.processes)
        if self.share is not None:
            raise ShareDone
        return answers


def _digest(batch: Sequence[Any]) -> str:
    """16 hex digits that stand for the requests of a shard."""
    facts = [
        [
            [int(t) for t in getattr(request, "prompt_ids", ())],
            [int(t) for t in getattr(request, "target_ids", ())],
            getattr(request, "max_new_tokens", 0),
            sorted(getattr(request, "stop_ids", ())),
            list(getattr(request, "stop_strings", ())),
            repr(getattr(request, "sampling", None)),
            getattr(request, "seed", 0),
        ]
        for request in batch
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _sampling(kwargs: dict[str, Any]) -> Sampling:
    if not kwargs.get("do_sample"):
        return Sampling()
    return Sampling(float(kwargs.get("temperature", 1.0)), float(kwargs.get("top_p", 1.0)), int(kwargs.get("top_k", 0)))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")
