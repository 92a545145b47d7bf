"""The points of a sweep on a Ray cluster: a node that dies costs time, and nothing else."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kws_demo.sweep_point import Point, keep_files, run_away
from kws_demo.workers import Finished
from toolkit.errors import MilliwiseError, MissingExtra, Unreachable
from toolkit.progress import say

REACH_S, JOIN_S = 5.0, 15.0  # until a port answers, and then Ray
LOOK_S = 30.0  # between looks at who is left, while nothing is done
RETRIES = 5  # of a point whose nodes died: one that kills them itself is given up
PORT = 6379  # that Ray takes by itself
# Tried in a process of its own, for where something else listens Ray tries for minutes, and talks.
PROBE = """
import sys
sys.path = [path for path in sys.path if path]  # a file of the caller's folder could be called ray.py
import json, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", configure_logging=False)
    print(json.dumps({"total": ray.cluster_resources(), "nodes": [n["Resources"] for n in ray.nodes() if n["Alive"]]}))
except Exception as error:
    print(json.dumps({"error": str(error) or type(error).__name__}))
"""


class Cluster:
    """A Ray cluster.

    Args:
        address: `HOST:PORT` of its head. This machine has to be a node of it, if only one without cores.
        workers: points at once, at most; as many as there are cores (or GPUs) unless given.
        gpu: every point takes one.

    Raises:
        Unreachable: nothing answers, or what answers is no Ray cluster.
        MissingExtra: Ray is not installed.
        MilliwiseError: the cluster has other versions, or nothing to train on.
    """

    alone, here = False, False

    def __init__(self, address: str, workers: int | None = None, gpu: bool = False) -> None:
        _require_ray()
        _require_answer(address)
        self._address, self._workers, self._gpu = address, workers, gpu
        self._cores = _cores_each(_probed(address), address, workers, gpu)

    def run(self, points: Sequence[Point], folder: Path) -> Generator[Finished]:
        """See `Executor`. Runs are written here as they arrive."""
        import ray

        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # Ray reports dead nodes on it
            _join(self._address)
            try:
                task = ray.remote(run_away).options(
                    num_cpus=self._cores, num_gpus=int(self._gpu), max_retries=RETRIES, name="milliwise"
                )
                rest = iter(points)
                waiting = {task.remote(point): point for point in islice(rest, self._workers)}
                while waiting:
                    done = self._first(waiting)
                    point = waiting.pop(done)
                    waiting |= {task.remote(following): following for following in islice(rest, 1)}
                    yield point, keep_files(folder / point.name, _result(done))
            finally:
                ray.shutdown()  # which ends what is under way

    def _first(self, waiting: Iterable[Any]) -> Any:
        """The task that is done first. Where nobody is left to work it waits for a node, and says so."""
        import ray

        tasks, told = [*waiting], False
        while not (done := ray.wait(tasks, num_returns=1, timeout=LOOK_S)[0]):
            nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
            if max(nodes, default=0) >= self._cores:
                told = False
            elif not told:
                say(f"sweep: no node of {self._address} has {self._cores} cores any more: waiting for one (ray start)")
                told = True
        return done[0]


def _result(task: Any) -> object:
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return f"{error.cause!r}: install the same milliwise, with its extras, on every node"
    except ray.exceptions.RayError as error:
        return f"given up after {RETRIES} tries, for its node or process died ({error})"


def _require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("ray", "cluster") from None


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise Unreachable(f"the Ray cluster at {address} does not let us in: {' '.join(str(error).split())}") from None


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens, before Ray waits for it."""
    host, colon, port = address.rpartition(":")
    if not (host and "/" not in host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise MilliwiseError(
            f"the Ray address {address!r} is not HOST:PORT: write that of its head, such as box:{PORT}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, UnicodeError) as error:  # a name too long for DNS is no Unicode
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(
            f"no Ray cluster answers at {address} ({reason}): start one with ray start --head, or correct the address"
        ) from None


def _probed(address: str) -> dict[str, Any]:
    """What the cluster has.

    Raises:
        Unreachable: it does not let us in.
    """
    try:
        command = [sys.executable, "-c", PROBE, address]
        done = subprocess.run(command, capture_output=True, timeout=JOIN_S, stdin=subprocess.DEVNULL)
        found = json.loads(done.stdout.splitlines()[-1])
        error = found.get("error")
    except subprocess.TimeoutExpired:
        error = f"not joined within {JOIN_S:.0f} s, for something else listens there, or this machine is no node of it"
    except (ValueError, IndexError, AttributeError):
        error = "Ray ended without an answer"
    if error is None:
        return dict(found)
    told = " ".join(str(error).split())[:400]
    cure = (
        "install the same there and here"
        if "ersion" in told
        else "correct the address, or make this machine a node: ray start --num-cpus 0 --address HOST:PORT"
    )
    raise Unreachable(f"cannot use the Ray cluster at {address}: {told}; {cure}")


def _cores_each(found: dict[str, Any], address: str, workers: int | None, gpu: bool) -> int:
    """How many cores a point takes: one, or an even share among so many workers that no node is too small for."""
    total, nodes = found["total"], [node for node in found["nodes"] if node.get("CPU", 0) >= 1]
    if not nodes:
        raise MilliwiseError(f"no node of the Ray cluster at {address} has a core to work on: add one (ray start)")
    if gpu and total.get("GPU", 0) < 1:
        raise MilliwiseError(f"--device cuda: the Ray cluster at {address} has no GPU; use --device cpu")
    if workers is None:
        return 1
    return max(1, min(int(total["CPU"]) // workers, *(int(node["CPU"]) for node in nodes)))
