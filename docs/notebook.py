# %% [markdown]
# # dasd-bench from Python
# Everything the command line does is a call of `dasd_bench.api`. This file runs as it is (`python docs/notebook.py`),
# and cell by cell in an editor that knows `# %%`.

# %% Two methods on a built-in task, small enough for a laptop
import sys
from pathlib import Path

from dasd_bench.api import RunOptions, evaluate, load_results, make_spec, plan, run

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "notebook-runs")
model = sys.argv[2] if len(sys.argv) > 2 else "smollm2-135m"
spec = make_spec(
    model=model,
    methods=["sft", "dasd+rho=0.5"],
    tasks=["mini_arc"],
    train_limit=4,
    limit=6,
    max_new_tokens=16,
    settings=["training.epochs=1"],
)
options = RunOptions(output=folder / "first", store=folder / "store")

# %% What it would do, before it does it
for row in plan(spec, options):
    print(f"{row.stage:24} {row.who:16} {row.state:9} {row.tokens:>7}")

# %% Run it; a second call takes every stage from the store. In a notebook the last line shows the run's tables.
results = run(spec, options)
results

# %% Frames in long form, one row per observation: scores, answers, and every token of the training targets
print(results.scores.pivot_table(index="method", columns="task", values="score"))
print(results.items.groupby(["method", "reason"]).size())
tokens = results.tokens
print(tokens[tokens.weight > 0].groupby(["method", "origin"]).logp.mean())

# %% The figures of `dasd-bench plot`, as matplotlib figures
figure = results.figure("scores")
figure.savefig(folder / "scores.png")

# %% The untrained model alone, and a run read back later
base = evaluate(spec, RunOptions(output=folder / "base", store=folder / "store"))
assert load_results(folder / "first").base["mini_arc"].mean == base.base["mini_arc"].mean
