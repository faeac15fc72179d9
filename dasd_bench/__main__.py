"""``python -m dasd_bench`` and the ``dasd-bench`` command."""

from __future__ import annotations

import os
import sys

from dasd_bench.cli.main import run_cli
from dasd_bench.engine.threads import prepare_threads


def main() -> None:
    """Runs the command line and exits with its code."""
    prepare_threads(os.environ)
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
