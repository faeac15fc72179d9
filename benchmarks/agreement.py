"""Do we score as stock lm-eval does? The same items by this package's engine and by lm-eval's own ``hf`` backend.

    python benchmarks/agreement.py --data-dir DATA --tasks gsm8k,gsm8k_cot,arc_challenge@25,commonsense_qa --limit 200
    python benchmarks/agreement.py --data-dir DATA --tasks math --limit 200 --antlr FOLDER
    python benchmarks/agreement.py --tasks mini_gsm,mini_arc --adapter RUN/arms/sft/seed0/adapter --chat on
    python benchmarks/agreement.py --data-dir DATA --tasks gsm8k --max-length 512      # prompts cut on the left

The peer goes through lm-eval alone: its own command-line path (``simple_evaluate``), its own YAML, its own loading of
the rows (``dataset_path: json``), its own model wrapper in fp32. One table row per task: the largest difference of a
log-likelihood, identical completions, items whose metrics differ, seconds of both. ``--out`` keeps the rows as JSON.

Stock minerva_math wants the ANTLR runtime 4.11, which nothing else here wants; for it alone put one in a folder:
``pip install --no-deps --target FOLDER antlr4-python3-runtime==4.11.0``. Code tasks are compared without stock's
executor, which is fetched from the hub: completions only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.console import Console
from dasd_bench.engine.engine import Engine
from dasd_bench.evaluation import EvalSettings, TaskResult, evaluate
from dasd_bench.files.shipped import shipped_folder
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.registry import discover
from dasd_bench.tasks.base import Task
from dasd_bench.tasks.derive import evaluation_split, fewshot_split, read_config, yaml_path
from dasd_bench.tasks.loading import load_rows
from dasd_bench.tasks.stock_imports import no_hub_metrics


@dataclass(frozen=True)
class Agreement:
    """One row of the table. ``texts`` and ``same_texts`` count completions; ``logp`` is None where none was scored."""

    task: str
    chat: bool
    adapter: bool
    shots: int
    items: int
    same_prompts: int
    texts: int
    same_texts: int
    logp: float | None
    choices: int
    other_metrics: int | None
    prompts_cut: int
    seconds: float
    peer_seconds: float
    score: float

    def line(self) -> str:
        """The row in Markdown."""
        cells = [
            self.task,
            "on" if self.chat else "off",
            str(self.shots),
            str(self.items),
            f"{self.same_prompts}/{self.items}",
            f"{self.same_texts}/{self.texts} ({100 * self.same_texts / self.texts:.1f} %)" if self.texts else "-",
            "-" if self.logp is None else f"{self.logp:.1e} ({self.choices})",
            "-" if self.other_metrics is None else str(self.other_metrics),
            str(self.prompts_cut),
            f"{self.seconds:.0f} s",
            f"{self.peer_seconds:.0f} s",
            f"{self.score:.3f}",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| task | chat | shots | items | same prompt | same text | max abs diff logp (choices) | items with other metrics "
    "| cut prompts | ours | hf | score |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    """Runs the comparison, prints its table in Markdown and the items that differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="alias or folder of a causal LM")
    parser.add_argument("--adapter", help="folder of a LoRA adapter, merged on both sides")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--tasks", default="mini_gsm,mini_math,mini_arc", help="names, NAME@K for K shots")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--num-fewshot", type=int)
    parser.add_argument("--max-length", type=int, help="cut the context to this, to compare left truncation")
    parser.add_argument("--chat", choices=("on", "off", "both"), default="both")
    parser.add_argument("--batch-size", type=int, default=1, help="of lm-eval's hf backend")
    parser.add_argument("--antlr", type=Path, help="folder with the ANTLR runtime 4.11, for math and math500")
    parser.add_argument("--out", type=Path, help="add the rows to this JSON file")
    args = parser.parse_args()
    if args.antlr:
        sys.path.insert(0, str(args.antlr))
    tokenizer, model = load(args.model, args.adapter)
    if args.max_length:
        model.config.max_position_embeddings = args.max_length
    registry = discover()
    print(HEAD)
    for name in args.tasks.split(","):
        for chat in {"on": (True,), "off": (False,), "both": (False, True)}[args.chat]:
            row, differing = compare(registry.task(name).item, model, tokenizer, chat, args)
            print(row.line(), flush=True)
            for line in differing:
                print(f"    {line}", file=sys.stderr, flush=True)
            if args.out:
                known = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else []
                known.append({**dataclasses.asdict(row), "model": args.model, "differing": differing})
                args.out.write_text(json.dumps(known, indent=1, ensure_ascii=False), encoding="utf-8")


