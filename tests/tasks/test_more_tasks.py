"""The mathematics, word-problem and multiple-choice tasks: stock prompts, own forms, training sides, shots by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import UsageError
from dasd_bench.evaluation import EvalSettings, evaluate
from dasd_bench.evaluation.evaluator import quiet
from dasd_bench.registry import Registry, discover
from dasd_bench.tasks import derive
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.stock_imports import any_antlr
from dasd_bench.types import Reason

GSM = {"question": "Ann has 3 pens and buys 4. How many?", "answer": "She has 3+4=<<3+4=7>>7 pens.\n#### 7"}
MATH = {
    "problem": "What is $1/2+1/4$?",
    "level": "Level 2",
    "type": "Prealgebra",
    "solution": "It is $\\boxed{\\frac{3}{4}}$.",
}
MATH500 = {**MATH, "subject": "Prealgebra", "level": 2, "answer": "\\frac{3}{4}", "unique_id": "x"}
CHOICE = {
    "id": "a",
    "question": "Which is hot?",
    "choices": {"text": ["ice", "snow", "fire", "rain", "fog"], "label": list("ABCDE")},
    "answerKey": "C",
}
FOUR = {**CHOICE, "choices": {"text": ["ice", "snow", "fire", "rain"], "label": list("1234")}, "answerKey": "3"}
SVAMP = {
    "ID": "chal-1",
    "Body": "Ann had 8 pens in each of 3 boxes. She lost 2.",
    "Question": "How many are left?",
    "Equation": "( ( 8.0 * 3.0 ) - 2.0 )",
    "Answer": 22.0,
    "Type": "Common-Divison",
}
ROWS: dict[str, Row] = {
    "gsm8k": GSM,
    "gsm8k_cot": GSM,
    "gsm8k_chat": GSM,
    "svamp": SVAMP,
    "math": MATH,
    "math500": MATH500,
    "math_chat": MATH,
    "arc_easy": FOUR,
    "arc_challenge": FOUR,
    "arc_challenge_chat": FOUR,
    "commonsense_qa": CHOICE,
}
COMPARABLE = set(ROWS) - {"gsm8k_chat", "math_chat", "svamp"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def built(task: Task, row: Row, shots: int) -> tuple[str, Any]:
    """lm-eval's own prompt for the row, and its task."""
    config = derive.config_of(task)
    split = derive.fewshot_split(config) if shots else None
    rows = {derive.evaluation_split(config): [row]}
    if split is not None:
        rows[split] = [row] * shots
    with quiet():
        made = derive.build(task, rows, shots, 1234)
        doc = made.eval_docs[0]
        return str(made.fewshot_context(doc, num_fewshot=shots, gen_prefix=made.doc_to_prefix(doc))), made


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_training_side_goes_with_the_scored_side(registry: Registry, name: str) -> None:
    task = registry.task(name).item
    example = task.example(ROWS[name], "test", 0)
    prompt, _ = built(task, ROWS[name], 0)
    assert prompt.startswith(example.prompt)
    assert task.grade(example, example.reference).reason is Reason.CORRECT
    assert not task.grade(example, "I do not know.").correct
    assert task.comparable is (name in COMPARABLE)
    if name.startswith(("gsm8k", "math", "svamp")):
        assert example.level in {"1", "2"}
    if name.startswith(("math", "svamp")):
        assert example.subject in {"Prealgebra", "Common-Division"}
    assert all(marker in example.reference or marker == "\\boxed" for marker in task.answer_markers)


def test_fixed_shots_come_from_the_installed_package(registry: Registry) -> None:
    cot, made = built(registry.task("gsm8k_cot").item, GSM, 8)
    assert cot.count("Q: ") == 9
    assert cot.count("The answer is") == 8
    assert [f.name for f in made._filters] == ["strict-match", "flexible-extract"]
    minerva, _ = built(registry.task("math").item, MATH, 4)
    assert minerva.count("Problem:\n") == 5
    assert minerva.count("I hope it is correct.") == 4
    assert minerva.endswith("\n\nSolution:")
    source = (derive.stock_yaml("minerva_math_algebra").parent / "utils.py").read_text(encoding="utf-8")
    (first, *_) = derive.fixed_shots(derive.config_of(registry.task("math").item))
    assert json.dumps(first["problem"])[1:40] in source


def test_the_antlr_check_is_answered_only_while_modules_are_imported() -> None:
    from importlib import metadata

    before = metadata.version
    with any_antlr():
        assert metadata.version("antlr4-python3-runtime").startswith("4.11")
        assert metadata.version("lm_eval") == before("lm_eval")
    assert metadata.version is before


