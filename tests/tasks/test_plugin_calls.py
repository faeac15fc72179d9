"""The border to task plugins: what they raise, print or return becomes one error with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dasd_bench.errors import DataError, TaskError
from dasd_bench.registry import discover
from dasd_bench.tasks import derive, plugin_calls
from dasd_bench.tasks.base import Task
from dasd_bench.tasks.loading import LoadedRows, examples_of
from dasd_bench.types import Example

TASK = """
from dasd_bench.api import DataSource, Example, Task, Verdict

class Broken(Task):
    name = "broken"
    summary = "a task with a fault"
    data = DataSource("broken", ("question",))
    yaml = "broken.yaml"

    def example(self, row, split, index):
        return Example(id="a", task="broken", prompt="q", reference="r", answer="r")

    def grade(self, example, text):
        return Verdict(True, "correct", text)
"""
YAML = """
task: broken
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "a"
process_results: !function functions.score
metric_list:
  - metric: exact_match
"""
EXAMPLE = Example(id="a", task="broken", prompt="q", reference="r", answer="r")


def broken(folder: Path, hook: str, body: str) -> Task:
    """A registered task whose ``hook`` has that body."""
    (folder / "broken").mkdir()
    (folder / "broken" / "task.py").write_text(f"{TASK}\n    def {hook}:\n        {body}\n")
    (folder / "broken" / "broken.yaml").write_text(YAML)
    (folder / "broken" / "functions.py").write_text("def score(doc, results):\n    return {}['score']\n")
    return discover((folder,)).task("broken").item


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no such answer')", "raised ValueError: no such answer"),
        ("import sys; sys.exit(0)", "called sys.exit(0)"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("raise MemoryError", "raised MemoryError"),
    ],
)
def test_a_failing_hook_is_named_with_file_and_line(body: str, said: str, tmp_path: Path) -> None:
    task = broken(tmp_path, "grade(self, example, text)", body)
    with pytest.raises(TaskError) as caught:
        plugin_calls.grade_all(task, [EXAMPLE], ["5"])
    line = (tmp_path / "broken" / "task.py").read_text().splitlines().index(f"        {body}") + 1
    assert f"{tmp_path / 'broken' / 'task.py'}:{line}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("hook", "body", "said"),
    [
        ("grade_all(self, examples, texts)", "return []", "one Verdict per text"),
        ("grade_all(self, examples, texts)", "return None", "one Verdict per text"),
        ("grade(self, example, text)", "return True", "must return Verdict, not a bool"),
        ("grade(self, example, text)", "return None", "must return Verdict, not None"),
    ],
)
def test_a_wrong_verdict_is_refused(hook: str, body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=said):
        plugin_calls.grade_all(broken(tmp_path, hook, body), [EXAMPLE], ["5"])


def test_wrong_spans_are_refused(tmp_path: Path) -> None:
    task = broken(tmp_path, "answer_spans(self, example, text)", "return [(0, 1), 'ab']")
    with pytest.raises(TaskError, match="pairs of integers"):
        plugin_calls.answer_spans(task, EXAMPLE, "5")


def test_what_a_task_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = broken(tmp_path, "grade_ahead(self, rows, texts)", "print('hello')")
    plugin_calls.grade_ahead(task, [], [])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_a_row_that_a_task_cannot_use_is_named_with_the_place(tmp_path: Path) -> None:
    task = broken(tmp_path, "example(self, row, split, index)", "return row['answer']")
    with pytest.raises(DataError, match=r"a\.jsonl, row 1: .*it has no 'answer'.*task\.py:\d+"):
        examples_of(task, LoadedRows([{"question": "q"}], "a.jsonl", ""), "test")


def test_an_exit_while_rows_are_read_is_the_tasks(tmp_path: Path) -> None:
    task = broken(tmp_path, "example(self, row, split, index)", "raise SystemExit(0)")
    with pytest.raises(TaskError, match="called sys"):
        examples_of(task, LoadedRows([{"question": "q"}], "a.jsonl", ""), "test")


def test_functions_of_a_yaml_are_contained(tmp_path: Path) -> None:
    config = derive.config_of(broken(tmp_path, "unused(self)", "pass"))
    with pytest.raises(TaskError, match=r"functions\.py:2: score\(\) of task 'broken' raised KeyError"):
        config["process_results"]({}, [])
