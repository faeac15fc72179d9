"""The border between this package and plugin code: what plugins raise, print, change or return."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.engine.errors import EngineError
from dasd_bench.errors import PluginError, UsageError
from dasd_bench.methods import plugin_calls
from dasd_bench.methods.base import Method, build_method
from dasd_bench.methods.context import Choice, DualStep, LiveTokens, Rule
from dasd_bench.registry import discover
from dasd_bench.results.directory import LONGEST_FOLDER, folder_name
from dasd_bench.results.schema import RunResults
from dasd_bench.types import Example, Message, Origin, ScoredTarget, Target, TokenScores
from tests.run.helpers import command, run_args
from tests.training.helpers import live_tokens

EXAMPLE = Example("t/train/0", "t", "q", "r", extra={"choices": ["a"]})
HERE = Path(__file__)


def target(**changed: Any) -> Target:
    ids = np.array([5, 6, 7], dtype=np.int32)
    made = Target("t/train/0", ids, np.zeros(3, dtype=np.uint8), np.zeros(3, dtype=np.uint8), "text", True, "gold")
    return dataclasses.replace(made, **changed)


def scored() -> ScoredTarget:
    floats = np.full(3, -1.0, dtype=np.float32)
    return ScoredTarget(EXAMPLE, target(), TokenScores(floats, floats, floats, np.zeros(3, dtype=np.int32)))


@dataclasses.dataclass(frozen=True)
class Doing(Method):
    """Every function does what it is told."""

    name = "doing"
    summary = "Does what the test says."
    run: Any = None

    def make_targets(self, examples: Any, context: Any) -> Any:
        return self.run(examples)

    def select(self, scored: Any) -> Any:
        return self.run(scored)

    def keeps(self, target: Any) -> Any:
        return self.run(target)

    def online_weights(self, live: Any) -> Any:
        return self.run(live)

    def teacher_prompts(self, examples: Any, lab: Any) -> Any:
        return self.run(examples)

    def stochastic(self) -> Any:
        return self.run(None)


def leave(code: object) -> None:
    raise SystemExit(code)


def fail(error: BaseException) -> Callable[[Any], Any]:
    def raised(_: Any) -> None:
        raise error

    return raised


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no luck."), "raised ValueError: no luck."),
        (SystemExit(0), r"called sys.exit\(0\)"),
        (KeyboardInterrupt(), "raised KeyboardInterrupt"),
        (GeneratorExit(), "raised GeneratorExit"),
        (StopIteration(), "raised StopIteration"),
        (RecursionError(), "raised RecursionError"),
        (MemoryError(), "raised MemoryError"),
        (OSError(28, "No space"), r"raised OSError: \[Errno 28\] No space"),
        (MuteError(), "raised MuteError"),
        (BaseExceptionGroup("several", [KeyboardInterrupt()]), "raised BaseExceptionGroup"),
    ],
)
def test_whatever_a_plugin_raises_is_one_error_with_file_and_line(error: BaseException, told: str) -> None:
    method = Doing(fail(error))
    for function in (
        lambda: plugin_calls.targets(method, [EXAMPLE], None, 100),  # type: ignore[arg-type]
        lambda: plugin_calls.weights(method, scored()),
        lambda: plugin_calls.keeps(method, target()),
        lambda: plugin_calls.draws(method),
        lambda: plugin_calls.teacher_prompts(method, [EXAMPLE], None),  # type: ignore[arg-type]
        lambda: plugin_calls.online_rule(method)(live()),
    ):
        with pytest.raises(PluginError, match=rf"{HERE.name}:\d+: \w+\(\) {told}"):
            function()


def live(n: int = 3) -> LiveTokens:
    return live_tokens(torch.full((n,), -1.0), progress=0.5)


@pytest.mark.parametrize("kind", [UsageError, EngineError])
def test_the_errors_of_the_package_and_its_engine_pass(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="as it is"):
        plugin_calls.weights(Doing(fail(kind("as it is"))), scored())


CHAT = [Message("user", "q")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "must return a list of 2, one per example, not None"),
        ([[CHAT]], "must return a list of 2, one per example, not one of 1"),
        ([[CHAT], CHAT], "must give a list of chats, each a list of Message, for example 't/train/1'"),
        ([[CHAT], "q"], "must give a list of chats, each a list of Message, for example 't/train/1'"),
        ([[[]], [CHAT]], "must give a list of chats, each a list of Message, for example 't/train/0'"),
        ([[CHAT], [CHAT, CHAT]], "gave 2 chats for example 't/train/1' and 1 for 't/train/0'"),
        ([[CHAT], []], "gave 0 chats for example 't/train/1' and 1 for 't/train/0'"),
    ],
)
def test_teacher_prompts_are_as_many_chats_for_every_example(given: Any, told: str) -> None:
    two = [EXAMPLE, dataclasses.replace(EXAMPLE, id="t/train/1")]
    with pytest.raises(PluginError, match=f"teacher_prompts.. of method 'doing' {told}"):
        plugin_calls.teacher_prompts(Doing(lambda _: given), two, None)  # type: ignore[arg-type]
    good = ((CHAT, tuple(CHAT)), [CHAT, CHAT])
    assert plugin_calls.teacher_prompts(Doing(lambda _: good), two, None) == [[CHAT, CHAT]] * 2  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("then", [lambda: None, lambda: fail(ValueError())(None), lambda: leave(0)])
def test_a_person_s_interrupt_is_an_interrupt_whatever_the_plugin_makes_of_it(
    number: signal.Signals, then: Callable[[], Any]
) -> None:
    def swallow(_: Any) -> Any:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            return then()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            plugin_calls.weights(Doing(swallow), scored())
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)


def test_prints_go_to_standard_error_and_the_working_folder_is_put_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def noisy(item: ScoredTarget) -> np.ndarray:
        print("from the plugin")  # noqa: T201
        os.chdir(tmp_path)
        return np.ones(3, dtype=np.float32)

    before = Path.cwd()
    plugin_calls.weights(Doing(noisy), scored())
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "from the plugin\n")
    assert Path.cwd() == before


def test_nothing_a_plugin_writes_to_reaches_anyone_else() -> None:
    item = scored()

    def write(change: Callable[[ScoredTarget], Any]) -> Callable[[ScoredTarget], np.ndarray]:
        def select(given: ScoredTarget) -> np.ndarray:
            change(given)
            return np.ones(3, dtype=np.float32)

        return select

    def sort_ids(given: ScoredTarget) -> None:
        given.target.token_ids[:] = 0

    def force(given: ScoredTarget) -> None:
        given.scores.logp.flags.writeable = True
        given.scores.logp[:] = 0

    with pytest.raises(PluginError, match="read-only"):
        plugin_calls.weights(Doing(write(sort_ids)), item)
    plugin_calls.weights(Doing(write(force)), item)
    plugin_calls.weights(Doing(write(lambda given: given.example.extra.clear())), item)
    plugin_calls.weights(Doing(write(lambda given: given.target.notes.update(x=1.0))), item)
    assert item.target.token_ids.tolist() == [5, 6, 7]
    assert item.scores.logp.tolist() == [-1.0, -1.0, -1.0]
    assert (item.example.extra, item.target.notes) == ({"choices": ["a"]}, {})
    examples = [EXAMPLE]

    def empty(given: list[Example]) -> list[Target]:
        given[0].extra.clear()
        given.clear()
        return [target()]

    plugin_calls.targets(Doing(empty), examples, None, 100)  # type: ignore[arg-type]
    assert examples == [EXAMPLE]
    tokens = live()
    plugin_calls.online_rule(Doing(lambda given: given.static.zero_() + given.logp.zero_()))(tokens)
    assert (tokens.static.tolist(), tokens.logp.tolist()) == ([1.0] * 3, [-1.0] * 3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "must return a list of Target, not None"),
        (iter([target()]), "must return a list of Target, not a list_iterator"),
        ((t for t in [target()]), "must return a list of Target, not a generator"),
        ({"t/train/0": target()}, "not a dict"),
        ([None], "one item is None"),
        (["text"], "one item is a str"),
        ([target(example_id="x")], "'x', which is not the id of an example"),
        ([target(prompt=())], "prompt must be None or a tuple of Message, at least one"),
        ([target(prompt="a question")], "prompt must be None or a tuple of Message"),
        ([target(prompt=("a question",))], "prompt must be None or a tuple of Message"),
        ([target(columns={"x": np.zeros(2)})], "column 'x' must return one number per token"),
        ([target(columns=[1])], "columns is a list"),
        ([target(token_ids=[5, 6, 7])], "token_ids must be an array of integers [T], not a list"),
        ([target(token_ids=np.array([5.0, 6.0, 7.0]))], "not an array of float64 with shape (3,)"),
        ([target(token_ids=np.array([[5, 6, 7]]))], "with shape (1, 3)"),
        ([target(token_ids=np.array([5, 6, 100]))], "token_ids contains a value outside 0 to 99"),
        ([target(token_ids=np.array([-1, 6, 7]))], "outside 0 to 99"),
        ([target(token_ids=np.zeros(0, dtype=np.int32))], "token_ids is empty"),
        ([target(origin=np.zeros(2, dtype=np.uint8))], "origin has 2 items for 3 tokens"),
        ([target(origin=np.array([0, 1, 9]))], "origin contains a value outside 0 to 2"),
        ([target(marks=np.zeros(3))], "marks must be an array of integers"),
        ([target(proposals=np.zeros(4, dtype=np.int32))], "proposals has 4 items"),
        ([target(text=None)], "text is None"),
        ([target(accepted=np.array([True, False]))], "accepted is an array of bool"),
        ([target(notes={"a": float("nan")})], "note 'a' is not a finite number"),
        ([target(notes=[1])], "notes is a list"),
    ],
)
def test_wrong_targets_are_named(given: Any, told: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugin_calls.targets(Doing(lambda _: given), [EXAMPLE], None, 100)  # type: ignore[arg-type]
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{HERE}: make_targets() of method 'doing'")


def test_right_targets_pass_with_their_types_settled() -> None:
    wide = target(token_ids=np.array([5, 6, 99], dtype=np.int64), notes={"n": 1, "b": True}, accepted=np.bool_(True))
    (made,) = plugin_calls.targets(Doing(lambda _: (wide,)), [EXAMPLE], None, 100)  # type: ignore[arg-type]
    assert (made.token_ids.dtype, made.token_ids.tolist()) == (np.int32, [5, 6, 99])
    assert (made.notes, made.accepted) == ({"n": 1.0, "b": 1.0}, True)
    assert type(made.accepted) is bool


WRONG_WEIGHTS = [
    (None, "not None"),
    ([1.0, 1.0, 1.0], "not a list"),
    (1.0, "not a float"),
    ((w for w in [1.0]), "not a generator"),
    (torch.ones(3), "not a Tensor"),
    (np.ones(2), "shape (2,)"),
    (np.ones((3, 1)), "shape (3, 1)"),
    (np.ones(3, dtype=complex), "an array of complex128"),
    (np.array(["1", "1", "1"]), "an array of <U1"),
    (np.array([1.0, None, 1.0], dtype=object), "an array of object"),
    (np.array([1.0, np.nan, 1.0]), "finite weights"),
    (np.array([1.0, np.inf, 1.0]), "finite weights"),
    (np.array([1.0, 1e300, 1.0]), "finite weights"),
    (np.array([1.0, -0.1, 1.0]), "of at least 0; the minimum is -0.1"),
]


@pytest.mark.parametrize(("given", "told"), WRONG_WEIGHTS)
def test_wrong_weights_are_named(given: Any, told: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugin_calls.weights(Doing(lambda _: given), scored())
    assert told in str(caught.value)
    assert "(example t/train/0)" in str(caught.value)


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?"]))
def test_right_weights_pass_in_any_real_type(values: list[float], dtype: str) -> None:
    given_weights = (np.array(values) % 200).astype(dtype)
    made = plugin_calls.weights(Doing(lambda _: given_weights), scored())
    assert made.dtype == np.float32
    assert made.tolist() == given_weights.astype(np.float32).tolist()


@pytest.mark.parametrize("given", [None, np.ones(3), np.ones(2, dtype=bool), [True] * 3])
def test_wrong_keeps_are_named(given: Any) -> None:
    with pytest.raises(PluginError, match=r"keeps\(\) of method 'doing' must return one bool per token"):
        plugin_calls.keeps(Doing(lambda _: given), target())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "not None"),
        (np.ones(3), "not an array of float64"),
        (torch.ones(2), "one of torch.float32 with shape (2,)"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
        (torch.tensor([1.0, float("nan"), 1.0]), "negative or not finite"),
        (torch.tensor([1.0, -1.0, 1.0]), "negative or not finite"),
    ],
)
def test_wrong_online_weights_are_named(given: Any, told: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugin_calls.online_rule(Doing(lambda _: given))(live())
    assert told in str(caught.value)


@pytest.mark.parametrize("given", [None, 1, "yes"])
def test_stochastic_gives_a_truth_value(given: Any) -> None:
    with pytest.raises(PluginError, match="must return True or False"):
        plugin_calls.draws(Doing(lambda _: given))


@dataclasses.dataclass(frozen=True)
class Told(Rule):
    run: Any = None

    def __call__(self, step: DualStep) -> Choice:
        made: Choice = self.run(step)
        return made


def step() -> DualStep:
    with torch.inference_mode():
        logp = torch.log_softmax(torch.randn(2, 9), -1)
        token = logp.argmax(-1)
        return DualStep(logp, logp.clone(), token, token.clone(), *(torch.zeros(2),) * 2, token < 0)


ORIGIN = torch.full((2,), int(Origin.BASE), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (lambda s: None, "must return a Choice, not None"),
        (lambda s: s.base_token, "must return a Choice, not a Tensor"),
        (lambda s: Choice([1, 2], ORIGIN), "Choice.token must be a tensor of integers, not a list"),
        (lambda s: Choice(s.base_token[:1], ORIGIN), r"Choice.token must be integers with shape \(2,\)"),
        (lambda s: Choice(s.base_token.float(), ORIGIN), "not torch.float32"),
        (lambda s: Choice(s.base_token * 0 + 9, ORIGIN), "outside 0 to 8"),
        (lambda s: Choice(s.base_token * 0 - 1, ORIGIN), "outside 0 to 8"),
        (lambda s: Choice(s.base_token, ORIGIN * 0), "neither Origin.CANDIDATE nor Origin.BASE"),
        (lambda s: Choice(s.base_token, None), "Choice.origin must be a tensor of integers, not None"),
        (lambda s: s.base_logp.zero_(), "raised RuntimeError: Inplace update to inference tensor"),
        (lambda s: s.base_token.add_(1), "raised RuntimeError: Inplace update to inference tensor"),
        (lambda s: leave(0), r"called sys.exit\(0\)"),
    ],
)
def test_a_rule_is_held_to_its_contract(run: Any, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        plugin_calls.step_rule(Told(run))(step())


def test_a_right_rule_passes() -> None:
    choice = plugin_calls.step_rule(Told(lambda s: Choice(s.base_token, ORIGIN)))(step())
    assert choice.origin.tolist() == [2, 2]


METHOD = """
import sys
from dataclasses import dataclass
from dasd_bench.api import Method, option

