"""Thinking on for one and off for another: what is asked, what the student is shown, what is recorded and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.config.spec import ThinkingConfig
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.methods.context import Generation
from dasd_bench.registry import discover
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.options import RunOptions
from dasd_bench.run.prepare import build_context
from dasd_bench.run.prompts import Prompts
from dasd_bench.types import Example, Message
from tests.methods.helpers import spec_of
from tests.models.test_thinking import QWEN3
from tests.run.helpers import command, run_args
from tests.tiny_models import make_tiny_model

CHAT = [Message("user", "How much is 3 + 4?")]
SEVEN = Example(id="mini_gsm/train/0", task="mini_gsm", prompt="3 + 4?", reference="#### 7", answer="7")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template has Qwen3's switch and treats thoughts as Qwen3's does."""
    folder = make_tiny_model("qwen3", tmp_path_factory.mktemp("models") / "thinker")
    (folder / "chat_template.jinja").write_text(QWEN3, encoding="utf-8")
    return folder


def context(model: Path, folder: Path, **thinking: str) -> RunContext:
    spec = spec_of(model, methods=("sft",), thinking=ThinkingConfig(**thinking))  # type: ignore[arg-type]
    return build_context(spec, discover(), Console(quiet=True), folder / "run", RunOptions(store=folder / "store"))


def test_teacher_and_student_are_asked_each_in_its_own_way(thinker: Path, tmp_path: Path) -> None:
    run = context(thinker, tmp_path, teacher="on")
    student, teacher = (run.tokenizer.decode(Prompts(run, teacher=one).encode(CHAT)) for one in (False, True))
    assert student.endswith("<think>\n\n</think>\n\n")
    assert teacher.endswith("<|im_start|>assistant\n")
    assert run.thinking == {"student": "off", "teacher": "on", "evaluation": "off"}


@pytest.mark.parametrize("student", ["off", "on"])
def test_a_student_that_does_not_think_is_not_shown_the_thought(thinker: Path, tmp_path: Path, student: str) -> None:
    run = context(thinker, tmp_path, teacher="on", student=student)
    own = EngineMethodContext(run, run.arms[0], 0)
    text = "<think>\n#### 8\n</think>\n\n#### 7"
    ids = np.array([*run.tokenizer.encode(text), run.chat.end_token_id], dtype=np.int32)
    made = own._without_thought(Generation(ids, np.arange(len(ids), dtype=np.float32), text, "stop"))
    shown = "#### 7" if student == "off" else text
    assert made.text == shown
    assert run.tokenizer.decode(made.token_ids[:-1].tolist()) == shown
    # Numbers per token are cut with the tokens.
    assert made.logp.tolist() == list(range(len(ids)))[-len(made.token_ids) :]
    verdicts = own.grade_all([SEVEN] * 3, [text, "#### 7", "<think>\n#### 7"])
    assert [one.correct for one in verdicts] == [True, True, False]


def test_the_budget_of_thinking_comes_on_top(thinker: Path, tmp_path: Path) -> None:
    budgets = []
    for teacher in ("off", "on"):
        run = context(thinker, tmp_path, teacher=teacher)
        budgets.append(EngineMethodContext(run, run.arms[0], 0).new_tokens(SEVEN))
    assert budgets[1] - budgets[0] == ThinkingConfig().tokens


@pytest.mark.parametrize("role", ["teacher", "student", "evaluation"])
def test_a_model_without_the_switch_is_refused_in_a_sentence(
    tiny_folder: Callable[[str], Path], tmp_path: Path, role: str
) -> None:
    with pytest.raises(UsageError, match=rf"thinking\.{role}=off: the chat template of .* has no switch for thinking"):
        context(tiny_folder("llama"), tmp_path, **{role: "off"})
    assert set(context(tiny_folder("llama"), tmp_path).thinking.values()) == {"no switch"}


def test_a_run_records_who_thinks_and_evaluates_anew(
    thinker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--limit", "1", "--set", "thinking.tokens=3", "--quiet"]
    found = []
    for thinking in ("off", "on"):
        run = run_args(thinker, tmp_path, *few, "--set", f"thinking.evaluation={thinking}", methods="base")
        run[run.index("--output") + 1] = str(tmp_path / thinking)
        assert command(capsys, *run).code == 0
        found.append(json.loads((tmp_path / thinking / "manifest.json").read_text(encoding="utf-8")))
    on = found[1]
    assert on["thinking"] == {"student": "off", "teacher": "off", "evaluation": "on", "tokens": 3}
    assert on["stages"]["computed"] > 0
    told = command(capsys, "table", str(tmp_path / "off"), str(tmp_path / "on"))
    assert "thinking of evaluation differs (off and on, 3 tokens)" in told.out + told.err
