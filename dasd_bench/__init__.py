"""dasd-bench: which way of choosing what to fine-tune on helps this model on these tasks, at what cost?

The package imports nothing heavy here: the command line must answer ``--help`` without torch.
Method authors import from :mod:`dasd_bench.api`.
"""

__version__ = "0.1.0"
