"""The run specification: what one run does, from defaults, preset, file and command line, in increasing precedence.

The resolved specification is written to ``spec.yaml`` in the run directory; ``run -c spec.yaml`` repeats the run.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.config.renamed import new_name, with_new_names
from dasd_bench.config.training import TrainingConfig
from dasd_bench.config.warmup import WarmupConfig
from dasd_bench.errors import PluginError, UsageError, unknown_name
from dasd_bench.files.text import shown
from dasd_bench.files.yaml_file import read_mapping
from dasd_bench.methods.base import BASE, Method, build_method, has_token_loss
from dasd_bench.methods.plugin_calls import call
from dasd_bench.options import build_options, convert, convert_options, option, option_rules
from dasd_bench.registry import Plugin, Registry
from dasd_bench.results.directory import folder_name


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine runs; part of every generation key, since batch shape moves the last bits of a float."""

    max_num_seqs: int = option(64, help="Sequences decoded in parallel.", minimum=1, maximum=4096)
    backend: str = option(
        "hf",
        help="hf (this project's engine) or vllm (extra [vllm]).",
        choices=("hf", "vllm"),
    )
    accelerate: str = option("auto", help="Packed linears and attention: auto or off.", choices=("auto", "off"))


THINKING_CHOICES = ("auto", "on", "off")


def _thinking_option(prompts: str) -> Any:
    return option("auto", help=f"{prompts}: on, off, or auto (off where there is a switch).", choices=THINKING_CHOICES)


@dataclass(frozen=True, slots=True)
class ThinkingConfig:
    """Whether a model whose chat template has a switch for it (Qwen3) thinks before it answers."""

    teacher: str = _thinking_option("In prompts that targets are generated from, and those of teachers")
    student: str = _thinking_option("In prompts that are trained on, scored and answered during training")
    evaluation: str = _thinking_option("In prompts of the evaluation")
    tokens: int = option(2048, help="Budget of thinking, in addition to the answer's.", minimum=1)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides a run's results. Field help is the command line's help."""

    model: str = option(
        "smollm2-135m", help="Alias, local folder, GGUF file or hub id (see: dasd-bench list models).", flags=("-m",)
    )
    methods: tuple[str, ...] = option(
        ("dasd",),
        help='Methods; options as dasd+rho=0.5, with commas "x+NAME=A,B". base: the untrained model.',
        flags=("--method",),
    )
    tasks: tuple[str, ...] = option(
        ("auto",),
        help="Tasks to evaluate on; auto: the paper's, or the built-in ones if there is no data.",
        flags=("-t", "--task"),
    )
    train_tasks: tuple[str, ...] = option((), help="Tasks to train on; default: those of --tasks with a train split.")
    train_limit: int = option(0, help="Number of training rows per task, taken by --sample; 0 for all.", minimum=0)
    limit: int = option(0, help="Number of test rows per task, taken by --sample; 0 for all.", minimum=0, flags=("-L",))
    sample: str = option(
        "stratified",
        help="Rows that the limits take: stratified (at random, by level and subject) or first (as lm-eval does).",
        choices=("stratified", "first"),
    )
    train_files: tuple[str, ...] = option(
        (),
        help="Train on the rows of your own files (prompt and completion, or messages) in place of the tasks' rows.",
        flags=("--train-file",),
    )
    adapters: tuple[str, ...] = option(
        (),
        help="LoRA adapters trained elsewhere, each evaluated as a row of its own: a PEFT folder, or NAME=FOLDER.",
        flags=("--evaluate-adapter",),
    )
    seeds: tuple[int, ...] = option((0,), help="Seeds; every method is trained once with each.", flags=("--seed",))
    num_fewshot: int = option(
        -1,
        help="Few-shot examples; -1 keeps each task's number. NAME@K in --tasks sets it for one task.",
        minimum=-1,
        flags=("-f",),
    )
    chat_template: str = option(
        "auto", help="auto (the model's), plain (built in, for base models) or off.", choices=("auto", "plain", "off")
    )
    max_new_tokens: int = option(0, help="Generation budget of targets; 0 keeps each task's.", minimum=0)
    max_answer_tokens: int = option(
        0, help="Limit on the tokens of an answer in evaluation; 0 keeps each task's.", minimum=0
    )
    dtype: str = option("auto", help="auto (fp32 on CPU, bf16 on GPU), fp32 or bf16.", choices=("auto", "fp32", "bf16"))
    device: str = option("auto", help="auto, cpu or cuda.")
    data_dir: str = option("", help="Folder with <dataset>/<split>.jsonl; default DASD_DATA_DIR.")
    validation: int = option(
        0, help="Evaluate on N held-out training rows per task instead of the test split.", minimum=0
    )
    budget: str = option(
        "equal",
        help="equal: the same training settings for all methods; card: those of each method's authors; tokens: every "
        "method trains until it has used as many active tokens as the one that uses the most in its epochs; "
        "compute: the same for generated and trained tokens together.",
        choices=("equal", "card", "tokens", "compute"),
    )
    common_accepted: bool = option(
        False, help="Train every method on the examples of which all methods accepted a target, and on no others."
    )
    offline: bool = option(False, help="Never contact the hub.")
    plugins: tuple[str, ...] = option((), help="Folders with additional methods and tasks.")
    retention: tuple[str, ...] = option(
        (), help="Measure forgetting on these benchmarks (no value: all available).", bare="all"
    )
    retention_limit: int = option(100, help="Rows per retention benchmark, evenly spaced; 0 for all.", minimum=0)
    reference_style: str = option(
        "", help="Style of the reference answers, for tasks that have several (see: dasd-bench show TASK)."
    )
    confirm_run_unsafe_code: bool = option(False, help="Allow tasks that run model-written code (in the sandbox).")
    method_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    training_given: tuple[str, ...] = ()
    """Training options that win over the methods' cards, whatever their values; kept under ``budget`` = card only."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    thinking: ThinkingConfig = field(default_factory=ThinkingConfig)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: the base alone is only evaluated."""
        return self.methods != (BASE,)

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the table's rows: the methods and the given adapters."""
        return (*self.methods, *(split_adapter(one)[0] for one in self.adapters))


