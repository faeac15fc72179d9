"""--retention on a tiny model: sets derived from lm-eval, drift by the base, one table, kept in results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.config.spec import resolve
from dasd_bench.evaluation.retention import RETENTION_SETS, spread
from dasd_bench.registry import discover
from dasd_bench.results.schema import RunResults
from dasd_bench.tasks import derive
from tests.run.helpers import artifacts, command, run_args

ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "piqa/validation": (
        "piqa",
        [{"goal": f"dry {n} cups", "sol1": "a towel", "sol2": "a spoon", "label": n % 2} for n in range(6)],
    ),
    "winogrande/validation": (
        "winogrande",
        [
            {"sentence": f"Ann gave Bea {n} pens as _ had many.", "option1": "Ann", "option2": "Bea", "answer": "1"}
            for n in range(6)
        ],
    ),
    "hellaswag/validation": (
        "hellaswag",
        [
            {
                "ind": n,
                "activity_label": "Baking",
                "ctx_a": f"A man takes {n} eggs.",
                "ctx_b": "he",
                "ctx": "",
                "endings": ["breaks them.", "sings [title] to them.", "sleeps.", "runs off."],
                "label": "0",
            }
            for n in range(6)
        ],
    ),
    "boolq/validation": (
        "boolq",
        [{"question": f"is {n} even", "answer": n % 2 == 0, "passage": "Some numbers are even."} for n in range(6)],
    ),
    "mmlu/test": (
        "mmlu",
        [
            {"question": f"What is {n} + 1?", "subject": subject, "choices": ["1", "2", "3", "4"], "answer": n % 4}
            for subject in ("anatomy", "college_physics")
            for n in range(3)
        ],
    ),
    "truthful_qa/validation": (
        "truthfulqa_mc1",
        [
            {"question": f"Do {n} cats bark?", "best_answer": "No", "incorrect_answers": ["Yes", "At night"]}
            for n in range(6)
        ],
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, (_, rows) in ROWS.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retention")
    more = ["--retention", "--retention-limit", "4", "--data-dir", str(data), "--quiet"]
    assert run_cli(run_args(tiny_folder("llama"), folder, *more, methods="sft,dasd")) == 0
    return folder / "run"


def test_every_set_is_scored_for_every_model(run: Path) -> None:
    results = RunResults.load(run)
    kept = [task for task in results.tasks if task.retention]
    assert [task.name for task in kept] == [name for name in RETENTION_SETS if name in {t for t, _ in ROWS.values()}]
    assert {task.n_items for task in kept} == {4}
    assert {task.num_fewshot for task in kept} == {0}
    for scores in [results.base, *(one.scores for arm in results.arms for one in arm.seeds)]:
        assert {task.name for task in kept} < scores.keys()
        assert all(scores[task.name].reference_nll is None for task in kept)
    # Rows at even distances: both subjects of six sorted rows are there.
    assert results.base["mmlu"].groups["subject"] == ["anatomy", "anatomy", "college_physics", "college_physics"]


def test_drift_is_measured_by_the_base(run: Path) -> None:
    results = RunResults.load(run)
    base = results.base_drift
    assert base is not None
    assert set(base.js_distance) == {0.0}
    for arm in results.arms:
        drift = arm.seeds[0].drift
        assert drift is not None
        assert drift.tasks == base.tasks
        assert drift.base_tokens == base.output_tokens
        assert all(0 <= value <= math.sqrt(math.log(2)) + 1e-6 for value in drift.js_distance)
        assert sum(drift.js_distance) > 0
        assert all(d * d <= j + 1e-9 for d, j in zip(drift.js_distance, drift.js_divergence, strict=True))


def test_the_table_has_the_sets_and_the_drift(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "table", str(run), "--retention")
    assert found.code == 0, found.err
    for words in ("Retention", "hellaswag", "mmlu", "JS distance to base", "PPL of base on own outputs", "Holm"):
        assert words in found.out
    whole = command(capsys, "table", str(run), "--table", "scores").out
    assert "hellaswag" not in whole
    cells = json.loads(command(capsys, "table", str(run), "--retention", "--format", "json").out)["tables"][0]["rows"]
    assert [row["cells"]["base"]["value"] for row in cells if row["label"] == "JS distance to base"] == [0.0]


def test_the_base_alone_has_its_scores_and_its_own_perplexity(
    run: Path, data: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--retention", "--retention-limit", "4", "--data-dir", str(data)]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="base"))
    assert result.code == 0, result.err
    alone, beside = RunResults.load(tmp_path / "run"), RunResults.load(run)
    assert {name: score.mean for name, score in alone.base.items()} == {
        name: score.mean for name, score in beside.base.items()
    }
    assert alone.base_drift == beside.base_drift
    table = command(capsys, "table", str(tmp_path / "run"), "--retention").out
    assert "hellaswag" in table
    assert "no method was trained" in table
    assert "mini_gsm" not in table
    for words in ("BWT", "TI,"):
        assert words not in result.out
    for args in (["table", "--group-by", "level"], ["diagnose"], ["plot", "-o", str(tmp_path / "plots")], ["report"]):
        after = command(capsys, args[0], str(tmp_path / "run"), *args[1:])
        assert after.code == 0, (args, after.err)
    card = command(capsys, "export", str(tmp_path / "run"), "--to", "hf-card", "-o", str(tmp_path / "card"))
    assert "no trained row" in card.err


def test_scores_can_be_graded_again(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifacts(run)
    result = command(capsys, "score", str(run), "--task", "winogrande,mmlu,hellaswag")
    assert "0 of 36 verdicts changed" in result.out, result.err
    assert artifacts(run) == before


def test_a_repeated_run_computes_nothing(
    run: Path, data: Path, tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = artifacts(run)
    more = ["--retention", "--retention-limit", "4", "--data-dir", str(data)]
    result = command(capsys, *run_args(tiny_folder("llama"), run.parent, *more, methods="sft,dasd"))
    assert result.code == 0, result.err
    assert "Stages: 0 computed" in result.out
    assert artifacts(run) == before


def test_named_sets_that_cannot_be_had_are_refused(
    data: Path,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DASD_DATA_DIR", raising=False)
    model = tiny_folder("llama")
    unknown = command(capsys, *run_args(model, tmp_path, "--retention", "hellaswg", methods="sft"))
    assert unknown.code == 2
    assert "Did you mean 'hellaswag'" in unknown.err
    trained = command(capsys, *run_args(model, tmp_path, "--retention", "mini_gsm", methods="sft"))
    assert "trains on its data" in trained.err
    absent = command(capsys, *run_args(model, tmp_path, "--retention", "piqa", "--offline", methods="sft"))
    assert absent.code == 1
    assert "No rows for task 'piqa'" in absent.err


def test_without_data_the_sets_are_left_out_with_a_word(
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DASD_DATA_DIR", raising=False)
    args = run_args(tiny_folder("llama"), tmp_path, "--retention", "--offline", "--dry-run", methods="sft")
    found = command(capsys, *args)
    assert found.code == 0, found.err
    assert "[retention] skipped: hellaswag (offline and no data folder)" in found.out


def test_prompts_are_the_installed_yamls() -> None:
    """What the model is asked is rendered by lm-eval from its own file; here by hand for one row each."""
    registry = discover()
    wanted = {
        "mmlu": "The following are multiple choice questions (with answers) about college physics.\n\n"
        "What is 2 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
        "hellaswag": "Baking: A man takes 5 eggs. He",
        "boolq": "Some numbers are even.\nQuestion: is 5 even?\nAnswer:",
        "piqa": "Question: dry 5 cups\nAnswer:",
    }
    for name, rows in ROWS.values():
        if name not in wanted:
            continue
        task = registry.task(name).item
        config = derive.config_of(task)
        built = derive.build(task, {derive.evaluation_split(config): rows}, 0, 0)
        prompt = built.fewshot_context(list(built.eval_docs)[-1], num_fewshot=0)
        assert prompt == wanted[name]


def test_rows_at_even_distances() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(10), 0) == spread(range(10), 99) == list(range(10))
    assert resolve({}).retention_limit == 100


def test_diagnose_has_every_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "diagnose", str(run))
    assert found.code == 0, found.err
    for words in ("Training targets", "Selection by kind of token", "Acceptance", "Teacher-forced NLL", "Retention"):
        assert words in found.out
    tables = json.loads(command(capsys, "diagnose", str(run), "--json").out)["tables"]
    assert [table["key"] for table in tables] == ["targets", "classes", "outcomes", "histogram", "nll", "retention"]
    stats = RunResults.load(run).arms[1].seeds[0].target_stats
    assert stats is not None
    assert sum(one.tokens for one in stats.classes.values()) == stats.tokens
    assert stats.auc_confidence is not None
    assert RunResults.load(run).arms[0].seeds[0].target_stats.gold_agreement == 1.0  # type: ignore[union-attr]


def test_nll_has_numbers_and_own_answers(run: Path) -> None:
    results = RunResults.load(run)
    for name in ("mini_gsm", "mini_arc"):
        nll = results.base[name].reference_nll
        assert nll is not None
        total = sum(mean * size for mean, size in zip(nll.per_item, nll.tokens_per_item, strict=True))
        assert total / sum(nll.tokens_per_item) == pytest.approx(nll.all_tokens_mean)
        right = sum(results.base[name].correct or [])
        assert (len(nll.own.items) if nll.own else 0) == right
    assert sum(results.base["mini_arc"].correct or []) > 0
    by_confidence = results.base["mini_arc"].confidence
    assert len(by_confidence) == 6
    assert all(0 < value <= 1 for value in by_confidence)


def test_scores_by_confidence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "table", str(run), "--group-by", "confidence")
    assert found.code == 0, found.err
    assert "Q1 least sure" in found.out
    assert "Did you mean 'confidence'" in command(capsys, "table", str(run), "--group-by", "confidenc").err


def test_drift_goes_through_the_head_of_the_arm(
    data: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All weights trained for one arm, or for the whole run: the same training, so the same drift."""
    more = ["--retention", "piqa", "--retention-limit", "2", "--limit", "2", "--data-dir", str(data)]
    own, whole = "sft+training.lora_rank=0+training.lr=1e-2", ["training.lora_rank=0", "training.lr=1e-2"]
    sets = [word for item in whole for word in ("--set", item)]
    found = []
    for name, methods, extra in (("one", own, []), ("all", "sft", sets)):
        args = run_args(tiny_folder("llama"), tmp_path / name, *more, *extra, methods=methods)
        result = command(capsys, *args)
        assert result.code == 0, result.err
        drift = RunResults.load(tmp_path / name / "run").arms[0].seeds[0].drift
        assert drift is not None
        found.append(drift)
    assert min(found[0].js_distance) > 0.01
    assert found[0] == found[1]


@pytest.mark.parametrize(("targets", "changed"), [("q_proj,v_proj", False), ("all-linear", False), ("lm_head", True)])
def test_which_adapters_change_the_head(targets: str, changed: bool, tmp_path: Path) -> None:
    from dasd_bench.run.stages.drift import changes_head
    from tests.tiny_models import tiny_model
    from tests.training.helpers import make_examples
    from tests.training.helpers import run as train

    result = train(tiny_model("llama"), make_examples(2), tmp_path, lora_targets=targets)
    assert changes_head(result.adapter_dir) == changed
