"""The chat template of a model, made the same at training and at evaluation, and hashed.

What differs between templates is settled once here: the beginning-of-sequence token, the token that ends an
assistant turn, a system role that is refused or dropped, contents as lists of parts, a thinking mode (off unless asked
for), and dates (fixed). A template that cannot be trained on as it renders is refused when it is loaded
(``template_form``).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models.template_form import MARK, TemplateForm, answer_ids, find_form, has_two_bos
from dasd_bench.models.thinking import SWITCHES, THINK, THINK_END, THOUGHTS, answer_start, answer_text
from dasd_bench.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateMode = Literal["auto", "plain", "off"]

FIXED_DATE = datetime.datetime(2024, 7, 26)
"""The date every template is told. It is the one Llama 3.1's own template falls back to."""
_DATE_STRING = FIXED_DATE.strftime("%d %b %Y")
_CLOCK = re.compile(r"""\bstrftime_now\s*\(\s*(['"])(?P<format>[^'"]*)\1\s*\)""")


def _without_clock(template: str) -> str:
    """The template with every reading of the clock replaced by :data:`FIXED_DATE` in the format it asks for."""
    fixed = _CLOCK.sub(lambda call: repr(FIXED_DATE.strftime(call["format"])), template)
    if re.search(r"\bstrftime_now\s*\(", fixed):
        # A format that is computed: shadow the function, as transformers lets no function in from outside.
        return "{% macro strftime_now(format) %}" + _DATE_STRING + "{% endmacro %}" + fixed
    return fixed


