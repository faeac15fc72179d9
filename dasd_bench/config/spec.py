"""The run specification: what one run does, from defaults, preset, file and command line, in rising order of right.

The resolved specification is written to ``spec.yaml`` in the run directory; ``run -c spec.yaml`` repeats the run.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import PluginError, UsageError, unknown_name
from dasd_bench.methods.base import BASE, Method, OptionRule, build_method, check_range, convert, option, option_rules
from dasd_bench.registry import Plugin, Registry


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine runs; part of every generation key, since batch shape moves the last bits of a float."""

    slots: int = option(64, help="Sequences decoded at once.", minimum=1, maximum=4096)
    backend: str = option(
        "hf",
        help="hf (this project's own engine on transformers' models) or vllm (extra [vllm]).",
        choices=("hf", "vllm"),
    )
    accelerate: str = option("auto", help="Packed linears and attention: auto or off.", choices=("auto", "off"))


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides a run's results. Field help is the command line's help."""

    model: str = option("smollm2-135m", help="Alias, local folder, GGUF file or hub id.")
    methods: tuple[str, ...] = option(
        ("dasd",), help="Methods, comma-separated; options as dasd+tau=0.7. base: the model as it is."
    )
    tasks: tuple[str, ...] = option(
        ("auto",), help="Tasks to evaluate on; auto: the paper's, or the built-in ones where no data can be had."
    )
    train_tasks: tuple[str, ...] = option((), help="Tasks to train on; default: those of --tasks with a train split.")
    train_limit: int = option(0, help="Training rows per task, the first ones; 0 for all.", minimum=0)
    limit: int = option(0, help="Evaluated rows per task, the first ones; 0 for all.", minimum=0)
    seeds: tuple[int, ...] = option((0,), help="Seeds, comma-separated.")
    num_fewshot: int = option(
        -1, help="Few-shot examples; -1 keeps each task's own number. NAME@K in --tasks sets one task's.", minimum=-1
    )
    chat_template: str = option(
        "auto", help="auto (the model's own), plain (ours, for base models) or off.", choices=("auto", "plain", "off")
    )
    max_new_tokens: int = option(0, help="Generation budget of targets; 0 keeps each task's own.", minimum=0)
    dtype: str = option("auto", help="auto (fp32 on CPU, bf16 on GPU), fp32 or bf16.", choices=("auto", "fp32", "bf16"))
    device: str = option("auto", help="auto, cpu or cuda.")
    data_dir: str = option("", help="Folder with <dataset>/<split>.jsonl; default DASD_DATA_DIR.")
    validation: int = option(
        0, help="Training rows per task kept out of training and evaluated on instead of the test split.", minimum=0
    )
    budget: str = option(
        "equal",
        help="equal: one training for all methods; card: each method's authors' own.",
        choices=("equal", "card"),
    )
    offline: bool = option(False, help="Never ask the hub.")
    plugins: tuple[str, ...] = option((), help="Folders with more methods and tasks.")
    retention: tuple[str, ...] = option((), help="Sets outside the training tasks to look for forgetting on, or all.")
    retention_limit: int = option(100, help="Rows per retention set, at even distances; 0 for all.", minimum=0)
    confirm_run_unsafe_code: bool = option(False, help="Allow tasks that run model-written code (in the sandbox).")
    method_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    training_given: tuple[str, ...] = ()
    """Training options that win over the methods' cards, whatever their values; kept under ``budget`` = card only."""
    engine: EngineConfig = field(default_factory=EngineConfig)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: the base alone is only evaluated."""
        return self.methods != (BASE,)


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "tasks": ["mini_gsm", "mini_math", "mini_arc"],
        "train_limit": 32,
        "limit": 50,
        "max_new_tokens": 96,
        "training": {"epochs": 2, "lr": 2e-4},
    },
    "standard": {
        "tasks": ["gsm8k", "arc_challenge"],
        "train_limit": 1000,
        "limit": 500,
        "seeds": [0, 1, 2],
    },
}
"""Named sets of values between the defaults and the file."""


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """One row of the table: a method with its options and the way it is trained."""

    label: str
    method: Method
    plugin: Plugin[type[Method]]
    training: TrainingConfig


def layer(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys of one layer (a file, a preset) and gives a plain nested dictionary."""
    known = {f.name: f for f in dataclasses.fields(RunSpec)}
    out: dict[str, Any] = {}
    for key, value in values.items():
        key = key.replace("-", "_")
        if key not in known:
            raise unknown_name(f"key in {name}", key, known)
        if key in ("training", "engine", "method_options"):
            if not isinstance(value, Mapping):
                raise UsageError(f"{name}: '{key}' must be a mapping of names to values.")
            out[key] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in value.items()}
        else:
            out[key] = value
    return out


