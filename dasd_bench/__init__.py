"""dasd-bench: which self-distillation or token-selection method helps this model, and what does it cost on others?

The package imports nothing heavy here: the command line must answer ``--help`` without torch.
Method authors import from :mod:`dasd_bench.api`.
"""

__version__ = "0.1.0"