class ChatTemplate:
    """Renders chats for one tokenizer.

    ``mode`` ``auto`` takes the model's own template and raises :class:`ModelError` where there is none; ``plain`` is
    ours for base models (a user turn ends in one newline, every other turn in a blank line); ``off`` is the bare text,
    an answer following its question after a space as in lm-eval's few-shot examples, and the next question after a
    blank line. The end token of ``plain`` and ``off`` is the end-of-sequence token.

    ``thinking`` ``on`` asks a template with a switch for it to let the model think before it answers; ``auto`` and
    ``off`` ask it not to. ``on`` and ``off`` raise :class:`ModelError` where there is no switch. ``writes_thoughts`` is
    True where the template knows think blocks: completions then count without them.

    ``end_token_id`` closes an assistant turn; ``form`` says how the template is asked; ``supports_system`` is False
    where a system message is folded into the first user turn; ``hash`` (64 hex digits) covers everything that decides
    the rendered tokens besides the vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mode: str = "auto", thinking: str = "auto") -> None:
        if mode not in ("auto", "plain", "off"):
            raise UsageError(f"Unknown chat template mode '{mode}'; use auto, plain or off.")
        self.tokenizer = tokenizer
        self.mode = mode
        self._template = _own_template(tokenizer) if mode == "auto" else ""
        switches = [switch for switch in SWITCHES if re.search(rf"\b{switch}\b", self._template)]
        if thinking != "auto" and not switches:
            raise ModelError(
                f"The chat template has no switch for thinking ({SWITCHES[0]}), so it cannot be {thinking}."
            )
        self.thinking = thinking == "on"
        self.has_switch = bool(switches)
        self.writes_thoughts = THINK_END in self._template
        self._arguments: dict[str, Any] = dict.fromkeys(switches, self.thinking)
        if "date_string" in self._template:
            self._arguments["date_string"] = _DATE_STRING
        self.adds_bos = _adds_bos(tokenizer)
        self.form = TemplateForm()
        self._thought = ""
        if mode == "auto":
            self.form, self.end_token_id = self._find_form()
        elif tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer has no end-of-sequence token to end an answer with; set its eos_token.")
        else:
            self.end_token_id = int(tokenizer.eos_token_id)
        self.supports_system = mode != "auto" or self._keeps_system()
        question = Message("user", MARK)
        self._opens = mode == "auto" and self.render([question]).rstrip().endswith(THINK)
        self._no_thought = self._before_answer([question]) if self.thinking else ""

    @property
    def hash(self) -> str:
        """SHA-256 of the template's text, mode, arguments and handling of the beginning-of-sequence token."""
        facts = {
            "mode": self.mode,
            "template": self._template,
            "arguments": sorted(self._arguments),
            "date": _DATE_STRING,
            "adds_bos": self.adds_bos,
            "bos": self.tokenizer.bos_token_id,
            "end": self.end_token_id,
            "supports_system": self.supports_system,
        }
        if self.form != TemplateForm():
            form = self.form
            facts["form"] = [sorted(form.part_roles), form.cut, form.lead, form.context]
        if self.thinking:
            facts["thinking"] = True
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, continue_final: bool = False
    ) -> str:
        """The chat as text. ``continue_final`` leaves the last turn open, for an answer whose beginning is given."""
        if not self.supports_system:
            messages = fold_system(messages)
        if self.mode != "auto":
            return self._render_plain(messages, add_generation_prompt, continue_final)
        return self._render_own(messages, add_generation_prompt and not continue_final, continue_final)

    def encode(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """The chat as token ids, with exactly one beginning-of-sequence token where the model wants one."""
        return self.encode_text(self.render(messages, add_generation_prompt))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a rendered chat. The template's own text holds its special tokens, so none is added but BOS.

        Raises :class:`ModelError` where the text begins with two of them.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.adds_bos and not text.lstrip().startswith(str(self.tokenizer.bos_token)):
            ids = [int(self.tokenizer.bos_token_id), *ids]
        if has_two_bos(self.tokenizer, ids):
            raise ModelError(
                f"The chat text begins with two '{self.tokenizer.bos_token}' tokens; remove the one that does not "
                "come from the chat template."
            )
        return ids

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of what an assistant says, without special tokens and without the end token.

        With thinking on, an answer that has no think block gets what the template writes in its place.
        """
        if self._no_thought and THINK_END not in text:
            text = self._no_thought + text
        return answer_ids(self.tokenizer, text, self.form)

    def answer_text(self, text: str) -> str:
        """A completion without its think block, as it is graded; see :func:`dasd_bench.models.thinking.answer_text`."""
        return answer_text(text, opened=self._opens) if self.writes_thoughts else text

    def answer_start(self, token_ids: Sequence[int]) -> int:
        """The index of a completion's first token behind its think block, its length where that is not closed."""
        return answer_start(self.tokenizer, token_ids, opened=self._opens) if self.writes_thoughts else 0

    def _find_form(self) -> tuple[TemplateForm, int]:
        for thought in THOUGHTS[:-1] if self.thinking else ():
            with contextlib.suppress(ModelError):
                return self._form_with(thought)
        return self._form_with(THOUGHTS[-1] if self.thinking else "")

    def _form_with(self, thought: str) -> tuple[TemplateForm, int]:
        self._thought = thought
        return find_form(self.tokenizer, self._apply, self.adds_bos, thought)

    def _before_answer(self, chat: Sequence[Message]) -> str:
        """What the template writes between the prompt and an answer that has no think block."""
        whole = self._apply([*chat, Message("assistant", f"A{MARK}")], False, self.form, {})
        prompt, before = self.render(chat), whole.partition(f"A{MARK}")[0]
        return before[len(prompt) :] if before.startswith(prompt) else ""

    def _render_own(self, messages: Sequence[Message], add_generation_prompt: bool, continue_final: bool) -> str:
        if add_generation_prompt and self.form.cut:
            answer = self._thought + MARK
            answered = [*messages, Message("assistant", answer)]
            text = self._apply(answered, False, self.form, {}).rpartition(answer)[0]
        else:
            text = self._apply(messages, add_generation_prompt, self.form, {"continue_final_message": continue_final})
        for message in messages:
            # The probes at loading cannot have every length and character.
            if message.role == "user" and message.content.strip() not in text:
                raise ModelError(
                    f"The model's chat template drops or changes the text of the question that begins "
                    f"'{message.content.strip()[:40]}'; use --chat-template plain, or correct the template."
                )
        return text

    def _apply(
        self, messages: Sequence[Message], add_generation_prompt: bool, form: TemplateForm, arguments: dict[str, Any]
    ) -> str:
        """The template's own rendering. Raises :class:`ModelError` for whatever the template raises."""
        chat = [
            {
                "role": message.role,
                "content": [{"type": "text", "text": message.content}]
                if message.role in form.part_roles
                else message.content,
            }
            for message in messages
        ]
        try:
            text: str = self.tokenizer.apply_chat_template(
                chat,
                tokenize=False,
                chat_template=self._template,
                add_generation_prompt=add_generation_prompt,
                **self._arguments,
                **arguments,
            )
        except Exception as error:  # a template is a program by the model's author and can raise anything
            roles = ", ".join(message.role for message in messages)
            reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise ModelError(f"The model's chat template rejects a chat with the turns {roles}: {reason}.") from error
        return text

    def _render_plain(self, messages: Sequence[Message], add_generation_prompt: bool, continue_final: bool) -> str:
        """Turns as bare text: what stands between a turn and the next depends on both roles."""
        ends = (
            {("user", "assistant"): "\n", ("user", ""): "\n"} if self.mode == "plain" else {("user", "assistant"): " "}
        )
        text = ""
        for message, following in zip(messages, [*messages[1:], None], strict=True):
            pair = (message.role, following.role if following is not None else "")
            end = ends.get(pair, "\n\n" if following is not None else "")
            if following is None and message.role == "assistant" and add_generation_prompt and not continue_final:
                end = "\n\n"
            text += message.content + end
        return text

    def _keeps_system(self) -> bool:
        """Whether the template takes a system message and shows it, and the question beside it."""
        chat = [Message("system", f"S{MARK}"), Message("user", f"Q{MARK}")]
        try:
            text = self._render_own(chat, True, False)
        except ModelError:
            return False
        return all(message.content in text for message in chat)


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """The chat with a leading system message put before the first user turn's text, after a blank line."""
    if not messages or messages[0].role != "system":
        return list(messages)
    system, rest = messages[0], list(messages[1:])
    if not rest or rest[0].role != "user":
        return [Message("user", system.content), *rest]
    return [Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:]]


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        name = getattr(tokenizer, "name_or_path", "") or "this model"
        raise ModelError(
            f"The tokenizer of '{name}' has no chat template, as is usual for base models: "
            "pass --chat-template plain, or use the instruct model."
        )
    return _without_clock(str(template))


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer, left to itself, begins a text with its beginning-of-sequence token."""
    ids = tokenizer("x")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
