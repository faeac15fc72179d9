"""The flip test: what each disagreement of the two streams does to the answer.

The rewrite y is what the answer-aware stream writes by itself (greedy). At each of its tokens the base, given the
question and the same y_<t, would write b_t; where b_t is not y_t the streams disagree. The flip test forces b_t or the
candidate y_t behind y_<t, lets a stream go on greedily and ungated, and grades both answers.

Which stream goes on is :attr:`ProbeSettings.continuation`:

- ``base`` (default): the plain base goes on after both tokens. It does not know the answer, so a difference between the
  two endings is what this one token did to the base's own answer; the answer-aware stream would mend a bad token later
  on, and hide that it was needed. This is the question that the premise asks: would the base have been right without
  the candidate?
- ``reference``: the answer-aware stream goes on. This asks what one refusal does to the target that is trained on if
  every later candidate is taken.

Forcing y_t and letting the base go on gives y up to the next disagreement, where the base writes its own token: that is
the ending of the *next* forced base token, and the rewrite itself after the last one. So n disagreements have n + 1
endings, not 2 n; and since each ending is shared by neighbours, corrections minus damages of an example whose
disagreements were all tested is (rewrite right) minus (base's own answer right): every change of the verdict is given
to one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dasd_bench.methods.context import GREEDY
from dasd_bench.resources.work import Work
from dasd_bench.run.method_context import EngineMethodContext, generate_tokens
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.sharded import pack, unpack
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.disagreements import ROWS, ProbeSettings, ProbeTarget, Rewrites, TwoContexts, Views
from dasd_bench.run.work import answers_work
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import Entry, Finished, Row, parse_ragged, ragged_bytes
from dasd_bench.types import Bytes, Ints

Prefix = tuple[int, ...]
WHOLE: Prefix = ()
"""Stands for the rewrite itself, where nothing is forced."""


@dataclass(frozen=True, slots=True)
class Flips:
    """The tested disagreements of one example, n of them in the order of their ``positions``.

    ``own_right`` and ``candidate_right`` uint8 [n]: whether the answer is right after the base's token and after the
    candidate; ``own_answers`` and ``candidate_answers`` are the final answers that were found. ``disagreements`` counts
    all of the example's; ``base_right`` and ``rewrite_right`` are the verdicts of the two streams' own answers.
    """

    example_id: str
    positions: Ints
    own_right: Bytes
    candidate_right: Bytes
    own_answers: list[str | None]
    candidate_answers: list[str | None]
    disagreements: int
    base_right: bool
    rewrite_right: bool


@dataclass(frozen=True, slots=True)
class Forks:
    """The disagreements of one rewrite: ``places`` int32 [n], and ``forced[k]``, the rewrite up to the k-th one with
    the base's token there. ``picked`` are the indices that are tested."""

    places: Ints
    forced: list[Prefix]
    picked: list[int]

    def after_candidate(self, index: int, continuation: str) -> Prefix:
        """The start of an answer that continues after the candidate: see the module's description."""
        last = index + 1 == len(self.forced)
        return WHOLE if last or continuation == "reference" else self.forced[index + 1]


def forks(text: ProbeTarget, view: Views, count: int, rng: np.random.Generator) -> Forks:
    """The disagreements of one rewrite; ``count`` of them are drawn (0: all)."""
    places = np.flatnonzero(view.own != text.token_ids).astype(np.int32)
    ids = text.token_ids.tolist()
    forced = [(*ids[:at], int(view.own[at])) for at in places.tolist()]
    drawn = list(range(len(places)))
    if 0 < count < len(places):
        drawn = sorted(rng.choice(len(places), size=count, replace=False).tolist())
    return Forks(places, forced, drawn)


