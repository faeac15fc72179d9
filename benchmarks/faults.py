"""Odd input of every kind through the command line, and what became of it: no weights are loaded, no network is asked.

A case is drawn from its number alone, so that a failure is repeated with ``--only NUMBER``. Counted are

* unexpected: an error that the program has no sentence for, a traceback, or a case that does not come back;
* silent: input that must be refused and was not;
* lost: what is sound beside the odd input is not shown.

    python -m benchmarks.faults --cases 10000
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fault_command import Outcome, command, fault_of
from benchmarks.fault_folders import MODEL, model_folder, plugin, store
from benchmarks.made_run import Size, make_run
from dasd_bench.registry import Registry, add_folders, discover
from tests.tiny_models import make_tiny_model

NO_MODEL = "./no-such-model"
MEMORY = Path("/dev/shm")
"""Where cases are made, if it exists: most of the time of a case was the disk's."""


# --- specifications ---------------------------------------------------------------------------------------------------

WRONG_VALUES = (
    "",
    "null",
    "2024-01-02",
    "{a: 1}",
    "[[1, 2]]",
    "[null]",
    "&a [*a]",
    ".nan",
    '"\\0"',
    '"\\uD800"',
    "[" * 500,
    "9" * 5000,
    "!!python/object:os.system {}",
    "!!binary aGk=",
    "2024-13-45",
    "[{a: b}]",
)
"""YAML values that no option takes."""
LONG = "x" * 300
ODD_VALUES = (
    "~",
    "0x10",
    "1_0",
    "-1",
    "1e400",
    "-.inf",
    "yes",
    "off",
    "[]",
    "''",
    '"~nobody"',
    "é",
    '"' + "x" * 300 + '"',
)
"""YAML values that some options take."""
KEYS = [
    *("model", "methods", "tasks", "train_tasks", "train_limit", "limit", "seeds", "num_fewshot", "chat_template"),
    *("max_new_tokens", "dtype", "device", "data_dir", "validation", "budget", "plugins", "retention"),
    *("retention_limit", "training.lr", "training.epochs", "training.lora_targets", "training.rslora"),
    *("engine.max_num_seqs", "engine.backend", "method_options.dasd", "training", "engine", "method_options"),
]
TEXTS = (
    b"- a\n", b"5\n", b"a: [\n", b"\xff\xfe\0", b"5: x\n", b"? [a]\n: b\n", b"model: a\nmodel: b\n", b"\x01", b"@",
    b"seed_s: 1\n", b"null: 1\n", b"train-limit: 1\ntrain_limit: 2\n", b"<<: 5\n", b"%YAML 9\n---\n",
)  # fmt: skip


def specification(rng: random.Random, folder: Path) -> Outcome:
    """A YAML file with one value that is wrong, or that is no specification at all."""
    path = folder / "spec.yaml"
    shape = rng.random()
    refused = True
    if shape < 0.15:
        path.write_bytes(text := rng.choice(TEXTS))
        what = repr(text)
    elif shape < 0.22:
        path = rng.choice([folder, Path("/dev/zero"), Path("/proc/self/mem"), folder / ("x" * 300), Path("~nobody/x")])
        what = str(path)
    else:
        key = rng.choice(KEYS)
        refused = rng.random() < 0.6
        value = rng.choice(WRONG_VALUES if refused else ODD_VALUES)
        section, dot, name = key.partition(".")
        refused = refused and key != "method_options" and key != "training" and key != "engine"
        path.write_text(f"{section}: {{{name}: {value}}}\n" if dot else f"{key}: {value}\n", encoding="utf-8")
        what = f"{key}: {value[:60]}"
    args = ["run", "-c", str(path), "--dry-run", "--offline", "--output", str(folder / "out")]
    if not what.startswith("model:"):
        args += ["--model", NO_MODEL]
    for option, key in (("--methods", "methods"), ("--tasks", "tasks")):
        if not what.startswith(f"{key}:"):
            args += [option, "sft" if key == "methods" else "mini_gsm"]
    result = command(*args)
    # Every one of these ends with an error; one that gets as far as the model was taken.
    silent = refused and (result[0] == 0 or NO_MODEL.removeprefix("./") in result[2])
    return Outcome("specification", what, fault_of(result) or ("silent" if silent else ""), result[2])


# --- command lines ----------------------------------------------------------------------------------------------------

