"""Do we score as stock lm-eval does? The same items by this package's engine and by lm-eval's own ``hf`` backend.

    python benchmarks/agreement.py --model MODEL_FOLDER --data-dir DATA --tasks mini_gsm,mini_arc,gsm8k,arc_challenge

The peer goes through lm-eval alone: its own command-line path (``simple_evaluate``), its own YAML, its own loading of
the rows (``dataset_path: json``), its own model wrapper in fp32. Prints a table: identical completions, largest
difference of a log-likelihood, items whose metrics differ, seconds of both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.console import Console
from dasd_bench.engine import Engine
from dasd_bench.evaluation import EvalSettings, TaskResult, evaluate
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.registry import discover, shipped_folder
from dasd_bench.task import Task
from dasd_bench.tasks.derive import evaluation_split, fewshot_split, stock_yaml
from dasd_bench.tasks.loading import load_rows


def main() -> None:
    """Runs the comparison and prints its table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a causal LM")
    parser.add_argument("--adapter", help="folder of a LoRA adapter, merged on both sides")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--tasks", default="mini_gsm,mini_math,mini_arc")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--num-fewshot", type=int)
    parser.add_argument("--max-length", type=int, help="cut the context to this, to compare left truncation")
    parser.add_argument("--chat", choices=("on", "off", "both"), default="both")
    parser.add_argument("--batch-size", type=int, default=1, help="of lm-eval's hf backend")
    args = parser.parse_args()
    tokenizer, model = load(args.model, args.adapter)
    if args.max_length:
        model.config.max_position_embeddings = args.max_length
    registry = discover()
    print(
        "| task | chat | shots | items | same text | max abs diff logp | items with other metrics | ours | hf | score |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in args.tasks.split(","):
        for chat in {"on": (True,), "off": (False,), "both": (False, True)}[args.chat]:
            print(compare(registry.task(name).item, model, tokenizer, chat, args), flush=True)


def load(folder: str, adapter: str | None) -> tuple[Any, Any]:
    """Tokenizer and fp32 model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return AutoTokenizer.from_pretrained(folder), model.eval()


def compare(task: Task, model: Any, tokenizer: Any, chat: bool, args: argparse.Namespace) -> str:
    """One row of the table."""
    started = time.monotonic()
    ours = run_ours(task, model, tokenizer, chat, args)
    middle = time.monotonic()
    theirs = run_stock(task, model, tokenizer, chat, args)
    ended = time.monotonic()
    texts = same = other = 0
    largest = 0.0
    for record in ours.records:
        samples = {s["filter"]: s for s in theirs if s["doc_id"] == record.index}
        for name, value in record.metrics.items():
            metric, _, kind = name.rpartition(",")
            if float(samples[kind][metric]) != value:
                other += 1
                break
        sample = next(iter(samples.values()))
        if record.choice_logp is None:
            texts += 1
            same += sample["resps"][0][0] == record.completion
        else:
            for mine, response in zip(record.choice_logp, sample["resps"], strict=True):
                largest = max(largest, abs(mine - float(response[0][0])))
    cells = [
        task.name,
        "on" if chat else "off",
        str(ours.num_fewshot),
        str(len(ours.records)),
        f"{same}/{texts}" if texts else "-",
        f"{largest:.1e}" if not texts else "-",
        str(other),
        f"{middle - started:.0f} s",
        f"{ended - middle:.0f} s",
        f"{ours.score:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


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

    with tempfile.TemporaryDirectory() as folder:
        include: Path = shipped_folder("tasks")
        if task.stock is not None:
            include = Path(folder)
            write_stock_yaml(task, args.data_dir, include / f"{task.name}.yaml")
        results = lm_eval.simple_evaluate(
            model=HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=args.batch_size,
                enable_thinking=False,
                max_length=args.max_length,
            ),
            tasks=[task.name],
            num_fewshot=args.num_fewshot,
            limit=args.limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=True,
            task_manager=TaskManager(include_path=str(include), include_defaults=False),
        )
    samples: list[dict[str, Any]] = results["samples"][task.name]
    return samples


def write_stock_yaml(task: Task, data_dir: Path, path: Path) -> None:
    """The stock task over local files: its YAML included, the data source replaced."""
    source = stock_yaml(str(task.stock))
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(source)
    splits = {evaluation_split(config), fewshot_split(config)} - {None}
    files = {str(split): str(data_dir / task.data.folder / f"{split}.jsonl") for split in splits}
    names = {"test_split", "validation_split", "training_split"}
    off = {name: None for name in names if config.get(name) and config[name] not in files}
    text = {"include": str(source), "task": task.name, "dataset_path": "json", "dataset_name": None} | off
    path.write_text(yaml.safe_dump(text | {"dataset_kwargs": {"data_files": files}}), encoding="utf-8")


if __name__ == "__main__":
    main()
