"""Chat templates: one BOS, the right end token, no thinking, no clock, and base models told apart."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models.chat import ChatTemplate, fold_system
from dasd_bench.models.load import load_tokenizer
from dasd_bench.models.resolve import ResolvedModel
from dasd_bench.types import Message
from tests.tiny_models import KINDS, Kind, tiny_tokenizer

USER = Message("user", "Sam has 12 apples.")
ANSWER = Message("assistant", "So 12.")
SYSTEM = Message("system", "Be brief.")

EXPECTED: dict[str, str] = {
    "llama": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday: 26 Jul 2024\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSam has 12 apples.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSam has 12 apples.<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    "gemma2": "<bos><start_of_turn>user\nBe brief.\n\nSam has 12 apples.<end_of_turn>\n<start_of_turn>model\n",
    "gemma3": "<bos><start_of_turn>user\nBe brief.\n\nSam has 12 apples.<end_of_turn>\n<start_of_turn>model\n",
}
END = {"llama": "<|eot_id|>", "qwen3": "<|im_end|>", "gemma2": "<end_of_turn>", "gemma3": "<end_of_turn>"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_rendered_to_the_letter(kind: Kind) -> None:
    assert ChatTemplate(tiny_tokenizer(kind)).render([SYSTEM, USER]) == EXPECTED[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_token_is_the_one_after_an_answer(kind: Kind) -> None:
    chat = ChatTemplate(tiny_tokenizer(kind))
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_token_id) == END[kind]
    # The training sequence (prompt, answer, end token) is the rendered chat, up to what follows the end token.
    whole = chat.encode([USER, ANSWER], add_generation_prompt=False)
    sequence = [*chat.encode([USER]), *chat.encode_answer(ANSWER.content), chat.end_token_id]
    assert whole[: len(sequence)] == sequence


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_bos(kind: Kind) -> None:
    chat = ChatTemplate(tiny_tokenizer(kind))
    bos = chat.tokenizer.bos_token_id
    ids = chat.encode([USER, ANSWER, USER])
    if kind == "qwen3":
        assert bos is None
        assert not chat.adds_bos
    else:
        assert ids.count(bos) == 1
        assert ids[0] == bos
        assert chat.adds_bos


def test_bos_is_added_where_the_template_leaves_it_out() -> None:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = tokenizer.chat_template.replace("{{- bos_token -}}\n", "")
    chat = ChatTemplate(tokenizer)
    assert not chat.render([USER]).startswith("<|begin_of_text|>")
    assert chat.encode([USER]) == ChatTemplate(tiny_tokenizer("llama")).encode([USER])
    assert chat.hash != ChatTemplate(tiny_tokenizer("llama")).hash


def test_two_bos_are_refused() -> None:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = "{{- bos_token -}}" + tokenizer.chat_template
    with pytest.raises(ModelError, match=r"begins with two '<\|begin_of_text\|>' tokens"):
        ChatTemplate(tokenizer).encode([USER])


def test_thinking_is_off_in_the_prompt_and_the_only_argument() -> None:
    chat = ChatTemplate(tiny_tokenizer("qwen3"))
    reference = tiny_tokenizer("qwen3").apply_chat_template(
        [{"role": "user", "content": USER.content}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert chat.render([USER]) == reference
    assert chat.render([USER]).endswith("<think>\n\n</think>\n\n")


def test_the_date_does_not_come_from_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Later:
            return cls(2031, 5, 4, tzinfo=tz)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Later)
    tokenizer = tiny_tokenizer("llama")
    left_alone = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert "04 May 2031" in left_alone
    text = ChatTemplate(tokenizer).render([USER])
    assert "26 Jul 2024" in text
    assert "2031" not in text
    # A template that only knows the clock function is told the same date.
    tokenizer.chat_template = (
        "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    assert ChatTemplate(tokenizer).render([USER]).startswith("2024-07-26")
    tokenizer.chat_template = (
        "{% set f = '%d' %}{{ strftime_now(f) }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    assert ChatTemplate(tokenizer).render([USER]).startswith("26 Jul 2024Sam")


@pytest.mark.parametrize("kind", KINDS)
def test_system_support_is_found_out(kind: Kind) -> None:
    chat = ChatTemplate(tiny_tokenizer(kind))
    assert chat.supports_system == (not kind.startswith("gemma"))
    assert SYSTEM.content in chat.render([SYSTEM, USER])


def test_a_template_that_drops_the_system_message_gets_it_folded() -> None:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    )
    chat = ChatTemplate(tokenizer)
    assert not chat.supports_system
    assert chat.render([SYSTEM, USER]) == "Be brief.\n\nSam has 12 apples.<|im_end|>\n"


def test_folding_keeps_the_other_turns() -> None:
    assert fold_system([SYSTEM, USER, ANSWER]) == [Message("user", "Be brief.\n\nSam has 12 apples."), ANSWER]
    assert fold_system([USER, ANSWER]) == [USER, ANSWER]


def test_a_chat_the_template_refuses_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="rejects a chat with the turns user, user: Roles must alternate"):
        ChatTemplate(tiny_tokenizer("gemma2")).render([USER, USER])


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_final_turn_goes_on(kind: Kind) -> None:
    chat = ChatTemplate(tiny_tokenizer(kind))
    text = chat.render([USER, Message("assistant", "The answer is")], continue_final=True)
    assert text == chat.render([USER]) + "The answer is"


def test_a_base_model_needs_the_plain_template_by_name() -> None:
    tokenizer = tiny_tokenizer("llama", chat=False)
    with pytest.raises(ModelError, match=r"has no chat template, as is usual for base models: pass --chat-template"):
        ChatTemplate(tokenizer)
    with pytest.raises(UsageError, match="Unknown chat template mode"):
        ChatTemplate(tokenizer, "none")


def test_plain_and_off_are_what_they_say() -> None:
    tokenizer = tiny_tokenizer("llama", chat=False)
    plain, off = ChatTemplate(tokenizer, "plain"), ChatTemplate(tokenizer, "off")
    assert plain.render([SYSTEM, USER]) == "Be brief.\n\nSam has 12 apples.\n"
    assert plain.render([USER, ANSWER, USER]) == "Sam has 12 apples.\nSo 12.\n\nSam has 12 apples.\n"
    assert off.render([USER]) == "Sam has 12 apples."
    assert off.render([SYSTEM, USER, ANSWER, USER]) == ("Be brief.\n\nSam has 12 apples. So 12.\n\nSam has 12 apples.")
    assert plain.render([USER, ANSWER], continue_final=True) == plain.render([USER]) + "So 12."
    assert plain.end_token_id == off.end_token_id == tokenizer.eos_token_id
    assert plain.encode([USER])[0] == tokenizer.bos_token_id
    assert plain.hash != off.hash


@pytest.mark.parametrize("kind", KINDS)
def test_the_hash_follows_the_template_and_survives_saving(kind: Kind, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(kind)
    before = ChatTemplate(tokenizer).hash
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    loaded = ChatTemplate(load_tokenizer(tmp_path))
    assert loaded.hash == before
    assert loaded.encode([SYSTEM, USER]) == ChatTemplate(tokenizer).encode([SYSTEM, USER])
    tokenizer.chat_template += " "
    assert ChatTemplate(tokenizer).hash != before


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), st.sampled_from(KINDS))
def test_any_content_reaches_the_prompt(content: str, kind: Kind) -> None:
    """Whatever a row says is in the prompt (templates may strip its ends), under one BOS."""
    chat = ChatTemplate(tiny_tokenizer(kind))
    ids = chat.encode([Message("user", content)])
    assert content.strip() in chat.render([Message("user", content)])
    assert content.strip() in chat.tokenizer.decode(ids)
    if chat.adds_bos:
        assert ids.count(chat.tokenizer.bos_token_id) == 1


def test_smollm2_keeps_its_own_system_prompt(smollm2: ResolvedModel) -> None:
    chat = ChatTemplate(load_tokenizer(smollm2.path))
    assert chat.render([Message("user", "Hi")]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_token_id) == "<|im_end|>"
    # SmolLM2 writes digits one by one and keeps a blank line whole before a number.
    assert chat.tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"]