LINES = {
    "run": "--model --method --tasks --train-tasks --preset --config --set --train-limit --limit --seeds --num-fewshot "
    "--chat-template --budget --validation --max-new-tokens --dtype --device --data-dir --retention-limit --plugins "
    "--output --store --processes --track",
    "sweep": "--grid --method --tasks --seeds --set --output --data-dir",
    "table": "--columns --sort --group-by --baseline --runs-dir --format --table",
    "compare": "--items --runs-dir --format",
    "samples": "--task --reason --method --seed --item --limit --runs-dir",
    "score": "--task --data-dir --limit --runs-dir",
    "list methods": "--plugins",
    "list runs": "",
    "show": "--plugins",
    "data check": "--tasks --plugins",
    "new-method": "",
    "export": "--output --runs-dir",
    "diagnose": "--output --runs-dir",
}
VALUES = (
    "", " ", ",", LONG, "x" * 5000, "~nobody", "~nobody/x", "nan", "inf", "-1", "9" * 5000, "\udcff", "a\0b", "é",
    "\n", "%s", "{0}", "a=b", "a.b=c", ".=", "training.lr=nan", "training.lr=1e999", "engine.max_num_seqs=" + "9" * 400,
    "dasd+tau=0.5+tau=0.6", "dasd+tau", "+", "@", "mini_gsm@-1", "mini_gsm@" + "9" * 30, "mini_gsm@x", '"', "cuda:99",
    "banana", "fp16", "base", "sft,sft", "[/red]", "[bold]", "1e3", "0", "9" * 25, ":", "a:b", "..", "/", "[", "*",
)  # fmt: skip


def command_line(rng: random.Random, folder: Path) -> Outcome:
    """A verb with odd arguments and options."""
    verb = rng.choice(list(LINES))
    args = verb.split()
    if verb == "run":
        args += ["--dry-run", "--offline", "--model", NO_MODEL, "--tasks", "mini_gsm"]
    elif verb == "sweep":
        args += [
            "--offline",
            "--model",
            NO_MODEL,
            "--method",
            "sft",
            "--tasks",
            "mini_gsm",
            "--grid",
            "training.lr=1e-4",
        ]
    else:
        args += [rng.choice([rng.choice(VALUES), str(folder / "run")]) for _ in range(rng.randint(0, 2))]
    for _ in range(rng.randint(0 if len(args) > 2 else 1, 2)):
        if LINES[verb]:
            args += [rng.choice(LINES[verb].split()), rng.choice(VALUES)]
    if verb == "new-method":
        args += ["--folder", str(folder / "methods")]
    result = command(*args)
    shown = " ".join(a if len(a) < 50 else a[:20] + "..." for a in args)
    return Outcome("command line", shown, fault_of(result), result[2])


# --- rows -------------------------------------------------------------------------------------------------------------

