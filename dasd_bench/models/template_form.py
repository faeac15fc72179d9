"""How a chat template wants to be asked, found out by rendering probes once when the template is loaded.

A template is a program by the model's author. What training relies on is tried: the texts of all turns are in the
rendering, there is one BOS, an answer is followed by one end token, and prompt + answer + end is the template's own
rendering of the whole chat. Where a template needs another way of asking, that way is the :class:`TemplateForm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dasd_bench.errors import ModelError
from dasd_bench.types import Message

MARK = "qzxjv"
"""A word that no template contains, to find where a turn's content went."""

# Long, of several lines and with characters that are escaped elsewhere: a template that cuts, escapes or changes the
# case of its input shows it. Templates may strip the ends.
_FILLER = " ".join(f"Item {number}: {number * 37}." for number in range(60))
QUESTION = f"{MARK} How much is <3> & '4'?\n\n  \"Two\" lines {{of}} text. {_FILLER} Q{MARK}"
SECOND_QUESTION = f"{MARK} And <5> & '6'?\n\n  \"Two\" more {{lines}}. R{MARK}"
ANSWER = f"{MARK} That is <7> & '8'.\n\n  \"Two\" lines {{of}} answer. {_FILLER} A{MARK}"
_SHORT_ANSWERS = ("So 12.", MARK, "42")

_EVERY_ROLE = frozenset({"system", "user", "assistant"})
_PART_ROLES: tuple[frozenset[str], ...] = (
    frozenset(),
    _EVERY_ROLE,
    frozenset({"system", "user"}),
    frozenset({"user"}),
    frozenset({"assistant"}),
)
_REMEDY = "use --chat-template plain, or correct the template"

Render = Callable[[Sequence[Message], bool, "TemplateForm", dict[str, Any]], str]
"""Messages, add_generation_prompt, form and further template arguments to text."""


@dataclass(frozen=True, slots=True)
class TemplateForm:
    """The way one template is asked.

    ``part_roles``: roles whose content is given as a list of parts (``[{"type": "text", "text": ...}]``). ``cut``: the
    prompt is the rendering of an answered chat up to the answer, because the template's generation prompt goes on
    differently (it opens a think block, or it writes none). ``lead``: white space that the template writes between
    prompt and answer and that is tokenised with the answer. ``context``: text that an answer is tokenised behind, for
    tokenizers that put a space before the first word of a text.
    """

    part_roles: frozenset[str] = frozenset()
    cut: bool = False
    lead: str = ""
    context: str = ""


def find_form(tokenizer: Any, render: Render, adds_bos: bool, thought: str = "") -> tuple[TemplateForm, int]:
    """The form of a template and the id of the token that ends an answer; answers begin with ``thought``.

    Raises :class:`ModelError`, one sentence, for a template that cannot be trained on as it would render the chat.
    """
    first: ModelError | None = None
    for part_roles in _PART_ROLES:
        try:
            return _Probe(tokenizer, render, part_roles, thought).find(adds_bos)
        except ModelError as error:
            first = first or error
    assert first is not None
    raise first


def answer_ids(tokenizer: Any, text: str, form: TemplateForm) -> list[int]:
    """Token ids of an answer as it follows its prompt."""
    ids = _ids(tokenizer, form.context + form.lead + text)
    before = _ids(tokenizer, form.context) if form.context else []
    if ids[: len(before)] != before:
        return _ids(tokenizer, form.lead + text)
    return ids[len(before) :]