def split_adapter(text: str) -> tuple[str, str]:
    """``NAME=FOLDER`` or ``FOLDER`` as name and folder; the name is the folder's own where none is given."""
    name, sep, folder = text.partition("=")
    if sep and "/" not in name:
        if not name or not folder:
            raise UsageError(f"--evaluate-adapter {shown(text)}: write FOLDER or NAME=FOLDER.")
        return name, folder
    return Path(text).expanduser().resolve().name, text


SECTIONS: dict[str, type[Any]] = {
    "training": TrainingConfig,
    "engine": EngineConfig,
    "thinking": ThinkingConfig,
    "warmup": WarmupConfig,
}
"""The fields of a specification that hold options of their own: ``--set SECTION.NAME=VALUE``."""

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
    # A test bed: see docs/lab.md, which says how its values were chosen.
    "lab": {
        "tasks": ["mini_gsm", "mini_math"],
        "train_tasks": ["mini_gsm"],
        "train_limit": 48,
        "limit": 240,
        "sample": "first",
        "seeds": [0, 1, 2, 3, 4],
        "max_new_tokens": 96,
        "reference_style": "chatty",
        "training": {"epochs": 2, "batch_size": 4, "lr": 1e-3},
        "warmup": {
            "tasks": ["mini_gsm", "mini_math"],
            "rows": 280,
            "style": "plain",
            "epochs": 4,
            "batch_size": 8,
            "lr": 1e-3,
            "lora_rank": 16,
        },
    },
}
"""Named sets of values between the defaults and the file."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """The second method of ``A*B``, which gives the weights."""

    method: Method
    plugin: Plugin[type[Method]]


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """One row of the table: a method with its options and the way it is trained.

    ``second`` is the method after the ``*``: ``method`` then makes the targets and ``second`` their weights.
    """

    label: str
    method: Method
    plugin: Plugin[type[Method]]
    training: TrainingConfig
    second: Weighing | None = None

    @property
    def weighing(self) -> Weighing:
        """The method that weighs the tokens and whose loss is trained."""
        return self.second or Weighing(self.method, self.plugin)

    @property
    def name(self) -> str:
        """The method's name, or both with a ``*``."""
        return self.method.name if self.second is None else f"{self.method.name}*{self.second.method.name}"

    @property
    def options(self) -> dict[str, Any]:
        """The options and their values; the second method's as ``NAME.OPTION``."""
        own = dataclasses.asdict(self.method)
        if self.second is not None:
            name = self.second.method.name
            own |= {f"{name}.{key}": value for key, value in dataclasses.asdict(self.second.method).items()}
        return own

    @property
    def folder(self) -> str:
        """Its folder's name under ``arms/``."""
        return folder_name(self.label)


