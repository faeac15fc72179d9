"""Losses on live logits and teachers: against plain peft with whole logits, and other cuts of the same batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor

from dasd_bench.api import forward_kl, generalized_jsd, option, sampled_reverse_kl
from dasd_bench.errors import PluginError, TrainingError, UsageError
from dasd_bench.methods.base import Method, build_method, validate_method
from dasd_bench.methods.context import LiveLogits, LiveTokens
from dasd_bench.training import live_loss
from dasd_bench.training.batching import batches, build_row, examples_digest
from dasd_bench.training.job import read_job, write_job
from dasd_bench.types import TrainExample, TrainingSet
from tests.training.helpers import RULES, Sft, make_examples, metrics, run, soft_model
from tests.training.test_columns import job
from tests.training.test_resume import adapter_bytes, stopped, untimed


@dataclass(frozen=True)
class Anchored(Method):
    """nll + lambda * KL(base || student): the whole of a plugin's loss."""

    name = "anchored"
    summary = "nll with a KL anchor"
    teacher = "base"

    strength: float = option(0.5, help="Weight of the anchor.", minimum=0.0)

    def token_loss(self, live: LiveLogits) -> Tensor:
        return live.nll() + self.strength * forward_kl(live.teacher_logits[0], live.logits)


@dataclass(frozen=True)
class Distilled(Method):
    """The mean JSD to all teachers, the first token left out; rows count alike."""

    name = "distilled"
    summary = "JSD to teachers"
    teacher = "live"
    denominator = "rows"

    def token_loss(self, live: LiveLogits) -> Tensor:
        return generalized_jsd(live.teacher_logits, live.logits, 0.3).mean(0) * (live.position > 0)


@dataclass(frozen=True)
class Averaged(Distilled):
    """To an EMA teacher, weighted by how far the teachers' logp is from the student's over the batch."""

    name = "averaged"
    teacher = "ema"
    online = True
    denominator = "all"
    scope = "batch"

    teacher_decay: float = option(0.6, help="Share kept.", minimum=0.0, maximum=1.0)

    def online_weights(self, live: LiveTokens) -> Tensor:
        assert live.teacher_logp is not None
        gap = (live.teacher_logp - live.logp).mean(0)
        return (gap >= gap.median()).float()


@dataclass(frozen=True)
class Nll(Method):
    name = "nll"
    summary = "the default, by hand"

    def token_loss(self, live: LiveLogits) -> Tensor:
        return -live.logits.log_softmax(-1).gather(1, live.labels[:, None])[:, 0]


def taught(count: int, seed: int, teachers: int) -> list[TrainExample]:
    rng = np.random.default_rng(seed + 100)
    return [
        replace(e, teacher_prompts=tuple(rng.integers(10, 300, 5 + 9 * k).astype(np.int32) for k in range(teachers)))
        for e in make_examples(count, seed=seed)
    ]


