"""Methods that make their own targets, against plain re-statements of their rules.

Answers are scripted where a tiny random model would never give a right one; grading, scores, training and targets are
the real ones.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.errors import DasdError, TrainingError
from dasd_bench.methods.base import Method, build_method
from dasd_bench.methods.context import DualStep, Generation, RunFacts
from dasd_bench.registry import discover
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.types import Example, Finish, Message, Origin, Target
from tests.methods.test_method_context import Made


class Scripted(EngineMethodContext):
    """A real context whose model writes what the test says, by label; ``asked`` keeps the prompts of every label."""

    def __init__(self, made: Made, method: Method, **answers: Sequence[str]) -> None:
        from dataclasses import replace

        super().__init__(made.run, replace(made.arm, method=method, label=method.name), 0, made.examples)
        self.answers = {label.replace("_", " "): list(texts) for label, texts in answers.items()}
        self.asked: dict[str, list[Any]] = {}
        self.models: dict[str, Any] = {}

    def generate(self, prompts: Any, *, label: str = "generate", model: Any = None, **_: Any) -> list[Generation]:
        self.asked[label] = list(prompts)
        self.models[label] = model
        return [self.written(text) for text in self.answers.get(label, [])[: len(prompts)]]

    def written(self, text: str) -> Generation:
        """``text`` as an answer; one that ends in ``...`` is cut off."""
        finish: Finish = "length" if text.endswith("...") else "stop"
        ids = [*self._run.encode_reply(text), *([self.end_token_id] if finish == "stop" else [])]
        return Generation(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.float32), text, finish)


@pytest.fixture(scope="module")
def made(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tiny_folder("llama"), tmp_path_factory.mktemp("target-methods"))


plugins = functools.cache(discover)


def make(name: str, **options: object) -> Method:
    return build_method(plugins().method(name).item, options)


def module_of(name: str) -> Any:
    return sys.modules[plugins().method(name).item.__module__]


def texts(targets: Sequence[Target]) -> list[tuple[str, str, str]]:
    return [(one.example_id.rpartition("/")[2], one.reason, one.text) for one in targets]


def right(example: Example, more: str = "") -> str:
    return f"{more}#### {example.answer}"


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=12), share=st.floats(0, 0.9), stubs=st.booleans())
def test_ssd_drops_the_shortest_share(lengths: list[int], share: float, stubs: bool) -> None:
    none = np.zeros(0, dtype=np.float32)
    drawn = [Generation(np.zeros(n, dtype=np.int32), none, "\n".join("a" * n), "stop") for n in lengths]
    kept = make("ssd", shortest=share, stubs="drop" if stubs else "keep").kept(drawn)  # type: ignore[attr-defined]
    whole = [i for i, n in enumerate(lengths) if n >= (2 if stubs else 1)]
    left = list(whole)
    for _ in range(math.floor(share * len(whole))):
        left.remove(min(left, key=lambda i: (lengths[i], i)))
    assert kept == left


def test_ssd_trains_on_samples_whatever_they_say(made: Made) -> None:
    method = make("ssd", shortest=0)
    context = Scripted(made, method, sample=["wrong", "cut off...", "", "also wrong"])
    assert texts(method.make_targets(made.examples, context)) == [
        ("0", "sample", "wrong"),
        ("3", "sample", "also wrong"),
    ]


def bare_perplexity(made: Made, text: str) -> float:
    """As the authors do it: the tokenizer's own encoding, each token after the first, exp of the mean loss."""
    ids = made.run.tokenizer(text)["input_ids"]
    with torch.no_grad():
        return float(made.run.load()(torch.tensor([ids]), labels=torch.tensor([ids])).loss.exp())


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_self_output_takes_the_right_sample_of_lowest_bare_perplexity(
    kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    made = Made(tiny_folder(kind), tmp_path)
    method = make("self-output", samples=3)
    drawn = []
    for example in made.examples[:2]:
        drawn += [right(example, "So. "), "#### 1234567", right(example, "Let us see, it is so: ")]
    drawn += ["#### 1234567"] * 6
    targets = method.make_targets(made.examples, _dashed(made, method, drawn))
    wanted = []
    for number in range(2):
        own = [drawn[3 * number], drawn[3 * number + 2]]
        wanted.append((str(number), "sample", min(own, key=lambda text: bare_perplexity(made, text))))
    assert texts(targets) == wanted


def _dashed(made: Made, method: Method, drawn: Sequence[str]) -> Scripted:
    context = Scripted(made, method)
    context.answers["self-output"] = list(drawn)
    return context


def test_a_method_that_keeps_nothing_says_so_and_what_is_saved(made: Made) -> None:
    labels = {"self-output": "self-output", "star": "answer (round 1)", "rest-em": "samples (round 1)"}
    for name, label in (labels | {"sppl": "answer", "own-text": "answer"}).items():
        method = make(name, **{"star": {"rationalize": False}, "rest-em": {"samples": 1}}.get(name, {}))
        context = Scripted(made, method)
        context.answers[label] = ["no"] * 4
        with pytest.raises(
            TrainingError, match=rf"^{name}: .* nothing to train on; all answers are in the store: (take|lower)"
        ):
            method.make_targets(made.examples, context)


def test_min_change_edits_only_what_is_wrong(made: Made) -> None:
    method = make("min-change")
    e = made.examples
    context = Scripted(
        made, method, answer=[right(e[0]), "bad", "worse", "cut..."], edit=[right(e[1], "bad "), "x", "y..."]
    )
    targets = method.make_targets(e, context)
    assert texts(targets) == [
        ("0", "own", right(e[0])),
        ("1", "edit", right(e[1], "bad ")),
        ("2", "gold:no_answer", e[2].reference),
        ("3", "gold:no_answer", e[3].reference),
    ]
    assert [turn.role for turn in context.asked["edit"][0]] == ["user", "assistant", "user"]
    assert context.asked["edit"][0][1].content == "bad"
    assert e[1].reference in context.asked["edit"][0][2].content


def test_star_hints_trains_and_answers_with_the_trained_model(made: Made) -> None:
    method = make("star")
    e = made.examples
    context = Scripted(made, method)
    context.answers |= {
        "answer (round 1)": [right(e[0]), "no", "no", "no"],
        "hinted answer (round 1)": [right(e[1], "hint "), "no", "no"],
        "answer (round 2)": ["no", right(e[1], "now "), "no", "no"],
        "hinted answer (round 2)": ["no", "no", right(e[3], "hint ")],
    }
    targets = method.make_targets(e, context)
    assert texts(targets) == [("1", "own", right(e[1], "now ")), ("3", "hinted", right(e[3], "hint "))]
    assert context.models["answer (round 1)"] is None
    model = context.models["answer (round 2)"]
    assert (model.label, (model.adapter / "adapter_model.safetensors").is_file()) == ("round 1", True)
    assert all(target.prompt is None for target in targets)


def test_star_goes_back_to_the_round_before_where_one_keeps_nothing(made: Made) -> None:
    method = make("star", rationalize=False)
    context = Scripted(made, method)
    context.answers |= {"answer (round 1)": [right(made.examples[0]), "no", "no", "no"], "answer (round 2)": ["no"] * 4}
    assert texts(method.make_targets(made.examples, context)) == [("0", "own", right(made.examples[0]))]
    assert made.run.console.warnings[-1] == "star: round 2 keeps no answer; the targets are those of round 1."


def test_rest_em_keeps_the_first_right_samples_of_each_question(made: Made) -> None:
    method = make("rest-em", rounds=1, samples=4, keep_most=2)
    e = made.examples
    drawn = [right(e[0], f"{i} ") for i in range(4)] + ["no", right(e[1]), "no", "no"] + ["no"] * 8
    context = Scripted(made, method)
    context.answers["samples (round 1)"] = drawn
    assert texts(method.make_targets(e, context)) == [
        ("0", "sample", right(e[0], "0 ")), ("0", "sample", right(e[0], "1 ")), ("1", "sample", right(e[1])),
    ]  # fmt: skip


def test_self_instruct_keeps_new_questions_with_the_model_s_own_answers(made: Made) -> None:
    method = make("self-instruct", share=1)
    e = made.examples
    written = ["What is a heap?", e[0].prompt, "What is a heap ?", "Name three rivers of Asia."]
    context = Scripted(made, method, question=written, own_answer=["A tree.", "Ob, Lena..."])
    targets = method.make_targets(e, context)
    assert [one.reason for one in targets] == ["gold"] * 4 + ["own question"]
    assert targets[4].prompt == (Message("user", "What is a heap?"),)
    assert targets[4].text == "A tree."
    assert context.asked["own answer"] == [(Message("user", written[0]),), (Message("user", written[3]),)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=5), min_size=1, max_size=6), st.floats(0.1, 1))
