"""Is batched greedy decoding what one-by-one decoding gives? fp32, GSM8K test prompts, 200 new tokens.

Our outputs come 64 at once, with refill. The check runs transformers' own model over each prompt with its output, one
sequence at a time: where every token is the likeliest after those before it, one-by-one greedy decoding gives the same
sequence, by induction. For the others the first difference is shown with how near a tie it was (the distance in
log-probability between the two tokens).

    python benchmarks/identity.py --data-dir DATA --limit 400
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DEVICE, chat_ids, load, rows
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import GenerateRequest

NEW_TOKENS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--limit", type=int, default=400, help="prompts")
    arguments = parser.parse_args()
    model, tokenizer = load("fp32")
    stop = frozenset([int(tokenizer.eos_token_id)])
    data = rows(arguments.data_dir, "gsm8k", "test", arguments.limit)
    prompts = [chat_ids(tokenizer, ("user", row["question"])) for row in data]
    made = Engine(model, tokenizer).generate([GenerateRequest(p, NEW_TOKENS, stop) for p in prompts])
    same, worst = 0, 0.0
    for number, (prompt, result) in enumerate(zip(prompts, made, strict=True)):
        tokens = result.token_ids.tolist()
        with torch.inference_mode():
            logits = model(
                input_ids=torch.tensor([[*prompt, *tokens]], device=DEVICE), logits_to_keep=len(tokens) + 1
            ).logits[0, :-1]
        likeliest = logits.argmax(dim=-1)
        differs = (likeliest != torch.tensor(tokens, device=DEVICE)).nonzero().flatten().tolist()
        if not differs:
            same += 1
            continue
        at = differs[0]
        gap = float(logits[at, likeliest[at]] - logits[at, tokens[at]])
        worst = max(worst, gap)
        print(json.dumps({"prompt": number, "at": at, "of": len(tokens), "gap_nats": float(f"{gap:.3g}")}))
    share = same / len(made)
    print(
        json.dumps({"name": "identity", "identical": f"{same}/{len(made)}", "share": round(share, 4), "worst": worst})
    )


if __name__ == "__main__":
    main()
