"""Configurations from YAML: stock ones found without an index, own faulty ones named with file and key."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dasd_bench.errors import DataError, PluginError, UsageError
from dasd_bench.evaluation.evaluator import evaluate
from dasd_bench.evaluation.records import EvalSettings
from dasd_bench.registry import discover
from dasd_bench.tasks import derive
from dasd_bench.tasks.base import DataSource, Task
from dasd_bench.tasks.families import NumberTask
from dasd_bench.tasks.loading import LoadedRows, examples_of, load_rows
from tests.tiny_models import tiny_tokenizer

GOOD = """\
task: my_task
test_split: test
fewshot_split: train
output_type: generate_until
doc_to_text: "Q: {{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Q:"]}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


class Mine(NumberTask):
    name = "my_task"
    summary = "a test"
    data = DataSource("my_task", ("question", "answer"))
    yaml = "my_task.yaml"


def mine(folder: Path, text: str) -> Task:
    (folder / "my_task.yaml").write_text(text, encoding="utf-8")
    task = Mine()
    task.folder = folder
    return task


def test_a_good_yaml(tmp_path: Path) -> None:
    config = derive.config_of(mine(tmp_path, GOOD))
    assert config["doc_to_text"] == "Q: {{question}}"
    assert derive.evaluation_split(config) == "test"
    assert derive.fewshot_split(config) == "train"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("doc_to_text:", "doc_to_txt:", "unknown key 'doc_to_txt'. Did you mean 'doc_to_text'?"),
        ("test_split: test\n", "", "the key 'test_split or validation_split' is missing"),
        ('doc_to_target: "{{answer}}"\n', "", "the key 'doc_to_target' is missing"),
        ("  - metric: exact_match", "  - metric: [exact", "line "),
        ('"Q: {{question}}"', "!function helper.text", "key 'doc_to_text'"),
        ('"{{answer}}"', '"{{answer"', "key 'doc_to_target': not a Jinja template"),
        ('"{{answer}}"', '"{{answer|nofilter}}"', "key 'doc_to_target': not a Jinja template"),
        (
            "metric: exact_match",
            "metric: exct_match",
            "lm-eval has no metric 'exct_match'. Did you mean 'exact_match'?",
        ),
        ("metric: exact_match", "metrc: exact_match", "key 'metric_list', entry 1: the key 'metric' is missing"),
        ("aggregation: mean", "aggregation: meen", "lm-eval has no aggregation 'meen'. Did you mean 'mean'?"),
        ("    aggregation: mean", "    hf_evaluate: true\n    aggregation: mean", "would be loaded from the hub"),
        ('"Q: {{question}}"', "!function there.missing", "key 'doc_to_text'"),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "there.py").write_text("def text(doc): return doc['question']\n", encoding="utf-8")
    with pytest.raises(PluginError) as caught:
        derive.config_of(mine(tmp_path, GOOD.replace(old, new, 1)))
    assert "my_task.yaml" in str(caught.value)
    assert message in str(caught.value)


def test_missing_yaml(tmp_path: Path) -> None:
    task = Mine()
    task.folder = tmp_path
    with pytest.raises(PluginError, match=r"its YAML file .*my_task\.yaml is missing"):
        derive.config_of(task)


def test_lm_eval_refuses_what_only_it_can_check(tmp_path: Path) -> None:
    task = mine(tmp_path, GOOD.replace("output_type: generate_until", "output_type: guess"))
    with pytest.raises(PluginError, match=r"my_task\.yaml: lm-eval cannot build task 'my_task'.*invalid output_type"):
        derive.build(task, {"test": [{"question": "x", "answer": "#### 1"}]}, 0, 1234)


def test_template_that_names_no_column(tmp_path: Path) -> None:
    task = mine(tmp_path, GOOD.replace("{{question}}", "{{quest}}"))
    docs = [{"question": "x", "answer": "#### 1"}]
    with pytest.raises(PluginError, match=r"my_task\.yaml, key 'doc_to_text': .*'quest' is undefined"):
        derive.build(task, {"test": docs}, 0, 1234)
    with pytest.raises(PluginError, match=r"my_task\.yaml, key 'doc_to_text': .*'quest' is undefined"):
        examples_of(task, LoadedRows(docs, "here", ""), "train")


