"""One evaluation: what is recorded, what is kept of a killed one, what is refused. The engine is a scripted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.errors import DataError, UsageError
from dasd_bench.evaluation import EvalSettings, MemoryShards, Sample, TaskResult, evaluate
from dasd_bench.methods.context import Generation
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.registry import discover
from dasd_bench.results.json_codec import decode
from dasd_bench.tasks.base import Row
from dasd_bench.tasks.loading import load_rows
from dasd_bench.types import Reason
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer("llama")
PLAIN = EvalSettings(chat_template=False)


class Scripted:
    """Answers each prompt by a rule and remembers what it was asked; may die after some requests."""

    processes = 1

    def __init__(self, answer: Callable[[str], str], die_after: int | None = None, length: int = 1024) -> None:
        self.answer = answer
        self.die_after = die_after
        self.context_length = length
        self.asked: list[GenerateRequest] = []
        self.scored: list[ScoreRequest] = []

    def generate(self, requests: Sequence[GenerateRequest], on_result: Any = None) -> list[Generation]:
        made = []
        for number, request in enumerate(requests):
            if self.die_after is not None and len(self.asked) >= self.die_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            text = self.answer(TOKENIZER.decode(request.prompt_ids))
            ids = TOKENIZER.encode(text, add_special_tokens=False)
            full = len(ids) >= request.max_new_tokens
            ids = ids[: request.max_new_tokens] if full else [*ids, TOKENIZER.eos_token_id]
            array = np.array(ids, dtype=np.int32)
            done = Generation(array, np.zeros(len(ids), np.float32), text, "length" if full else "stop")
            on_result(number, done)
            made.append(done)
        return made

    def loglikelihood(self, requests: Sequence[ScoreRequest], on_result: Any = None) -> list[LogLikelihood]:
        self.scored += requests
        return [LogLikelihood(-float(len(r.target_ids)), False, len(r.target_ids)) for r in requests]


def run(engine: Scripted, name: str = "mini_gsm", limit: int = 5, **more: Any) -> TaskResult:
    task = discover().task(name).item
    settings = more.pop("settings", PLAIN)
    return evaluate(task, engine, TOKENIZER, rows=load_rows(task, "test", limit=limit).rows, settings=settings, **more)


def gold(limit: int = 5) -> list[Row]:
    return load_rows(discover().task("mini_gsm").item, "test", limit=limit).rows


def test_reasons_are_told_apart() -> None:
    rows = gold()
    answers = {
        rows[0]["question"]: " " + rows[0]["answer"],
        rows[1]["question"]: " It is #### 987654",
        rows[2]["question"]: " I cannot say",
        rows[3]["question"]: " 987654 and so on" * 60,
        rows[4]["question"]: " The answer is 987654. and so on" + " etc" * 300,
    }

    def answer(prompt: str) -> str:
        return next(text for question, text in answers.items() if question in prompt)

    result = run(Scripted(answer))
    assert [r.reason for r in result.records] == [
        Reason.CORRECT,
        Reason.WRONG,
        Reason.NO_ANSWER,
        Reason.TRUNCATED,
        Reason.WRONG,
    ]
    assert [r.finish for r in result.records] == ["stop", "stop", "stop", "length", "length"]
    assert result.records[2].extracted is None
    assert result.score == 0.2
    assert result.metrics["exact_match,strict-match"] == 0.2
    assert [decode(Sample, r.to_json()).to_json() for r in result.records] == [r.to_json() for r in result.records]
    assert "seconds" in result.records[0].to_json(timings=True)


def test_text_is_cut_at_a_stop_string_that_straddles_tokens() -> None:
    result = run(Scripted(lambda _: " 7\nQuestion: 8"), limit=2)
    assert {r.completion for r in result.records} == {" 7\n"}


def test_a_stop_string_in_the_prompt_does_not_matter_and_special_tokens_stop() -> None:
    engine = Scripted(lambda _: " 5")
    run(engine, limit=1)
    request = engine.asked[0]
    assert "Question:" in TOKENIZER.decode(request.prompt_ids)
    assert request.stop_strings == ("Question:",)
    assert TOKENIZER.eos_token_id in request.stop_ids
    assert list(request.prompt_ids).count(TOKENIZER.bos_token_id) == 1


@pytest.mark.parametrize("chat", [True, False])
def test_the_prompt_is_the_training_prompt(chat: bool) -> None:
    """Chat evaluation begins with the very tokens that targets were made and trained with."""
    from dasd_bench.types import Message

    engine, template = Scripted(lambda _: " 5"), ChatTemplate(TOKENIZER)
    run(engine, limit=1, settings=EvalSettings(chat_template=chat), chat=template)
    example = discover().task("mini_gsm").item.example(gold(1)[0], "test", 0)
    wanted = template.encode([Message("user", example.prompt)]) if chat else TOKENIZER.encode(example.prompt)
    assert list(engine.asked[0].prompt_ids) == wanted


def test_a_thought_is_not_graded_and_its_stop_strings_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer counts behind ``</think>``; a thought that is not closed has none."""
    from tests.models.test_thinking import QWEN3, template

    chat = template(QWEN3, "on")
    monkeypatch.setattr("tests.evaluation.test_evaluator.TOKENIZER", chat.tokenizer)
    rows = gold(3)
    final = rows[0]["answer"].rpartition("####")[2].strip()
    answers = {
        rows[0]["question"]: f"<think>\nQuestion: 1? #### 987654\n</think>\n\n#### {final}\nQuestion: 5",
        rows[1]["question"]: "<think>\n#### " + rows[1]["answer"].rpartition("####")[2].strip() + " or so" * 300,
        rows[2]["question"]: "I cannot say",
    }
    engine = Scripted(lambda prompt: next(text for question, text in answers.items() if question in prompt))
    settings = EvalSettings(num_fewshot=0, thinking_tokens=32)
    result = run(engine, limit=3, settings=settings, chat=chat)
    assert {request.stop_strings for request in engine.asked} == {()}
    assert {request.max_new_tokens for request in engine.asked} == {
        discover().task("mini_gsm").item.max_new_tokens + 32
    }
    assert [r.completion for r in result.records] == [f"#### {final}\n", "", "I cannot say"]
    assert [r.reason for r in result.records] == [Reason.CORRECT, Reason.TRUNCATED, Reason.NO_ANSWER]


