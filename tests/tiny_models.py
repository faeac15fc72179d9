"""Tiny random models of the architectures the harness must carry: two layers, real tokenizers, their own templates.

Each kind keeps the traits that break harnesses: ``llama`` has no pad token, adds BOS itself and prints a date in its
template; ``qwen3`` has a thinking switch and no BOS; ``gemma2`` refuses the system role, caps its logits and has a
sliding window; ``gemma3`` mixes local and global attention. As in Qwen3, the template puts an empty think block
into the last assistant turn and into the generation prompt of a chat whose thinking is off, and nowhere else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

Kind = Literal["llama", "qwen3", "gemma2", "gemma3"]
KINDS: tuple[Kind, ...] = ("llama", "qwen3", "gemma2", "gemma3")

LLAMA_TEMPLATE = """\
{{- bos_token -}}
{%- if date_string is not defined -%}
  {%- if strftime_now is defined -%}{%- set date_string = strftime_now("%d %b %Y") -%}
  {%- else -%}{%- set date_string = "26 Jul 2024" -%}{%- endif -%}
{%- endif -%}
{%- if messages[0]["role"] == "system" -%}
  {%- set system = messages[0]["content"] -%}{%- set turns = messages[1:] -%}
{%- else -%}
  {%- set system = "" -%}{%- set turns = messages -%}
{%- endif -%}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n\\n" + system + "<|eot_id|>" -}}
{%- for turn in turns -%}
  {{- "<|start_header_id|>" + turn["role"] + "<|end_header_id|>\\n\\n" + turn["content"] | trim + "<|eot_id|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" -}}{%- endif -%}
"""

QWEN3_TEMPLATE = """\
{%- set last = namespace(user=-1) -%}
{%- for turn in messages -%}
  {%- if turn["role"] == "user" -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for turn in messages -%}
  {%- if turn["role"] == "assistant" and loop.last and loop.index0 > last.user -%}
    {{- "<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n" + turn["content"] + "<|im_end|>\\n" -}}
  {%- else -%}
    {{- "<|im_start|>" + turn["role"] + "\\n" + turn["content"] + "<|im_end|>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|im_start|>assistant\\n" -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}{{- "<think>\\n\\n</think>\\n\\n" -}}{%- endif -%}
{%- endif -%}
"""

GEMMA_TEMPLATE = """\
{{- bos_token -}}
{%- if messages[0]["role"] == "system" -%}{{- raise_exception("System role not supported") -}}{%- endif -%}
{%- for turn in messages -%}
  {%- if (turn["role"] == "user") != (loop.index0 % 2 == 0) -%}
    {{- raise_exception("Roles must alternate user, assistant") -}}
  {%- endif -%}
  {{- "<start_of_turn>" + ("model" if turn["role"] == "assistant" else turn["role"]) + "\\n" -}}
  {{- turn["content"] | trim + "<end_of_turn>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<start_of_turn>model\\n" -}}{%- endif -%}
"""

# Special tokens in id order, then their roles.
SPECIAL: dict[str, tuple[list[str], dict[str, str | None], str]] = {
    "llama": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        LLAMA_TEMPLATE,
    ),
    "qwen3": (
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        QWEN3_TEMPLATE,
    ),
    "gemma": (
        ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        GEMMA_TEMPLATE,
    ),
}

TEXT = [
    "system user assistant model think Today: 26 Jul 2024",
    "Sam has 12 apples and buys 7 more. How many apples does Sam have now?",
    "First we add the numbers: 12 + 7 = 19. So the answer is 19.\n#### 19",
    "A train goes 60 miles in 2 hours. Its speed is 60 / 2 = 30 miles per hour, so the answer is 30.",
    "Question: Which of these is a gas at room temperature?\nA. iron\nB. oxygen\nC. salt\nD. water\nAnswer:",
    "The best answer is B, because oxygen is a gas at room temperature and the others are not.",
    "def add(a, b):\n    return a + b\n\nassert add(1, 2) == 3\n",
    "Write this solution again in your own words, step by step, and finish with the final answer.",
    "Let's think step by step. Then $x^2 = 4$, which gives $x = 2$ or $x = -2$, and \\boxed{2}.",
    "You are a helpful assistant. Solve the problem and show every step of your work.",
    "Steps:\n\n1. Add the numbers.\n\n2. Multiply by 3.\n\n3. Check the  4 results.",
]


@cache
def _backend(family: str) -> str:
    """A byte-level BPE trained on :data:`TEXT`, as the JSON of the ``tokenizers`` library."""
    special, roles, _ = SPECIAL[family]
    tokenizer = Tokenizer(models.BPE())
    # As in Llama 3 and Qwen3, line breaks are their own pieces: a prompt that ends in them keeps its tokens when text
    # follows.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s*[\r\n]+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if family == "qwen3":
        # As in Qwen3, the think marks are single tokens that are not special: decoding keeps them.
        tokenizer.add_tokens(["<think>", "</think>"])
    bos = roles.get("bos_token")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    text: str = tokenizer.to_str()
    return text


def tiny_tokenizer(kind: Kind, *, chat: bool = True) -> PreTrainedTokenizerFast:
    """The tokenizer of a kind; ``chat=False`` leaves the chat template out, as base models do."""
    family = "gemma" if kind.startswith("gemma") else kind
    _, roles, template = SPECIAL[family]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend(family)), clean_up_tokenization_spaces=False, **roles
    )
    if chat:
        tokenizer.chat_template = template
    return tokenizer


def tiny_model(kind: Kind, seed: int = 0, tokenizer: PreTrainedTokenizerFast | None = None) -> PreTrainedModel:
    """A random fp32 model in eval mode. Weights are wide, so that its next-token choices differ by context."""
    tokenizer = tokenizer or tiny_tokenizer(kind)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if kind == "llama":
        config = LlamaConfig(**shape, tie_word_embeddings=False)
    elif kind == "qwen3":
        config = Qwen3Config(**shape, tie_word_embeddings=True)
    elif kind == "gemma2":
        # Caps and window small enough to bite on the short prompts of a test.
        config = Gemma2Config(
            **shape,
            query_pre_attn_scalar=16,
            sliding_window=24,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=8.0,
            tie_word_embeddings=True,
        )
    else:
        config = Gemma3TextConfig(
            **shape,
            query_pre_attn_scalar=16,
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"],
            tie_word_embeddings=True,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        # Fresh norms are all ones (or zeros): random ones show a harness that leaves them out.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
                if kind.startswith("gemma") and "post_" in name:
                    # Else the scaled, tied embeddings drown the layers, and the model only repeats its last token.
                    parameter.add_(3.0)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.eval()


def make_tiny_model(kind: Kind, folder: Path, seed: int = 0, *, chat: bool = True) -> Path:
    """Saves a tiny model and its tokenizer in ``folder`` and gives ``folder`` back."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(kind, chat=chat)
    tiny_model(kind, seed, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
