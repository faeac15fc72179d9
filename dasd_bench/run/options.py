"""Where and how a run is worked off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dasd_bench.options import option


@dataclass(frozen=True, slots=True)
class RayOptions:
    """``--ray``: the cluster's address and what one stage asks for; training in N processes asks for N times that."""

    address: str = option("auto", help="Address of the cluster; auto: this machine's; local: start one here.")
    num_cpus: float = option(1.0, help="CPU cores of a stage.", minimum=0.0)
    num_gpus: float = option(0.0, help="GPUs of a stage.", minimum=0.0)
    memory_gib: float = option(0.0, help="Memory of a stage in GiB; 0 does not ask for any.", minimum=0.0)


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """``--slurm``: options of sbatch, as names and values, for every job."""

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def gpus(self) -> bool:
        """Whether the jobs ask for GPUs."""
        names = {name.replace("-", "_") for name, _ in self.settings}
        return bool(names & {"gpus", "gpus_per_node", "gpus_per_task", "gres"})


@dataclass(frozen=True, slots=True)
class SkyOptions:
    """``--skypilot``: the machines of a SkyPilot task."""

    num_nodes: int = option(1, help="Number of machines.", minimum=1)
    accelerators: str = option("", help="GPUs of a machine, such as H100:8.")
    infra: str = option(
        "", help="Cloud, Kubernetes context or region, such as aws or k8s; SkyPilot chooses by default."
    )
    storage: str = option("s3://dasd-bench", help="Bucket that all machines mount for store and results.")


LAUNCHERS = ("local", "ray", "slurm", "skypilot")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how a run is worked off: nothing here changes what it finds.

    ``output`` is the run directory (default ``runs/<name of the run>``), ``store`` the folder of shared results
    (default in the user's cache). ``processes`` work together on a stage; they train by ``parallel`` = ``data`` or
    ``fsdp``. ``track`` names experiment trackers; ``accept_licences`` the licences the user accepts. ``launcher`` says
    where stages are computed: here, or on a cluster by ``ray`` or ``slurm``, which ``split`` each evaluation into so
    many units. ``assumed_gpu`` names a GPU that a plan is made for; a run ignores it.
    """

    output: Path | None = None
    store: Path | None = None
    processes: int = 1
    parallel: str = "data"
    accept_licences: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
    launcher: str = "local"
    split: int = 1
    ray: RayOptions = RayOptions()
    slurm: SlurmOptions = SlurmOptions()
    sky: SkyOptions = SkyOptions()
    assumed_gpu: str = ""

    @property
    def on_cluster(self) -> bool:
        """Whether this process hands the stages to a cluster."""
        return self.launcher in ("ray", "slurm")

    @property
    def device(self) -> str:
        """The device of a cluster's nodes, or of a plan, which may not be here; empty where stages run here."""
        if self.assumed_gpu:
            return "cuda"
        if not self.on_cluster:
            return ""
        return "cuda" if (self.ray.num_gpus if self.launcher == "ray" else self.slurm.gpus) else "cpu"