def layer(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys of one layer (a file, a preset) and gives a plain nested dictionary."""
    known = {f.name: f for f in dataclasses.fields(RunSpec)}
    out: dict[str, Any] = {}
    for key, value in values.items():
        key = key.replace("-", "_")
        if key not in known:
            raise unknown_name(f"key in {name}", shown(key), known)
        if key in out:
            raise UsageError(f"{name}: '{key}' is given twice, once written with a dash.")
        if key in (*SECTIONS, "method_options"):
            if not isinstance(value, Mapping):
                raise UsageError(f"{name}: '{key}' must be a mapping of names to values.")
            if key == "method_options" and not all(isinstance(v, Mapping) for v in value.values()):
                raise UsageError(f"{name}: 'method_options' must map each method to a mapping of names to values.")
            named = with_new_names(key, value, name)
            out[key] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in named.items()}
        else:
            out[key] = value
    return out


SAVED_ALWAYS = {"model", "methods", "tasks", "seeds", "plugins", "offline", "method_options", "training", "engine"}
"""Fields that a specification saved by any version holds, and hardly one written by hand."""


def read_file(path: Path) -> dict[str, Any]:
    """A YAML specification file, or the ``run`` of a replication's, as a layer.

    Raises :class:`UsageError` naming file and line.
    """
    try:
        found = read_mapping(path)
        values = layer(str(path), found["run"] if isinstance(found.get("run"), Mapping) else found)
        if "sample" not in values and values.keys() >= SAVED_ALWAYS:
            # Saved by a run of a version that had no other way.
            values["sample"] = "first"
        return values
    except FileNotFoundError:
        raise UsageError(f"The file {shown(path)} given with --config does not exist.") from None


def parse_set(items: Sequence[str]) -> dict[str, Any]:
    """``--set`` items as a layer: ``training.lr=1e-4``, ``engine.max_num_seqs=8``, ``dasd.k=2``, ``method.tau=1``."""
    out: dict[str, Any] = {}
    for item in items:
        name, sep, value = item.partition("=")
        section, dot, key = name.strip().partition(".")
        if not sep or not dot or not key or not section:
            raise UsageError(
                f"--set {shown(item)}: write SECTION.NAME=VALUE, for instance method.tau=0.9 or training.lr=1e-4."
            )
        own = section in SECTIONS
        key = new_name(section, key)
        values = out.setdefault(section, {}) if own else out.setdefault("method_options", {}).setdefault(section, {})
        values[key] = value
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
    """The specification from layers in increasing precedence; every value converted and range-checked."""
    values = merge(*layers)
    built: dict[str, Any] = {}
    for f in dataclasses.fields(RunSpec):
        if f.name not in values or f.name == "training_given":
            continue
        value = values[f.name]
        if f.name in SECTIONS:
            built[f.name] = build_options(SECTIONS[f.name], value, f"{f.name} option", f"{f.name}.")
        elif f.name == "method_options":
            built["method_options"] = {k: dict(v) for k, v in value.items()}
        elif f.name == "seeds":
            parts = [value] if isinstance(value, int) else convert(value, tuple, "seeds")
            built["seeds"] = tuple(_seed(part) for part in parts)
        elif isinstance(f.default, tuple):
            built[f.name] = convert(value, tuple, f.name)
        else:
            built |= convert_options(RunSpec, {f.name: value}, "option", "")
    if built.get("adapters") and "methods" not in built:
        built["methods"] = (BASE,)
    given = set[str]().union(*map(_training_given, layers))
    spec = RunSpec(**built, training_given=tuple(sorted(given)) if built.get("budget") == "card" else ())
    for name in ("methods", "tasks", "seeds"):
        chosen = getattr(spec, name)
        if not chosen:
            raise UsageError(f"--{name}: at least one is needed.")
        if len(set(chosen)) != len(chosen):
            raise UsageError(f"--{name}: '{','.join(map(str, chosen))}' contains a duplicate.")
    return spec


def _seed(value: Any) -> int:
    seed: int = convert(value, int, "seeds")
    if not 0 <= seed < 2**63:
        raise UsageError(f"seeds={shown(seed)} is out of range; use whole numbers from 0 to 2^63 - 1.")
    return seed


def _training_given(values: Mapping[str, Any]) -> set[str]:
    """The training options that a layer asks for by name. A preset or a saved specification says itself which."""
    if "training_given" in values:
        given = [new_name("training", one) for one in convert(values["training_given"], tuple, "training_given")]
        for name in given:
            if name not in TrainingConfig.__dataclass_fields__:
                raise unknown_name("training option in training_given", name, TrainingConfig.__dataclass_fields__)
        return set(given)
    named = values.get("training", {})
    standard = dataclasses.asdict(TrainingConfig())
    if named.keys() == standard.keys():
        # Saved before specifications said it: only what is no default can have been asked for.
        return {key for key, value in named.items() if value != standard[key]}
    return set(named)


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
        raise UsageError(f"'{shown(text)}' has an unclosed double quote.") from None


def split_arm(text: str) -> list[str]:
    """``A+X=...*B+Y=...`` as its one or two methods with their options.

    Raises :class:`UsageError` for more than two.
    """
    parts = re.split(r"\*(?=[A-Za-z][\w-]*(?:\+|\*|$))", text)
    if len(parts) > 2:
        raise UsageError(f"--method {shown(text)}: give the targets of one method the weights of one other, as A*B.")
    return parts


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
        chosen = training if section else own
        option_name = new_name(section, option_name)
        if option_name in chosen:
            raise UsageError(f"--method {shown(text)}: the option '{key}' is given twice; keep one.")
        chosen[option_name] = value
    return name, own, training


def arms(spec: RunSpec, registry: Registry) -> list[ArmSpec]:
    """The methods of a run with their options: ``method.X`` for all that have X, ``NAME.X``, then ``NAME+X=...``.

    ``NAME+training.X=...`` trains one arm its own way. ``base`` is no arm: every run evaluates it.
    """
    parsed: list[tuple[str, list[_Asked]]] = []
    for text in spec.methods:
        if text != BASE:
            found = [(registry.method(name), own, training) for name, own, training in map(parse_arm, split_arm(text))]
            parsed.append((text, found))
    named = [one for _, found in parsed for one in found]
    shared = spec.method_options.get("method", {})
    chosen = {plugin.name for plugin, _, _ in named}
    for section in spec.method_options:
        if section != "method" and section not in chosen:
            if section in registry.methods:
                raise UsageError(f"Options are set for method '{section}', which this run does not use.")
            raise unknown_name("section of --set", section, [*chosen, "method", *SECTIONS])
    for key in shared:
        if not any(key in option_rules(plugin.item) for plugin, _, _ in named):
            known = {name for plugin, _, _ in named for name in option_rules(plugin.item)}
            raise unknown_name("method option", key, known)
    result = []
    for label, found in parsed:
        built = []
        for plugin, own, _ in found:
            built.append(_build(plugin, spec, label, own))
        settings: dict[str, str] = {}
        for _, _, training in found:
            if twice := settings.keys() & training.keys():
                raise UsageError(f"--method {shown(label)}: training.{min(twice)} is there twice; keep one.")
            settings |= training
        # The second method, where there is one, decides the loss: with --budget card its card says how to train.
        trained = arm_training(spec, found[-1][0], settings)
        second = Weighing(built[1], found[1][0]) if len(found) == 2 else None
        if second is not None:
            check_composition(label, built[0], second.method)
        result.append(ArmSpec(label, built[0], found[0][0], trained, second))
    return result


def _build(plugin: Plugin[type[Method]], spec: RunSpec, label: str, own: Mapping[str, str]) -> Method:
    """One method of an arm; its own options, or else those of its section, are refused where they do nothing."""
    shared = spec.method_options.get("method", {})
    values = {key: value for key, value in shared.items() if key in option_rules(plugin.item)}
    section = spec.method_options.get(plugin.name, {})
    method = build_method(plugin.item, {**values, **section, **own})
    if unread := call("unread", plugin.path, method.unread, own or section):
        raise UsageError(f"{shown(label)}: {unread}.")
    return method


_Asked = tuple[Plugin[type[Method]], dict[str, str], dict[str, str]]
"""A method that an arm names, with its own options and its training options."""


def check_composition(label: str, first: Method, second: Method) -> None:
    """Raises :class:`UsageError` where targets of the one and weights of the other mean nothing together."""
    a, b = first.name, second.name
    weighs = second.online or type(second).select is not Method.select or has_token_loss(type(second))
    if not weighs:
        fault = f"{b} gives no weights of its own: write {a} alone"
    elif first.rollouts or second.rollouts:
        fault = f"{a if first.rollouts else b} draws its targets anew at every step"
    elif type(second).make_targets is not Method.make_targets:
        fault = f"the weights of {b} belong to targets that it makes itself, so they cannot be put on those of {a}"
    elif type(first).make_targets is Method.make_targets:
        fault = f"{a} trains on the gold answers, as {b} does alone: write {b}"
    else:
        return
    raise UsageError(f"--method {shown(label)}: {fault}.")


def arm_training(spec: RunSpec, plugin: Plugin[type[Method]], own: Mapping[str, Any]) -> TrainingConfig:
    """How one arm is trained: the run's way, under ``budget=card`` with the method's card, then the arm's ``own``.

    Under ``card`` a training option that the file, the command line or a sweep's grid names wins over the card, and so
    does any other value than the default, so that a small machine can run a card with fewer epochs.
    """
    values = dataclasses.asdict(spec.training)
    if spec.budget == "card":
        standard = dataclasses.asdict(TrainingConfig())
        try:
            card = with_new_names("training", plugin.item.card, "the card")
            build_options(TrainingConfig, card, "training option", "training.")
        except UsageError as error:
            raise PluginError(f"{plugin.path}: the card of method '{plugin.name}' is invalid: {error}") from None
        open_keys = {key for key in values.keys() - set(spec.training_given) if values[key] == standard[key]}
        values |= {key: value for key, value in card.items() if key in open_keys}
    return build_options(TrainingConfig, values | dict(own), "training option", "training.")


def to_yaml(spec: RunSpec) -> str:
    """The specification as YAML, with a header that repeats the run."""
    plain = dataclasses.asdict(spec)
    if spec.budget != "card":
        del plain["training_given"]
    # Off, they are not there: a run of an earlier version keeps its name and its specification.
    if not spec.warmup.tasks:
        del plain["warmup"]
    if not spec.reference_style:
        del plain["reference_style"]
    if not spec.common_accepted:
        del plain["common_accepted"]  # so that the folders of runs without it keep their names
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
    header = "# Repeat this run: dasd-bench run -c spec.yaml\n"
    return header + str(yaml.safe_dump(listed, sort_keys=False, allow_unicode=True))
