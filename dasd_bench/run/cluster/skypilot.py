"""A run as a SkyPilot task: every node joins one Ray cluster, the first one starts the run with ``--launcher ray``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from dasd_bench import __version__
from dasd_bench.run.options import SkyOptions

PORT = 6379
"""Ray's port; SkyPilot's own Ray uses another."""

RUN = """\
head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
if [ "$SKYPILOT_NODE_RANK" = 0 ]; then
  ray start --head --port {port}
  {command}
  ray stop
else
  until ray start --address "$head:{port}"; do sleep 5; done
  # A node stays until the head's Ray ends with the run.
  while ray status --address "$head:{port}" > /dev/null 2>&1; do sleep 10; done
fi
"""


def task_yaml(arguments: Sequence[str], options: SkyOptions) -> str:
    """The task for ``sky launch`` that runs ``dasd-bench`` with ``arguments``, those of its own launcher left out.

    The store and the run directory lie under ``options.storage``, a bucket or volume that all nodes mount.
    """
    share = "num_gpus=1,address=auto" if options.accelerators else "address=auto"
    command = ["dasd-bench", *arguments, "--launcher", "ray", "--ray", share]
    command += ["--store", "/shared/store", "--output", "/shared/run"]
    resources: dict[str, object] = {}
    if options.accelerators:
        resources["accelerators"] = options.accelerators
    if options.infra:
        resources["infra"] = options.infra
    task = {
        "name": "dasd-bench",
        "num_nodes": options.num_nodes,
        "resources": resources,
        "file_mounts": {"/shared": {"source": options.storage, "mode": "MOUNT"}},
        "setup": f"pip install 'dasd-bench[ray]=={__version__}'",
        "run": RUN.format(port=PORT, command=shlex.join(command)),
    }
    return yaml.safe_dump(task, sort_keys=False)