def test_a_killed_evaluation_repeats_only_its_unfinished_shard() -> None:
    whole = Scripted(lambda prompt: f" {len(prompt)}")
    undisturbed = run(whole, limit=300)
    assert len(whole.asked) == 300
    shards = MemoryShards()
    killed = Scripted(lambda prompt: f" {len(prompt)}", die_after=200)
    with pytest.raises(KeyboardInterrupt):
        run(killed, limit=300, shards=shards)
    assert len(shards.rows) == 1
    again = Scripted(lambda prompt: f" {len(prompt)}")
    resumed = run(again, limit=300, shards=shards)
    assert len(again.asked) == 150
    assert [r.to_json() for r in resumed.records] == [r.to_json() for r in undisturbed.records]
    idle = Scripted(lambda _: "never asked", die_after=0)
    assert run(idle, limit=300, shards=shards).metrics == undisturbed.metrics


def test_shards_of_other_requests_are_not_taken() -> None:
    shards = MemoryShards()
    run(Scripted(lambda _: " 1"), limit=3, shards=shards)
    other = Scripted(lambda _: " 2")
    run(other, limit=3, shards=shards, stop_ids=[5])
    assert len(other.asked) == 3


def test_choices_of_a_question_stay_in_one_shard() -> None:
    engine = Scripted(lambda _: "")
    result = run(engine, "mini_arc", limit=40)
    assert len(engine.scored) == sum(len(r.choices or ()) for r in result.records)
    order = [tuple(request.prompt_ids) for request in engine.scored]
    assert len(set(order)) == sum(a != b for a, b in zip(order, [*order[1:], None], strict=True))
    record = result.records[0]
    assert record.choice_logp is not None
    assert record.tokens == -sum(record.choice_logp)


def test_context_too_short_for_the_shots_says_how_many_fit() -> None:
    with pytest.raises(UsageError) as caught:
        run(Scripted(lambda _: ""), settings=EvalSettings(num_fewshot=20, chat_template=False), limit=3)
    words = str(caught.value)
    fit = int(words.split("at most ")[1].split()[0])
    assert 0 < fit < 20
    run(Scripted(lambda _: ""), settings=EvalSettings(num_fewshot=fit, chat_template=False), limit=3)
    with pytest.raises(UsageError):
        run(Scripted(lambda _: ""), settings=EvalSettings(num_fewshot=fit + 1, chat_template=False), limit=3)


def test_a_prompt_too_long_by_itself_is_not_blamed_on_the_shots() -> None:
    long = {"question": "What is it? " * 400, "answer": "It is 1.\n#### 1"}
    settings = EvalSettings(num_fewshot=2, chat_template=False)
    with pytest.raises(DataError, match="even without shots one is too long"):
        evaluate(discover().task("mini_gsm").item, Scripted(lambda _: ""), TOKENIZER, rows=[long], settings=settings)


class Twins(type(discover().task("mini_gsm").item)):  # type: ignore[misc]
    """A task whose train split is given."""

    pool: tuple[Row, ...] = ()

    def builtin_rows(self, split: str) -> list[Row]:
        return [dict(row) for row in self.pool]