def has_two_bos(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether two beginning-of-sequence tokens come first, with at most white space before and between."""
    bos, found = tokenizer.bos_token_id, 0
    for token in ids:
        if token == bos:
            found += 1
        elif tokenizer.decode([token]).strip():
            break
    return bos is not None and found > 1


class _Probe:
    """One way of passing contents, tried."""

    def __init__(self, tokenizer: Any, render: Render, part_roles: frozenset[str], thought: str) -> None:
        self._tokenizer = tokenizer
        self._thought = thought
        self._answer = thought + ANSWER
        self._call = render
        self._form = TemplateForm(part_roles)

    def find(self, adds_bos: bool) -> tuple[TemplateForm, int]:
        question, answer = Message("user", QUESTION), Message("assistant", self._answer)
        self._expect(self._render([question], True), [QUESTION], "a question")
        whole = self._render([question, answer], False)
        self._expect(whole, [QUESTION, self._answer], "an answer")
        if whole.count(ANSWER) > 1:
            raise ModelError(f"The model's chat template writes an answer more than once; {_REMEDY}.")
        # Templates leave thoughts out of earlier answers.
        longer = self._longer([question, Message("assistant", ANSWER), Message("user", SECOND_QUESTION)])
        self._check_bos(question, adds_bos)
        end = self._end_token(whole, longer)
        return self._choose(end), end

    def _render(self, messages: Sequence[Message], prompt: bool, **arguments: Any) -> str:
        return self._call(messages, prompt, self._form, arguments)

    def _longer(self, chat: list[Message]) -> str:
        """The rendering of a chat of three turns; empty where the template has one question only."""
        try:
            text = self._render(chat, True)
        except ModelError:
            return ""
        self._expect(text, [message.content for message in chat], "a turn of a longer chat")
        return text

    def _expect(self, text: str, contents: Sequence[str], what: str) -> None:
        at = 0
        for content in contents:
            at = text.find(content, at)
            if at < 0:
                raise ModelError(f"The model's chat template drops or changes the text of {what}; {_REMEDY}.")
            if text[:at].endswith(("'text': '", '"text": "', "'text': \"")):
                raise ModelError(f"The model's chat template prints the parts of {what} verbatim; {_REMEDY}.")
            at += len(content)

    def _check_bos(self, question: Message, adds_bos: bool) -> None:
        """One BOS: written by the template through its variable, or put in front by the tokenizer's own rule."""
        tokenizer = self._tokenizer
        bos = tokenizer.bos_token
        if bos is None:
            return
        text = self._render([question], True)
        ids = _ids(tokenizer, text)
        written = ids.count(tokenizer.bos_token_id)
        added = int(adds_bos and not text.lstrip().startswith(bos))
        # Some models (SmolLM2) mark every turn with what they call BOS; that is spelled out in the template.
        spelled = _ids(tokenizer, self._render([question], True, bos_token="")).count(tokenizer.bos_token_id)
        too_many = written + added > 1 if adds_bos else written - spelled > 1
        if too_many or has_two_bos(tokenizer, ids):
            raise ModelError(
                f"The model's chat template begins with two '{bos}' tokens, or writes one although the tokenizer adds "
                f"its own; {_REMEDY}."
            )

    def _end_token(self, whole: str, longer: str) -> int:
        """The special token right after an answer, or where nothing follows a last answer, after an earlier one."""
        closing = whole.rpartition(ANSWER)[2].lstrip()
        if not closing and longer:
            closing = longer.partition(ANSWER)[2].lstrip()
        ids = _ids(self._tokenizer, closing)
        marks = {*self._tokenizer.all_special_ids, *getattr(self._tokenizer, "added_tokens_decoder", {})}
        if ids and ids[0] in marks:
            return ids[0]
        follows = f"'{closing[:20].strip()}'" if closing.strip() else "nothing"
        raise ModelError(
            f"The model's chat template writes {follows} after an answer, which is not a single special token of the "
            f"tokenizer, so no end token can be trained; {_REMEDY}."
        )

    def _choose(self, end: int) -> TemplateForm:
        """The first form whose tokens of prompt, answer and end are those of the rendered chat."""
        question = Message("user", MARK)
        prompt = self._render([question], True)
        before = self._render([question, Message("assistant", self._answer)], False).rpartition(self._answer)[0]
        roles = self._form.part_roles
        candidates = [(before, TemplateForm(roles, cut=True))]
        if before.startswith(prompt) and not before[len(prompt) :].strip():
            gap = before[len(prompt) :]
            candidates = [(prompt, TemplateForm(roles)), (prompt, TemplateForm(roles, lead=gap)), *candidates]
        candidates += [
            (text, TemplateForm(roles, form.cut, form.lead, context=text[-1:])) for text, form in candidates if text
        ]
        for text, form in candidates:
            if all(self._equals(text, form, self._thought + answer, end) for answer in _SHORT_ANSWERS):
                return form
        # Some tokenizers join the end of the prompt and the beginning of an answer: then the texts are equal at least.
        for text, form in candidates:
            if text + form.lead == before and all(
                self._begins(text + form.lead, self._thought + a) for a in _SHORT_ANSWERS
            ):
                return form
        raise ModelError(f"The model's chat template writes other text before some answers than others; {_REMEDY}.")

    def _begins(self, before: str, answer: str) -> bool:
        """Whether a chat with this answer begins with ``before`` and the answer."""
        chat = [Message("user", MARK), Message("assistant", answer)]
        return self._render(chat, False).startswith(before + answer)

    def _equals(self, prompt: str, form: TemplateForm, answer: str, end: int) -> bool:
        tokenizer = self._tokenizer
        chat = [Message("user", MARK), Message("assistant", answer)]
        own = [*_ids(tokenizer, prompt), *answer_ids(tokenizer, answer, form)]
        whole = _ids(tokenizer, self._render(chat, False))
        rest = whole[len(own) :]
        # White space before the end token (Llama 2) is left out; nothing at all follows a last answer in GLM-4.
        while rest and rest[0] != end and not tokenizer.decode(rest[:1]).strip():
            rest = rest[1:]
        return whole[: len(own)] == own and rest[:1] in ([end], [])


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
