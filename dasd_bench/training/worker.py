"""One of several processes that train together: ``python -m dasd_bench.training.worker JOB_FOLDER``.

Started by ``dasd-bench run --processes N``, with torchrun's environment variables.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from dasd_bench.console import Console
from dasd_bench.errors import DasdError
from dasd_bench.store.atomic import write_json
from dasd_bench.training.distributed import joined
from dasd_bench.training.job import build_job_method, do_job, read_job, write_result


def main(folder: Path) -> int:
    """Does this process's part of the job; the first process tells its news as JSON lines on standard output."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    rank = int(os.environ.get("RANK", "0"))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(json_events=True, stream=sys.stdout if rank == 0 else nowhere)
        job, data = read_job(folder)
        try:
            with joined(job.device.split(":")[0]) as processes:
                result = do_job(job, data, processes, console, build_job_method(job))
        except DasdError as error:
            write_json(folder / f"failed-{rank}.json", {"kind": type(error).__name__, "text": str(error)})
            return 1
    if rank == 0:
        write_result(folder, result)
    return 0


def _end_with_parent(parent: int) -> None:
    """Ends this process when the one that started it is gone: nobody else may go on with its files meanwhile."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
