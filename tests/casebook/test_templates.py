"""Chat templates of odd kinds: refused in one sentence, or prompt, answer and end token are the template's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from dasd_bench.errors import ModelError
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.types import Message

END = "<|eot_id|>"


def template(
    user: str = "U:{{ c }}\n", answer: str = f"A:{{{{ c }}}}{END}\n", prompt: str = "A:", bos: str = ""
) -> str:
    """A template from what it writes for a question, an answer, the generation prompt and at its start."""
    turns = f"{{% if m.role == 'user' %}}{user}{{% else %}}{answer}{{% endif %}}".replace("{{ c }}", "{{ m.content }}")
    start = bos or "{{ bos_token }}"
    return f"{start}{{% for m in messages %}}{turns}{{% endfor %}}{{% if add_generation_prompt %}}{prompt}{{% endif %}}"


TAKEN = {
    "as it is": template(),
    "trims": template(user="U:{{ m.content | trim }}\n", answer=f"A:{{{{ m.content | trim }}}}{END}\n"),
    "space before the answer": template(answer=f"A: {{{{ c }}}}{END}\n"),
    "opens a think block": template(prompt="A:<think>\n"),
    "no generation prompt": template(prompt=""),
    "BOS after blank lines": template(bos="\n\n{{ bos_token }}"),
    "no BOS": template(bos=" "),
    "parts for questions": template(user="U:{% for p in m.content %}{{ p.text }}{% endfor %}\n"),
    "parts or text": template(
        user="U:{% if m.content is string %}{{ c }}{% else %}{{ m.content[0].text }}{% endif %}\n"
    ),
}
REFUSED = {
    "two BOS": template(bos="{{ bos_token }} {{ bos_token }}"),
    "BOS again before the answer": template(prompt="{{ bos_token }}A:"),
    "no end": template(answer="A:{{ c }}\n"),
    "an end in words": template(answer="A:{{ c }}</end>\n"),
    "text before the end": template(answer=f"A:{{{{ c }}}} (done){END}\n"),
    "the answer twice": template(answer=f"A:{{{{ c }}}}{{{{ c }}}}{END}\n"),
    "short answers otherwise": template(answer=f"A:{{% if m.content | length < 50 %}}X{{% endif %}}{{{{ c }}}}{END}\n"),
    "one word of the question": template(user="U:{{ m.content.split()[0] }}\n"),
    "one line of the question": template(user="U:{{ m.content.splitlines()[0] }}\n"),
    "spaces joined": template(user="U:{{ m.content | replace('  ', ' ') }}\n"),
    "digits altered": template(user="U:{{ m.content | replace('0', 'O') }}\n"),
    "tags stripped": template(user="U:{{ m.content | striptags }}\n"),
    "parts of another form": template(user="U:{% for p in m.content %}{{ p.value }}{% endfor %}\n"),
    "only the last turn": f"{{{{ bos_token }}}}U:{{{{ messages[-1].content }}}}{END}",
    "an endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


def chat_template(folder: Path, text: str) -> ChatTemplate:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer)


@pytest.mark.parametrize("name", TAKEN)
def test_prompt_answer_and_end_are_the_templates_own(name: str, tiny_folder: Callable[[str], Path]) -> None:
    chat = chat_template(tiny_folder("llama"), TAKEN[name])
    for question in ("How many pens?", "Is 3 < 4 & 5 > 2?\n\nYes or no?", '{"a": "b"}', "é 中文"):
        asked = Message("user", question)
        prompt = chat.encode([asked])
        assert question in chat.render([asked])
        assert prompt.count(chat.tokenizer.bos_token_id) == 1
        for answer in ("18", "So 18.", "a\n\nb"):
            whole = chat.encode([asked, Message("assistant", answer)], add_generation_prompt=False)
            own = [*prompt, *chat.encode_answer(answer), chat.end_token_id]
            assert whole[: len(own)] == own, (question, answer)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_refused(name: str, tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="chat template") as refused:
        chat_template(tiny_folder("llama"), REFUSED[name])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("user", "question"),
    [("U:{{ m.content[:5000] }}\n", "x" * 6000), ("U:{{ m.content.encode('ascii', 'ignore').decode() }}\n", "Où?")],
)
def test_a_question_that_the_probes_did_not_foresee_is_refused_when_it_comes(
    user: str, question: str, tiny_folder: Callable[[str], Path]
) -> None:
    chat = chat_template(tiny_folder("llama"), template(user=user))
    assert "Where?" in chat.render([Message("user", "Where?")])
    with pytest.raises(ModelError, match=r"drops or changes the text of the question that begins '(x{40}|Où)"):
        chat.render([Message("user", question)])
