"""MATH as stock lm-eval's minerva_math has it (Hendrycks and others, arXiv 2103.03874; prompt of arXiv 2206.14858)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.minerva import MinervaTask

SUBJECTS = "algebra,counting_and_probability,geometry,intermediate_algebra,number_theory,prealgebra,precalculus"


class Math(MinervaTask):
    """All seven subjects, four fixed shots. Stock lm-eval has a task per subject, equal but for the rows."""

    name = "math"
    summary = "competition mathematics, all seven subjects, 4-shot, stock lm-eval's minerva_math"
    data = DataSource(
        "math", ("problem", "level", "type", "solution"), hub_path="EleutherAI/hendrycks_math", hub_name=SUBJECTS
    )
    stock = "minerva_math_algebra"
    comparable = True


class Math500(MinervaTask):
    """500 of MATH's test problems (Lightman and others, arXiv 2305.20050); train on ``math``."""

    name = "math500"
    summary = "500 problems of MATH's test set, 4-shot, stock lm-eval's minerva_math500"
    data = DataSource(
        "math500",
        ("problem", "solution", "answer", "subject", "level"),
        ("test",),
        hub_path="HuggingFaceH4/MATH-500",
    )
    stock = "minerva_math500"
    subject_column = "subject"
    comparable = True
