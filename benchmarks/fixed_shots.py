"""Generation after fixed shots, 32 items, against lm-eval's hf backend, batch 8: gsm8k_cot (8 shots), minerva_math (4).

The shots and stop strings are those of the installed lm-eval; both sides get the same texts and the same budget of 128
new tokens. ``identical`` counts equal texts.

    python benchmarks/fixed_shots.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import ast
import sys
from importlib import resources
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import linear_flops, load, machine_limit, main, report, rows, warm, warm_engine
from benchmarks.sides import Work, compare
from dasd_bench.engine.requests import GenerateRequest

NEW_TOKENS = 128
ITEMS = 32


def gsm8k_cot(data_dir: str | None, count: int) -> tuple[list[str], list[str]]:
    """Prompts and stop strings of the task."""
    import yaml

    text = resources.files("lm_eval").joinpath("tasks/gsm8k/gsm8k-cot.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    shots = "".join(f"Q: {s['question']}\nA: {s['target']}\n\n" for s in config["fewshot_config"]["samples"])
    prompts = [f"{shots}Q: {row['question']}\nA:" for row in rows(data_dir, "gsm8k", "test", count)]
    return prompts, list(config["generation_kwargs"]["until"])


def minerva_math(data_dir: str | None, count: int) -> tuple[list[str], list[str]]:
    """Prompts and stop strings of the task."""
    # Read, not imported: the module wants lm-eval's own math extras as soon as it is imported.
    source = resources.files("lm_eval").joinpath("tasks/minerva_math/utils.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    (answer,) = [node for node in functions["list_fewshot_samples"].body if isinstance(node, ast.Return)]
    assert answer.value is not None
    samples = ast.literal_eval(answer.value)

    def text(problem: str) -> str:
        return f"Problem:\n{problem}\n\nSolution:"

    shots = "".join(f"{text(s['problem'])} {s['solution']}\n\n" for s in samples)
    return [shots + text(row["problem"]) for row in rows(data_dir, "math500", "test", count)], ["Problem:"]


TASKS = {"gsm8k_cot": gsm8k_cot, "minerva_math": minerva_math}


def peer_side(dtype: str, data_dir: str | None, name: str, count: int) -> Work:
    """lm-eval's hf backend: the texts."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load(dtype)
    prompts, until = TASKS[name](data_dir, count)
    keywords = {"until": until, "max_gen_toks": NEW_TOKENS, "do_sample": False}
    instances = [Instance("generate_until", {}, (p, dict(keywords)), i) for i, p in enumerate(prompts)]
    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=8192)
    warm(model)
    return lambda: backend.generate_until(instances, disable_tqdm=True)


def our_side(dtype: str, data_dir: str | None, name: str, count: int) -> Work:
    """``Engine.generate``: (tokens, text up to the first stop string) of every item."""
    model, tokenizer = load(dtype)
    prompts, until = TASKS[name](data_dir, count)
    stop = frozenset([int(tokenizer.eos_token_id)])
    requests = [
        GenerateRequest(list(tokenizer(p).input_ids), NEW_TOKENS, stop, tuple(until), name=f"{name} {i}")
        for i, p in enumerate(prompts)
    ]
    engine = warm_engine(model, tokenizer)
    return lambda: [
        (len(found.token_ids), min((found.text.split(end)[0] for end in until), key=len))
        for found in engine.generate(requests)
    ]


def measure(name: str, dtype: str, data_dir: str | None, runs: int, limit: int | None) -> dict[str, Any]:
    """The line of one task."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    prompts, _ = TASKS[name](data_dir, limit or ITEMS)
    arguments = (dtype, data_dir, name, len(prompts))
    theirs, ours = compare([(peer_side, arguments), (our_side, arguments)], runs)
    tokens = sum(count for count, _ in ours.result)
    ids = [tokenizer(prompt).input_ids for prompt in prompts]
    shared = next(i for i, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1)
    work = (shared + sum(len(i) - shared for i in ids) + tokens) * body + tokens * head
    same = sum(peer == text for peer, (_, text) in zip(theirs.result, ours.result, strict=True))
    return report(
        f"fixed-shots {name}",
        dtype,
        "s/item",
        theirs.seconds / len(prompts),
        ours.seconds / len(prompts),
        runs=runs,
        lower_is_better=True,
        limit_share=round(work / limit_rate / ours.seconds, 3),
        identical=f"{same}/{len(prompts)}",
        peer_peak_mib=round(theirs.peak_bytes / 2**20),
        ours_peak_mib=round(ours.peak_bytes / 2**20),
    )


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """One line per task."""
    return [measure(name, dtype, data_dir, runs, limit) for name in TASKS]


if __name__ == "__main__":
    main(run, __doc__)
