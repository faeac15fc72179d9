"""Chat templates of the families people use, in miniature: prompt + answer + end is the template's own rendering.

Each template keeps what is peculiar to its family; the wording is ours. Refusals are tested beside them.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from dasd_bench.errors import ModelError
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.types import Message

CHATML_TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


@dataclasses.dataclass(frozen=True)
class Family:
    """A template with its special tokens; ``end`` is the token it writes after an answer."""

    template: str
    end: str
    tokens: str = ""
    bos: str | None = None
    eos: str = "</s>"
    adds_bos: bool = False
    spaces: bool = False
    """SentencePiece's way: a space before the first word of a text."""
    prompt_ends: str = ""
    system: bool = True


FAMILIES = {
    "chatml": Family("{% for m in messages %}" + CHATML_TURN + "{% endfor %}" + CHATML_PROMPT, "<|im_end|>"),
    "qwen2.5-default-system": Family(
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}"
        "{% for m in messages %}" + CHATML_TURN + "{% endfor %}" + CHATML_PROMPT,
        "<|im_end|>",
    ),
    "smollm2-bos-is-a-turn-mark": Family(
        "{% for m in messages %}" + CHATML_TURN + "{% endfor %}" + CHATML_PROMPT,
        "<|im_end|>",
        bos="<|im_start|>",
        eos="<|im_end|>",
    ),
    "qwen3-thinking-only": Family(
        "{% for m in messages %}{% if m['role'] == 'assistant' and loop.last %}"
        "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m['content'] + '<|im_end|>\\n' }}"
        "{% else %}" + CHATML_TURN + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
        "<|im_end|>",
        prompt_ends="<think>\n\n</think>\n\n",
    ),
    "qwq": Family(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' + "
        "m['content'].split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}{% else %}" + CHATML_TURN + "{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
        "<|im_end|>",
        prompt_ends="<|im_start|>assistant\n",
    ),
    "deepseek-r1": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}{% else %}{{ '<|Assistant|>' + "
        "m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}",
        "</s>",
        tokens="<|User|> <|Assistant|>",
        bos="<s>",
        adds_bos=True,
        prompt_ends="<|Assistant|>",
    ),
    "gpt-oss": Family(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + "
        "m['content'] + ('<|return|>' if loop.last else '<|end|>') }}{% else %}{{ '<|start|>' + m['role'] + "
        "'<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
        "<|return|>",
        tokens="<|start|> <|channel|> <|message|> <|end|> <|return|>",
        prompt_ends="<|channel|>final<|message|>",
    ),
    "llama-2": Family(
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set s = messages[0]['content'] %}"
        "{% else %}{% set turns = messages %}{% set s = '' %}{% endif %}{% for m in turns %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Must alternate') }}{% endif %}"
        "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (('<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n') if s and "
        "loop.first else '') + m['content'].strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "</s>",
        bos="<s>",
        adds_bos=True,
        spaces=True,
    ),
    "mistral-space-before-the-answer": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}{% else %}"
        "{{ raise_exception('Only user and assistant roles') }}{% endif %}{% endfor %}",
        "</s>",
        tokens="[INST] [/INST]",
        bos="<s>",
        adds_bos=True,
        system=False,
    ),
    "zephyr-sentencepiece": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
        "</s>",
        bos="<s>",
        adds_bos=True,
        spaces=True,
    ),
    "vicuna": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
        "{% elif m['role'] == 'assistant' %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% else %}"
        "{{ m['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        "</s>",
        bos="<s>",
        adds_bos=True,
    ),
    "no-generation-prompt": Family(
        "{% for m in messages %}" + CHATML_TURN + "{% endfor %}", "<|im_end|>", prompt_ends="<|im_start|>assistant\n"
    ),
    "glm-4-next-turn-ends-an-answer": Family(
        "[gMASK]<sop>{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
        "<|user|>",
        tokens="[gMASK] <sop> <|user|> <|assistant|> <|system|>",
    ),
    "phi-3": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        "<|end|>",
        tokens="<|user|> <|assistant|> <|system|> <|end|>",
    ),
    "command-r": Family(
        "{{ bos_token }}{% for m in messages %}{{ '<|START|>' + {'user': '<|USER|>', 'assistant': '<|BOT|>', "
        "'system': '<|SYSTEM|>'}[m['role']] + m['content'] | trim + '<|TURN_END|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|START|><|BOT|>' }}{% endif %}",
        "<|TURN_END|>",
        tokens="<|START|> <|USER|> <|BOT|> <|SYSTEM|> <|TURN_END|>",
        bos="<s>",
        adds_bos=True,
    ),
    "content-as-parts": Family(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% for part in m['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        + CHATML_PROMPT,
        "<|im_end|>",
    ),
    "parts-for-users-only": Family(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'user' %}"
        "{% for part in m['content'] %}{{ part.text }}{% endfor %}{% else %}{{ m['content'] }}{% endif %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}" + CHATML_PROMPT,
        "<|im_end|>",
    ),
    "white-space-before-bos": Family(
        "\n{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + eos_token }}"
        "{% endfor %}" + CHATML_PROMPT,
        "</s>",
        bos="<s>",
        adds_bos=True,
    ),
    "thinking-switch-under-another-name": Family(
        "{% for m in messages %}"
        + CHATML_TURN
        + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n'"
        " + ('' if reasoning is defined and not reasoning else '<think>') }}{% endif %}",
        "<|im_end|>",
        prompt_ends="<|im_start|>assistant\n",
    ),
}


