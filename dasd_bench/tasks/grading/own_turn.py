"""The part of a text that answers: after the thoughts, before the end of the turn and the next question."""

from __future__ import annotations

import re
from collections.abc import Callable

_TURN_END = re.compile(r"<\|(?:im_end|eot_id|endoftext|end)\|>|</s>|<end_of_turn>")
_OPEN_THOUGHT = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#{1,6}[ \t]*|\*\*|\[)?(?:question|problem|exercise|q|human|user|instruction)(?:[ \t]*\d+)?"
    r"(?:\*\*|\])?[ \t]*:",
    re.IGNORECASE,
)


def own_turn(text: str, answers: Callable[[str], bool]) -> str:
    """The text without thoughts, what follows the end of its turn, and questions that the model asks itself once
    ``answers`` is true of what stands before them. Thoughts that do not end are no answer."""
    thoughts = list(_THOUGHT_END.finditer(text))
    if thoughts:
        text = text[thoughts[-1].end() :].strip() or text
    elif _OPEN_THOUGHT.match(text):
        return ""
    text = _TURN_END.split(text, maxsplit=1)[0].strip() or text
    following = _NEXT_QUESTION.search(text)
    if following is not None and answers(text[: following.start()]):
        return text[: following.start()]
    return text
