"""Short mathematics problems with boxed answers, made for this project: needs no data and no network."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import MathTask


class MiniMath(MathTask):
    """Arithmetic, equations, divisibility, shapes, counting, fractions; MATH's columns."""

    name = "mini_math"
    version = 2
    summary = "480 short problems from five subjects and three levels, built in; MATH's columns"
    data = DataSource("mini_math", ("problem", "level", "type", "solution"))
    yaml = "mini_math.yaml"
    max_new_tokens = 160
    train_new_tokens = 128
