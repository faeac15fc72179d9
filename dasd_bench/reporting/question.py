"""Where the question of a few-shot prompt begins, so that a reader need not page through the shots."""

from __future__ import annotations

USER_TURNS = (
    "<|im_start|>user",
    "<|start_header_id|>user<|end_header_id|>",
    "<start_of_turn>user",
    "<|user|>",
    "[INST]",
    "<\uff5cUser\uff5c>",
)
"""How chat templates open a user's turn."""

LONG_PROMPT = 1_500
"""Characters of a prompt that is shown whole, shots and all."""


def question_start(prompt: str) -> int:
    """Where the question of a few-shot prompt begins: the last user turn, or the last paragraphs of a plain prompt.

    0 for a prompt of at most :data:`LONG_PROMPT` characters. A question is never cut: a plain prompt gives whole
    paragraphs, at least one and as many as fit.
    """
    if len(prompt) <= LONG_PROMPT:
        return 0
    turn = max(prompt.rfind(mark) for mark in USER_TURNS)
    if turn > 0:
        return turn
    start = prompt.rstrip().rfind("\n\n")
    while start > 0 and len(prompt) - (before := prompt.rfind("\n\n", 0, start)) <= LONG_PROMPT and before >= 0:
        start = before
    return start + 2 if start > 0 else 0
