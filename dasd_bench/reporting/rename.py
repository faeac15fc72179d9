"""Display names: ``mini_gsm`` as ``GSM8K-mini`` in headings, row labels and captions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from dasd_bench.reporting.table import Note, Table

DISPLAY_NAMES = {
    "gsm8k": "GSM8K",
    "gsm8k_cot": "GSM8K (CoT)",
    "gsm8k_chat": "GSM8K (chat)",
    "math": "MATH",
    "math500": "MATH-500",
    "math_chat": "MATH (chat)",
    "svamp": "SVAMP",
    "arc_challenge": "ARC-C",
    "arc_challenge_chat": "ARC-C (chat)",
    "arc_easy": "ARC-E",
    "commonsense_qa": "CommonsenseQA",
    "mbpp": "MBPP",
    "mbpp_instruct": "MBPP",
    "mbpp_plus": "MBPP+",
    "humaneval": "HumanEval",
    "humaneval_instruct": "HumanEval",
    "humaneval_plus": "HumanEval+",
    "hellaswag": "HellaSwag",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "boolq": "BoolQ",
    "mmlu": "MMLU",
    "truthfulqa_mc1": "TruthfulQA",
    "ifeval": "IFEval",
    "mini_gsm": "mini-GSM",
    "mini_math": "mini-MATH",
    "mini_arc": "mini-ARC",
    "mini_mbpp": "mini-MBPP",
    "base": "Base",
    "sft": "SFT",
    "self-distill": "Self-distill",
    "dasd": "DASD",
    "low-ppl": "Low-PPL",
    "profit": "ProFit",
    "dft": "DFT",
    "idft": "IDFT",
}
"""Names in papers; a table whose names would meet (two variants of one task) keeps its own for those."""


def display_names(table: Table) -> dict[str, str]:
    """The display names of what the table holds, leaving out those that two of its columns or rows would share."""
    texts = [table.row_title, *(row.label for row in table.rows), *(column.key for column in table.columns)]
    words = {word for text in texts for word in re.findall(r"[\w-]+", text)}
    found = {name: shown for name, shown in DISPLAY_NAMES.items() if name in words}
    return {name: shown for name, shown in found.items() if list(found.values()).count(shown) == 1}


def renamed(table: Table, names: Mapping[str, str]) -> Table:
    """The table with every whole word of ``names`` replaced in labels and headings, captions, notes and warnings."""
    if not names:
        return table
    longest = sorted(names, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?<!lm-eval task )({'|'.join(map(re.escape, longest))})(?![\w-]|\.\w)")

    def new(text: str) -> str:
        return pattern.sub(lambda match: names[match.group()], text)

    return replace(
        table,
        title=new(table.title),
        columns=[replace(column, title=new(column.title)) for column in table.columns],
        rows=[replace(row, label=new(row.label)) for row in table.rows],
        caption=[new(text) for text in table.caption],
        notes=[Note(new(note.text), note.block) for note in table.notes],
        warnings=[new(text) for text in table.warnings],
    )