def naive_run(
    method: Method,
    examples: list[TrainExample],
    loss: Callable[[Tensor, Tensor, int, int], Tensor],
    decay: float | None = None,
) -> list[float]:
    """Losses of plain peft and AdamW: one example after the other, whole logits, teachers by peft's own means.

    ``loss`` of a token: student logits [V], teachers' logits [K, V], label, position.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(soft_model("llama"), lora)
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0, foreach=False, fused=False)

    def logits(prompt: np.ndarray, e: TrainExample) -> Tensor:
        ids = torch.tensor(np.concatenate([prompt, e.target_ids]), dtype=torch.long)
        return model(input_ids=ids[None]).logits[0][len(prompt) - 1 : -1]

    def teachers(e: TrainExample) -> Tensor:
        live = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            if method.teacher == "ema":
                for p, a in zip(parameters, average, strict=True):
                    p.copy_(a)
            with model.disable_adapter() if method.teacher == "base" else nullcontext():
                found = torch.stack([logits(prompt, e) for prompt in e.teacher_prompts or (e.prompt_ids,)])
            for p, own in zip(parameters, live, strict=True):
                p.copy_(own)
        return found

    losses = []
    for batch in batches(len(examples), 4, 2.0, 0):
        rows = []
        said = [teachers(examples[i]) for i in batch]
        for i, taught_by in zip(batch, said, strict=True):
            e = examples[i]
            own = logits(e.prompt_ids, e)
            label = torch.tensor(e.target_ids.astype(np.int64))
            gap = (taught_by.log_softmax(-1) - own.log_softmax(-1)).detach().mean(0)
            rows += [
                (i, float(gap[t, label[t]]), loss(own[t], taught_by[:, t], int(label[t]), t))
                for t in map(int, np.flatnonzero(e.weights))
            ]
        if method.scope == "batch":
            median = sorted(gap for _, gap, _ in rows)[(len(rows) - 1) // 2]
            rows = [row for row in rows if row[1] >= median - 1e-6]
        if method.denominator == "rows":
            means = [torch.stack([x for j, _, x in rows if j == i]).mean() for i in batch]
            total = torch.stack(means).mean()
        else:
            every = sum(len(examples[i].target_ids) for i in batch) if method.denominator == "all" else len(rows)
            total = torch.stack([x for _, _, x in rows]).sum() / every
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for p, a in zip(parameters, average, strict=True):
                a.mul_(decay or 0.0).add_(p, alpha=1 - (decay or 0.0))
        losses.append(float(total.detach()))
    return losses


def kl(p: Tensor, q: Tensor) -> Tensor:
    log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def jsd(student: Tensor, teachers: Tensor, label: int, position: int) -> Tensor:
    total = 0.0 * student.sum().double()
    if position == 0:
        return total
    for teacher in teachers:
        mixture = (0.3 * teacher.double().softmax(-1) + 0.7 * student.double().softmax(-1)).log()
        total = total + (0.3 * kl(teacher, mixture) + 0.7 * kl(student, mixture)) / len(teachers)
    return total


def anchored(student: Tensor, teachers: Tensor, label: int, position: int) -> Tensor:
    return -student.double().log_softmax(-1)[label] + 0.5 * kl(teachers[0], student)


@pytest.mark.parametrize(
    ("method", "teachers", "loss"),
    [(Anchored(), 0, anchored), (Anchored(), 1, anchored), (Distilled(), 2, jsd), (Averaged(), 2, jsd)],
    ids=["base", "base with its own prompt", "live", "ema"],
)
def test_losses_of_a_run_equal_a_naive_loop(method: Method, teachers: int, loss: Any, tmp_path: Path) -> None:
    """Six steps at a rate at which a wrong gradient shows."""
    examples = taught(9, 3, teachers)
    run(soft_model("llama"), examples, tmp_path, method, microbatch_tokens=64, epochs=2, lr=1e-2)
    wanted = naive_run(method, examples, loss, decay=0.6)
    got = [line["loss"] for line in metrics(tmp_path)]
    assert got == pytest.approx(wanted, rel=2e-4, abs=1e-7)
    assert abs(wanted[-1] - wanted[0]) > 1e-3 * abs(wanted[0])


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 0, "lr": 1e-4}])
def test_the_nll_by_hand_is_the_default_loss(kind: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    """Autograd against the written-out gradient, soft caps and a trained head included."""
    for name, method in (("a", Sft()), ("b", Nll())):
        run(soft_model(kind), make_examples(8, seed=1), tmp_path / name, method, microbatch_tokens=64, **changes)
    a, b = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    for key in ("loss", "grad_norm", "nll"):
        assert [line[key] for line in b] == pytest.approx([line[key] for line in a], rel=1e-5)


def test_weights_and_rules_apply_to_a_loss_of_ones_own(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class DftByHand(Nll):
        name = "dft-by-hand"
        online = True

        def online_weights(self, live: LiveTokens) -> Tensor:
            return live.logp.exp()

    examples = [replace(e, weights=e.weights * np.float32(0.5)) for e in make_examples(8, seed=2, keep_end=True)]
    for name, method in (("a", RULES["dft"]), ("b", DftByHand())):
        run(soft_model("llama"), examples, tmp_path / name, method)
    a, b = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    assert [x["loss"] for x in b] == pytest.approx([x["loss"] for x in a], rel=1e-5)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    micro=st.integers(16, 200),
    chunk=st.integers(1, 50),
    seed=st.integers(0, 99),
    method=st.sampled_from([Anchored(), Distilled(), Averaged()]),
)
def test_one_number_for_any_cut(
    micro: int, chunk: int, seed: int, method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a step, so that student and teachers differ."""
    examples = taught(6, seed, 2)
    lines = []
    for size, rows in ((100_000, 100_000), (micro, chunk)):
        with monkeypatch.context() as patch:
            patch.setattr(live_loss.backward_live, "__defaults__", (0.0, rows))
            run(soft_model("llama"), examples, tmp_path, method, microbatch_tokens=size, batch_size=6, epochs=2)
        lines.append(metrics(tmp_path)[1])
        (tmp_path / "metrics.jsonl").unlink()
    assert lines[1]["loss"] == pytest.approx(lines[0]["loss"], rel=1e-3, abs=1e-8)
    assert lines[1]["nll"] == pytest.approx(lines[0]["nll"], rel=1e-5)


