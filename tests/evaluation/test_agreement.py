"""Item by item the same as lm-eval's own ``hf`` backend, on tiny random models of three architectures."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.engine.engine import Engine
from dasd_bench.evaluation import EvalSettings, TaskResult, evaluate
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.registry import discover
from dasd_bench.tasks.loading import load_rows
from tests.tiny_models import tiny_model, tiny_tokenizer

TASKS = Path(__file__).parents[2] / "tasks"
LIMIT = 5


def ours(name: str, kind: Any, chat: bool, shots: int | None, length: int | None = None) -> TaskResult:
    tokenizer, model = tiny_tokenizer(kind), tiny_model(kind)
    if length:
        model.config.max_position_embeddings = length
    task = discover().task(name).item
    return evaluate(
        task,
        Engine(model, tokenizer),
        tokenizer,
        rows=load_rows(task, "test", limit=LIMIT).rows,
        settings=EvalSettings(num_fewshot=shots, chat_template=chat, truncate=True),
        chat=ChatTemplate(tokenizer),
    )


def stock(name: str, kind: Any, chat: bool, shots: int | None, length: int | None = None) -> list[dict[str, Any]]:
    """lm-eval alone: its task manager, its model wrapper, its default batch size."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer, model = tiny_tokenizer(kind), tiny_model(kind)
    # A date in the template is fixed on our side; Llama's own fallback needs it named here.
    arguments = {"date_string": "26 Jul 2024"} if kind == "llama" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = lm_eval.simple_evaluate(
            model=HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                enable_thinking=False,
                max_length=length,
                chat_template_args=arguments,
                # This project cuts what stands before it wherever the template knows it; lm-eval where it is told.
                think_end_token="</think>" if kind == "qwen3" else None,
            ),
            tasks=[name],
            num_fewshot=shots,
            limit=LIMIT,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=True,
            task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        )
    found: list[dict[str, Any]] = results["samples"][name]
    return found


@pytest.mark.parametrize(
    ("kind", "chat", "shots", "length"),
    [
        ("llama", True, None, None),
        ("llama", False, 2, None),
        ("qwen3", True, 2, None),
        ("gemma2", True, None, None),
        ("llama", False, 2, 240),
    ],
)
@pytest.mark.parametrize("name", ["mini_gsm", "mini_arc"])
def test_per_item_equal(name: str, kind: Any, chat: bool, shots: int | None, length: int | None) -> None:
    length = 60 if length and name == "mini_arc" else length
    result = ours(name, kind, chat, shots, length)
    samples = stock(name, kind, chat, shots, length)
    assert len(result.records) == LIMIT
    if length:
        assert result.config["truncated_prompts"] > 0
    for record in result.records:
        for sample in (s for s in samples if s["doc_id"] == record.index):
            assert record.prompt == sample["arguments"][0][0]
            for metric in sample["metrics"]:
                assert record.metrics[f"{metric},{sample['filter']}"] == float(sample[metric])
            if record.choice_logp is None:
                assert record.completion == sample["resps"][0][0]
            else:
                theirs = [float(response[0][0]) for response in sample["resps"]]
                assert record.choice_logp == pytest.approx(theirs, abs=1e-3)
