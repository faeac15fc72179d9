"""The code tasks: stock prompts, our executor, gold programs pass and perturbed ones fail. Nothing asks the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.registry import Registry, discover
from dasd_bench.tasks import derive
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.types import Reason

DATA = os.environ.get("DASD_DATA_DIR", "")
needs_data = pytest.mark.skipif(not DATA, reason="DASD_DATA_DIR is not set: no real MBPP and HumanEval rows")
NAMES = ("mbpp", "mbpp_instruct", "mbpp_plus", "humaneval", "humaneval_plus")
#: The forms for chat models, and the stock tasks whose prompts they have.
INSTRUCT = {
    "mbpp_instruct": "mbpp_instruct",
    "mbpp_plus_instruct": "mbpp_plus_instruct",
    "humaneval_instruct": "humaneval_instruct",
    "humaneval_plus_instruct": "humaneval_instruct",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_stops_are_the_installed_yaml_s(registry: Registry, name: str) -> None:
    """Against the text of the stock YAML itself, read without our derivation."""
    task = registry.task(name).item
    text = derive.stock_yaml(name).read_text()
    config = derive.config_of(task)
    if "doc_to_text:" in text:
        (line,) = [one for one in text.splitlines() if one.startswith("doc_to_text:")]
        assert str(config["doc_to_text"]).split("\n")[0] in line.encode().decode("unicode_escape")
    for stop in config["generation_kwargs"]["until"]:
        base = derive.stock_yaml(name.removesuffix("_plus")).read_text()
        assert stop.replace("\n", "\\n") in base
    assert config["unsafe_code"] is True
    if name.startswith("mbpp") and name != "humaneval":
        assert config["num_fewshot"] == 3


def test_the_hub_metric_is_never_loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate

    def forbidden(*_args: object, **_options: object) -> None:
        raise AssertionError("evaluate.load was called")

    monkeypatch.setattr(evaluate, "load", forbidden)
    derive.config_of(registry.task("humaneval").item)
    assert evaluate.load is forbidden


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_gold_passes_and_broken_fails(registry: Registry, name: str) -> None:
    task = registry.task(name).item
    rows = load_rows(task, "test", data_dir=Path(DATA), limit=12)
    for example, row in zip(examples_of(task, rows, "test"), rows.rows, strict=True):
        gold = row.get("canonical_solution") or row["code"]
        assert task.grade(example, gold).correct, example.id
        broken = "    return object()\n" if "canonical_solution" in row else "def nothing():\n    return 1\n"
        assert not task.grade(example, broken).correct, example.id


@needs_data
def test_instruct_form_takes_the_program_out_of_the_answer(registry: Registry) -> None:
    task = registry.task("mbpp_instruct").item
    rows = load_rows(task, "test", data_dir=Path(DATA), limit=1)
    (example,) = examples_of(task, rows, "test")
    answer = f"Here is the function:\n```python\n{rows.rows[0]['code']}\n```\nIt works by searching."
    assert task.grade(example, answer).correct
    assert not registry.task("mbpp").item.grade(example, answer).correct


@pytest.mark.parametrize("name", INSTRUCT)
def test_instruct_forms_have_the_stock_prompt_and_are_no_stock_score(registry: Registry, name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    task = registry.task(name).item
    stock = load_yaml(derive.stock_yaml(INSTRUCT[name]), resolve_func=False)
    config = derive.config_of(task)
    for key in ("doc_to_text", "gen_prefix", "num_fewshot", "generation_kwargs", "test_split"):
        assert config[key] == stock[key], key
    assert config["generation_kwargs"].get("max_gen_toks") == task.max_new_tokens
    assert config["unsafe_code"] is True
    assert not task.comparable


def answers(row: dict[str, Any]) -> list[str]:
    """Chat answers that hold a row's reference program: all of them right."""
    code = str(row.get("canonical_solution") or row["code"]).replace("\r\n", "\n")
    program = str(row["prompt"]) + code if "canonical_solution" in row else code
    usage = "Use it like this:\n```python\nprint(solve(1))\nassert False\n```"
    return [
        f"{code}\n```\nIt works by searching.",  # the prompt ends inside a fence
        f"{code}\n```\n{usage}",
        f"{program}\n```\n{usage}",
        f"Here's the function: ```python\n{program}\n```\nIt works by searching.",
        f"```python\n{program}```\n{usage}",
        f"[BEGIN]\n{program}\n[DONE]\n{usage}",
        f"Here's the function:\n\n{program}\n\nIt works by searching.",
    ]


