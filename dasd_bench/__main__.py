"""``python -m dasd_bench`` and the ``dasd-bench`` command."""

from __future__ import annotations

import sys

from dasd_bench.cli.main import run_cli


def main() -> None:
    """Runs the command line and exits with its code."""
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
