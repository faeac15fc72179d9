"""The probe on a tiny model: forks and endings, labels, resuming, its files and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.config.resolve import build_spec
from dasd_bench.console import Console
from dasd_bench.methods.context import GREEDY
from dasd_bench.results.probe import ProbeResults, load_probe
from dasd_bench.results.selectors import SCORES, groups
from dasd_bench.run.method_context import generate_tokens
from dasd_bench.run.options import RunOptions
from dasd_bench.run.probe import PreparedProbe, prepare_probe
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.stages.disagreements import ProbeSettings, ProbeTarget, Views
from dasd_bench.run.stages.flip_test import WHOLE, forks
from tests.run.helpers import command

ARMS = "dasd+rule=confidence-gate+tau=0.001,dasd+rule=insist,dasd+rule=mix,low-ppl,profit,sft"


def probe_args(model: Path, folder: Path, *more: str) -> list[str]:
    return [
        *("probe", "--model", str(model), "--tasks", "mini_gsm,mini_arc", "--method", ARMS, "--limit", "4"),
        *("--max-new-tokens", "9", "--per-example", "4", "--set", "engine.max_num_seqs=2"),
        *("-o", str(folder / "probe"), "--store", str(folder / "store"), *more),
    ]


@pytest.fixture(scope="module")
def probed(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    assert run_cli(probe_args(tiny_folder("llama"), folder)) == 0
    return folder


def prepared(model: Path, folder: Path, settings: ProbeSettings) -> PreparedProbe:
    """The stages of :func:`probe_args`, over the same store."""
    given = {
        "model": str(model),
        "tasks": ["mini_gsm", "mini_arc"],
        "train_limit": 4,
        "max_new_tokens": 9,
        "methods": ["dasd"],
    }
    console = Console(quiet=True)
    spec, registry = build_spec(None, None, ("engine.max_num_seqs=2",), given, console)
    options = RunOptions(output=folder / "other", store=folder / "store")
    return prepare_probe(spec, settings, registry, options, console)


def made(ids: list[int], own: list[int]) -> tuple[ProbeTarget, Views]:
    text = ProbeTarget("a/train/0", np.array(ids, np.int32), np.zeros(len(ids), np.uint8), "", "stop", "rewrite")
    return text, Views(np.zeros(0, np.float32), np.array(own, np.int32))


def test_the_ending_of_a_candidate_is_that_of_the_next_forced_token() -> None:
    found = forks(*made([5, 6, 7, 8], [5, 9, 7, 4]), 0, np.random.default_rng(0))
    assert found.places.tolist() == [1, 3]
    assert found.forced == [(5, 9), (5, 6, 7, 4)]
    assert found.after_candidate(0, "base") == (5, 6, 7, 4)
    assert found.after_candidate(1, "base") == WHOLE
    assert found.after_candidate(0, "reference") == WHOLE


def test_the_number_of_disagreements_is_capped_by_a_seeded_sample() -> None:
    text, view = made(list(range(20)), [0] * 20)
    drawn = [forks(text, view, 5, np.random.default_rng(seed)).picked for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(one) == 5 and one == sorted(set(one)) for one in drawn)
    assert forks(text, view, 0, np.random.default_rng(0)).picked == list(range(19))


def test_a_probe_leaves_labels_tables_figures_and_a_page(probed: Path) -> None:
    folder = probed / "probe"
    results, tokens = load_probe(folder)
    assert {one.task for one in tokens} == {"mini_gsm", "mini_arc"}
    assert {one.label for one in tokens} <= {"correction", "damage", "neutral"}
    assert max(np.unique([one.example for one in tokens], return_counts=True)[1]) == 4
    for one in tokens:
        assert set(one.replaced) == {"dasd+rule=confidence-gate+tau=0.001", "dasd+rule=insist", "low-ppl", "profit"}
        assert one.features["conf"] == pytest.approx(one.features["p_base_own"], abs=1e-6)
        assert one.features["p_base_candidate"] <= one.features["conf"]
        assert one.features["rank_base_candidate"] > 0
    # A gate whose threshold every confidence passes replaces all candidates but those that end the answer.
    assert all(one.replaced["dasd+rule=confidence-gate+tau=0.001"] == 1 for one in tokens if one.kind != "format")
    names = [one.group for one in results.counts]
    assert names[0] == "all"
    assert {"mini_gsm", "mini_arc"} <= set(names)
    assert {one.name for one in results.scores} == set(SCORES)
    assert all(one.at[1].rate == pytest.approx(0.25) for one in results.scores)
    assert any("were tested" in text for text in results.warnings)
    assert any("rule=mix" in text for text in results.warnings)
    assert "The two streams" in (folder / "tables.md").read_text()
    assert (folder / "rates.svg").is_file()
    page = (folder / "report.html").read_text()
    index = json.loads(re.search(r'id="index">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert index["tokens"][0]["labels"] == ["correction", "damage", "neutral", "style"]
    assert "label" in index["tokens"][0]["columns"]


def test_the_same_command_computes_nothing_again(probed: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    before = {path.name: path.read_bytes() for path in (probed / "probe").iterdir() if path.suffix in (".jsonl", ".md")}
    result = command(capsys, *probe_args(tiny_folder("llama"), probed))
    assert result.code == 0, result.err
    assert result.out.count("reused from the store") == 3
    assert "computed in" not in result.out
    assert {name: (probed / "probe" / name).read_bytes() for name in before} == before
    plan = command(capsys, *probe_args(tiny_folder("llama"), probed, "--dry-run"))
    assert "0 stages to do" in plan.out


def test_other_settings_need_another_folder(probed: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    result = command(capsys, *probe_args(tiny_folder("llama"), probed, "--continue", "reference"))
    assert result.code == 2
    assert "other settings" in result.err


@pytest.mark.parametrize("continuation", ["base", "reference"])
def test_endings_are_what_either_stream_writes_behind_the_forced_token(
    probed: Path, tiny_folder: Callable[[str], Path], continuation: str
) -> None:
    """Both endings of every disagreement, each generated for itself: shared endings must not change a label."""
    probe = prepared(tiny_folder("llama"), probed, ProbeSettings("flip", 0, continuation))
    for stage in probe.graph.walk():
        stage.run()
    context, flips = probe.context, probe.graph.flips
    assert flips is not None
    texts, views = probe.graph.texts.value, probe.graph.views.value
    prompts = Prompts(context)
    by_id = {example.id: example for example in probe.examples}
    asked, wanted = [], []
    for text, view, found in zip(texts, views, flips.value, strict=True):
        assert len(found.positions) == found.disagreements
        gained = found.candidate_right.sum() - found.own_right.sum(dtype=int)
        if continuation == "base":
            assert int(gained) == int(found.rewrite_right) - int(found.base_right)
        example = by_id[text.example_id]
        chat = example.plain_chat() if continuation == "base" else prompts.rewrite(example, "multi-turn")
        for number, at in enumerate(found.positions.tolist()):
            for token, answers in ((view.own[at], found.own_answers), (text.token_ids[at], found.candidate_answers)):
                asked.append((example, prompts.encode(chat), [*text.token_ids[:at].tolist(), int(token)]))
                wanted.append(answers[number])
    going = [one for one in asked if one[2][-1] not in context.stop_ids and len(one[2]) < 9]
    made = generate_tokens(
        context,
        [ids + prefix for _, ids, prefix in going],
        [9 - len(p) for _, _, p in going],
        GREEDY,
        [0] * len(going),
        "",
    )
    rest = {id(one): more.token_ids.tolist() for one, more in zip(going, made, strict=True)}
    answers = []
    for one in asked:
        text = context.tokenizer.decode(one[2] + rest.get(id(one), []), skip_special_tokens=True)
        answers.append(context.registry.task(one[0].task).item.grade(one[0], text).extracted)
    assert answers == wanted


def test_labels_by_construction(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    args = probe_args(tiny_folder("llama"), tmp_path, "--labels", "constructed")
    result = command(capsys, *[one if one != "mini_gsm,mini_arc" else "mini_gsm" for one in args])
    assert result.code == 0, result.err
    results, tokens = load_probe(tmp_path / "probe")
    assert results.labels == "constructed"
    # The telegraphic references of mini_gsm have hardly a word that a rule changes.
    assert {one.label for one in tokens} >= {"correction"}
    assert {one.source for one in tokens} == {"reference"}  # a random model has no right answer to re-word
    assert all(any(char.isdigit() for char in one.candidate) for one in tokens if one.label == "correction")
    arc = command(
        capsys, *[one if one != "mini_gsm,mini_arc" else "mini_arc" for one in args[:-4]], "-o", str(tmp_path / "arc")
    )
    assert arc.code == 0, arc.err
    # A choice has no worked step to correct, so only style is left.
    assert "No score can be judged: 0 of the tested tokens are corrections" in arc.out


def test_what_cannot_be_probed_is_refused(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    base = command(capsys, *[one if one != ARMS else "base" for one in probe_args(tiny_folder("llama"), tmp_path)])
    assert base.code == 2
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "notes.txt").write_text("mine")
    full = command(capsys, *probe_args(tiny_folder("llama"), tmp_path))
    assert full.code == 2
    assert "contains no probe" in full.err


def test_groups_are_tasks_levels_and_sources(probed: Path) -> None:
    results, tokens = load_probe(probed / "probe")
    assert isinstance(results, ProbeResults)
    for name, own in groups(tokens):
        assert own, name
        assert len({one.task for one in own}) == (2 if name == "all" else 1)
