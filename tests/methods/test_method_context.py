"""What a method may ask of a run, on a tiny model: prompts of any form, several targets, training, remembering."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dasd_bench.console import Console
from dasd_bench.errors import PluginError
from dasd_bench.methods.context import Choice, DualStep
from dasd_bench.registry import Registry, discover
from dasd_bench.run.adapters import train_examples
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.options import RunOptions
from dasd_bench.run.prepare import build_context, load
from dasd_bench.run.stages.targets import pack_targets, unpack_targets
from dasd_bench.store.store import parse_ragged, ragged_bytes
from dasd_bench.types import Message, Origin, target_names
from tests.methods.helpers import spec_of

PLUGIN = '''
from dataclasses import dataclass
import numpy as np
from dasd_bench.api import Message, Method, Origin, option

@dataclass(frozen=True)
class Probe(Method):
    """Two targets for the first example, one of them with its own prompt, none for the last."""

    name = "probe"
    summary = "Several targets and prompts of their own."
    trains = True
    times: int = option(1, help="Rounds.", minimum=1)

    def make_targets(self, examples, context):
        other = (Message("system", "Be brief."), Message("user", "Say something else."))
        one = context.text_target(
            examples[0], "Something else.", Origin.BASE, reason="own", accepted=True, prompt=other
        )
        gold = [context.reference_target(example) for example in examples[:-1]]
        for number in range(self.times):
            model = context.train(gold, label=f"round {number + 1}")
        drawn = context.generate([context.plain_prompt(examples[0])], max_new_tokens=[4], model=model)
        kept = context.remember("length", [e.id for e in examples], lambda: {"n": np.array([len(examples)])})
        return [gold[0], one, *gold[1:], context.target(
            examples[1], drawn[0].token_ids, np.full(len(drawn[0].token_ids), 2, np.uint8), reason="drawn",
            accepted=True, notes={"n": float(kept["n"][0])},
        )]
'''


class Made:
    """A method context over a tiny model, with the run behind it."""

    def __init__(self, model: Path, folder: Path, method: str = "sft", plugins: tuple[str, ...] = ()) -> None:
        spec = spec_of(model, methods=(method,), plugins=plugins)
        registry: Registry = discover(tuple(Path(p) for p in plugins))
        console = Console(quiet=True)
        self.run = build_context(spec, registry, console, folder / "run", RunOptions(store=folder / "store"))
        self.examples = [example for one in load(spec, registry, console) for example in one.train]
        self.arm = self.run.arms[0]
        self.context = EngineMethodContext(self.run, self.arm, 0, self.examples)

    def logp(self, prompt: list[int], target: list[int]) -> list[float]:
        """By one forward pass of transformers' own model."""
        with torch.no_grad():
            logits = self.run.load()(torch.tensor([prompt + target])).logits[0].double()
        rows = torch.log_softmax(logits, -1)
        return [float(rows[len(prompt) + i - 1, token]) for i, token in enumerate(target)]


@pytest.fixture(scope="module")
def made(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tiny_folder("llama"), tmp_path_factory.mktemp("made"))