@dataclass(frozen=True)
class M(Method):
    name = "{name}"
    summary = "A method."
    {body}
"""

BODIES = {
    "exits": "def make_targets(self, examples, context): sys.exit(0)",
    "raises": "def make_targets(self, examples, context): raise ValueError('no luck')",
    "interrupts": "def make_targets(self, examples, context): raise KeyboardInterrupt",
    "writes": "def select(self, scored): scored.target.token_ids[:] = 1; return super().select(scored)",
    "nothing": "def select(self, scored): pass",
    "yields": "def make_targets(self, examples, context): yield context.reference_target(examples[0])",
    "unsure": "def stochastic(self): raise RuntimeError('hm')\n"
    "    def make_targets(self, examples, context): return super().make_targets(examples, context)",
    "keepless": "def keeps(self, target): return [True]",
    "prints": "def select(self, scored): print('noise'); return super().select(scored)",
    "live": "online = True\n    def online_weights(self, live): raise KeyError('x')",
}


def test_bad_plugins_fail_their_arms_and_the_others_go_on(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name, body in BODIES.items():
        (plugins / f"{name}.py").write_text(METHOD.format(name=name, body=body))
    for name in ("exit", "KeyboardInterrupt"):
        (plugins / f"load_{name}.py").write_text(f"raise {name if name != 'exit' else 'SystemExit(0)'}\n")
    few = ["--limit", "2", "--train-limit", "2", "--plugins", str(plugins), "--json"]
    methods = ",".join(["sft", *BODIES])
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *few, methods=methods))
    assert result.code == 3, result.err
    events = [json.loads(line) for line in result.out.splitlines()]  # prints of plugins would break this
    results = RunResults.load(tmp_path / "run")
    assert [arm.label for arm in results.arms] == ["sft", "prints"]
    warned = [event["text"] for event in events if event["event"] == "warning"]
    for name in set(BODIES) - {"prints"}:
        (told,) = [text for text in warned if text.startswith(f"Warning: {name} seed 0 failed: ")]
        assert f"{name}.py" in told, told
        assert "unexpected" not in told
    for name in ("exit", "KeyboardInterrupt"):
        assert any(f"load_{name}.py could not be loaded" in text and f"load_{name}.py:1: " in text for text in warned)
    assert "noise" in result.err


def test_options_that_do_not_go_together_are_a_usage_error(tmp_path: Path) -> None:
    body = """low: float = option(0.1, help="Low.", minimum=0)
    high: float = option(0.9, help="High.", maximum=1)
    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low must not exceed high.")
        if self.low == 0.5:
            sys.exit(0)"""
    (tmp_path / "m.py").write_text(METHOD.format(name="m", body=body))
    method = discover((tmp_path,)).method("m").item
    with pytest.raises(UsageError, match=r"^m: low must not exceed high\.$"):
        build_method(method, {"low": "0.95"})
    with pytest.raises(UsageError, match="out of range"):
        build_method(method, {"low": "-1"})
    with pytest.raises(PluginError, match=r"m.py:\d+: the options called sys.exit\(0\)"):
        build_method(method, {"low": 0.5})


@pytest.mark.parametrize(
    "label", ["sft", "dasd+rule=random-gate", "a+training.lora_targets=q_proj,v_proj", "dasd+tau=0.7"]
)
def test_plain_labels_are_their_own_folders(label: str) -> None:
    assert folder_name(label) == label


@given(st.text(min_size=1, max_size=400))
def test_every_label_is_one_safe_folder(label: str) -> None:
    name = folder_name(label)
    assert len(name.encode()) <= LONGEST_FOLDER
    assert Path(name).name == name
    assert not name.startswith(".")
    assert "/" not in name
    assert "\0" not in name
    assert folder_name(label + "/") != name


def test_a_label_with_a_path_in_it_stays_inside_the_run(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = 'sft+training.lora_targets="q_proj,v_proj/../../../../X"'
    inside = "sft+training.lora_targets=q_proj,v_proj-X"
    assert folder_name(label.replace('"', "")).startswith(inside)
    numbers = ("epochs=1.0", "batch_size=4", "lr=0.0002", "warmup=0.05", "weight_decay=0.0", "grad_clip=1.0")
    long = "sft+" + "+".join(f"training.{one}" for one in numbers)
    assert len(long) > LONGEST_FOLDER
    few = ["--limit", "2", "--train-limit", "2"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *few, methods=long))
    assert result.code == 0, result.err
    (arm,) = RunResults.load(tmp_path / "run").arms
    assert (arm.label, arm.folder) == (long, folder_name(long))
    assert [path.name for path in (tmp_path / "run" / "arms").iterdir()] == [arm.folder]
    assert command(capsys, "samples", str(tmp_path / "run")).code == 0


def test_output_of_a_plugin_that_replaces_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    def replace(_: Any) -> np.ndarray:
        sys.stdout = io.StringIO()
        return np.ones(3)

    before = sys.stdout
    plugin_calls.weights(Doing(replace), scored())
    assert sys.stdout is before
