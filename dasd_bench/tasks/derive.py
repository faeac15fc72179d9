"""lm-eval task configurations at run time: from the installed package's own YAML, or from ours in the task's folder.

Prompt, shots, filters and metrics stay as the YAML has them; only the data source is replaced. Nothing is copied, so
scores are comparable with stock lm-eval by construction. Imports lm-eval (about a second) when first used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dasd_bench.errors import PluginError, UsageError, did_you_mean
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.plugin_calls import contained, functions_contained
from dasd_bench.tasks.stock_imports import any_antlr, no_hub_metrics

STRUCTURAL = ("tag", "group", "task_list", "class", "include")
TEMPLATES = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
"""The keys whose words lm-eval renders with Jinja."""
REQUIRED = ("task", "output_type", "doc_to_text", "doc_to_target", "metric_list", "test_split or validation_split")


@functools.cache
def stock_yaml(name: str) -> Path:
    """The YAML of an installed lm-eval task, found without indexing its 14,000 files.

    Raises :class:`PluginError` where no file declares the task.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise PluginError("lm-eval is not installed; install dasd-bench with its dependencies.")
    root = Path(spec.submodule_search_locations[0]) / "tasks"
    declares = re.compile(rf"^[\"']?task[\"']?:\s*[\"']?{re.escape(name)}[\"']?\s*$", re.MULTILINE)
    # A task lies in a folder that its name begins with (gsm8k_cot in gsm8k/); the longest such name is looked at first.
    folders = sorted((p for p in root.iterdir() if p.is_dir() and name.startswith(p.name)), key=lambda p: -len(p.name))
    for folder in [*folders, root]:
        for path in sorted(folder.rglob("*.yaml")):
            if declares.search(path.read_text(encoding="utf-8")):
                return path
    raise PluginError(f"The installed lm-eval has no task '{name}'; install the version that constraints.txt names.")


def yaml_path(task: Task) -> Path:
    """The YAML file behind a task, stock or own."""
    if task.stock is not None:
        return stock_yaml(task.stock)
    path = task.folder / str(task.yaml)
    if not path.is_file():
        raise PluginError(f"Task '{task.name}': its YAML file {path} is missing.")
    return path


