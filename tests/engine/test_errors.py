"""What the engine refuses, and what it does when memory runs out."""

from __future__ import annotations

import copy

import pytest
import torch

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import DualRequest, EngineSettings, GenerateRequest, ScoreRequest
from dasd_bench.engine.session import PackedSession
from tests.engine.conftest import pair, random_prompts
from tests.engine.test_dual import gate


@pytest.fixture
def engine():
    return Engine(*pair("llama"))


def test_prompt_longer_than_the_context_names_item_length_and_limit(engine):
    prompt = [5] * 1030
    with pytest.raises(EngineError, match=r"gsm8k/test/3 has 1030 tokens.*1024"):
        engine.generate([GenerateRequest(prompt, 4, frozenset(), name="gsm8k/test/3")])
    with pytest.raises(EngineError, match=r"gsm8k/test/3 has 1020 tokens and its target 10.*1024"):
        engine.score([ScoreRequest([5] * 1020, [5] * 10, name="gsm8k/test/3")])
    with pytest.raises(EngineError, match=r"pair has 1030 tokens"):
        engine.dual_decode([DualRequest([5], prompt, 4, frozenset(), name="pair")], gate(0.5))


def test_empty_prompt_target_and_budget(engine):
    with pytest.raises(EngineError, match="prompt of request 0 is empty"):
        engine.generate([GenerateRequest([], 4, frozenset())])
    with pytest.raises(EngineError, match="target of request 1 is empty"):
        engine.loglikelihood([ScoreRequest([5], [6]), ScoreRequest([5], [])])
    with pytest.raises(EngineError, match="at least 1"):
        engine.generate([GenerateRequest([5], 0, frozenset())])
    assert engine.generate([]) == []
    assert engine.score([]) == []


def test_a_token_beyond_the_embedding_is_named_where_it_occurs():
    """Gemma 3's text models have no row for the image token that their tokenizer has."""
    model, _ = pair("llama")
    tokenizer = copy.deepcopy(pair("llama")[1])
    rows = len(tokenizer)
    tokenizer.add_tokens(["<image>"])
    engine = Engine(model, tokenizer)
    assert len(engine.score([ScoreRequest([5, 6], [7])])) == 1
    with pytest.raises(EngineError, match=f"The prompt of one has token {rows}, for which the model has no embedding"):
        engine.generate([GenerateRequest([5, rows], 3, frozenset(), name="one")])
    with pytest.raises(EngineError, match=f"The prompt of one has token {rows}"):
        engine.dual_decode([DualRequest([5], [5, rows], 3, frozenset(), name="one")], gate(0.5))
    with pytest.raises(EngineError, match=f"The target of one has token {rows}"):
        engine.score([ScoreRequest([5, 6], [7, rows], name="one")])


@pytest.mark.parametrize("accelerate", ["auto", "off"])
def test_not_finite_logits_name_the_item(accelerate):
    model = copy.deepcopy(pair("llama")[0])
    with torch.no_grad():
        model.get_input_embeddings().weight[77] = float("nan")
    engine = Engine(model, pair("llama")[1], EngineSettings(accelerate=accelerate))
    good, bad = [5, 6, 7], [5, 77, 8]
    with pytest.raises(EngineError, match="non-finite logits for bad one"):
        engine.generate([GenerateRequest(p, 3, frozenset(), name=n) for p, n in [(good, "good one"), (bad, "bad one")]])
    with pytest.raises(EngineError, match="non-finite logits for bad one"):
        engine.score([ScoreRequest(p, [4, 5], name=n) for p, n in [(good, "good one"), (bad, "bad one")]])


def test_out_of_memory_halves_the_slots_and_loses_nothing(engine, monkeypatch):
    asked = [GenerateRequest(p, 12, frozenset(range(40)), name=f"p{i}") for i, p in enumerate(random_prompts(12))]
    expected = [r.token_ids.tolist() for r in engine.generate(asked)]
    step, seen = PackedSession.step, []
    failed = []

    def tight(self, tokens):
        if len(tokens) > 3 and len(seen) > 2:
            failed.append(len(tokens))
            raise torch.OutOfMemoryError("out of memory")
        return step(self, tokens)

    monkeypatch.setattr(PackedSession, "step", tight)
    results = engine.generate(asked, lambda index, _: seen.append(index))
    assert failed
    assert sorted(seen) == list(range(12)), "every item once"
    assert [r.token_ids.tolist() for r in results] == expected


def test_out_of_memory_with_one_item_is_an_error(engine, monkeypatch):
    def never(self, tokens):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(PackedSession, "step", never)
    with pytest.raises(EngineError, match="not enough memory to decode only"):
        engine.generate([GenerateRequest([5, 6], 4, frozenset(), name="only")])


def test_a_small_memory_budget_means_fewer_rows_not_other_results():
    model, tokenizer = pair("llama")
    asked = [GenerateRequest(p, 12, frozenset(range(40))) for p in random_prompts(8)]
    wide = Engine(model, tokenizer).generate(asked)
    tight = Engine(model, tokenizer, EngineSettings(memory_gib=1e-6)).generate(asked)
    assert [r.token_ids.tolist() for r in wide] == [r.token_ids.tolist() for r in tight]
