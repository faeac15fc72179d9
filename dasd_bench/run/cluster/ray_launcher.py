"""Units of work as Ray tasks: a unit starts when what it needs is done and a node has room for it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dasd_bench.errors import DasdError, UsageError
from dasd_bench.run.cluster.board import Board
from dasd_bench.run.cluster.units import Unit
from dasd_bench.run.cluster.work import Outcome, WorkOrder, blocked, check_node, crashed, work
from dasd_bench.run.options import RayOptions

RETRIES = 5
"""How often a unit is started again after its node or its process died."""

CONNECT_SECONDS = 10.0

NEWS_SECONDS = 1.0
"""Time between two looks at finished units and progress."""


def check_ray() -> None:
    """Raises :class:`UsageError` where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--launcher ray needs Ray: pip install 'dasd-bench[ray]'.")


def run_units(
    units: Sequence[Unit], orders: Mapping[str, WorkOrder], options: RayOptions, board: Board
) -> dict[str, Outcome]:
    """Runs all units and gives the outcome of each, by id. Interrupted, it cancels what is running."""
    import ray

    with _connected(options.address):
        _check_nodes(next(iter(orders.values())))
        wanted = {unit.id: _resources(orders[unit.id], unit, options) for unit in units}
        for unit in units:
            _check_room(unit, wanted[unit.id])
        here = _on_node(ray.get_runtime_context().get_node_id())
        news = ray.remote(num_cpus=0, max_restarts=-1)(News).options(scheduling_strategy=here).remote()
        task = ray.remote(max_retries=RETRIES)(_work)
        outcomes: dict[str, Outcome] = {}
        running: dict[Any, Unit] = {}
        waiting = list(units)
        try:
            while waiting or running:
                for unit in [one for one in waiting if all(need.id in outcomes for need in one.needs)]:
                    waiting.remove(unit)
                    failed = blocked(unit, outcomes)
                    if failed is not None:
                        outcomes[unit.id] = failed
                        continue
                    running[task.options(**wanted[unit.id]).remote(orders[unit.id], news)] = unit
                done, _ = ray.wait(list(running), timeout=NEWS_SECONDS) if running else ([], [])
                for title, fields in _latest(news).items():
                    board.progress(title, fields)
                for one in done:
                    unit = running.pop(one)
                    outcomes[unit.id] = _outcome(one, unit)
                    board.finished(unit.title, outcomes[unit.id])
        except BaseException:
            for one in running:
                ray.cancel(one, force=True)
            raise
        return outcomes


class News:
    """The latest progress of every running unit; an actor on the node of the run's own process."""

    def __init__(self) -> None:
        self._latest: dict[str, dict[str, Any]] = {}

    def put(self, title: str, fields: dict[str, Any]) -> None:
        """Takes one progress event."""
        self._latest[title] = fields

    def take(self) -> dict[str, dict[str, Any]]:
        """The progress since the last call."""
        latest, self._latest = self._latest, {}
        return latest


def _latest(news: Any) -> dict[str, dict[str, Any]]:
    import ray

    try:
        latest: dict[str, dict[str, Any]] = ray.get(news.take.remote())
    except ray.exceptions.RayError:
        # Its process died, for lack of memory for instance; Ray starts it again, and the units go on meanwhile.
        return {}
    return latest


def _work(given: WorkOrder, news: Any) -> Outcome:
    return work(given, lambda fields: news.put.remote(given.title, fields))


def _node_fault(given: WorkOrder) -> str:
    try:
        check_node(given)
    except DasdError as error:
        return str(error)
    return ""


def _check_nodes(given: WorkOrder) -> None:
    """Raises where a node of the cluster has other packages or does not see the store."""
    import ray

    task = ray.remote(num_cpus=0)(_node_fault)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    faults = ray.get([task.options(scheduling_strategy=_on_node(node)).remote(given) for node in nodes])
    fault = next(filter(None, faults), "")
    if fault:
        raise UsageError(fault)


RAY_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""What a node calls the resources that a task asks for."""


def _check_room(unit: Unit, wanted: dict[str, Any]) -> None:
    """Raises where no node has what a unit asks for: Ray would let it wait for ever."""
    import ray

    asked = {ray_name: wanted[name] for name, ray_name in RAY_NAMES.items() if name in wanted}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
        units = {"CPU": "CPU cores", "GPU": "GPUs", "memory": "bytes of memory"}
        text = ", ".join(f"{amount:g} {units[name]}" for name, amount in asked.items() if amount)
        raise UsageError(
            f"No node of the Ray cluster has what '{unit.title}' asks for ({text}); ask for less with --ray or "
            "--processes, or start the node first."
        )


def _on_node(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _resources(given: WorkOrder, unit: Unit, options: RayOptions) -> dict[str, Any]:
    """What a unit asks for: a share for each of its processes."""
    shares = given.processes
    wanted: dict[str, Any] = {"name": unit.title, "num_cpus": options.num_cpus * shares}
    if options.num_gpus:
        wanted["num_gpus"] = options.num_gpus * shares
    if options.memory_gib:
        wanted["memory"] = int(options.memory_gib * 2**30) * shares
    return wanted


def _outcome(one: Any, unit: Unit) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(one)
    except ray.exceptions.RayError as error:
        return crashed(unit.title, error)
    return outcome


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection to the cluster; ``local`` starts one on this machine."""
    import ray

    host, colon, port = address.rpartition(":")
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if colon and port.isdigit():
            # Ray itself would wait for minutes.
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"There is no Ray cluster at '{address}' ({' '.join(str(error).split())[:160]}); start one with ray start "
            "--head, name it with --ray address=HOST:PORT, or use --ray address=local."
        ) from None
    # Ray's own handler would end the process before the run says what is saved.
    signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        ray.shutdown()
