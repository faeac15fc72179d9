"""The units of a run: each stage once, after what it needs; and what the launchers make of them without a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dasd_bench.api import RunOptions, RunSpec, make_spec, run
from dasd_bench.config.resolve import plugin_folders
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.registry import discover
from dasd_bench.run.cluster.fill import check_launcher
from dasd_bench.run.cluster.skypilot import task_yaml
from dasd_bench.run.cluster.slurm import minutes, scripts
from dasd_bench.run.cluster.units import layers, unfinished_units
from dasd_bench.run.cluster.work import MARK, Failed, check_node, order, work
from dasd_bench.run.options import SkyOptions, SlurmOptions
from dasd_bench.run.prepare import PreparedRun, prepare


def small_spec(model: Path, limit: int = 2) -> RunSpec:
    return make_spec(
        model=str(model),
        methods=["sft", "low-ppl"],
        tasks=["mini_arc"],
        seeds=[0, 1],
        train_limit=2,
        limit=limit,
        max_new_tokens=4,
        settings=["training.epochs=1", "training.lora_rank=2"],
    )


def prepared(model: Path, folder: Path, limit: int = 2) -> PreparedRun:
    spec = small_spec(model, limit)
    options = RunOptions(output=folder / "run", store=folder / "store")
    return prepare(spec, discover(plugin_folders(spec)), options, Console(quiet=True))


def test_every_unfinished_stage_is_a_unit_once_behind_what_it_needs(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    ready = prepared(tiny_folder("llama"), tmp_path)
    units = unfinished_units(ready.graph)
    assert [unit.id for unit in units] == [
        f"{stage.kind}/{stage.key}"
        for stage, row in zip(ready.graph.walk(), ready.plan, strict=True)
        if row.state == "to do"
    ]
    position = {unit.id: number for number, unit in enumerate(units)}
    for unit in units:
        assert all(position[need.id] < position[unit.id] for need in unit.needs)
        # What a stage reads when it is made is what it says that it needs: see the next test.
        assert {f"{need.kind}/{need.key}" for need in unit.stage.needs()} <= position.keys()
    found = layers(units)
    assert sum(map(len, found)) == len(units)
    assert all(need in found[unit.layer - 1] or need.layer < unit.layer for unit in units for need in unit.needs)


def test_units_computed_one_by_one_give_the_run_that_this_machine_makes(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Every unit on a machine that sees nothing but the store: what it needs is complete, and the bytes are equal."""
    model = tiny_folder("llama")
    ready = prepared(model, tmp_path / "units", 20)
    ready.context.store.root.mkdir(parents=True)
    (ready.context.store.root / MARK).write_text("here")
    units = unfinished_units(ready.graph, split=2)
    shares = [unit for unit in units if unit.share is not None]
    assert len(shares) == 2 * len({unit.entry for unit in shares}) == 10
    for unit in units:
        assert not isinstance(work(order(ready.context, unit, "here"), lambda fields: None), Failed)
        if unit.share is not None:
            # Each share leaves its own answers, and the evaluation is not finished by it.
            parts = list(unit.stage.entry.path.glob(".shards/*.jsonl"))
            assert unit.stage.entry.finished() is None
            assert len(parts) == unit.share[0] + 1
    spec = small_spec(model, 20)
    collected = run(spec, RunOptions(output=tmp_path / "units" / "run", store=tmp_path / "units" / "store"))
    assert all(stage.reused for stage in collected.stages)
    run(spec, RunOptions(output=tmp_path / "here", store=tmp_path / "store"))
    adapters = sorted((tmp_path / "here").rglob("adapter_model.safetensors"))
    assert len(adapters) == 4
    for path in adapters:
        other = tmp_path / "units" / "run" / path.relative_to(tmp_path / "here")
        assert other.read_bytes() == path.read_bytes()


def test_a_node_with_other_packages_or_another_store_says_so(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from dataclasses import replace

    ready = prepared(tiny_folder("llama"), tmp_path)
    given = order(ready.context, unfinished_units(ready.graph)[0], "another")
    with pytest.raises(UsageError, match=r"has torch .* but the run was started with 1\.0"):
        check_node(replace(given, versions=replace(given.versions, torch="1.0")))
    outcome = work(given, lambda fields: None)
    assert isinstance(outcome, Failed)
    assert "does not see the store" in outcome.text


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_launcher_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, launcher: str, package: str
) -> None:
    # As the import system has it where a package is not installed.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"pip install 'dasd-bench\[{launcher}\]'"):
        check_launcher(RunOptions(launcher=launcher))


def test_a_machine_without_sbatch_is_no_login_node(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    options = RunOptions(output=tmp_path / "run", store=tmp_path / "store", launcher="slurm")
    with pytest.raises(UsageError, match="there is no sbatch on this machine; run it on a login node"):
        run(small_spec(tiny_folder("llama")), options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("30:00", 30), ("30:01", 31), ("4:00:00", 240), ("1-12", 2160), ("2-00:30", 2910), ("1-1:2:3", 1503)],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "0", "1:2:3:4", "-5"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--slurm time="):
        minutes(text)


def test_the_scripts_hold_the_options_and_the_dependencies(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    units = unfinished_units(prepared(tiny_folder("llama"), tmp_path).graph)
    options = SlurmOptions(
        (("partition", "gpu"), ("gpus-per-node", "8"), ("time", "4:00:00"), ("hint", "nomultithread"))
    )
    assert options.gpus
    made = scripts(units, options, tmp_path / "run")
    assert len(made) == len(layers(units))
    for number, script in enumerate(made):
        for line in ("--partition=gpu", "--gpus-per-node=8", "--time=240", "--hint=nomultithread", "--requeue"):
            assert f"#SBATCH {line}\n" in script
        assert ("--dependency='afterany:" in script) == (number > 0)
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_skypilot_task_names_the_command_and_nodes() -> None:
    words = ["run", "--method", "dasd", "--model", "llama3-8b"]
    task = yaml.safe_load(task_yaml(words, SkyOptions(num_nodes=2, accelerators="H100:8")))
    assert task["num_nodes"] == 2
    assert task["resources"] == {"accelerators": "H100:8"}
    assert "dasd-bench run --method dasd --model llama3-8b --launcher ray" in task["run"]
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--launcher", "ray", "--ray", "cpus=2"], "Unknown option of --ray 'cpus'. Did you mean 'num_cpus'?"),
        (["--launcher", "slurm", "--slurm", "partition"], "--slurm partition: give NAME=VALUE."),
        (["--launcher", "slurm", "--slurm", "array=3"], "--slurm array: dasd-bench sets it itself."),
        (["--launcher", "skypilot"], "use it with --dry-run"),
        (["--launcher", "local", "--ray", "num_gpus=1"], "--ray is for --launcher ray, and this command has"),
        (["--launcher", "local", "--split", "2"], "--split is for --launcher ray or slurm"),
    ],
)
def test_bad_options_end_in_one_sentence(
    tiny_folder: Callable[[str], Path], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    if arguments[1] == "slurm":
        pytest.importorskip("submitit")
    words = ["run", "--model", str(tiny_folder("llama")), "--tasks", "mini_arc", "--store", str(tmp_path), *arguments]
    process = subprocess.run(
        [sys.executable, "-m", "dasd_bench", *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert process.returncode == 2
    assert sentence in " ".join(process.stderr.split())
