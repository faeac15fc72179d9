"""The part of a text that answers: after the thoughts, before the end of the turn and the next question."""

from __future__ import annotations

import re
from collections.abc import Callable

_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|start_header_id|endoftext|end_of_text|end|user)\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]"
)
_OPEN_THOUGHT = re.compile(r"\s*(?:<think(?:ing)?>|<thought>|\[THINK\]|◁think▷)", re.IGNORECASE)
_THOUGHT_END = re.compile(
    r"</think(?:ing)?>|</thought>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>", re.IGNORECASE
)
_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?:#{1,6}[ \t]*|\*\*|\[)?(?:(?:next|new|another)[ \t]+)?"
    r"(?:question|problem|exercise|example|q|human|user|instruction)"
    r"(?:(?:[ \t]*\(?\d+\)?)?(?:\*\*|\])?[ \t]*:|[ \t]*\d+(?:\*\*|\])?(?:[ \t]*\n|\.[ \t]))",
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
