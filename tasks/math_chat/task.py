"""MATH as one asks a chat model; an own form, beside the stock one."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import MathTask

SUBJECTS = "algebra,counting_and_probability,geometry,intermediate_algebra,number_theory,prealgebra,precalculus"


class MathChat(MathTask):
    r"""Zero-shot, the answer in ``\boxed{}``. Stock's budget of 256 tokens cuts off most of a chat model's answers."""

    name = "math_chat"
    version = 2
    summary = "competition mathematics, 0-shot, boxed answer, for chat models; not comparable with lm-eval's"
    data = DataSource(
        "math", ("problem", "level", "type", "solution"), hub_path="EleutherAI/hendrycks_math", hub_name=SUBJECTS
    )
    yaml = "math_chat.yaml"
    max_new_tokens = 1024
    train_new_tokens = 384
