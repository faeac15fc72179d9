"""What the model is asked, as chats and as token ids: the same for targets, scores, training and chat evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.run.context import RunContext
from dasd_bench.tasks.base import Task
from dasd_bench.types import Example, Message, Target

GUIDE = (
    "{prompt}\n\nA reference answer is given below.\n\n{reference}\n\n"
    "Use the reference as a guide and write your own full answer to the question."
)
"""The one-turn rewrite prompt (``prompt=guide``): SDFT's idea in this project's words."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one run's examples."""

    run: RunContext
    teacher: bool = False
    """Whether chats are put as the teacher sees them."""

    def task(self, example: Example) -> Task:
        """The example's task."""
        return self.run.registry.task(example.task).item

    def rewrite(self, example: Example, style: str) -> list[Message]:
        """The answer-aware chat; see :meth:`dasd_bench.methods.context.MethodContext.rewrite_prompt`."""
        if style == "guide":
            asked = GUIDE.format(prompt=example.prompt, reference=example.reference)
            return [*example.plain_chat()[:-1], Message("user", asked)]
        return [
            *example.plain_chat(),
            Message("assistant", example.reference),
            Message("user", self.task(example).rewrite_instruction),
        ]

    def encode(self, chat: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the answer begins.

        A last turn of the assistant is left open, to be continued. No turn at all is what the tokenizer begins every
        text with: its beginning-of-sequence token, or nothing.
        """
        template = self.run.teacher_chat if self.teacher else self.run.chat
        if not chat:
            return [int(self.run.tokenizer.bos_token_id)] if template.adds_bos else []
        if chat[-1].role == "assistant":
            return template.encode_text(template.render(chat, add_generation_prompt=False, continue_final=True))
        return template.encode(chat)

    def ids(self, example: Example) -> list[int]:
        """Token ids of the plain prompt."""
        return self.encode(example.plain_chat())

    def target_ids(self, target: Target, example: Example) -> list[int]:
        """Token ids of the prompt that a target answers: its own, else its example's."""
        return self.ids(example) if target.prompt is None else self.encode(target.prompt)

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of a whole answer, end-of-turn token included."""
        return [*self.run.encode_reply(text), self.run.chat.end_token_id]

    def reference_ids(self, example: Example) -> list[int]:
        """Token ids of the gold answer, end-of-turn token included."""
        return self.answer_ids(example.reference)
