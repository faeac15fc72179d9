"""Runs the command line and kills the process (SIGKILL) at one chosen call: ``killed_run.py POINT COUNT args...``.

POINT is ``engine`` (the COUNT-th engine call), ``inside`` (the COUNT-th finished item of the engine), ``step`` (the
COUNT-th optimiser step), ``write`` (in the middle of the COUNT-th atomic write) or ``never``. Every engine call is
appended to the file named in DASD_TEST_CALLS.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> int:
    point, count, *args = sys.argv[1:]
    left = {point: int(count)}

    def reached(name: str) -> None:
        if name in left:
            left[name] -= 1
            if left[name] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    import torch

    from dasd_bench.engine.engine import Engine
    from dasd_bench.store import atomic

    torch.set_num_threads(1)
    for name in ("generate", "dual_decode", "score", "loglikelihood"):
        original = getattr(Engine, name)

        def wrapped(
            self: Any, requests: Any, *rest: Any, _name: str = name, _original: Any = original, **more: Any
        ) -> Any:
            reached("engine")
            result = more.pop("on_result", None)

            def on_result(index: int, item: Any) -> None:
                reached("inside")
                if result is not None:
                    result(index, item)

            made = _original(self, requests, *rest, on_result=on_result, **more)
            with open(os.environ["DASD_TEST_CALLS"], "a", encoding="utf-8") as calls:
                calls.write(f"{_name} {len(requests)}\n")
            return made

        setattr(Engine, name, wrapped)
    step = torch.optim.AdamW.step

    def counted_step(self: Any, *rest: Any, **more: Any) -> Any:
        reached("step")
        return step(self, *rest, **more)

    torch.optim.AdamW.step = counted_step  # type: ignore[method-assign]
    replace = os.replace

    def counted_replace(*rest: Any, **more: Any) -> None:
        reached("write")
        replace(*rest, **more)

    atomic.os.replace = counted_replace  # type: ignore[assignment]
    from dasd_bench.cli.main import run_cli

    return run_cli(args)


if __name__ == "__main__":
    sys.exit(main())