def test_template_that_only_some_rows_can_fill(tmp_path: Path) -> None:
    """Building looks at the first row; the others are rendered while they are scored."""
    task = mine(tmp_path, GOOD.replace("{{answer}}", "{{answers[0].text}}"))
    docs = [{"question": "x", "answers": [{"text": "y"}]}, {"question": "x", "answers": []}]
    with pytest.raises(PluginError, match=r"my_task\.yaml, key 'doc_to_target': .*no element 0"):
        evaluate(task, Idle(), tiny_tokenizer("llama"), rows=docs, settings=EvalSettings(chat_template=False))


class Idle:
    """An engine that is never asked."""

    context_length = 1024


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k_cot", "arc_easy", "arc_challenge", "commonsense_qa"])
def test_stock_yaml_is_found_quickly(name: str) -> None:
    started = time.process_time()
    path = derive.stock_yaml(name)
    assert f"task: {name}\n" in path.read_text(encoding="utf-8")
    assert time.process_time() - started < 5  # an index of all files takes longer than the whole test suite should


def test_unknown_stock_task() -> None:
    with pytest.raises(PluginError, match="has no task 'gsm9k_of_nobody'"):
        derive.stock_yaml("gsm9k_of_nobody")


def test_included_yaml_is_part_of_the_hash(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD, encoding="utf-8")
    task = mine(tmp_path, "include: base.yaml\ntask: my_task\n")
    before = derive.yaml_sha256(task)
    (tmp_path / "base.yaml").write_text(GOOD + "# changed\n", encoding="utf-8")
    assert derive.yaml_sha256(task) != before


def test_shots_follow_lm_evals_rule() -> None:
    assert derive.shots_of({"num_fewshot": 5}, None) == 5
    assert derive.shots_of({"num_fewshot": 5}, 2) == 2
    assert derive.shots_of({}, None) == 0
    assert derive.shots_of({}, 3) == 3
    assert derive.shots_of({"num_fewshot": 0}, 3) == 0


def test_training_prompt_is_lm_evals_own() -> None:
    """Rendered once for training, once by lm-eval's task: the same words."""
    registry = discover()
    rows = {
        "gsm8k": [{"question": " Two {{spaces}}\nand a line", "answer": "So 2.\n#### 2"}],
        "arc_easy": [
            {"id": "a", "question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
        ],
    }
    for name, docs in rows.items():
        task = registry.task(name).item
        built = derive.build(task, {"test": docs}, 0, 1234)
        assert task.example(docs[0], "test", 0).prompt == built.doc_to_text(built.eval_docs[0])
    assert registry.task("arc_easy").item.example(rows["arc_easy"][0], "test", 0).reference == "y"


class Split(Mine):
    """A task whose few-shot pool can be given."""

    pool: tuple[dict[str, str], ...] = ()

    def builtin_rows(self, split: str) -> list[dict[str, str]]:
        return [dict(row) for row in self.pool]


def test_shots_from_the_scored_rows_are_refused(tmp_path: Path) -> None:
    docs = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(6)]
    (tmp_path / "my_task.yaml").write_text(GOOD, encoding="utf-8")
    task = Split()
    task.folder, task.pool = tmp_path, tuple(docs)  # type: ignore[misc]
    with pytest.raises(DataError, match="6 scored rows are also in the few-shot split 'train'"):
        evaluate(task, None, None, rows=docs, settings=EvalSettings(num_fewshot=2))
    (tmp_path / "my_task.yaml").write_text(GOOD.replace("fewshot_split: train", "fewshot_split: test"), "utf-8")
    with pytest.raises(UsageError, match="draws its shots from the split it is scored on"):
        evaluate(task, None, None, rows=docs, settings=EvalSettings(num_fewshot=2))
    (tmp_path / "my_task.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(UsageError, match="has 6 rows to draw 9 shots from"):
        evaluate(task, None, None, rows=docs, settings=EvalSettings(num_fewshot=9))


def test_examples_of_a_stock_task_have_levels() -> None:
    gsm = discover().task("gsm8k").item
    assert gsm.level_of({"answer": "one\ntwo\n#### 3"}) == "2"
    assert gsm.level_of({"answer": "one\n\ntwo\n \n#### 3\n"}) == "2"
    assert discover().task("gsm8k_chat").item.level_of({"answer": "one\n\ntwo\n#### 3"}) == "2"
    mini = discover().task("mini_math").item
    example = examples_of(mini, load_rows(mini, "test", limit=1), "test")[0]
    assert example.level is not None
    assert example.subject is not None