def family_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, with the family's special tokens and ways."""
    special = [t for t in (family.bos, family.eos, "<|im_start|>", "<|im_end|>", *family.tokens.split()) if t]
    special = list(dict.fromkeys(special))
    if family.spaces:
        pieces = {chr(code): n for n, code in enumerate([*range(32, 127), 0x2581])}
        pieces |= {f"<0x{code:02X}>": len(pieces) + code for code in range(256)}
        pieces |= {"\u2581" + chr(code): len(pieces) + n for n, code in enumerate([*range(48, 58), *range(65, 123)])}
        merges = [("\u2581", piece[1]) for piece in pieces if len(piece) == 2]
        tokenizer = Tokenizer(models.BPE(pieces, merges, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        pieces = {letter: n for n, letter in enumerate(alphabet)}
        merges = [("\u0120", letter) for letter in alphabet if letter.isascii() and letter.isalnum()]
        pieces |= {"".join(pair): len(pieces) + n for n, pair in enumerate(merges)}
        tokenizer = Tokenizer(models.BPE(pieces, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if family.adds_bos and family.bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))]
        )
    roles = {"eos_token": family.eos} | ({"bos_token": family.bos} if family.bos else {})
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **roles)
    fast.chat_template = family.template
    return fast


def own_rendering(chat: ChatTemplate, messages: list[Message], **arguments: object) -> str:
    """What transformers renders without us."""
    turns = [
        {
            "role": m.role,
            "content": [{"type": "text", "text": m.content}] if m.role in chat.form.part_roles else m.content,
        }
        for m in messages
    ]
    return str(chat.tokenizer.apply_chat_template(turns, tokenize=False, **arguments))


def check_sequence(chat: ChatTemplate, question: str, answer: str) -> None:
    """Prompt, answer and end are the tokens of the whole chat as transformers renders and tokenises it."""
    asked = [Message("user", question)]
    prompt = chat.encode(asked)
    longer = [*asked, Message("assistant", answer), Message("user", "Next?")]
    whole = chat.encode_text(own_rendering(chat, longer[:2]))
    sequence = [*prompt, *chat.encode_answer(answer)]
    assert whole[: len(sequence)] == sequence
    rest = [token for token in whole[len(sequence) :] if chat.tokenizer.decode([token]).strip()]
    if not rest:
        rest = chat.encode_text(own_rendering(chat, longer))[len(sequence) :]
    assert rest[0] == chat.end_token_id
    assert question.strip() in chat.render(asked)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_trained_as_its_template_renders_it(name: str) -> None:
    family = FAMILIES[name]
    chat = ChatTemplate(family_tokenizer(family))
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_token_id) == family.end
    assert chat.supports_system == family.system
    question = Message("user", "Sam has 12 apples.")
    assert chat.render([question]).endswith(family.prompt_ends)
    for answer in ("So 12.", "12", "Let us see:\n\n1 + 2"):
        check_sequence(chat, question.content, answer)
    prompt = chat.render([Message("system", "Be brief."), question])
    assert "Be brief." in prompt
    assert question.content in prompt
    if family.adds_bos:
        assert chat.encode([question]).count(chat.tokenizer.bos_token_id) == 1
    several = chat.render([question, Message("assistant", "So 12."), Message("user", "And now?")])
    assert several.index(question.content) < several.index("So 12.") < several.index("And now?")


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.text(st.characters(codec="ascii", exclude_characters="<>[]|"), min_size=1, max_size=30),
    st.text(st.characters(codec="ascii", exclude_characters="<>[]|"), min_size=1, max_size=30),
)
def test_any_answer_is_trained_as_rendered(name: str, question: str, answer: str) -> None:
    question, answer = question.strip() or "x", answer.strip() or "y"
    check_sequence(_loaded(name), question, answer)