def load(folder: str, adapter: str | None) -> tuple[Any, Any]:
    """Tokenizer and fp32 model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(folder).is_dir():
        from dasd_bench.models.resolve import resolve_model

        folder = str(resolve_model(folder, console=Console(quiet=True)).path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return AutoTokenizer.from_pretrained(folder), model.eval()


def compare(
    task: Task, model: Any, tokenizer: Any, chat: bool, args: argparse.Namespace
) -> tuple[Agreement, list[str]]:
    """One row of the table, and a line for every item that differs."""
    started = time.monotonic()
    ours = run_ours(task, model, tokenizer, chat, args)
    middle = time.monotonic()
    theirs = run_stock(task, model, tokenizer, chat, args)
    ended = time.monotonic()
    texts = same = prompts = other = choices = 0
    largest = 0.0
    differing = []
    for record in ours.records:
        samples = {s["filter"]: s for s in theirs if s["doc_id"] == record.index}
        sample = next(iter(samples.values()))
        prompts += sample["arguments"][0][0] == record.prompt
        for name, value in record.metrics.items() if not task.unsafe_code else ():
            metric, _, kind = name.rpartition(",")
            if float(samples[kind][metric]) != value:
                other += 1
                differing.append(f"item {record.index}: {name} {value} here, {samples[kind][metric]} in lm-eval")
                break
        if record.choice_logp is None:
            texts += 1
            same += sample["resps"][0][0] == record.completion
            if sample["resps"][0][0] != record.completion:
                differing.append(
                    f"item {record.index}: {record.completion!r} here, {sample['resps'][0][0]!r} in lm-eval"
                )
        else:
            choices += len(record.choice_logp)
            for mine, response in zip(record.choice_logp, sample["resps"], strict=True):
                largest = max(largest, abs(mine - float(response[0][0])))
    row = Agreement(
        task=task.name,
        chat=chat,
        adapter=args.adapter is not None,
        shots=ours.num_fewshot,
        items=len(ours.records),
        same_prompts=prompts,
        texts=texts,
        same_texts=same,
        logp=largest if choices else None,
        choices=choices,
        other_metrics=None if task.unsafe_code else other,
        prompts_cut=ours.config["truncated_prompts"],
        seconds=middle - started,
        peer_seconds=ended - middle,
        score=ours.score,
    )
    return row, differing


def run_ours(task: Task, model: Any, tokenizer: Any, chat: bool, args: argparse.Namespace) -> TaskResult:
    """The items by this package."""
    rows = load_rows(task, "test", data_dir=args.data_dir, offline=True, limit=args.limit).rows
    end = model.generation_config.eos_token_id
    settings = EvalSettings(
        num_fewshot=args.num_fewshot,
        chat_template=chat,
        data_dir=args.data_dir,
        offline=True,
        truncate=bool(args.max_length),
    )
    return evaluate(
        task,
        Engine(model, tokenizer),
        tokenizer,
        rows=rows,
        settings=settings,
        chat=ChatTemplate(tokenizer) if chat else None,
        stop_ids=end if isinstance(end, list) else [end],
        console=Console(quiet=True),
    )


def run_stock(task: Task, model: Any, tokenizer: Any, chat: bool, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The items by lm-eval alone: its logged samples."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # Llama's template asks for a date, which is fixed here and today's there; the peer is told ours.
    dated = {"date_string": "26 Jul 2024"} if "date_string" in (tokenizer.chat_template or "") else {}
    with tempfile.TemporaryDirectory() as folder, no_hub_metrics() if task.unsafe_code else contextlib.nullcontext():
        name = task.name.partition("@")[0]
        include: Path = shipped_folder("tasks")
        if task.stock is not None or task.data.hub_path is not None:
            include = Path(folder)
            write_stock_yaml(task, args.data_dir, include / f"{name}.yaml")
        results = lm_eval.simple_evaluate(
            model=HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=args.batch_size,
                enable_thinking=False,
                chat_template_args=dated,
                max_length=args.max_length,
            ),
            tasks=[name],
            num_fewshot=args.num_fewshot if task.num_fewshot is None else task.num_fewshot,
            limit=args.limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=True,
            predict_only=task.unsafe_code,
            confirm_run_unsafe_code=task.unsafe_code,
            task_manager=TaskManager(include_path=str(include), include_defaults=False),
        )
    samples: list[dict[str, Any]] = results["samples"][name]
    return samples


def write_stock_yaml(task: Task, data_dir: Path, path: Path) -> None:
    """The task's YAML, stock or own, over local files: included, the data source replaced."""
    source = yaml_path(task)
    config = read_config(source)
    splits = {evaluation_split(config), fewshot_split(config)} - {None}
    # A set without a train split is scored without shots: stock asks for the split's rows all the same.
    paths = {str(split): data_dir / task.data.folder / f"{split}.jsonl" for split in splits}
    files = {split: str(path) for split, path in paths.items() if path.is_file()}
    names = {"test_split", "validation_split", "training_split", "fewshot_split"}
    off = {name: None for name in names if config.get(name) and config[name] not in files}
    text = {"include": str(source), "task": task.name.partition("@")[0], "dataset_path": "json", "dataset_name": None}
    path.write_text(yaml.safe_dump(text | off | {"dataset_kwargs": {"data_files": files}}), encoding="utf-8")


if __name__ == "__main__":
    main()