def test_scores_under_other_prompts_are_the_model_s_own(made: Made) -> None:
    example = made.examples[0]
    target = made.context.reference_target(example)
    ids = target.token_ids.tolist()
    other = [Message("user", "Another question."), Message("assistant", "It begins so:")]
    plain, changed = (made.context.score([target], [example], prompts=prompts)[0] for prompts in (None, [other]))
    text = made.run.chat.render(other, add_generation_prompt=False, continue_final=True)
    assert text.rstrip().endswith("It begins so:")
    assert plain.logp.tolist() == pytest.approx(
        made.logp(made.run.chat.encode(made.context.plain_prompt(example)), ids), abs=1e-4
    )
    assert changed.logp.tolist() == pytest.approx(made.logp(made.run.chat.encode_text(text), ids), abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_an_empty_prompt_is_the_beginning_of_sequence_token_or_nothing(
    kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    made = Made(tiny_folder(kind), tmp_path)
    target = made.context.reference_target(made.examples[0])
    ids = target.token_ids.tolist()
    scores = made.context.score([target], made.examples[:1], prompts=[()])[0]
    assert len(scores.logp) == len(scores.rank) == len(ids)
    if made.run.chat.adds_bos:
        assert scores.logp.tolist() == pytest.approx(made.logp([made.run.tokenizer.bos_token_id], ids), abs=1e-4)
    else:
        assert math.isnan(scores.logp[0])
        assert scores.rank[0] == -1
        assert scores.logp[1:].tolist() == pytest.approx(made.logp(ids[:1], ids[1:]), abs=1e-4)


def test_training_goes_on_from_a_trained_model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """The loss before the first update is the nll under the model that it begins with; equal calls train once."""
    made = Made(tiny_folder("llama"), tmp_path, method="rho-1")
    gold = [made.context.reference_target(example) for example in made.examples]
    first = made.context.train(gold)
    again = made.context.train(gold, label="again", init=first)
    assert again.adapter != first.adapter
    assert made.context.train(gold, label="again", init=first).adapter == again.adapter
    for model, begun in ((first, None), (again, first)):
        line = json.loads((model.adapter.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
        logp = np.concatenate([one.logp for one in made.context.score(gold, made.examples, model=begun)])
        assert line["loss"] == pytest.approx(float(-logp.mean()), abs=1e-4)


def test_a_begun_answer_is_continued(made: Made) -> None:
    """The tokens are those that greedy decoding gives behind the open turn, by hand."""
    chat = [*made.context.plain_prompt(made.examples[0]), Message("assistant", "First,")]
    (one,) = made.context.generate([chat], max_new_tokens=[3])
    ids = made.run.chat.encode_text(made.run.chat.render(chat, add_generation_prompt=False, continue_final=True))
    model, wanted = made.run.load(), []
    for _ in range(len(one.token_ids)):
        with torch.no_grad():
            wanted.append(int(model(torch.tensor([ids + wanted])).logits[0, -1].argmax()))
    assert one.token_ids.tolist() == wanted


def test_targets_keep_prompts_and_columns_in_the_store(made: Made) -> None:
    chat = (Message("system", "S"), Message("user", "ü"))
    ids = np.array([4, 5, made.context.end_token_id], dtype=np.int32)
    own = made.context.target(
        made.examples[0],
        ids,
        np.zeros(3, dtype=np.uint8),
        reason="x",
        accepted=True,
        prompt=chat,
        columns={"score": np.array([0.5, 1.0, 2.0], dtype=np.float32)},
    )
    plain = made.context.reference_target(made.examples[1])
    back = unpack_targets(*parse_ragged(ragged_bytes(*pack_targets([own, plain])), Path("x")))
    for before, after in zip([own, plain], back, strict=True):
        assert after.prompt == before.prompt
        assert {k: v.tolist() for k, v in after.columns.items()} == {k: v.tolist() for k, v in before.columns.items()}
        assert (after.text, after.token_ids.tolist()) == (before.text, before.token_ids.tolist())
    assert target_names([own, plain, own, own]) == [
        own.example_id, plain.example_id, f"{own.example_id}#1", f"{own.example_id}#2",
    ]  # fmt: skip
    weights = [np.ones(3, dtype=np.float32)]
    (trained,) = train_examples(made.run, made.arm, [own], made.examples[:1], weights, [[]])
    assert trained.prompt_ids.tolist() == made.run.chat.encode(chat)


def test_a_column_goes_on_where_the_end_token_is_added(made: Made) -> None:
    columns = {"a": np.ones(1, dtype=np.float32)}
    origin = np.zeros(1, dtype=np.uint8)
    target = made.context.target(made.examples[0], [40], origin, reason="x", accepted=True, columns=columns)
    assert target.columns["a"].tolist() == [1.0, 0.0]


def test_remembered_arrays_are_computed_once_per_key(made: Made) -> None:
    calls: list[int] = []

    def compute(number: int) -> dict[str, np.ndarray]:
        calls.append(number)
        return {"a": np.arange(number, dtype=np.float64), "b": np.array(["x"], dtype="S1").view(np.uint8)}

    for number in (3, 3, 4):
        kept = made.context.remember("ranker", {"texts": ["a"], "n": number}, lambda n=number: compute(n))
        assert kept["a"].tolist() == list(range(number))
        assert kept["a"].dtype == np.float64
    made.context.remember("another kind", {"texts": ["a"], "n": 3}, lambda: compute(3))
    assert calls == [3, 4, 3]
    with pytest.raises(PluginError, match="its key must be made of numbers, texts"):
        made.context.remember("ranker", object(), lambda: compute(1))
    with pytest.raises(PluginError, match="must be numpy arrays by name"):
        made.context.remember("ranker", "other", lambda: {"a": [1]})  # type: ignore[dict-item]


def test_only_a_method_that_says_so_trains(made: Made) -> None:
    with pytest.raises(PluginError, match="sets trains = True"):
        made.context.train([made.context.reference_target(made.examples[0])])


def test_a_trained_round_is_used_and_kept(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    from tests.run.helpers import command, documents, run_args

    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "probe.py").write_text(PLUGIN)
    more = ["--plugins", str(plugins), "--train-limit", "2", "--limit", "1", "--sample", "first"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="probe"))
    assert result.code == 0, result.err
    assert "[round 1 probe seed 0] training on 3 targets" in result.err + result.out
    folder = tmp_path / "run" / "arms" / "probe" / "seed0"
    rows = documents(folder / "targets.jsonl")
    first, second, third = (f"mini_{name}" for name in ("gsm/train/0", "gsm/train/1", "arc/train/0"))
    assert [row["id"] for row in rows] == [first, f"{first}#1", second, third, f"{second}#1"]
    assert rows[1]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something else."},
    ]  # fmt: skip
    assert rows[1]["prompt"] == "system: Be brief.\n\nuser: Say something else."
    assert "messages" not in rows[0]
    assert rows[4]["notes"] == {"n": 4.0}
    assert len(list((tmp_path / "store" / "round").iterdir())) == 1
    stats = json.loads((tmp_path / "run" / "results.json").read_text())["arms"][0]["seeds"][0]["target_stats"]
    assert (stats["n"], stats["dropped"], stats["accepted"]) == (5, 1, 3)
    # Another learning rate is another round, since the targets come from what it trained.
    other = run_args(tiny_folder("llama"), tmp_path, *more, "--set", "training.lr=3e-4", methods="probe")
    other[other.index("--output") + 1] = str(tmp_path / "other")
    assert command(capsys, *other).code == 0
    assert len(list((tmp_path / "store" / "round").iterdir())) == 2


def test_a_rule_may_see_the_tokens_so_far(made: Made) -> None:
    from dasd_bench.engine.requests import DualRequest

    seen: list[tuple[int, ...]] = []

    def rule(step: DualStep) -> Choice:
        assert step.decode is not None
        seen.extend(map(tuple, step.tokens))
        assert isinstance(step.decode(list(step.tokens[0])), str)
        return Choice(step.base_token, torch.full_like(step.base_token, int(Origin.BASE), dtype=torch.uint8))

    ids = made.run.chat.encode(made.context.plain_prompt(made.examples[0]))
    (one,) = made.run.engine().dual_decode([DualRequest(ids, ids, 4, made.run.stop_ids)], rule)
    assert seen == [tuple(one.token_ids[:i].tolist()) for i in range(len(one.token_ids))]