def test_rows_that_are_in_both_splits_are_told_and_own_shots_refused() -> None:
    from dasd_bench.console import Console

    docs = [{"question": f"What is {i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(100)]
    task = Twins()
    task.folder = discover().task("mini_gsm").item.folder

    def warned(pool: list[Row], scored: list[Row], shots: int) -> list[str]:
        task.pool = tuple(pool)  # type: ignore[misc]
        console = Console(quiet=True)
        settings = EvalSettings(num_fewshot=shots, chat_template=False)
        evaluate(task, Scripted(lambda _: " 1"), TOKENIZER, rows=scored, settings=settings, console=console)
        return console.warnings

    assert warned(docs[:50], docs[50:60], 1) == []
    (told,) = warned(docs[:50], [*docs[50:60], docs[7]], 1)
    assert "scored rows that are also in the few-shot split 'train': 11 (there 8)" in told
    with pytest.raises(DataError, match="row 1 is drawn as its own shot"):
        warned(docs[:3], [docs[0], docs[50]], 3)


def test_asking_for_the_draw_does_not_change_it() -> None:
    """The shots are those of a pool without a twin of the scored row at another place."""
    docs = [{"question": f"What is {i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(100)]
    task = Twins()
    task.folder = discover().task("mini_gsm").item.folder
    task.pool = tuple(docs[:50])  # type: ignore[misc]
    settings = EvalSettings(num_fewshot=1, chat_template=False)

    def shots(last: Row) -> list[str]:
        engine = Scripted(lambda _: " 1")
        evaluate(task, engine, TOKENIZER, rows=[*docs[50:60], last], settings=settings)
        return sorted(TOKENIZER.decode(request.prompt_ids).split("Question:")[1] for request in engine.asked)

    assert shots(docs[7]) == shots(docs[60])


def test_a_budget_larger_than_the_context() -> None:
    with pytest.raises(EngineError, match="leaves no room for a prompt"):
        run(Scripted(lambda _: "", length=100), limit=1)


def test_answers_may_be_limited_below_the_tasks_budget() -> None:
    def asked(cap: int) -> tuple[set[int], str]:
        engine = Scripted(lambda _: " #### 1")
        result = run(engine, limit=2, settings=EvalSettings(chat_template=False, max_answer_tokens=cap))
        return {request.max_new_tokens for request in engine.asked}, result.note

    assert asked(12)[0] == {12}
    assert "answers of at most 12 tokens" in asked(12)[1]
    own = asked(0)
    assert own == asked(4096)
    assert "answers of at most" not in own[1]


def test_two_bos_tokens_are_refused() -> None:
    from dasd_bench.console import Console
    from dasd_bench.evaluation.lm_eval_model import EngineLM

    lm = EngineLM(
        Scripted(lambda _: ""),
        TOKENIZER,
        max_length=100,
        stop_ids=frozenset(),
        shards=MemoryShards(),
        console=Console(quiet=True),
        label="x",
    )
    with pytest.raises(EngineError, match="begins with two"):
        lm._one_bos([TOKENIZER.bos_token_id, TOKENIZER.bos_token_id, 5], 3)


def test_only_stock_prompts_without_extras_are_comparable() -> None:
    result = run(Scripted(lambda _: ""), limit=2)
    assert not result.comparable
    assert result.summary()["config"]["lm_eval"] == "0.4.13"
    assert "own task" in result.note


def test_missing_headline_metric_names_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from dasd_bench.errors import PluginError

    task = discover().task("mini_gsm").item
    monkeypatch.setattr(type(task), "filter", "loose")
    with pytest.raises(PluginError, match=r"no metric 'exact_match' under filter 'loose'; it has exact_match,flexible"):
        evaluate(task, Scripted(lambda _: " 1"), TOKENIZER, rows=gold(1), settings=PLAIN)


def test_every_sample_of_an_item_is_kept_and_graded_again() -> None:
    """Three samples an item: all are in the record, and its tokens are those of all."""
    from dasd_bench.evaluation.regrade import regrade

    shipped = discover().task("mini_gsm").item

    class Thrice(type(shipped)):  # type: ignore[misc]
        def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
            return {**config, "repeats": 3}

    task = Thrice()
    task.folder = shipped.folder
    asked = iter(range(100))
    engine = Scripted(lambda _: f" It is #### {next(asked)}")
    records = evaluate(task, engine, TOKENIZER, rows=gold(2), settings=PLAIN).records
    assert [len(record.completions or []) for record in records] == [3, 3]
    assert len({text for record in records for text in record.completions or []}) == 6
    assert records[0].completion == (records[0].completions or [])[0]
    assert sum(record.tokens for record in records) == sum(
        len(TOKENIZER.encode(text, add_special_tokens=False)) + 1 for r in records for text in r.completions or []
    )
    again = regrade(task, gold(2), records).records
    assert [record.to_json() for record in again] == [record.to_json() for record in records]
