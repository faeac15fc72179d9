"""What runs on the far side of the process boundary: standard library only, never imports its own package's parents.

``zygote`` and ``guest`` run beside model-written code, ``judge`` and ``proxy`` beside the tests; ``wire`` is the
only thing both share. They are started by :mod:`dasd_bench.sandbox.launch`, which loads no other module of dasd_bench.
"""