def read_file(path: Path) -> dict[str, Any]:
    """A YAML specification file as a layer; raises :class:`UsageError` naming file and line."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"The file {path} given with --config does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UsageError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, Mapping):
        raise UsageError(f"{path}: a mapping of option names to values is expected.")
    return layer(str(path), loaded)


def parse_set(items: Sequence[str]) -> dict[str, Any]:
    """``--set`` items as a layer: ``training.lr=1e-4``, ``engine.slots=8``, ``dasd.tau=0.9``, ``method.tau=0.9``."""
    out: dict[str, Any] = {}
    for item in items:
        name, sep, value = item.partition("=")
        section, dot, key = name.strip().partition(".")
        if not sep or not dot or not key:
            raise UsageError(
                f"--set {item}: write SECTION.NAME=VALUE, for instance method.tau=0.9 or training.lr=1e-4."
            )
        if section in ("training", "engine"):
            out.setdefault(section, {})[key] = value
        else:
            out.setdefault("method_options", {}).setdefault(section, {})[key] = value
    return out


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; the nested sections are merged key by key."""
    out: dict[str, Any] = {}
    for values in layers:
        for key, value in values.items():
            if isinstance(value, Mapping):
                below = out.get(key)
                out[key] = merge(below if isinstance(below, Mapping) else {}, value)
            else:
                out[key] = value
    return out


def resolve(*layers: Mapping[str, Any]) -> RunSpec:
    """The specification from layers in rising order of right; every value converted and range-checked."""
    values = merge(*layers)
    built: dict[str, Any] = {}
    for f in dataclasses.fields(RunSpec):
        if f.name not in values or f.name == "training_given":
            continue
        value = values[f.name]
        if f.name == "training":
            built["training"] = _section(TrainingConfig, value, "training")
        elif f.name == "engine":
            built["engine"] = _section(EngineConfig, value, "engine")
        elif f.name == "method_options":
            built["method_options"] = {k: dict(v) for k, v in value.items()}
        elif f.name == "seeds":
            parts = [value] if isinstance(value, int) else convert(value, tuple, "seeds")
            built["seeds"] = tuple(convert(part, int, "seeds") for part in parts)
        elif isinstance(f.default, tuple):
            built[f.name] = tuple(str(part) for part in convert(value, tuple, f.name))
        else:
            built[f.name] = _checked(f, value, f.name)
    given = set[str]().union(*map(_training_given, layers))
    spec = RunSpec(**built, training_given=tuple(sorted(given)) if built.get("budget") == "card" else ())
    for name in ("methods", "tasks", "seeds"):
        chosen = getattr(spec, name)
        if not chosen:
            raise UsageError(f"--{name}: at least one is needed.")
        if len(set(chosen)) != len(chosen):
            raise UsageError(f"--{name}: '{','.join(map(str, chosen))}' names one twice.")
    return spec


def _training_given(values: Mapping[str, Any]) -> set[str]:
    """The training options that a layer asks for by name. A preset or a saved specification says itself which."""
    if "training_given" in values:
        return set(convert(values["training_given"], tuple, "training_given"))
    named = values.get("training", {})
    standard = dataclasses.asdict(TrainingConfig())
    if named.keys() == standard.keys():
        # Saved before specifications said it: only what is no default can have been asked for.
        return {key for key, value in named.items() if value != standard[key]}
    return set(named)


