"""Who works on the points of a sweep: this process, or several beside each other on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

from kws_demo.sweep_point import Point, run_point
from toolkit.errors import MilliwiseError

Finished = tuple[Point, str | None]
"""A point, and why it failed, if it did."""


class Executor(Protocol):
    """Runs searches.

    Attributes:
        alone: nothing else runs beside a point, so that it may measure time here.
        here: on this machine, with its data and devices.
    """

    alone: bool
    here: bool

    def run(self, points: Sequence[Point], folder: Path) -> Generator[Finished]:
        """Every point as it finishes, its run folder in `folder` under its name.

        Closing the iterator ends what is under way.
        """


class Here:
    """One point after the other, in this process."""

    alone, here = True, True

    def run(self, points: Sequence[Point], folder: Path) -> Generator[Finished]:
        """See `Executor`. Each search shows its own progress."""
        for point in points:
            yield point, run_point(point, folder / point.name)


class Processes:
    """Several processes of this machine, which share its cores evenly; a fresh one for every point.

    They work in the folders that stay, so a point that is interrupted goes on where it was.
    """

    alone, here = False, True

    def __init__(self, workers: int) -> None:
        cores = len(os.sched_getaffinity(0))
        if not 1 <= workers <= cores:
            raise MilliwiseError(f"--workers {workers} on {cores} cores: give 1 to {cores}")
        self._workers, self._threads = workers, cores // workers

    def run(self, points: Sequence[Point], folder: Path) -> Generator[Finished]:
        """See `Executor`. A process that dies, of too little memory say, is the failure of its point alone."""
        waiting = list(reversed(points))
        running: dict[int, tuple[SpawnProcess, Connection, Point]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    process, answer = self._start(waiting[-1], folder)
                    running[process.sentinel] = process, answer, waiting.pop()
                for sentinel in wait([*running]):
                    process, answer, point = running.pop(int(sentinel))  # type: ignore[arg-type]
                    yield point, _outcome(process, answer)
        finally:
            for process, _answer, _point in running.values():
                process.kill()
                process.join()

    def _start(self, point: Point, folder: Path) -> tuple[SpawnProcess, Connection]:
        context = multiprocessing.get_context("spawn")  # a fork would share locks of torch's threads
        answer, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(point, folder / point.name, self._threads, sender))
        process.start()
        sender.close()  # so that its end is seen when the process dies
        return process, answer


def _outcome(process: SpawnProcess, answer: Connection) -> str | None:
    process.join()
    try:
        return answer.recv_bytes().decode() or None
    except EOFError:
        code = process.exitcode or 0
        how = f"by signal {-code}, out of memory perhaps" if code < 0 else f"with exit code {code}"
        return f"its process ended {how}: go on with --resume, with fewer --workers"
    finally:
        answer.close()


def _work(point: Point, folder: Path, threads: int, sender: Connection) -> None:
    """What a worker process does; it says nothing, for several would talk at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    import torch

    torch.set_num_threads(threads)
    sender.send_bytes((run_point(point, folder) or "").encode())


def _end_with_parent() -> None:
    """Else the worker of a killed sweep would write into a folder that is being resumed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
