"""How long ``dasd-bench view`` takes to list a folder of runs: the first time, and when nothing has changed.

    python benchmarks/view_list.py            # 200 runs, each with a manifest of 70 kB and results of 1 MB

Each run is a copy of one made run with a real manifest. Measured: the whole list page over HTTP from a fresh server.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import tempfile
import threading
import time
from pathlib import Path

from made_run import Size, make_run

from dasd_bench.reporting.view.catalog import Catalog
from dasd_bench.reporting.view.pages import Pages
from dasd_bench.reporting.view.server import ViewServer

MANIFEST = Path(__file__).parents[1] / "results" / "four-tasks-seven-methods" / "manifest.json"


def main() -> None:
    """Makes the folder, lists it twice, prints the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--items", type=int, default=2000, help="Test items per task: the size of results.json.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "runs"
        one = make_run(Path(scratch) / "one", Size(examples=2, tokens=5, items=options.items, seeds=(0, 1), steps=1))
        for number in range(options.runs):
            run = folder / f"run-{number:03d}"
            run.mkdir(parents=True)
            for name in ("results.json", "spec.yaml"):
                shutil.copy(one / name, run / name)
            shutil.copy(MANIFEST, run / "manifest.json")
        size = sum(path.stat().st_size for path in (folder / "run-000").iterdir())
        print(f"{options.runs} runs of {size / 1e6:.1f} MB (manifest, results, specification)")
        with ViewServer(Pages(Catalog([folder]))) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for what in ("first list", "again, nothing changed", "again, nothing changed"):
                started = time.perf_counter()
                data = get(server, "/")
                print(f"{what}: {time.perf_counter() - started:.3f} s, {len(data) / 1e3:.0f} kB")
            started = time.perf_counter()
            get(server, "/runs.json")
            print(f"what an open list asks every 2 to 10 s: {time.perf_counter() - started:.3f} s")
            server.shutdown()


def get(server: ViewServer, path: str) -> bytes:
    """The body of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", path, headers={"Cookie": f"{server.cookie}={server.token}"})
    response = connection.getresponse()
    assert response.status == 200, response.status
    return response.read()


if __name__ == "__main__":
    main()