def _section(kind: type[Any], values: Mapping[str, Any], name: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    built = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown_name(f"{name} option", key, fields)
        built[key] = _checked(fields[key], value, f"{name}.{key}")
    return kind(**built)


def _checked(f: dataclasses.Field[Any], value: Any, label: str) -> Any:
    rule: OptionRule = f.metadata["option"]
    value = convert(value, type(f.default), label)
    check_range(value, rule, label)
    return value


def split_commas(text: str) -> list[str]:
    """The parts between commas, without empty ones; commas in double quotes split nothing: ``a,"b,c"``.

    Raises :class:`UsageError` for a quote that is not closed.
    """
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.quotes, lexer.escape, lexer.commenters = ",", '"', "", ""
    lexer.whitespace_split = True
    try:
        return [part.strip() for part in lexer if part.strip()]
    except ValueError:
        raise UsageError(f"'{text}' has a double quote that is not closed.") from None


def parse_arm(text: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """``NAME+X=...+training.Y=...`` as the method's name, its own options and its own training options."""
    name, *pairs = text.split("+")
    own: dict[str, str] = {}
    training: dict[str, str] = {}
    for pair in pairs:
        key, sep, value = pair.partition("=")
        if not sep:
            raise UsageError(f"--method {text}: write options as {name}+NAME=VALUE.")
        section, _, option_name = key.rpartition(".")
        if section not in ("", "training"):
            raise UsageError(f"--method {text}: write options as {name}+NAME=VALUE or {name}+training.NAME=VALUE.")
        (training if section else own)[option_name] = value
    return name, own, training


def arms(spec: RunSpec, registry: Registry) -> list[ArmSpec]:
    """The methods of a run with their options: ``method.X`` for all that have X, ``NAME.X``, then ``NAME+X=...``.

    ``NAME+training.X=...`` trains one arm its own way. ``base`` is no arm: every run evaluates it.
    """
    parsed = []
    for text in spec.methods:
        if text == BASE:
            continue
        name, own, training = parse_arm(text)
        parsed.append((text, registry.method(name), own, training))
    shared = spec.method_options.get("method", {})
    chosen = {plugin.name for _, plugin, _, _ in parsed}
    for section in spec.method_options:
        if section != "method" and section not in chosen:
            if section in registry.methods:
                raise UsageError(f"Options are set for method '{section}', which this run does not use.")
            raise unknown_name("section of --set", section, [*chosen, "method", "training", "engine"])
    for key in shared:
        if not any(key in option_rules(plugin.item) for _, plugin, _, _ in parsed):
            known = {name for _, plugin, _, _ in parsed for name in option_rules(plugin.item)}
            raise unknown_name("method option", key, known)
    result = []
    for label, plugin, own, training in parsed:
        rules = option_rules(plugin.item)
        values = {key: value for key, value in shared.items() if key in rules}
        values |= spec.method_options.get(plugin.name, {}) | own
        trained = arm_training(spec, plugin, training)
        result.append(ArmSpec(label, build_method(plugin.item, values), plugin, trained))
    return result


def arm_training(spec: RunSpec, plugin: Plugin[type[Method]], own: Mapping[str, Any]) -> TrainingConfig:
    """How one arm is trained: the run's way, under ``budget=card`` with the method's card, then the arm's ``own``.

    Under ``card`` a training option that the file, the command line or a sweep's grid names wins over the card, and so
    does any other value than the default, so that a small machine can run a card with fewer epochs.
    """
    values = dataclasses.asdict(spec.training)
    if spec.budget == "card":
        standard = dataclasses.asdict(TrainingConfig())
        try:
            _section(TrainingConfig, plugin.item.card, "training")
        except UsageError as error:
            raise PluginError(f"{plugin.path}: the card of method '{plugin.name}' is wrong: {error}") from None
        open_keys = {key for key in values.keys() - set(spec.training_given) if values[key] == standard[key]}
        values |= {key: value for key, value in plugin.item.card.items() if key in open_keys}
    built: TrainingConfig = _section(TrainingConfig, values | dict(own), "training")
    return built


def to_yaml(spec: RunSpec) -> str:
    """The specification as YAML, with a header that repeats the run."""
    plain = dataclasses.asdict(spec)
    if spec.budget != "card":
        del plain["training_given"]
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
    header = "# Repeat this run: dasd-bench run -c spec.yaml\n"
    return header + str(yaml.safe_dump(listed, sort_keys=False, allow_unicode=True))
