"""The run specification: layers, conversion, ranges, arms."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.config.spec import PRESETS, arms, layer, merge, parse_set, read_file, resolve, split_commas, to_yaml
from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import UsageError
from dasd_bench.registry import discover


def test_command_line_wins_over_file_over_preset_over_default(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train_limit: 7\nlimit: 8\ntraining:\n  lr: 1e-3\n")
    preset = layer("preset", {"train_limit": 1, "limit": 1, "seeds": [3], "training": {"lr": 1, "epochs": 9}})
    spec = resolve(preset, read_file(file), layer("cli", {"limit": 2}), parse_set(["training.epochs=4"]))
    assert (spec.train_limit, spec.limit, spec.seeds) == (7, 2, (3,))
    assert (spec.training.lr, spec.training.epochs, spec.training.batch_size) == (1e-3, 4.0, 8)


def test_saved_spec_repeats_itself(tmp_path: Path) -> None:
    spec = resolve(
        PRESETS["quick"],
        layer("cli", {"methods": "sft,dasd+rule=confidence-gate+tau=0.7", "seeds": "0,1"}),
        parse_set(["dasd.rule=loss-mask"]),
    )
    file = tmp_path / "spec.yaml"
    file.write_text(to_yaml(spec))
    assert resolve(read_file(file)) == spec


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_limt": 3}, "Did you mean 'train_limit'"),
        ({"train_limit": "many"}, "train_limit=many is not a valid int"),
        ({"train_limit": -1}, "out of range"),
        ({"limit": 2.5}, "not a valid int"),
        ({"dtype": "fp8"}, "Unknown value of dtype 'fp8'"),
        ({"seeds": "0,0"}, "contains a duplicate"),
        ({"methods": []}, "at least one"),
        ({"offline": "perhaps"}, "not a boolean"),
        ({"training": {"learning_rate": 1}}, "Unknown training option"),
        ({"training": {"lr": float("nan")}}, "out of range"),
        ({"training": 3}, "must be a mapping"),
        ({"engine": {"slots": 0}}, "engine.max_num_seqs=0 is out of range"),
    ],
)
def test_bad_values_are_named(values, message) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        resolve(layer("the file", values))


def test_bad_yaml_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("model: a\ntasks: [gsm8k\nlimit: 3\n")
    with pytest.raises(UsageError, match=r"broken.yaml:\d: not valid YAML"):
        read_file(file)
    file.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="a mapping"):
        read_file(file)
    with pytest.raises(UsageError, match="does not exist"):
        read_file(tmp_path / "none.yaml")


def test_options_reach_arms_in_order_of_right() -> None:
    spec = resolve(
        {"methods": ["dasd", "dasd+rule=confidence-gate+tau=0.6", "low-ppl"]},
        parse_set(["method.tau=1.5", "dasd.rho=0.8"]),
    )
    first, second, third = arms(spec, discover())
    assert (first.method.rho, second.method.tau, third.method.tau) == (0.8, 0.6, 1.5)
    assert second.label == "dasd+rule=confidence-gate+tau=0.6"


@pytest.mark.parametrize(
    ("methods", "sets", "message"),
    [
        (["dsad"], [], "Did you mean 'dasd'"),
        (["dasd+tua=0.5"], [], "Did you mean 'tau'"),
        (["dasd"], ["method.tua=0.5"], "Did you mean 'tau'"),
        (["dasd"], ["dasd.tau=-1"], "out of range"),
        (["dasd"], ["dasd.rule=gate"], "Unknown value of dasd.rule"),
        (["dasd"], ["low-ppl.tau=2"], "does not use"),
        (["dasd"], ["nothing.tau=2"], "Unknown section"),
        (["dasd"], ["tau=2"], "write SECTION.NAME=VALUE"),
        (["dasd+tau=0.7"], [], "tau has no effect with rule=insist, the default; add rule=confidence-gate or"),
        (["dasd"], ["dasd.tau=0.9"], "tau has no effect with rule=insist, the default; add rule="),
        (["dasd+rho"], [], r"write options as dasd\+NAME=VALUE"),
    ],
)
def test_bad_method_options_are_named(methods, sets, message) -> None:
    with pytest.raises(UsageError, match=message):
        arms(resolve({"methods": methods}, parse_set(sets)), discover())


NESTED = st.dictionaries(
    st.sampled_from("abc"),
    st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers(), max_size=2),
    max_size=3,
)


@given(NESTED, NESTED)
def test_merge_keeps_the_later_value_of_every_key(a, b) -> None:
    merged = merge(a, b)
    assert merged.keys() == a.keys() | b.keys()
    for key in b:
        if isinstance(b[key], int):
            assert merged[key] == b[key]
        else:
            assert b[key].items() <= merged[key].items()


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_resolve(name: str) -> None:
    spec = resolve(layer(name, PRESETS[name]))
    assert yaml.safe_load(to_yaml(spec))["tasks"] == list(spec.tasks)


shipped = functools.cache(discover)


def card_training(*layers: dict[str, Any]) -> TrainingConfig:
    return arms(resolve({"methods": ["profit"], "budget": "card"}, *layers), shipped())[0].training


def test_what_the_user_names_wins_over_a_card_whatever_its_value(tmp_path: Path) -> None:
    standard, card = TrainingConfig(), shipped().method("profit").item.card
    assert card["lr"] != standard.lr != 3e-4
    assert card_training().lr == card["lr"]
    assert card_training(parse_set([f"training.lr={standard.lr}"])).lr == standard.lr
    assert card_training(parse_set(["training.lr=3e-4"])).lr == 3e-4
    assert card_training(layer("a file", {"training": {"batch_size": 8}})).batch_size == standard.batch_size == 8
    assert card_training(PRESETS["quick"] | {"training_given": ()}).epochs == card["epochs"]


@given(st.dictionaries(st.sampled_from(["lr", "lora_alpha", "weight_decay"]), st.sampled_from([2.0, 2e-4, 4.0])))
def test_a_saved_card_run_repeats_itself(named: dict[str, float]) -> None:
    spec = resolve({"methods": ["profit"], "budget": "card"}, {"training": named})
    again = resolve(layer("spec.yaml", yaml.safe_load(to_yaml(spec))))
    assert again == spec
    assert arms(again, shipped())[0].training == arms(spec, shipped())[0].training


def test_a_card_run_saved_without_the_given_options_repeats_itself() -> None:
    """As specifications were saved before: what differs from its default was asked for."""
    saved = yaml.safe_load(to_yaml(resolve({"methods": ["profit"], "budget": "card"}, parse_set(["training.lr=1e-3"]))))
    del saved["training_given"]
    trained = arms(resolve(layer("spec.yaml", saved)), shipped())[0].training
    assert (trained.lr, trained.epochs, trained.lora_rank) == (1e-3, 1.0, 0)


def test_other_specifications_are_saved_as_before() -> None:
    spec = resolve(parse_set(["training.lr=2e-4"]))
    assert "training_given" not in to_yaml(spec)
    assert spec == resolve({})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        (" a , ,b,", ["a", "b"]),
        ('all-linear,"q_proj,v_proj"', ["all-linear", "q_proj,v_proj"]),
        ('sft+training.lora_targets="q_proj,v_proj",dasd', ["sft+training.lora_targets=q_proj,v_proj", "dasd"]),
        ("", []),
    ],
)
def test_commas_in_quotes_split_nothing(text: str, parts: list[str]) -> None:
    assert split_commas(text) == parts
    with pytest.raises(UsageError, match="unclosed"):
        split_commas(text + '"')


@given(st.lists(st.text("ab,+=.é'#\\ ", min_size=1).map(str.strip).filter(bool)))
def test_quoted_parts_are_read_back(parts: list[str]) -> None:
    from dasd_bench.cli.sweep_cmd import _listed

    assert split_commas(_listed(tuple(parts))) == parts