@dataclass(eq=False)
class FlipTest(Stage[list[Flips]]):
    """The flip test of the disagreements that were drawn."""

    rewrites: Rewrites
    views: TwoContexts
    settings: ProbeSettings

    kind = "flips"
    version = 1
    name = "flip test"

    def parts(self) -> Sequence[object]:
        return self.views.key, asdict(self.settings), self.seed, self.context.spec.max_new_tokens

    def work(self) -> Work:
        return answers_work(self.rewrites.examples, each=self.settings.per_example or 32)

    def make(self, entry: Entry) -> Row:
        texts, views, how = self.rewrites.value, self.views.value, self.settings.continuation
        found: list[Forks] = []
        for text, view in zip(texts, views, strict=True):
            rng = np.random.default_rng(int(digest("forks", self.seed, text.example_id)[:15], 16))
            found.append(forks(text, view, self.settings.per_example, rng))
        wanted: dict[tuple[int, Prefix], None] = {}
        for number, one in enumerate(found):
            wanted[number, WHOLE] = None
            if how == "base" and one.forced:
                # Up to the first disagreement the base goes along: this ending is its own answer.
                wanted[number, one.forced[0]] = None
            for index in one.picked:
                wanted[number, one.forced[index]] = None
                wanted[number, one.after_candidate(index, how)] = None
        verdicts = self._verdicts(list(wanted))
        base = [verdicts[n, f.forced[0] if f.forced and how == "base" else WHOLE][0] for n, f in enumerate(found)]
        if how == "reference":
            base = self._own_answers()
        results = []
        for number, (text, one) in enumerate(zip(texts, found, strict=True)):
            own = [verdicts[number, one.forced[index]] for index in one.picked]
            after = [verdicts[number, one.after_candidate(index, how)] for index in one.picked]
            results.append(
                Flips(
                    example_id=text.example_id,
                    positions=one.places[one.picked],
                    own_right=np.array([right for right, _ in own], dtype=np.uint8),
                    candidate_right=np.array([right for right, _ in after], dtype=np.uint8),
                    own_answers=[answer for _, answer in own],
                    candidate_answers=[answer for _, answer in after],
                    disagreements=len(one.places),
                    base_right=base[number],
                    rewrite_right=verdicts[number, WHOLE][0],
                )
            )
        entry.put(ROWS, ragged_bytes(*pack(results)))
        return {"examples": len(results), "endings": len(wanted)}

    def read(self, entry: Finished) -> list[Flips]:
        return unpack(Flips, *parse_ragged(entry.read(ROWS), entry.path / ROWS))

    def _verdicts(self, wanted: Sequence[tuple[int, Prefix]]) -> dict[tuple[int, Prefix], tuple[bool, str | None]]:
        """Whether the answer that each beginning leads to is right, and the final answer found in it."""
        context, texts = self.context, self.rewrites.value
        own, prompts = self._method_context(), Prompts(context)
        by_id = {example.id: example for example in self.rewrites.examples}
        examples = [by_id[text.example_id] for text in texts]
        aware = self.settings.continuation == "reference"
        encoded: dict[int, list[int]] = {}
        asked, places = [], []
        answers: list[list[int]] = []
        for number, prefix in wanted:
            if number not in encoded:
                chat = (
                    prompts.rewrite(examples[number], self.settings.prompt) if aware else examples[number].plain_chat()
                )
                encoded[number] = prompts.encode(chat)
            answers.append(list(prefix) or texts[number].token_ids.tolist())
            budget = own.new_tokens(examples[number]) - len(prefix)
            if prefix and budget > 0 and prefix[-1] not in context.stop_ids:
                places.append(len(answers) - 1)
                asked.append(([*encoded[number], *prefix], budget))
        made = generate_tokens(
            context, [ids for ids, _ in asked], [budget for _, budget in asked], GREEDY, [0] * len(asked), "flip test"
        )
        for place, one in zip(places, made, strict=True):
            answers[place] += one.token_ids.tolist()
        written = [context.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]
        asked_of = [examples[number] for number, _ in wanted]
        # Many beginnings lead to the same answer, and a program takes long to run.
        distinct = dict.fromkeys(zip([e.id for e in asked_of], written, strict=True))
        graded = own.grade_all([by_id[name] for name, _ in distinct], [text for _, text in distinct])
        verdict = dict(zip(distinct, graded, strict=True))
        found = [verdict[example.id, text] for example, text in zip(asked_of, written, strict=True)]
        return {key: (one.correct, one.extracted) for key, one in zip(wanted, found, strict=True)}

    def _own_answers(self) -> list[bool]:
        """Whether the base's own greedy answers are right."""
        own = self._method_context()
        by_id = {example.id: example for example in self.rewrites.examples}
        examples = [by_id[text.example_id] for text in self.rewrites.value]
        made = own.generate(
            [own.plain_prompt(example) for example in examples],
            max_new_tokens=[own.new_tokens(example) for example in examples],
            label="own answer",
        )
        return [one.correct for one in own.grade_all(examples, [answer.text for answer in made])]

    def _method_context(self) -> EngineMethodContext:
        return EngineMethodContext(self.context, self.rewrites.asking, int(self.seed or 0), self.rewrites.examples)
