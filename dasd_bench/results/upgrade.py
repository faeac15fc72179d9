"""Earlier versions of ``results.json`` as the current one: each function takes the raw object up by one version."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

Raw = dict[str, Any]


def upgraded(raw: Raw) -> Raw:
    """``raw``, of version 1 or 2, as version 2; what is damaged is left for the decoder to name."""
    return _from_version_1(raw) if raw.get("schema_version") == 1 else raw


GATE_NOTES = (
    ("ungated_acceptance", "ungated_right", "ungated", "share", "ungated rewrites that are correct"),
    ("gate_broke", "gate_broke", "gate broke", "sum", "answers that only the gate made wrong"),
    ("gate_mended", "gate_mended", "gate fixed", "sum", "answers that only the gate made right"),
    ("gated_replaced_share", "gated_replaced", "in gated", "share", "tokens of the gated answers taken from the base"),
)
"""Fields of version 1 that were DASD's alone: field, then name, title, how and help of the note that it is now."""


def _from_version_1(raw: Raw) -> Raw:
    """Version 2 has ``notes`` in target statistics and ``remark`` in arms; ``rule`` of arms is gone."""
    return {**_changed(raw, "arms", _arm), "schema_version": 2}


def _changed(holder: Raw, name: str, change: Callable[[Raw], Raw]) -> Raw:
    """``holder`` with the object, or every object of the list, called ``name`` changed."""
    value = holder.get(name)
    if isinstance(value, dict):
        return {**holder, name: change(value)}
    if isinstance(value, list):
        return {**holder, name: [change(one) if isinstance(one, dict) else one for one in value]}
    return holder


def _arm(arm: Raw) -> Raw:
    return {**_changed(arm, "seeds", lambda one: _changed(one, "target_stats", _target_stats)), "remark": _remark(arm)}


def _target_stats(stats: Raw) -> Raw:
    notes = [
        {
            "name": name,
            "title": title,
            "how": how,
            "value": stats[field],
            "n": stats.get("n", 0),
            "help": words,
            "against": "tau" if name == "gated_replaced" else "",
            "shown": name != "ungated_right",
        }
        for field, name, title, how, words in GATE_NOTES
        if stats.get(field) is not None
    ]
    return {**_changed(stats, "classes", _classes), "base_share": stats.get("replaced_share"), "notes": notes}


def _classes(classes: Raw) -> Raw:
    return {
        name: {**one, "proposed": one.get("gated", 0)} if isinstance(one, dict) else one
        for name, one in classes.items()
    }


def _remark(arm: Raw) -> str:
    """What the tables of version 1 said of a gate that replaced under 1 % of the tokens, where there was a gate."""
    options = arm.get("options")
    if isinstance(options, dict) and options.get("rule") == "confidence-gate" and _number(options.get("tau")) > 1:
        return ""
    shares = []
    seeds = arm.get("seeds")
    for one in seeds if isinstance(seeds, list) else []:
        stats = one.get("target_stats") if isinstance(one, dict) else None
        if isinstance(stats, dict):
            share = stats.get("gated_replaced_share")
            shares.append(_number(stats.get("replaced_share") if share is None else share, absent=1.0))
    if not shares or fmean(shares) >= 0.01:
        return ""
    return (
        f"the gate replaced only {100 * fmean(shares):.1f} % of the tokens of its answers, so this row is in effect "
        "self-distill; check its rule and tau"
    )


def _number(value: Any, absent: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) else absent