@needs_data
@pytest.mark.parametrize("name", INSTRUCT)
def test_gold_dressed_as_a_chat_answer_passes(registry: Registry, name: str) -> None:
    task = registry.task(name).item
    rows = load_rows(task, "test", data_dir=Path(DATA), limit=5)
    examples = list(examples_of(task, rows, "test"))
    pairs = [(row, text) for row in rows.rows for text in answers(row)]
    task.grade_ahead([row for row, _ in pairs], [text for _, text in pairs])
    for example, row in zip(examples, rows.rows, strict=True):
        for text in answers(row):
            assert task.grade(example, text).correct, (example.id, text)
        assert not task.grade(example, "```python\ndef nothing():\n    return 1\n```").correct


@needs_data
@pytest.mark.parametrize("name", INSTRUCT)
def test_the_answer_of_a_chat_model_is_begun_in_a_fence(registry: Registry, name: str) -> None:
    task = registry.task(name).item
    rows = load_rows(task, "test", data_dir=Path(DATA), limit=1).rows
    config = derive.config_of(task)
    built = derive.build(task, {derive.evaluation_split(config): rows}, 0, 1234)
    prompt = built.fewshot_context(
        rows[0], 0, apply_chat_template=True, gen_prefix=built.doc_to_prefix(rows[0]),
        chat_template=lambda turns, add_generation_prompt: "|".join(str(t["content"]) for t in turns),
    )  # fmt: skip
    head = f"{rows[0]['prompt']}\n" if name.startswith("humaneval") else ""
    assert prompt.endswith(f"```python\n{head}")
    assert "|" in prompt


@pytest.mark.parametrize(
    ("lines", "level"),
    [(1, "1-3"), (3, "1-3"), (4, "4-6"), (6, "4-6"), (7, "7-10"), (10, "7-10"), (11, "11+"), (50, "11+")],
)
def test_levels_are_four_lengths_of_the_reference(registry: Registry, lines: int, level: str) -> None:
    code = "\n\n".join(["    x = 1"] * lines) + "\n  \n"
    assert registry.task("humaneval").item.level_of({"canonical_solution": code}) == level
    assert registry.task("mbpp").item.level_of({"code": code}) == level


def test_levels_stand_in_order_in_tables() -> None:
    from dasd_bench.reporting.details import natural
    from dasd_bench.tasks.stock_code import LENGTHS

    assert sorted(["11+", "7-10", "1-3", "4-6"], key=natural) == [name for _, name in LENGTHS]


def test_endless_program_is_a_timeout(registry: Registry) -> None:
    task = registry.task("mini_mbpp").item
    (example, *_) = examples_of(task, load_rows(task, "train", limit=1), "train")
    name = example.reference.split("def ")[1].split("(")[0]
    assert task.grade(example, f"def {name}(*a):\n    while True:\n        pass\n").reason is Reason.TIMEOUT


@needs_data
def test_mbpp_trains_on_its_train_split(registry: Registry) -> None:
    task = registry.task("mbpp").item
    rows = load_rows(task, "train", data_dir=Path(DATA), limit=5)
    for example in examples_of(task, rows, "train"):
        assert task.grade(example, example.reference).correct


def test_all_completions_of_an_evaluation_run_in_one_go_and_each_once(
    registry: Registry, sandbox_batches: list[int]
) -> None:
    task = registry.task("mini_mbpp").item
    rows = load_rows(task, "test", limit=3).rows
    texts = [str(row["code"]) for row in rows[:2]] + ["no program"]
    task.grade_ahead([*rows, rows[0]], [*texts, texts[0]])
    assert sandbox_batches == [3]
    score = derive.config_of(task)["process_results"]
    assert [score(row, [text])["pass_at_1"] for row, text in zip(rows, texts, strict=True)] == [1.0, 1.0, 0.0]
    assert sandbox_batches == [3]


@needs_data
def test_several_completions_give_the_unbiased_pass_at_k(registry: Registry) -> None:
    """Through lm-eval itself: 16 completions of which 4 pass."""
    from math import comb

    import lm_eval
    from lm_eval.api.model import LM

    task = registry.task("mbpp_16").item
    rows = load_rows(task, "test", data_dir=Path(DATA), limit=2).rows
    gold = {str(row["text"]): str(row["code"]) for row in rows}

    class Some(LM):
        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            seen: dict[str, int] = {}
            texts = []
            for request in requests:
                question = str(request.doc["text"])
                seen[question] = seen.get(question, 0) + 1
                texts.append(gold[question] if seen[question] <= 4 else f"def wrong(): return {seen[question]}")
            task.grade_ahead([request.doc for request in requests], texts)
            return texts

        loglikelihood = loglikelihood_rolling = generate_until  # type: ignore[assignment]

    config = derive.config_of(task)
    built = derive.build(task, {derive.evaluation_split(config): rows}, 3, 1234)
    found = lm_eval.evaluate(Some(), {"mbpp_16": built}, bootstrap_iters=0, confirm_run_unsafe_code=True)
    scores = found["results"]["mbpp_16"]
    for k in (1, 2, 4, 8, 16):
        assert scores[f"pass_at_{k},none"] == pytest.approx(1 - comb(12, k) / comb(16, k))