def test_novel_questions_by_a_longest_common_subsequence_of_our_own(words: list[list[str]], overlap: float) -> None:
    def lcs(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        return lcs(a[:-1], b[:-1]) + 1 if a[-1] == b[-1] else max(lcs(a[:-1], b), lcs(a, b[:-1]))

    pool, kept = [["a", "b"]], []
    for index, text in enumerate(words):
        if all(2 * lcs(text, other) / (len(text) + len(other)) < overlap - 1e-9 for other in pool):
            pool.append(text)
            kept.append(index)
    found = module_of("self-instruct").novel(["a b"], [" ".join(text) for text in words], overlap - 1e-9)
    assert found == kept


def test_sppl_chooses_the_strategy_of_lowest_mean_perplexity_behind_own_answers(made: Made) -> None:
    method = make("sppl", shots=1)
    e = made.examples
    answers = [right(x, "Own. ") for x in e]
    context = Scripted(made, method, answer=answers, rewrite=[right(x, "Again: ") for x in e], guide=["no"] * 4)
    targets = method.make_targets(e, context)
    module = module_of("sppl")
    means = {}
    for strategy in ("gold", "rewrite"):
        values = []
        for number, example in enumerate(e):
            (chat,) = module.aligned_prompt(example, list(zip(e, answers, strict=True)), 1)
            other = 1 if number == 0 else 0
            assert chat.content.startswith(f"Question: {e[other].prompt}\nAnswer: {answers[other]}\n")
            assert chat.content.endswith(example.prompt)
            text = example.reference if strategy == "gold" else right(example, "Again: ")
            values.append(math.exp(-np.mean(made.logp(made.run.chat.encode([chat]), made.run.encode_reply(text)))))
        means[strategy] = float(np.mean(values))
    best = min(means, key=means.__getitem__)
    assert {one.reason for one in targets} == {best}
    told = re.search(r"gold ([\d.]+), rewrite ([\d.]+)", made.run.console.warnings[-1])
    assert told is not None
    assert [float(mean) for mean in told.groups()] == pytest.approx([means["gold"], means["rewrite"]], rel=1e-4)


LOGITS = st.lists(st.floats(-4, 4), min_size=6, max_size=6)


@settings(max_examples=40, deadline=None)
@given(p=LOGITS, q=LOGITS, beta=st.floats(0, 3), position=st.integers(0, 2), seen=st.sampled_from(["", "\\boxed{3"]))
def test_hinted_decoding_mixes_as_the_paper_says(p: Any, q: Any, beta: float, position: int, seen: str) -> None:
    def normal(logits: list[float]) -> list[float]:
        total = math.log(sum(math.exp(x) for x in logits))
        return [x - total for x in logits]

    p, q = normal(p), normal(q)
    entropy = -sum(math.exp(x) * x for x in p)
    weight = min(1.0, max(0.0, beta * entropy / math.log(6)))
    weight = 1.0 if seen else 0.0 if position == 0 else weight
    rule = module_of("hinted-decoding").Mix(beta)
    step = DualStep(
        base_logp=torch.tensor([q], dtype=torch.float64),
        reference_logp=torch.tensor([p], dtype=torch.float64),
        base_token=torch.tensor([0]),
        reference_token=torch.tensor([0]),
        uniform=torch.tensor([0.5]),
        position=torch.tensor([position]),
        keep=torch.tensor([False]),
        tokens=[(1, 2)],
        decode=lambda ids: seen,
        draw=lambda logits, sampling: logits.argmax(-1),
    )
    wanted = [(1 - weight) * a + weight * b for a, b in zip(p, q, strict=True)]
    assert rule.mixed(step)[0].tolist() == pytest.approx(wanted, abs=1e-9)
    choice = rule(step)
    token = int(choice.token)
    assert wanted[token] == pytest.approx(max(wanted))
    assert int(choice.origin) == (Origin.BASE if q[token] > p[token] else Origin.CANDIDATE)


def test_hinted_decoding_runs_whole_and_beta_0_is_the_rewrite(made: Made) -> None:
    """On the engine: lambda 0 throughout, greedy, is greedy decoding of the answer-aware context alone."""
    method = make("hinted-decoding", beta=0, temperature=0, switch="")
    context = EngineMethodContext(made.run, made.arm, 0, made.examples)
    prompts = [context.rewrite_prompt(example, "guide") for example in made.examples]
    alone = context.generate(prompts, max_new_tokens=[8] * 4)
    decoded = context.dual_decode(
        [context.plain_prompt(example) for example in made.examples],
        prompts,
        module_of("hinted-decoding").Mix(0.0, "", 0.0, 1.0),
        max_new_tokens=[8] * 4,
    )
    assert [one.token_ids.tolist() for one in decoded] == [one.token_ids.tolist() for one in alone]
    assert all(one.reason.startswith("gold:") for one in method.make_targets(made.examples, context))


def test_scar_asks_for_the_authors_package_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = RunFacts("hf", "auto", True, True, ("mini_gsm",))
    method = make("scar")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert method.lacking(facts) == "needs the authors' ranker: pip install scar-tool"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert "huggingface-cli download lizhuang144/scar-gte-base" in method.lacking(facts)
    scores = np.array([0.5, 2.0, -1.0, 2.0, 0.1], dtype=np.float32)
    assert module_of("scar").best(scores, 0.5) == [1, 3]
    assert module_of("scar").best(scores, 0.001) == [1]


def test_what_a_run_cannot_give_is_said_before_any_work() -> None:
    without = RunFacts("vllm", "off", True, True, ("mini_gsm",))
    told = {name: make(name).lacking(without) for name in plugins().methods}
    assert "needs whole distributions" in told["hinted-decoding"]
    for rule in ("entropy", "typical", "mix"):
        assert f"rule={rule} needs whole distributions" in make("dasd", rule=rule).lacking(without)
    assert not make("dasd").lacking(without)
    assert "turns of a chat" in told["min-change"]
    assert "turns of a chat" in told["self-instruct"]
    assert told["replay"]
    assert told["external"]
    assert "which is trained on anyway" in make("replay", tasks="mini_gsm").lacking(without)
    whole = RunFacts("hf", "auto", False, True, ("mini_gsm",))
    asking = {name for name in plugins().methods if make(name).lacking(whole)}
    assert asking == {"replay", "external", "scar"} - ({"scar"} if importlib.util.find_spec("style_ranker") else set())


def test_rho_1_learns_the_tokens_of_highest_excess_loss(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    made = Made(tiny_folder("llama"), tmp_path, method="rho-1+share=0.3")
    method = made.arm.method
    targets = method.make_targets(made.examples, made.context)
    reference = made.context.train([made.context.reference_target(one) for one in made.examples])
    trained = made.run.load(reference.adapter)
    excess = []
    for example, target in zip(made.examples, targets, strict=True):
        prompt, ids = made.run.chat.encode(made.context.plain_prompt(example)), target.token_ids.tolist()
        with torch.no_grad():
            rows = torch.log_softmax(trained(torch.tensor([prompt + ids])).logits[0].double(), -1)
        after = [float(rows[len(prompt) + i - 1, token]) for i, token in enumerate(ids)]
        excess.append([a - b for a, b in zip(after, made.logp(prompt, ids), strict=True)])
    flat = sorted((x for own in excess for x in own), reverse=True)
    bar = flat[round(0.3 * len(flat)) - 1]
    for target, own in zip(targets, excess, strict=True):
        assert target.columns["excess_loss"].tolist() == pytest.approx(own, abs=2e-4)
        for x, learned in zip(own, target.columns["learned"].tolist(), strict=True):
            if abs(x - bar) > 5e-4:
                assert learned == (x > bar)
    assert sum(one.columns["learned"].sum() for one in targets) == round(0.3 * len(flat))


def test_replay_adds_its_share_of_a_file(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text("\n".join(f'{{"prompt": "P{i}", "target": "T{i}"}}' for i in range(9)))
    method = make("replay", file=str(file), share=0.5)
    targets = method.make_targets(made.examples, made.context)
    assert [one.reason for one in targets] == ["gold"] * 4 + ["replay"] * 4
    for one in targets[4:]:
        assert one.prompt is not None
        assert one.prompt[0].content.replace("P", "T") == one.text
    assert len({one.text for one in targets[4:]}) == 4
    assert make("replay").lacking(RunFacts("hf", "auto", True, True, ())).startswith("needs data to replay")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"id": "a"}', "'target' must be a text"),
        ('{"target": "a"}', "one of 'id', 'prompt' and 'messages' is needed"),
        ('{"id": 3, "target": "a"}', "must be texts"),
        ('{"messages": [], "target": "a"}', "'messages' must be a list"),
        ('{"messages": [{"role": "bot", "content": ""}], "target": "a"}', "'messages' must be a list"),
        ('{"id": "a", "target": "a", "weights": [-1]}', "'weights' must be a list of finite numbers"),
        ('{"id": "a", "target": "a", "weights": 1}', "'weights' must be a list"),
        ('{"id": "a", "target": "a", "spans": [[0, 2, 1]]}', "0 <= start < end <= 1"),
        ('{"id": "a", "target": "a", "spans": [[0, 1, 1]], "weights": [1]}', "cannot both be given"),
        ('{"id": "a", "target": "a", "token_ids": [1.5]}', "'token_ids' must be"),
        ('{"id": "a", "target": "a"}', "'a' is no example that this run trains on; give the row a prompt"),
        ('{"id": "mini_gsm/train/0", "target": "a", "weights": [1, 1, 1, 1, 1, 1]}', "has 6 weights for"),
        ('{"id": "mini_gsm/train/0", "target": "a", "token_ids": [40, 41]}', "token_ids do not decode"),
        ("", "holds no target"),
    ],
)
def test_a_bad_row_of_targets_is_named(made: Made, tmp_path: Path, row: str, told: str) -> None:
    file = tmp_path / "targets.jsonl"
    file.write_text(row)
    with pytest.raises(DasdError, match=r"targets\.jsonl") as error:
        make("external", file=str(file)).make_targets(made.examples, made.context)
    assert told in str(error.value)


def test_spans_weigh_the_tokens_they_touch(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "targets.jsonl"
    text = "One two three."
    file.write_text(f'{{"prompt": "A question of its own", "target": "{text}", "spans": [[4, 7, 0], [8, 9, 2.5]]}}')
    (target,) = make("external", file=str(file)).make_targets(made.examples, made.context)
    assert target.prompt == (Message("user", "A question of its own"),)
    ids, wanted, at = target.token_ids[:-1].tolist(), [], 0
    for index in range(len(ids)):
        end = len(made.run.tokenizer.decode(ids[: index + 1]))
        touched = set(range(at, end))
        wanted.append(2.5 if touched & {8} else 0.0 if touched & {4, 5, 6} else 1.0)
        at = end
    assert target.columns["weight"].tolist() == [*wanted, 1.0]
