"""Scores one model on one task: lm-eval prompts, filters and scores; a record is kept per item."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import DataError, PluginError, UsageError
from dasd_bench.evaluation.items import make_records, task_metrics
from dasd_bench.evaluation.records import EvalSettings, MemoryShards, ShardStore, TaskResult
from dasd_bench.tasks import derive, plugin_calls
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.loading import load_rows, rows_sha256


def evaluate(
    task: Task,
    engine: Any,
    tokenizer: Any,
    *,
    rows: Sequence[Row],
    settings: EvalSettings,
    chat: Any = None,
    stop_ids: Iterable[int] = (),
    shards: ShardStore | None = None,
    console: Console | None = None,
    share: tuple[int, int] | None = None,
) -> TaskResult:
    """Scores the model behind ``engine`` on ``rows`` (the task's evaluated split; the first ``settings.limit``).

    ``chat`` is the run's chat template. Generation stops at the tokenizer's end-of-sequence token, at the end token of
    ``chat`` and at ``stop_ids``, the end tokens of the model's generation configuration. ``shards`` keeps finished
    parts: the same call with the same store goes on where a killed one stopped and gives the same result. ``share``
    (i, n) computes one of n shares of those parts into ``shards`` and raises
    :class:`~dasd_bench.evaluation.lm_eval_model.ShareDone` instead of giving a result.

    Raises :class:`PluginError` for a faulty YAML (file and key), :class:`UsageError` where the shots do not fit the
    context (and says how many do) or are drawn from the rows scored, :class:`DataError` for a prompt too long by
    itself or for a row that would be shown as its own shot. Other rows that are in both splits are a warning.
    """
    import lm_eval
    from jinja2 import TemplateError

    from dasd_bench.evaluation.lm_eval_model import EngineLM, PromptTooLongError

    console = console or Console(quiet=True)
    config = derive.config_of(task)
    shots = derive.task_shots(task, config, settings.num_fewshot)
    scored = list(rows)[: settings.limit]
    data = {derive.evaluation_split(config): scored}
    pools = fewshot_rows(task, config, shots, scored, settings.data_dir, settings.offline, settings.validation)
    data.update(pools)
    twins = _twins(scored, [row for rows in pools.values() for row in rows])
    if twins:
        listed = ", ".join(f"{row} (there {twin})" for row, twin in twins[:10]) + (", ..." if len(twins) > 10 else "")
        console.warn(f"{task.name}: scored rows that are also in the few-shot split '{next(iter(pools))}': {listed}")
    with quiet():
        built = derive.build(task, data, shots, settings.fewshot_seed)
        if twins:
            _refuse_own_shots(task, built, shots, settings.fewshot_seed)
        lm = EngineLM(
            engine,
            tokenizer,
            max_length=engine.context_length or _tokenizer_length(tokenizer),
            stop_ids=_stop_ids(tokenizer, chat if settings.chat_template else None, stop_ids),
            shards=shards or MemoryShards(),
            console=console,
            label=f"evaluate {task.name}",
            chat=chat if settings.chat_template else None,
            truncate=settings.truncate,
            thinking_tokens=settings.thinking_tokens,
            max_answer_tokens=settings.max_answer_tokens,
            on_texts=functools.partial(plugin_calls.grade_ahead, task),
            share=share,
        )
        try:
            results = lm_eval.evaluate(
                lm,
                {"tasks": {task.name: built}},
                bootstrap_iters=0,
                log_samples=True,
                system_instruction=settings.system_prompt,
                apply_chat_template=settings.chat_template,
                fewshot_as_multiturn=True,
                confirm_run_unsafe_code=task.unsafe_code,
            )
        except PromptTooLongError as error:
            raise _explain_length(task, built, lm, shots, settings, error) from None
        except TemplateError as error:
            raise derive.template_fault(task, config, error) from error
    records = make_records(task, built, scored, results["samples"][task.name], lm.answers)
    metrics = task_metrics(records, results["results"][task.name])
    headline = f"{task.metric},{task.filter}"
    if headline not in metrics:
        raise PluginError(
            f"Task '{task.name}': its YAML has no metric '{task.metric}' under filter '{task.filter}'; it has "
            f"{', '.join(sorted(metrics))}."
        )
    return TaskResult(
        task=task.name,
        metric=task.metric,
        filter=task.filter,
        num_fewshot=shots,
        comparable=task.comparable
        and settings.system_prompt is None
        and getattr(chat, "mode", "auto") == "auto"
        and not settings.lowers(task),
        note=_note(task, shots, settings, lm.truncated),
        records=records,
        metrics=metrics,
        config={
            "yaml_sha256": derive.yaml_sha256(task),
            "lm_eval": importlib.metadata.version("lm_eval"),
            "lm_eval_version": str(built.VERSION),
            "output_type": built.OUTPUT_TYPE,
            "generation_kwargs": built.config.generation_kwargs,
            "fewshot_seed": settings.fewshot_seed,
            "chat_template": settings.chat_template,
            "truncated_prompts": lm.truncated,
            "rows_sha256": rows_sha256(scored),
        },
    )


def _tokenizer_length(tokenizer: Any) -> int:
    """The context of a model whose configuration sets none, as lm-eval assumes it."""
    length = int(tokenizer.model_max_length)
    return length if length < 10**9 else 2048


def _stop_ids(tokenizer: Any, chat: Any, more: Iterable[int]) -> frozenset[int]:
    ids = {int(token) for token in more}
    if tokenizer.eos_token_id is not None:
        ids.add(int(tokenizer.eos_token_id))
    if chat is not None:
        ids.add(int(chat.end_token_id))
    return frozenset(ids)


def fewshot_rows(
    task: Task,
    config: Mapping[str, Any],
    shots: int,
    scored: Sequence[Row],
    data_dir: Path | None,
    offline: bool,
    validation: bool = False,
) -> dict[str, list[Row]]:
    """The rows shots are drawn from, by split name; empty where there are no shots or the YAML spells them out.

    With ``validation`` the scored rows come from the train split and are withheld from the shots.

    Raises :class:`UsageError` for more shots than there are rows, :class:`DataError` for a pool that holds rows that
    are scored.
    """
    split = derive.fewshot_split(config) if shots else None
    if split is None:
        fixed = len(derive.fixed_shots(config))
        if shots > fixed:
            raise UsageError(f"Task '{task.name}' has {fixed} fixed shots; lower --num-fewshot from {shots}.")
        return {}
    if split == derive.evaluation_split(config):
        raise UsageError(
            f"Task '{task.name}' draws its shots from the split it is scored on ({split}); use --num-fewshot 0."
        )
    pool = load_rows(task, split, data_dir=data_dir, offline=offline).rows
    if len(pool) < shots:
        raise UsageError(f"Task '{task.name}' has {len(pool)} rows to draw {shots} shots from; lower --num-fewshot.")
    if validation:
        withheld = {_key(row) for row in scored}
        pool = [row for row in pool if _key(row) not in withheld]
    twins = _twins(scored, pool)
    # Published sets have a stray duplicate (two in ARC-Easy); more of them means that a split was mixed up.
    if len(twins) > max(2, len(scored) // 50):
        raise DataError(
            f"Task '{task.name}': {len(twins)} scored rows are also in the few-shot split '{split}' (the first is row "
            f"{twins[0][0]}, there row {twins[0][1]}); keep the splits apart or use --num-fewshot 0."
        )
    return {split: pool}


def _twins(scored: Sequence[Row], pool: Sequence[Row]) -> list[tuple[int, int]]:
    """The numbers, from 1, of the scored rows that the pool holds too, each with its number there."""
    numbers = {_key(row): number for number, row in enumerate(pool, 1)}
    keys = [_key(row) for row in scored] if numbers else []
    return [(number, numbers[key]) for number, key in enumerate(keys, 1) if key in numbers]


def _refuse_own_shots(task: Task, built: Any, shots: int, seed: int) -> None:
    """Raises :class:`DataError` where lm-eval would draw a row as its own shot. The draw is made again afterwards."""
    for number, doc in enumerate(built.eval_docs, 1):
        key = _key(doc)
        if any(_key(shot) == key for shot in built.sampler.sample(n=shots)):
            raise DataError(
                f"Task '{task.name}': row {number} is drawn as its own shot (seed {seed}), which gives its answer "
                "away; remove it from one of the splits, or use a different number of shots."
            )
    built.set_fewshot_seed(seed=seed)


def _key(row: Row) -> str:
    """A row without the columns that only name it."""
    return rows_sha256([{k: v for k, v in row.items() if k not in ("id", "ID", "task_id", "unique_id")}])


def _explain_length(task: Task, built: Any, lm: Any, shots: int, settings: EvalSettings, error: Any) -> Exception:
    """The error for prompts that do not fit: with shots, how many would."""
    if shots == 0:
        return DataError(
            f"Task '{task.name}', row {error.doc_id + 1}: its prompt has {error.tokens} tokens and {error.room} fit "
            "the model's context; remove the row or use a model with a longer context."
        )

    def longest(k: int) -> int:
        built.set_fewshot_seed(seed=settings.fewshot_seed)
        contexts = [
            built.fewshot_context(
                doc,
                num_fewshot=k,
                system_instruction=settings.system_prompt,
                apply_chat_template=settings.chat_template,
                fewshot_as_multiturn=True,
                chat_template=lm.apply_chat_template if settings.chat_template else None,
                gen_prefix=built.doc_to_prefix(doc),
            )
            for doc in built.eval_docs
        ]
        return max(len(lm.tok_encode(context)) for context in contexts)

    low, high = 0, shots
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if longest(middle) <= error.room else (low, middle)
    if low == 0 and longest(0) > error.room:
        return DataError(
            f"Task '{task.name}': with {shots} shots a prompt has {error.tokens} tokens, and {error.room} fit the "
            "model's context; even without shots one is too long; use a model with a longer context."
        )
    return UsageError(
        f"Task '{task.name}': with {shots} shots a prompt has {error.tokens} tokens, and {error.room} fit the model's "
        f"context; at most {low} shots fit (--num-fewshot {low})."
    )


def _note(task: Task, shots: int, settings: EvalSettings, truncated: int) -> str:
    origin = f"stock lm-eval task {task.stock}" if task.stock else f"own task, version {task.version}"
    parts = [origin, f"{shots}-shot", "chat template" if settings.chat_template else "no chat template"]
    if settings.lowers(task):
        parts.append(f"answers of at most {settings.max_answer_tokens} tokens")
    if truncated:
        parts.append(f"{truncated} prompts truncated on the left")
    return ", ".join(parts)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps lm-eval's and datasets' own log lines and progress bars off the terminal; ours is shown instead."""
    import datasets
    import lm_eval.api.task as lm_eval_task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    tqdm = lm_eval_task.tqdm
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    lm_eval_task.tqdm = lambda items, **_: items  # it draws its bar whatever the log level is
    try:
        yield
    finally:
        lm_eval_task.tqdm = tqdm
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
