"""The traps that move baselines, each against lm-eval's own ``hf`` backend on tiny random models."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from dasd_bench.console import Console
from dasd_bench.engine.engine import Engine
from dasd_bench.evaluation import MemoryShards
from dasd_bench.evaluation.lm_eval_model import EngineLM
from dasd_bench.models.chat import ChatTemplate
from tests.tiny_models import KINDS, Kind, tiny_model, tiny_tokenizer

PROMPT = "Question: Sam has 3 apples and buys 4 more. How many apples now?\nAnswer:"
SPACES = ("The answer is ", " leading", "two  spaces  ", "a line\n", "two\n\n", "tab\t ")


@cache
def pair(kind: Kind, length: int = 1024) -> tuple[EngineLM, Any]:
    """Our backend and lm-eval's on one model."""
    from lm_eval.models.huggingface import HFLM

    tokenizer, model = tiny_tokenizer(kind), tiny_model(kind)
    ours = EngineLM(
        Engine(model, tokenizer),
        tokenizer,
        max_length=length,
        stop_ids=frozenset([int(tokenizer.eos_token_id)]),
        shards=MemoryShards(),
        console=Console(quiet=True),
        label="trap",
        chat=ChatTemplate(tokenizer),
        truncate=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dated = {"date_string": "26 Jul 2024"} if kind == "llama" else {}
        theirs = HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            max_length=length,
            enable_thinking=False,
            chat_template_args=dated,
        )
    return ours, theirs


def asked(kind: str, *arguments: Any) -> list[Instance]:
    """Requests for both sides."""
    return [Instance(kind, {}, one, i, ("trap", i, 1)) for i, one in enumerate(arguments)]


def generated(lm: Any, prompt: str, **options: Any) -> str:
    """One completion."""
    options = {"max_gen_toks": 24, "do_sample": False, "until": [], **options}
    return str(lm.generate_until(asked("generate_until", (prompt, options)), disable_tqdm=True)[0])


def scores(lm: Any, *pairs: tuple[str, str]) -> list[float]:
    """Log-likelihoods of continuations."""
    return [float(logp) for logp, _ in lm.loglikelihood(asked("loglikelihood", *pairs), disable_tqdm=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_that_end_in_a_space(kind: Kind) -> None:
    ours, theirs = pair(kind)
    for prompt in SPACES:
        # A template that knows </think> has what stands before it left out: stock lm-eval does so only when told.
        stock = generated(theirs, prompt)
        assert generated(ours, prompt) == (stock.rpartition("</think>")[2] if kind == "qwen3" else stock)
    pairs = [(prompt, text) for prompt in SPACES for text in ("7", " seven", "b c")]
    assert scores(ours, *pairs) == pytest.approx(scores(theirs, *pairs), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_stop_strings_of_many_tokens_and_across_tokens(kind: Kind) -> None:
    """Every slice of what the model writes is a stop string once: within a token, of several, across two."""
    ours, theirs = pair(kind)
    whole = generated(theirs, PROMPT)
    assert generated(ours, PROMPT) == whole
    slices = {whole[i : i + size] for i in range(2, len(whole) - 9, 11) for size in (1, 4, 9)}
    cut = 0
    for stop in sorted(slices):
        text = generated(ours, PROMPT, until=[stop])
        assert text == generated(theirs, PROMPT, until=[stop])
        assert text == whole.split(stop)[0]
        cut += len(text) < len(whole)
    assert cut > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_inside_the_prompt_stops_nothing(kind: Kind) -> None:
    ours, theirs = pair(kind)
    whole = generated(theirs, PROMPT)
    for stop in ("Question:", "apples", ":", "Answer:"):
        assert stop in PROMPT
        text = generated(ours, PROMPT, until=[stop])
        assert text == generated(theirs, PROMPT, until=[stop])
        assert text == whole.split(stop)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_several_stop_strings_and_special_ones(kind: Kind) -> None:
    ours, theirs = pair(kind)
    whole = generated(theirs, PROMPT)
    special = [token for token in tiny_tokenizer(kind).all_special_tokens if token]
    for until in ([whole[20:23], whole[8:10]], ["not there", whole[12:14]], special[:3], [*special, whole[5:7]]):
        assert generated(ours, PROMPT, until=until) == generated(theirs, PROMPT, until=until)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_cut_on_the_left(kind: Kind) -> None:
    ours, theirs = pair(kind, 64)
    long = " ".join(f"{i} apples and {i} pears." for i in range(40))
    assert generated(ours, long) == generated(theirs, long)
    pairs = [(long, " and more"), (long, " pears. " * 3), (PROMPT, " 7")]
    assert scores(ours, *pairs) == pytest.approx(scores(theirs, *pairs), abs=1e-3)
    assert ours.truncated >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_chat_template_and_one_bos(kind: Kind) -> None:
    ours, theirs = pair(kind)
    turns = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "7"}]
    for chat, prompt in (
        (turns[:1], ours.apply_chat_template(turns[:1])),
        (turns, ours.apply_chat_template(turns, add_generation_prompt=False)),
    ):
        assert prompt == theirs.apply_chat_template(chat, add_generation_prompt=len(chat) == 1)
        ids = ours._context_ids(prompt)
        bos = tiny_tokenizer(kind).bos_token_id
        assert ids == theirs.tok_encode(prompt)
        assert bos is None or ids.count(bos) == 1
        assert generated(ours, prompt) == generated(theirs, prompt)
        assert scores(ours, (prompt, " 7")) == pytest.approx(scores(theirs, (prompt, " 7")), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_context_at_all(kind: Kind) -> None:
    ours, theirs = pair(kind)
    pairs = [("", "Sam has 3 apples."), ("", " a")]
    assert scores(ours, *pairs) == pytest.approx(scores(theirs, *pairs), abs=1e-3)
