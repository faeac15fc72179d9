"""Specifications and command lines written with an option's old name mean what they meant."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dasd_bench.config.renamed import RENAMED
from dasd_bench.config.spec import EngineConfig, arm_training, layer, parse_arm, parse_set, read_file, resolve
from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import UsageError
from dasd_bench.run.sweep import parse_grid

SECTIONS = {"engine": EngineConfig, "training": TrainingConfig}


def test_every_new_name_is_an_option_and_no_old_one_is() -> None:
    for section, names in RENAMED.items():
        known = set(SECTIONS[section].__dataclass_fields__)
        assert known >= set(names.values())
        assert not known & set(names)


def test_an_old_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        "budget: card\nengine:\n  slots: 5\ntraining:\n  micro_tokens: 64\ntraining_given: [micro_tokens]\n"
    )
    spec = resolve(read_file(file))
    assert (spec.engine.max_num_seqs, spec.training.microbatch_tokens) == (5, 64)
    assert spec.training_given == ("microbatch_tokens",)


def test_an_old_command_line_is_read() -> None:
    spec = resolve(parse_set(["engine.slots=5", "training.micro_tokens=64"]))
    assert (spec.engine.max_num_seqs, spec.training.microbatch_tokens) == (5, 64)
    assert parse_arm("sft+training.micro_tokens=64")[2] == {"microbatch_tokens": "64"}
    assert parse_arm("own+micro_tokens=64")[1] == {"micro_tokens": "64"}, "a method's own option of that name"
    assert [point.settings for point in parse_grid(["training.micro_tokens=64"])] == [
        {"training.microbatch_tokens": "64"}
    ]


def test_an_old_card_is_read() -> None:
    plugin = cast(
        Any, SimpleNamespace(path=Path("own.py"), name="own", item=SimpleNamespace(card={"micro_tokens": 64}))
    )
    assert arm_training(resolve({"budget": "card"}), plugin, {}).microbatch_tokens == 64


def test_a_new_name_in_a_later_layer_wins_over_an_old_one() -> None:
    file = layer("the file", {"engine": {"slots": 5}})
    assert resolve(file, parse_set(["engine.max_num_seqs=7"])).engine.max_num_seqs == 7
    file = layer("the file", {"engine": {"max_num_seqs": 5}})
    assert resolve(file, parse_set(["engine.slots=7"])).engine.max_num_seqs == 7


def test_both_names_in_one_file_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the file: engine\.slots is called engine\.max_num_seqs now, and both"):
        layer("the file", {"engine": {"slots": 5, "max_num_seqs": 6}})


def test_the_last_setting_wins_under_either_name() -> None:
    assert resolve(parse_set(["engine.slots=5", "engine.max_num_seqs=6"])).engine.max_num_seqs == 6
    assert resolve(parse_set(["engine.max_num_seqs=6", "engine.slots=5"])).engine.max_num_seqs == 5