def _files_behind(path: Path) -> list[Path]:
    """A task's YAML, every YAML it includes, and the modules beside them that they name."""
    found = []
    todo = [path]
    while todo:
        one = todo.pop(0)
        found.append(one)
        text = one.read_text(encoding="utf-8")
        included = re.findall(r"^[\"']?include[\"']?:\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
        todo += [one.parent / name for name in included]
        modules = {spec.rpartition(".")[0] for spec in re.findall(r"!function\s+(\S+)", text)}
        beside = sorted(one.parent / f"{module.replace('.', '/')}.py" for module in modules)
        todo += [module for module in beside if module.is_file()]
    return found


def yaml_sha256(task: Task) -> str:
    """Hash of the task's YAML, of every YAML it includes and of the modules beside them that they name."""
    digest = hashlib.sha256()
    for path in _files_behind(yaml_path(task)):
        digest.update(path.read_text(encoding="utf-8").encode() + b"\0")
    return digest.hexdigest()


@functools.cache
def _load_yaml() -> Callable[[Path], dict[str, Any]]:
    """lm-eval's own reader of task files.

    Its module is loaded by itself, since the package around it imports ``datasets`` and torch, which take seconds.
    """
    found = importlib.util.find_spec("lm_eval")
    assert found is not None
    assert found.submodule_search_locations is not None
    place = Path(found.submodule_search_locations[0]) / "tasks" / "_yaml_loader.py"
    spec = importlib.util.spec_from_file_location("dasd_bench_lm_eval_yaml_loader", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    load: Callable[[Path], dict[str, Any]] = module.load_yaml
    return load


def read_config(path: Path) -> dict[str, Any]:
    """A task YAML as a dictionary, functions resolved, structural keys left out; every fault names file and key."""
    import yaml
    from lm_eval.config.task import TaskConfig

    try:
        asks = any("evaluate" in one.read_text("utf-8") for one in _files_behind(path) if one.suffix == ".py")
        with no_hub_metrics() if asks else contextlib.nullcontext(), any_antlr():
            config: dict[str, Any] = _load_yaml()(path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise PluginError(f"{path}{line}: not valid YAML ({problem}).") from error
    except Exception as error:
        raise PluginError(f"{path}{_function_key(path, error)}: {error}") from error
    known = {field.name for field in fields(TaskConfig)}
    for key in config:
        if key not in known and key not in STRUCTURAL:
            raise PluginError(f"{path}: unknown key '{key}'.{did_you_mean(key, known)}")
    config.setdefault("output_type", "generate_until")
    for need in REQUIRED:
        if not any(config.get(key) is not None for key in need.split(" or ")):
            raise PluginError(f"{path}: the key '{need}' is missing.")
    for key in STRUCTURAL:
        config.pop(key, None)
    _check_templates(path, config)
    _check_metrics(path, config)
    return config


def _check_templates(path: Path, config: Mapping[str, Any]) -> None:
    """Raises :class:`PluginError` for a key that is no Jinja template."""
    from jinja2 import TemplateSyntaxError
    from lm_eval.utils import env

    for key, template in _templates(config):
        try:
            env.from_string(template)
        except TemplateSyntaxError as error:
            raise PluginError(f"{path}, key '{key}': not a Jinja template ({error.message}).") from error


def _templates(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The Jinja templates of a configuration with their keys; choices may be a list of them."""
    found = []
    for key in TEMPLATES:
        values = config.get(key)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                found.append((key, value))
    return found


def _check_metrics(path: Path, config: Mapping[str, Any]) -> None:
    """Raises :class:`PluginError` for a metric or an aggregation that lm-eval does not know: it would ask the hub.

    Where the task computes its scores itself, its metrics have the names it gives them.
    """
    import lm_eval.api.metrics  # noqa: F401  (fills the registries)
    from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY

    for number, entry in enumerate(config["metric_list"] or (), 1):
        where = f"{path}, key 'metric_list', entry {number}"
        if not isinstance(entry, dict) or "metric" not in entry:
            raise PluginError(f"{where}: the key 'metric' is missing.")
        metric, aggregation = entry["metric"], entry.get("aggregation")
        if isinstance(aggregation, str) and aggregation not in AGGREGATION_REGISTRY:
            hint = did_you_mean(aggregation, AGGREGATION_REGISTRY)
            raise PluginError(f"{where}: lm-eval has no aggregation '{aggregation}'.{hint}")
        if config.get("process_results") is not None or not isinstance(metric, str):
            continue
        if entry.get("hf_evaluate"):
            raise PluginError(
                f"{where}: '{metric}' would be loaded from the hub (hf_evaluate), which dasd-bench never does; "
                "use a metric of lm-eval."
            )
        if metric not in METRIC_REGISTRY:
            raise PluginError(f"{where}: lm-eval has no metric '{metric}'.{did_you_mean(metric, METRIC_REGISTRY)}")


def template_fault(task: Task, config: Mapping[str, Any], error: Exception) -> PluginError:
    """The error for a template that could not be rendered, with file and the key that holds the name it lacks."""
    names = ["".join(found) for found in re.findall(r"'(\w+)'|element (\d+)", str(error))]
    keys = [key for key, template in _templates(config) if names and re.search(rf"\b{names[-1]}\b", template)]
    key = f", key '{keys[0]}'" if keys else ""
    return PluginError(
        f"{yaml_path(task)}{key}: the template cannot be rendered ({error}); name a column that every row has."
    )


def _function_key(path: Path, error: Exception) -> str:
    """Which key of the YAML names the function that an error is about, as ``, key 'x'``; empty where none does."""
    for key, spec in re.findall(r"^\s*(\w+):\s*!function\s+(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        module, _, name = spec.rpartition(".")
        if f"'{name}'" in str(error) or f"'{module}'" in str(error) or not (path.parent / f"{module}.py").exists():
            return f", key '{key}'"
    return ""


def config_of(task: Task) -> dict[str, Any]:
    """The task's lm-eval configuration, data source still as the YAML has it."""
    config = contained(task, "adapt()", task.adapt, read_config(yaml_path(task)))
    return config if task.yaml is None else functions_contained(task, config)


def evaluation_split(config: Mapping[str, Any]) -> str:
    """The split lm-eval scores: test where there is one, else validation."""
    return str(config.get("test_split") or config["validation_split"])


def fewshot_split(config: Mapping[str, Any]) -> str | None:
    """The split that shots are drawn from; None where the YAML spells its shots out."""
    fewshot = config.get("fewshot_config") or {}
    split = fewshot.get("split") or config.get("fewshot_split")
    if split is None and fewshot.get("samples") is None:
        split = config.get("training_split") or config.get("validation_split") or config.get("test_split")
    return None if split is None else str(split)


def fixed_shots(config: Mapping[str, Any]) -> list[Row]:
    """The shots that the YAML spells out; none where they are drawn from a split."""
    samples = (config.get("fewshot_config") or {}).get("samples") or []
    return list(samples() if callable(samples) else samples)


def shots_of(config: Mapping[str, Any], asked: int | None) -> int:
    """Shots used: the YAML's number unless asked otherwise; a YAML that says 0 is never overridden, as in lm-eval."""
    own = config.get("num_fewshot")
    if own == 0:
        return 0
    return int(own or 0) if asked is None else asked


def task_shots(task: Task, config: Mapping[str, Any], asked: int | None) -> int:
    """Shots of a task: those of its name (``NAME@K``), else those ``asked`` for (None: the YAML's).

    Raises :class:`UsageError` where ``NAME@K`` cannot be had.
    """
    if task.num_fewshot is None:
        return shots_of(config, asked)
    if config.get("num_fewshot") == 0 and task.num_fewshot:
        base = task.name.partition("@")[0]
        raise UsageError(f"Task '{task.name}': the YAML of '{base}' sets 0 shots, which lm-eval never overrides.")
    return task.num_fewshot


def build(task: Task, rows: Mapping[str, list[Row]], num_fewshot: int, fewshot_seed: int) -> Any:
    """An ``lm_eval.api.task.ConfigurableTask`` over the given rows.

    ``rows`` maps split names to rows: the evaluated split and, where shots are drawn from one, the few-shot split.
    """
    import datasets
    from jinja2 import TemplateError
    from lm_eval.api.task import ConfigurableTask

    config = config_of(task)
    scored = evaluation_split(config)
    shots = fewshot_split(config) if num_fewshot else None
    for key in ("training_split", "validation_split", "test_split"):
        if config.get(key) not in (scored, shots):
            config[key] = None
    if num_fewshot == 0:
        # lm-eval opens the few-shot split even for zero shots.
        config["fewshot_split"] = None
        if isinstance(config.get("fewshot_config"), dict):
            config["fewshot_config"] = {k: v for k, v in config["fewshot_config"].items() if k != "split"}
    config.update(dataset_path=None, dataset_name=None, dataset_kwargs=None, num_fewshot=num_fewshot)
    config["custom_dataset"] = lambda **_: {
        split: datasets.Dataset.from_list(found) for split, found in rows.items() if found
    }
    try:
        built = ConfigurableTask(config=config)
    except TemplateError as error:
        raise template_fault(task, config, error) from error
    except Exception as error:
        raise PluginError(
            f"{yaml_path(task)}: lm-eval cannot build task '{task.name}' from it ({type(error).__name__}: {error})."
        ) from error
    built.set_fewshot_seed(seed=fewshot_seed)
    return built


def prompt_renderer(task: Task) -> Callable[[Row], str]:
    """Gives the words of lm-eval's zero-shot prompt for a row, rendered by lm-eval's own template environment."""
    from jinja2 import TemplateError
    from lm_eval.utils import env

    config = config_of(task)
    template = config["doc_to_text"]
    if callable(template):
        return template  # type: ignore[no-any-return]
    compiled = env.from_string(str(template))

    def render(row: Row) -> str:
        # A column's bare name is a template too, as in lm-eval.
        if template in row:
            return str(row[template])
        try:
            return str(compiled.render(**row))
        except TemplateError as error:
            raise template_fault(task, config, error) from error

    return render