_LOADED: dict[str, ChatTemplate] = {}


def _loaded(name: str) -> ChatTemplate:
    if name not in _LOADED:
        _LOADED[name] = ChatTemplate(family_tokenizer(FAMILIES[name]))
    return _LOADED[name]


REFUSED = {
    "the question vanishes": ("{% for m in messages %}{{ '<|im_end|>' }}{% endfor %}", "text of a question"),
    "upper case": (FAMILIES["chatml"].template.replace("m['content']", "m['content'] | upper"), "text of a question"),
    "escaped": (FAMILIES["chatml"].template.replace("m['content']", "m['content'] | escape"), "text of a question"),
    "cut": (FAMILIES["chatml"].template.replace("m['content']", "m['content'][:500]"), "text of a question"),
    "one line": (
        FAMILIES["chatml"].template.replace("m['content']", "m['content'].replace('\\n', ' ')"),
        "text of a question",
    ),
    "the answer is altered": (
        "{% for m in messages %}{{ '<|im_start|>' + (m['content'] if m['role'] == 'user' else m['content'] | title) + "
        "'<|im_end|>' }}{% endfor %}",
        "text of an answer",
    ),
    "only the last turn is shown": (
        "{% for m in messages[-2:] %}" + CHATML_TURN + "{% endfor %}" + CHATML_PROMPT,
        "a turn of a longer chat",
    ),
    "no end token": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}",
        "writes 'user: .*' after an answer",
    ),
    "the end is no token": (FAMILIES["chatml"].template.replace("<|im_end|>", "<|fin|>"), r"writes '<\|fin\|>' after"),
    "text before the end": (
        FAMILIES["chatml"].template.replace("'<|im_end|>", "' (end)<|im_end|>"),
        r"writes '\(end\)<\|im_end\|>' after",
    ),
    "bos twice": ("{{ bos_token + bos_token }}" + FAMILIES["chatml"].template, "two '<s>' tokens"),
    "bos twice, white space between": (
        "{{ bos_token + '\\n ' + bos_token }}" + FAMILIES["chatml"].template,
        "two '<s>' tokens",
    ),
    "bos after text": ("System {{ bos_token }}" + FAMILIES["chatml"].template, "two '<s>' tokens"),
    "bad syntax": ("{% for m in messages %}", "rejects a chat with the turns user"),
    "wrong types": ("{{ messages + 1 }}", "rejects a chat with the turns user"),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "rejects a chat with the turns user"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_trained_on_is_refused_in_one_sentence(name: str) -> None:
    template, said = REFUSED[name]
    tokenizer = family_tokenizer(dataclasses.replace(FAMILIES["chatml"], template=template, bos="<s>", adds_bos=True))
    with pytest.raises(ModelError, match=said) as caught:
        ChatTemplate(tokenizer)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    # The same model can still be used without its template.
    assert ChatTemplate(tokenizer, "plain").end_token_id == tokenizer.eos_token_id


def test_the_form_is_part_of_the_hash() -> None:
    plain = ChatTemplate(family_tokenizer(FAMILIES["chatml"]))
    cut = copy.copy(plain)
    cut.form = dataclasses.replace(plain.form, cut=True)
    assert plain.hash != cut.hash