def test_logits_exist_for_a_chunk_of_trained_positions_only(tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []

    @dataclass(frozen=True)
    class Watched(Anchored):
        name = "watched"

        def token_loss(self, live: LiveLogits) -> Tensor:
            shapes.append((*live.logits.shape, *live.teacher_logits.shape))
            assert not live.teacher_logits.requires_grad
            return super().token_loss(live)

    examples = taught(20, 1, 3)
    run(soft_model("llama"), examples, tmp_path, Watched(), microbatch_tokens=10_000, batch_size=20)
    assert max(shape[0] for shape in shapes) == live_loss.CHUNK_ROWS
    assert all(shape[2:] == (3, *shape[:2]) for shape in shapes)
    assert sum(shape[0] for shape in shapes) == sum(int((e.weights > 0).sum()) for e in examples)


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, {"lora_rank": 0, "lr": 1e-3}])
def test_an_ema_teacher_resumes_to_the_same_bytes(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {"epochs": 3, "checkpoint_steps": 2, **changes}
    examples = taught(9, 5, 1)
    run(soft_model("qwen3"), examples, tmp_path / "whole", Averaged(), **every)
    with stopped(5, monkeypatch):
        run(soft_model("qwen3"), examples, tmp_path / "cut", Averaged(), **every)
    run(soft_model("qwen3"), examples, tmp_path / "cut", Averaged(), **every)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")


@pytest.mark.parametrize("targets", ["all-linear", "lm_head", "q_proj,lm_head"])
@pytest.mark.parametrize("teacher", ["base", "ema"])
def test_teachers_start_as_the_untrained_model_and_stay_behind(targets: str, teacher: str, tmp_path: Path) -> None:
    """An adapted head too: its teacher is the head without, or with the averaged, adapter."""
    seen: list[Tensor] = []
    bound = dataclass(frozen=True)(
        type("Bound", (Averaged,), {"name": "bound", "teacher": teacher, "scope": "token", "online": False})
    )

    def token_loss(self: Method, live: LiveLogits) -> Tensor:
        seen.append(live.teacher_logits[0].clone())
        return live.nll() + 0 * live.logits.sum(-1)

    bound.token_loss = token_loss
    bound.online_weights = Method.online_weights
    example = taught(1, 1, 1)
    run(soft_model("llama"), example, tmp_path, bound(0.0), epochs=3, lora_targets=targets, lr=1e-2)
    ids = torch.tensor(np.concatenate([example[0].teacher_prompts[0], example[0].target_ids]), dtype=torch.long)
    with torch.no_grad():
        wanted = soft_model("llama")(input_ids=ids[None]).logits[0][len(example[0].teacher_prompts[0]) - 1 : -1]
    wanted = wanted[torch.from_numpy(np.flatnonzero(example[0].weights))]
    torch.testing.assert_close(seen[0], wanted, rtol=1e-4, atol=1e-5)
    moved = float((seen[2] - seen[0]).abs().max())
    assert moved < 1e-6 if teacher == "base" else moved > 1e-3


def test_the_models_forward_is_whole_again_after_a_base_teacher(tmp_path: Path) -> None:
    model = soft_model("llama")
    run(model, taught(4, 1, 1), tmp_path, Anchored(), lr=1e-1)
    from peft.tuners.lora import LoraLayer

    assert not any(m.disable_adapters for m in model.modules() if isinstance(m, LoraLayer))


def test_teacher_prompts_travel_with_a_job_and_count_in_its_digest(tmp_path: Path) -> None:
    examples = taught(4, 1, 2)
    write_job(tmp_path, job(tmp_path), TrainingSet(examples))
    got = read_job(tmp_path)[1].examples
    for one, other in zip(examples, got, strict=True):
        assert len(other.teacher_prompts) == 2
        for a, b in zip(one.teacher_prompts, other.teacher_prompts, strict=True):
            np.testing.assert_array_equal(a, b)
    plain = [replace(e, teacher_prompts=()) for e in examples]
    swapped = [replace(e, teacher_prompts=e.teacher_prompts[::-1]) for e in examples]
    assert examples_digest(got) == examples_digest(examples)
    assert len({examples_digest(x) for x in (examples, plain, swapped)}) == 3


def test_a_target_is_cut_behind_the_longest_prompt() -> None:
    example = replace(make_examples(1)[0], prompt_ids=np.arange(3, dtype=np.int32))
    long = replace(example, teacher_prompts=(np.arange(20, dtype=np.int32),))
    row = build_row(long, 25, taught=True)
    assert (row.target_tokens, row.truncated) == (5, True)
    assert len(row.teachers[0].input_ids) <= 25
    assert build_row(long, 25).target_tokens == min(22, len(example.target_ids))


def test_what_cannot_be_taught_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'anchored' has the untrained model as its teacher.*rank above 0"):
        run(soft_model("llama"), taught(3, 0, 1), tmp_path, Anchored(), lora_rank=0)
    uneven = [*taught(2, 0, 2), *taught(3, 0, 1)[2:]]
    with pytest.raises(TrainingError, match=r"t/train/2 has 1 teacher prompts and example t/train/0 has 2"):
        run(soft_model("llama"), uneven, tmp_path, Anchored())
    empty = [replace(e, teacher_prompts=(np.zeros(0, np.int32),)) for e in make_examples(2)]
    with pytest.raises(TrainingError, match="t/train/0 has an empty prompt"):
        run(soft_model("llama"), empty, tmp_path, Anchored())
    with pytest.raises(UsageError, match="out of range"):
        build_method(Averaged, {"teacher_decay": 1.5})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda live: live.nll().mean(), r"must return one loss per token.*with shape \(\)"),
        (lambda live: live.nll().detach(), "without gradient"),
    ],
)
def test_a_loss_that_misbehaves_is_named(loss: Any, message: str, tmp_path: Path) -> None:
    wrong = dataclass(frozen=True)(
        type("Wrong", (Nll,), {"name": "wrong", "token_loss": lambda self, live: loss(live)})
    )
    with pytest.raises(PluginError, match=message):
        run(soft_model("llama"), make_examples(3), tmp_path, wrong())


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (Nll, {"teacher": "student"}, "has teacher 'student'; use one of none, base, live, ema"),
        (Sft, {"teacher": "base"}, "has a teacher but neither token_loss nor online_weights"),
        (Nll, {"teacher_prompts": lambda self, examples, context: []}, "defines teacher_prompts but has no teacher"),
    ],
)
def test_bad_teachers_are_refused(base: type[Method], changes: dict[str, Any], message: str) -> None:
    bad = dataclass(frozen=True)(type("Bad", (base,), {"name": "bad", **changes}))
    with pytest.raises(PluginError, match=message):
        validate_method(bad, "file.py")
    for good in (Anchored, Distilled, Averaged, Nll):
        validate_method(good, "file.py")


def test_sampled_estimates_go_through_the_helpers_of_live_logits(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Sampled(Anchored):
        name = "sampled"

        def token_loss(self, live: LiveLogits) -> Tensor:
            assert live.teacher_logp().shape == live.teacher_logits.shape[:2]
            return sampled_reverse_kl(live.teacher_logp()[0], live.logp(), "k3")

    run(soft_model("llama"), taught(4, 1, 1), tmp_path, Sampled())
    assert metrics(tmp_path)[0]["loss"] > 0