def test_minerva_scores(registry: Registry) -> None:
    """As stock's: the exact match wants the shots' last sentence, math-verify also takes the box."""
    config = derive.config_of(registry.task("math").item)
    doc = {**MATH, "answer": "\\frac{3}{4}"}
    said = "Final Answer: The final answer is ${}$. I hope it is correct."
    for text, exact, verified in [
        (said.format("\\frac{3}{4}"), 1, 1),
        (said.format("0.75"), 1, 1),
        (said.format("\\frac{1}{4}"), 0, 0),
        ("So it is $\\boxed{\\frac{6}{8}}$.", 0, 1),
        ("I do not know.", 0, 0),
        ("", 0, 0),
    ]:
        assert config["process_results"](doc, [text]) == {"exact_match": exact, "math_verify": verified}, text


def test_own_chat_forms_score_the_declared_answer(registry: Registry) -> None:
    gsm = derive.config_of(registry.task("gsm8k_chat").item)["process_results"]
    assert gsm(GSM, ["3+4=7. The answer is 7."]) == {"exact_match": 1.0, "format_match": 1.0}
    assert gsm(GSM, ["so \\boxed{7}"]) == {"exact_match": 1.0, "format_match": 0.0}
    assert gsm(GSM, ["The answer is 8."]) == {"exact_match": 0.0, "format_match": 0.0}
    math = derive.config_of(registry.task("math_chat").item)["process_results"]
    assert math(MATH, ["It is $\\boxed{0.75}$."]) == {"exact_match": 1.0, "boxed_match": 1.0}
    assert math(MATH, ["The final answer is $\\frac{3}{4}$."]) == {"exact_match": 1.0, "boxed_match": 0.0}


def test_svamp_shows_its_operations(registry: Registry) -> None:
    task = registry.task("svamp").item
    assert task.example(SVAMP, "train", 0).reference == "8 * 3 = 24\n24 - 2 = 22\n#### 22"
    wrong = {**SVAMP, "Answer": "23"}
    assert task.example(wrong, "train", 0).reference == "#### 23"


def test_letters_are_those_the_prompt_shows(registry: Registry) -> None:
    """ARC rows may label their choices 1 to 4; the prompt says A to D."""
    task = registry.task("arc_challenge_chat").item
    example = task.example(FOUR, "test", 0)
    assert example.reference == "The best answer is C."
    assert task.grade(example, "The best answer is D.").reason is Reason.WRONG


def test_shots_by_name(registry: Registry) -> None:
    task = registry.task("arc_challenge@25").item
    assert registry.task("arc_challenge@25").item is task
    assert task.name == "arc_challenge@25"
    assert derive.task_shots(task, derive.config_of(task), None) == 25
    assert derive.task_shots(task, derive.config_of(task), 3) == 25
    assert registry.task("arc_challenge").item.num_fewshot is None
    with pytest.raises(UsageError, match="write the number of shots after the @"):
        registry.task("arc_challenge@many")
    with pytest.raises(UsageError, match="Did you mean 'arc_challenge'"):
        registry.task("arc_chalenge@5")
    none = registry.task("gsm8k_chat@5").item
    with pytest.raises(UsageError, match="'gsm8k_chat' sets 0 shots"):
        derive.task_shots(none, derive.config_of(none), None)


def test_more_shots_than_there_are_fixed_ones(registry: Registry) -> None:
    with pytest.raises(UsageError, match="has 8 fixed shots; lower --num-fewshot from 9"):
        evaluate(registry.task("gsm8k_cot@9").item, None, None, rows=[GSM], settings=EvalSettings())


def test_list_says_which_scores_are_comparable(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["list", "tasks"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for name in ROWS:
        assert ("[as in lm-eval]" in lines[name]) is (name in COMPARABLE)


@pytest.mark.parametrize("name", ["math", "svamp", "commonsense_qa", "gsm8k_chat"])
def test_without_data_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["run", "--method", "sft", "--tasks", name, "--data-dir", str(tmp_path), "--dry-run"]) == 1
    assert "put the file there" in capsys.readouterr().err


def test_truthfulqa_has_no_empty_choice(registry: Registry) -> None:
    """A list of the hub that ends in an empty string, as some do."""
    task = registry.task("truthfulqa_mc1").item
    row = {"question": "Who?", "best_answer": "No one.", "incorrect_answers": ["You.", "Me.", ""]}
    config = derive.config_of(task)
    built = derive.build(task, {derive.evaluation_split(config): [row]}, 0, 1234)
    assert [built.doc_to_choice(doc) for doc in built.validation_docs()] == [["No one.", "You.", "Me."]]
