"""Targets and weights from a file: anyone's published data as a row of the table.

``--targets FILE.jsonl`` is ``--method external+file=FILE.jsonl``; ``dasd-bench export RUN --to jsonl`` writes such
files. A row has ``target`` (text) and ``id`` (of a training example), ``prompt`` or ``messages``; optional are
``weights``, one per token, ``spans``, a list of [start, end, weight] over the target's characters (tokens outside all
spans have weight 1; of several spans the last one counts), and ``token_ids``, which must decode to the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dasd_bench.api import Example, Method, MethodContext, Origin, RunFacts, ScoredTarget, Target, option, target_rows


@dataclass(frozen=True)
class External(Method):
    """One target per row of the file, in its order; the weights are the file's."""

    name = "external"
    summary = "Targets and weights from a JSON-lines file."

    file: str = option("", help="The file; see docs/methods.md for its columns.")

    def files(self) -> Sequence[str]:
        return [self.file] if self.file else []

    def lacking(self, facts: RunFacts) -> str:
        return "" if self.file else "needs a file: --targets FILE.jsonl, or external+file=FILE.jsonl"

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        by_id = {example.id: example for example in examples}
        by_prompt = {example.prompt: example for example in examples}
        targets = []
        for row in target_rows(self.file):
            example = by_id.get(row.id.partition("#")[0]) or by_prompt.get(row.prompt)
            if example is None and row.messages is None:
                raise row.error(f"'{row.id}' is no example that this run trains on; give the row a prompt")
            own = example is None or (row.messages is not None and row.prompt != example.prompt)
            chosen, prompt = example or examples[0], row.messages if own else None
            target = context.text_target(
                chosen, row.target, Origin.GOLD, reason="external", accepted=True, prompt=prompt
            )
            if row.token_ids is not None:
                ids = np.array(row.token_ids, dtype=np.int32)
                origin = np.zeros(len(ids), dtype=np.uint8)
                exact = context.target(chosen, ids, origin, reason="external", accepted=True, prompt=prompt)
                if exact.text != row.target:
                    raise row.error("token_ids do not decode to the target with this model; leave them out")
                target = exact
            targets.append(replace(target, columns={"weight": row.weight_of(target, context)}))
        return targets

    def select(self, scored: ScoredTarget) -> np.ndarray:
        return scored.target.columns["weight"]
