"""Thinking on and off: the prompts, the training sequences, and where an answer begins behind its thought."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.errors import ModelError
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.models.thinking import answer_start, answer_text
from dasd_bench.types import Message
from tests.tiny_models import tiny_tokenizer

USER = Message("user", "Sam has 12 apples.")
THOUGHT = "<think>\nTwelve, they say.\n</think>\n\n"

QWEN3 = """\
{%- for m in messages -%}
  {%- if m["role"] == "assistant" and loop.last -%}
    {%- set parts = m["content"].split("</think>") -%}
    {%- set thought = parts[0].split("<think>")[-1].strip("\\n") if parts | length > 1 else "" -%}
    {{- "<|im_start|>assistant\\n<think>\\n" + thought + "\\n</think>\\n\\n" -}}
    {{- parts[-1].lstrip("\\n") + "<|im_end|>\\n" -}}
  {%- else -%}
    {{- "<|im_start|>" + m["role"] + "\\n" + m["content"].split("</think>")[-1].lstrip("\\n") + "<|im_end|>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|im_start|>assistant\\n" -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}{{- "<think>\\n\\n</think>\\n\\n" -}}{%- endif -%}
{%- endif -%}
"""
"""What Qwen3's own template does with thoughts: kept in the last answer, left out of earlier ones."""

VERBATIM = """\
{%- set nothing = "" if enable_thinking else "<think>\\n\\n</think>\\n" -%}
{%- for m in messages -%}
  {{- "<|im_start|>" + m["role"] + "\\n" + (nothing if m["role"] == "assistant" else "") + m["content"] -}}
  {{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" + nothing -}}{%- endif -%}
"""
"""SmolLM3's way with thinking on: an answer stands as it is."""


def template(text: str, thinking: str) -> ChatTemplate:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer, thinking=thinking)


@pytest.mark.parametrize("text", [QWEN3, VERBATIM])
def test_with_thinking_on_the_prompt_leaves_the_thought_to_the_model(text: str) -> None:
    on, off = template(text, "on"), template(text, "off")
    assert on.render([USER]).endswith("<|im_start|>assistant\n")
    assert off.render([USER]).rstrip().endswith("</think>")
    assert on.hash != off.hash
    assert off.hash == template(text, "auto").hash


def test_a_training_sequence_is_the_template_s_own_rendering_with_and_without_a_thought() -> None:
    chat = template(QWEN3, "on")
    for said in (f"{THOUGHT}So 12.", "So 12."):
        whole = chat.encode([USER, Message("assistant", said)], add_generation_prompt=False)
        sequence = [*chat.encode([USER]), *chat.encode_answer(said), chat.end_token_id]
        assert whole[: len(sequence)] == sequence


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_a_template_without_the_switch_refuses_both(thinking: str) -> None:
    with pytest.raises(ModelError, match="no switch for thinking"):
        ChatTemplate(tiny_tokenizer("llama"), thinking=thinking)
    with pytest.raises(ModelError, match="no switch for thinking"):
        ChatTemplate(tiny_tokenizer("qwen3"), mode="plain", thinking=thinking)


WORDS = st.text(alphabet=st.sampled_from("ab 12.\n"), max_size=20)


@given(WORDS, WORDS.map(str.strip), st.booleans(), st.booleans())
def test_the_answer_is_what_stands_behind_the_thought(thought: str, answer: str, wrote: bool, closed: bool) -> None:
    tokenizer = tiny_tokenizer("qwen3")
    text = (
        ("<think>" if wrote else "")
        + thought
        + ("</think>\n\n" if closed else "")
        + ("" if wrote and not closed else answer)
    )
    ids = tokenizer.encode(text)
    wanted = answer if closed else "" if wrote else text
    assert answer_text(text) == wanted
    assert tokenizer.decode(ids[answer_start(tokenizer, ids) :]) == wanted
    assert answer_text(text, opened=True) == (answer if closed else "")


def test_a_template_that_knows_no_thoughts_takes_nothing_away() -> None:
    chat = ChatTemplate(tiny_tokenizer("llama"))
    assert chat.answer_text("a</think>b") == "a</think>b"
    assert chat.answer_start([1, 2, 3]) == 0