GOOD = {
    "gsm8k": {"question": "Ann has 2 pens and buys 3. How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
    "arc_easy": {
        "id": "a",
        "question": "Which is a gas?",
        "choices": {"text": ["iron", "oxygen", "salt"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    "math": {"problem": "What is 2+3?", "level": "Level 1", "type": "Algebra", "solution": r"It is \boxed{5}."},
    "winogrande": {"sentence": "Ann told Eve that _ won.", "option1": "Ann", "option2": "Eve", "answer": "1"},
    "piqa": {"goal": "Open a jar", "sol1": "Turn the lid", "sol2": "Eat the lid", "label": 0},
    "hellaswag": {
        "activity_label": "Baking",
        "ctx_a": "A man",
        "ctx_b": "he",
        "endings": ["a", "b", "c"],
        "label": "0",
    },
    "mmlu": {"question": "Which?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2},
}
SPLITS = {"winogrande": "validation", "piqa": "validation", "hellaswag": "validation", "mmlu": "test"}
QUESTION = {"gsm8k": "question", "arc_easy": "question", "math": "problem", "winogrande": "sentence", "piqa": "goal",
            "hellaswag": "ctx_a", "mmlu": "question"}  # fmt: skip
LINES_WRONG = (
    b"{", b"[]", b"3", b"null", b'"x"', b"{'a': 1}", b"\xff\xfe", b'{"a": "\\ud835"}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}", b'{"a": 1} {"b": 2}', b"{}",
)  # fmt: skip


def rows(rng: random.Random, folder: Path) -> Outcome:
    """A file of rows in which one is wrong, or the file is."""
    task = rng.choice(list(GOOD))
    good = [dict(GOOD[task]) | {QUESTION[task]: f"{GOOD[task][QUESTION[task]]} ({i})"} for i in range(8)]  # type: ignore[index]
    path = folder / "data" / task / f"{SPLITS.get(task, 'test')}.jsonl"
    path.parent.mkdir(parents=True)
    lines = [json.dumps(row).encode() for row in good]
    refused, bom = True, b""
    shape = rng.random()
    if shape < 0.3:
        lines[3] = what = rng.choice(LINES_WRONG)
        what = repr(what[:40])
    elif shape < 0.4:
        refused, what, bom = False, "a byte-order mark and blank lines", b"\xef\xbb\xbf"
        lines.insert(2, b" ")
    else:
        row: dict[str, Any] = json.loads(json.dumps(good[3]))
        column = rng.choice([QUESTION[task], *row])
        value = rng.choice([None, [], {}, ["a"], {"a": 1}])
        if column == "choices" and task == "arc_easy":
            row["choices"][rng.choice(["text", "label"])] = rng.choice(
                [["a"], [], None, "abc", ["", "x", "y"], [1, 2, [3]]]
            )
            refused = row["choices"]["label"] != [1, 2, [3]] and row["choices"]["label"] != ["", "x", "y"]
        elif column in ("choices", "endings"):
            row[column] = value = rng.choice([None, [], ["a"], ["", "b", "c", "d"], "abcd", 3, [1, 2, 3, 4]])
        elif column in ("label", "answer", "answerKey") and task != "gsm8k":
            row[column] = value = rng.choice([None, [], "Z", -1, 99, "", 10**400])
        elif rng.random() < 0.3:
            del row[column]
            value = "missing"
        else:
            row[column] = value
        # Columns that only describe the row may be anything but absent or null.
        if column in ("id", "level", "type") and value not in (None, "missing"):
            refused = False
        lines[3] = json.dumps(row).encode()
        what = f"{task}: {column} = {str(row.get(column, 'missing'))[:40]}"
    path.write_bytes(bom + b"\n".join(lines) + b"\n")
    result = command("data", "check", str(folder / "data"), "-t", task)
    fault = fault_of(result, refused=refused)
    if not fault and not refused and shape < 0.4 and result[0] != 0:
        fault = "lost"
    return Outcome("rows", f"{task}: {what}", fault, result[1] + result[2])


# --- run folders ------------------------------------------------------------------------------------------------------

ODD_JSON: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 1e308, 10**400, True, [[1]], {"a": 1}, "", 3.5, "é")
GARBAGE = (
    b"",
    b"{",
    b"\xff\xfe\0",
    b"null",
    b"[]",
    b"3",
    b"[" * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a":"\\ud835"}\n',
)
VERBS = (*("table", "list", "show", "samples", "compare", "diagnose", "export") * 4, "report")
"""A report draws its figures, which takes seconds."""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _mutate(rng: random.Random, value: Any) -> str:
    path = rng.choice(list(_paths(value)))
    for key in path[:-1]:
        value = value[key]
    odd = rng.choice(ODD_JSON)
    if rng.random() < 0.2:
        del value[path[-1]]
        return f"{path} is missing"
    value[path[-1]] = odd
    return f"{path} = {str(odd)[:30]}"


def run_folder(rng: random.Random, folder: Path) -> Outcome:
    """A run directory with one file that is cut, garbled or holds an odd value, beside one that is sound."""
    shutil.copytree(folder / "run", folder / "runs" / "odd")
    (folder / "runs" / "sound").symlink_to(folder / "run")
    files = [
        p
        for p in sorted((folder / "runs" / "odd").rglob("*"))
        if p.is_file() and p.suffix in (".json", ".jsonl", ".yaml")
    ]
    weights = [8 if p.name in ("results.json", "manifest.json") else 1 for p in files]
    path = rng.choices(files, weights)[0]
    shape = rng.random()
    if shape < 0.2:
        path.write_bytes(garbage := rng.choice(GARBAGE))
        what = repr(garbage[:20])
    elif shape < 0.3:
        data = path.read_bytes()
        path.write_bytes(data[: rng.randint(0, len(data))])
        what = "cut"
    elif shape < 0.35:
        path.unlink()
        path.mkdir()
        what = "a folder"
    elif path.suffix == ".json":
        value = json.loads(path.read_text(encoding="utf-8"))
        what = _mutate(rng, value)
        path.write_text(json.dumps(value), encoding="utf-8")
    elif path.suffix == ".jsonl":
        read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        what = _mutate(rng, read[rng.randrange(len(read))])
        path.write_text("".join(json.dumps(row) + "\n" for row in read), encoding="utf-8")
    else:
        path.write_text(what := rng.choice(["5", "- a", "model: [", "training: 5", "a: b"]), encoding="utf-8")
    verb = rng.choice(VERBS)
    odd, sound = str(folder / "runs" / "odd"), str(folder / "runs" / "sound")
    lines = {
        "list": ("list", "runs", str(folder / "runs")),
        "show": ("show", odd),
        "samples": ("samples", odd, "-L", "0"),
        "compare": ("compare", odd, sound),
        "export": ("export", odd, "-o", str(folder / "card")),
        "report": ("report", odd, "-o", str(folder / "r.html")),
    }
    result = command(*lines.get(verb, (verb, odd)))
    fault = fault_of(result)
    if not fault and verb == "list" and (result[0] != 0 or "sound" not in result[1]):
        fault = "lost"
    return Outcome("run folder", f"{verb}: {path.relative_to(folder / 'runs' / 'odd')} {what}", fault, result[2])


KINDS = (specification, command_line, rows, run_folder, plugin, model_folder, store)


def run_case(number: int, run: Path) -> Outcome:
    """Case ``number``, in an empty folder that has a copy of ``run``."""
    rng = random.Random(f"faults {number}")
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as made:
        folder = Path(made).resolve()
        (folder / "run").symlink_to(run)
        (folder / MODEL).symlink_to(run.parent / MODEL)
        os.chdir(folder)
        try:
            return KINDS[number % len(KINDS)](rng, folder)
        finally:
            os.chdir(before)


def shipped_once(plugin_dirs: tuple[Path, ...] = ()) -> Registry:
    """The plugins; those of this project, which no case changes, are loaded once."""
    known = _known()
    registry = Registry(dict(known.methods), dict(known.tasks), list(known.broken))
    add_folders(registry, plugin_dirs)
    return registry


_known = functools.cache(discover)
DISCOVERING = tuple(f"dasd_bench.{name}" for name in ("registry", "config.resolve", "cli.data_cmd"))
"""The modules in which :func:`shipped_once` takes the place of ``discover``, which costs more than most cases."""


def sound_run(folder: Path) -> Path:
    """The run directory that cases begin with. Loads what is slow to load, which no case must be stopped in."""
    import lm_eval.tasks
    import torch._dynamo

    assert lm_eval.tasks
    assert torch._dynamo
    make_tiny_model("llama", folder / "sound" / MODEL)
    return make_run(folder / "sound" / "run", Size(examples=6, tokens=12, items=10, seeds=(0,), steps=4)).resolve()


def main() -> None:
    """Runs the cases and prints counts by kind, and the first cases of each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after this time")
    parser.add_argument("--show", type=int, default=5, help="faulty cases to print of each kind")
    parser.add_argument("--only", type=int, help="run this case alone and print what was said")
    options = parser.parse_args()
    for name in ("DASD_DATA_DIR", "DASD_RUNS_DIR"):
        os.environ.pop(name, None)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    counts: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        run = sound_run(Path(made))
        for module in DISCOVERING:
            vars(importlib.import_module(module))["discover"] = shipped_once
        for number in range(options.start, options.start + options.cases) if options.only is None else [options.only]:
            if time.monotonic() - started > options.seconds:
                break
            outcome = run_case(number, run)
            counts[outcome.kind, "cases"] += 1
            if outcome.fault or options.only is not None:
                counts[outcome.kind, outcome.fault] += 1
                if counts[outcome.kind, outcome.fault] <= options.show:
                    said = outcome.said.strip()[-300:]
                    print(f"{number} {outcome.kind}, {outcome.fault}: {outcome.what!r}: {said!r}", flush=True)
    print(f"{'kind':<16}{'cases':>8}{'unexpected':>12}{'silent':>8}{'lost':>8}")
    for kind in dict.fromkeys(kind for kind, _ in counts):
        row = [counts[kind, name] for name in ("cases", "unexpected", "silent", "lost")]
        print(f"{kind:<16}{row[0]:>8}{row[1]:>12}{row[2]:>8}{row[3]:>8}")


if __name__ == "__main__":
    main()
