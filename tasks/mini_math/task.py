"""Short mathematics problems with boxed answers, made for this project: needs no data and no network."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import MathTask
from dasd_bench.tasks.styles import STYLES, written
from dasd_bench.types import Example


class MiniMath(MathTask):
    """Arithmetic, equations, divisibility, shapes, counting, fractions; MATH's columns."""

    name = "mini_math"
    version = 2
    summary = "480 short problems from five subjects and three levels, built in; MATH's columns"
    data = DataSource("mini_math", ("problem", "level", "type", "solution"))
    yaml = "mini_math.yaml"
    max_new_tokens = 160
    train_new_tokens = 128
    reference_styles = tuple(STYLES)

    def restyle(self, example: Example, style: str) -> str:
        """The steps and the box behind ``=>``, written anew; a step that goes on from the one before is completed."""
        worked, _, box = example.reference.rpartition(" => ")
        return written(style, _completed(worked.split("; "), str(example.answer)), box, example.id)


def _completed(steps: list[str], answer: str) -> list[str]:
    """Steps that each say a whole equation: ``7*8=56; +3`` becomes ``7*8=56; 56+3=59``."""
    whole: list[str] = []
    for step in steps:
        whole.append((whole[-1].rpartition("=")[2] if step[0] in "+*/" else "") + step)
    if whole[-1].startswith("="):
        whole[-2:] = [whole[-2] + whole[-1]]
    elif "=" not in whole[-1] or whole[-1][0].isalpha():
        whole[-1] += f"={answer}"
    return whole
