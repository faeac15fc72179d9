"""Bad input through the command line: one sentence that says what to do, and the right exit code."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.helpers import command, run_args
from tests.tiny_models import make_tiny_model


def one_sentence(text: str) -> bool:
    return "Traceback" not in text and len(text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--method", "dsad"], "Did you mean 'dasd'"),
        (["run", "--tasks", "mini_gms"], "Did you mean 'mini_gsm'"),
        (["run", "--model", "smollm2-134m", "--preset", "quick"], "Did you mean 'smollm2-135m'"),
        (["run", "--preset", "quik"], "Did you mean 'quick'"),
        (["run", "--config", "no.yaml"], "no.yaml given with --config does not exist"),
        (["run", "--preset", "quick", "--set", "method.tua=1"], "Did you mean 'tau'"),
        (["run", "--preset", "quick", "--set", "dasd.tau=9"], "dasd.tau=9.0 is out of range"),
        (["run", "--preset", "quick", "--set", "training.lr=fast"], "training.lr=fast is not a valid float"),
        (["run", "--preset", "quick", "--plugins", "nowhere"], "give --plugins an existing folder"),
        (["show", "dasdd"], "Did you mean 'dasd'"),
        (["tabel"], "Did you mean 'table'"),
        (["new-method", "Bad Name"], "is not a valid method name"),
    ],
)
def test_wrong_names_and_values(args: list[str], message: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = command(capsys, *args)
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.code in (1, 2)
    if "plugins" not in message:
        assert result.code == 2


def gsm8k_folder(tmp_path: Path, train: str, test: str) -> Path:
    folder = tmp_path / "data"
    (folder / "gsm8k").mkdir(parents=True)
    (folder / "gsm8k" / "train.jsonl").write_text(train)
    (folder / "gsm8k" / "test.jsonl").write_text(test)
    return folder


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of --data-dir must not reach these tests."""
    monkeypatch.delenv("DASD_DATA_DIR", raising=False)


ROW = json.dumps({"question": "What is 1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}) + "\n"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (ROW + '{"question": "x"\n', ROW, "train.jsonl, line 2"),
        ('{"question": "x"}\n', ROW, "answer"),
        ("", ROW, "train.jsonl"),
        (ROW, "", "test.jsonl"),
    ],
)
def test_bad_rows_name_file_and_line(train, test, message, tiny_folder, tmp_path: Path, capsys) -> None:
    data = gsm8k_folder(tmp_path, train, test)
    args = run_args(tiny_folder("llama"), tmp_path, "--data-dir", str(data), methods="sft")
    args[args.index("mini_gsm,mini_arc")] = "gsm8k"
    result = command(capsys, *args)
    assert result.code == 1
    assert message in result.err
    assert one_sentence(result.err)


def test_missing_data_and_no_network(tiny_folder, tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, "--offline", methods="sft")
    args[args.index("mini_gsm,mini_arc")] = "gsm8k"
    result = command(capsys, *args)
    assert result.code == 1
    assert "gsm8k/train.jsonl" in result.err
    assert one_sentence(result.err)
    nowhere = command(capsys, *args, "--data-dir", str(tmp_path / "none"))
    assert "does not exist" in nowhere.err


def test_model_without_chat_template(tmp_path: Path, capsys) -> None:
    model = make_tiny_model("llama", tmp_path / "base", chat=False)
    result = command(capsys, *run_args(model, tmp_path, methods="sft"))
    assert result.code == 1
    assert "--chat-template plain" in result.err
    assert one_sentence(result.err)
    plain = command(capsys, *run_args(model, tmp_path, "--chat-template", "plain", methods="sft"))
    assert plain.code == 0, plain.err
    off = run_args(model, tmp_path / "off", "--chat-template", "off", methods="sft,dasd")
    assert command(capsys, *off).code == 0


def test_prompt_longer_than_the_context(tmp_path: Path, capsys) -> None:
    model = make_tiny_model("llama", tmp_path / "short")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    result = command(capsys, *run_args(model, tmp_path, methods="dasd"))
    assert result.code == 1
    assert "40" in result.err
    assert "context" in result.err
    assert one_sentence(result.err)


def test_incomplete_model_folder(tmp_path: Path, capsys) -> None:
    model = make_tiny_model("llama", tmp_path / "broken")
    (model / "model.safetensors").unlink()
    result = command(capsys, *run_args(model, tmp_path, methods="sft"))
    assert result.code == 1
    assert "not a complete model" in result.err
    assert one_sentence(result.err)


def test_code_tasks_need_consent(tiny_folder, tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    args[args.index("mini_gsm,mini_arc")] = "mini_mbpp"
    result = command(capsys, *args)
    assert result.code == 2
    assert "--confirm-run-unsafe-code" in result.err


def test_full_disk(tiny_folder, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from dasd_bench.store import atomic

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    args = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        result = command(capsys, *args)
    assert result.code == 1
    assert "free some disk space and run the same command again" in result.err
    assert one_sentence(result.err)
    assert command(capsys, *args).code == 0


def test_corrupt_store_is_said_and_mended(tiny_folder, tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    assert command(capsys, *args).code == 0
    (shard, *_) = (tmp_path / "store" / "score").rglob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 0xFF
    shard.write_bytes(bytes(data))
    result = command(capsys, *args)
    assert result.code == 0, result.err
    assert "its content is recomputed" in result.out


def test_output_folder_of_another_run_is_refused(tiny_folder, tmp_path: Path, capsys) -> None:
    assert command(capsys, *run_args(tiny_folder("llama"), tmp_path, methods="sft")).code == 0
    other = command(capsys, *run_args(tiny_folder("llama"), tmp_path, "--seeds", "5", methods="sft"))
    assert other.code == 2
    assert "other settings" in other.err
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    args = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    args[args.index("--output") + 1] = str(full)
    refused = command(capsys, *args)
    assert refused.code == 2
    assert (full / "thesis.tex").read_text() == "years of work"


def test_ctrl_c_says_how_to_go_on(tiny_folder, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from dasd_bench.engine.engine import Engine

    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    args = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "score", interrupted)
        result = command(capsys, *args)
    assert result.code == 130
    assert "Interrupted. Saved: " in result.out
    assert "Resume with: dasd-bench " in result.out
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "cancelled"
    table = command(capsys, "table", str(tmp_path / "run"))
    assert table.code == 1
    assert command(capsys, *args).code == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "finished"


def test_what_the_engine_refuses_ends_the_arm_in_its_own_words(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.errors import EngineError

    def refuse(*_args: object, **_options: object) -> None:
        raise EngineError("The model gave logits that are not finite for mini_gsm/train/0; check its weights.")

    monkeypatch.setattr(Engine, "score", refuse)
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, methods="sft"))
    assert result.code == 1
    assert (
        "sft seed 0 failed: The model gave logits that are not finite for mini_gsm/train/0" in result.out + result.err
    )
    assert "unexpected" not in result.err


def test_json_events_are_json(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, "--json", methods="sft"))
    assert result.code == 0, result.err
    events = [json.loads(line) for line in result.out.splitlines()]
    assert {"stage", "result"} <= {event["event"] for event in events}


def test_debug_shows_the_traceback(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Traceback" in command(capsys, "run", "--preset", "quik", "--debug").err
