"""Time ONNX models on a device: `python runner.py FOLDER` reads FOLDER/job.json and prints JSON lines.

One stand-alone file (standard library, numpy, onnxruntime) that also travels to remote devices. A job is
`{"format": 1, "threads": 1, "seed": 0, "tasks": [...]}`; a task is one of
`{"task": "tight", "models": [file, ...], "rounds": 12, "block_ms": 3.0}`   calls back to back, models interleaved
`{"task": "paced", "models": [file, ...], "gap_ms": 50.0, "calls": 200}`    one call per tick, idle between them
Every model is called as a streaming loop calls it: sequential, one thread, no spinning, `state_out_X` fed back as
`state_in_X`. Events: environment, progress, tight, paced, load (the share of the machine that others used), failed.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import random
import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

FORMAT = 1
LIMIT_S = 60.0  # a model that needs longer for its part of a task has failed
MAX_INPUT_BYTES = 64_000_000
MIN_CALLS = 3  # fewer calls in a block have no median that one disturbed call cannot move
MAX_CALLS = 2_000
TRIES = 3  # a dirty block is measured this often at most
MAX_EXTENSION = 3  # and the rounds are extended to at most this multiple
COLD_CALLS = 5  # a paced listener's first calls, kept apart
NUMBERS = ("float", "double", "float16", "bool", "int8", "uint8", "int32", "int64")


class Failed(Exception):
    """A model cannot be timed; the message is the reason."""


_KINDS = [kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type)]
FAILURES: tuple[type[Exception], ...] = (Failed, *(kind for kind in _KINDS if issubclass(kind, Exception)))


class Listener:
    """A model called as a streaming loop calls it: a plain feed dict in, the new states kept for the next call."""

    def __init__(self, path: Path, job: dict[str, Any], limit_s: float) -> None:
        self.session = open_session(path, job["threads"], job["provider"])
        outputs = [node.name for node in self.session.get_outputs()]
        feed = {node.name: first_value(node, job["seed"]) for node in self.session.get_inputs()}
        kept = {k: f"state_in_{name[10:]}" for k, name in enumerate(outputs) if name.startswith("state_out_")}
        if missing := [name for name in kept.values() if name not in feed]:
            raise Failed(f"a state has an output but no input {missing[0]}")
        self.states = {name: feed.pop(name) for name in kept.values()}
        self.inputs, self.kept = feed, kept
        self._first_call(limit_s)

    def call(self, options: onnxruntime.RunOptions | None = None) -> float:
        """Hear one hop; the milliseconds it took, the feed dict and the swap of the states included."""
        begin = time.perf_counter()
        outputs = self.session.run(None, {**self.inputs, **self.states}, options)
        self.states = {name: outputs[k] for k, name in self.kept.items()}
        return round(1000 * (time.perf_counter() - begin), 6)

    def _first_call(self, limit_s: float) -> None:
        """A call that onnxruntime itself ends when it lasts longer than `limit_s`."""
        options = onnxruntime.RunOptions()
        watchdog = threading.Timer(limit_s, lambda: setattr(options, "terminate", True))
        watchdog.start()
        try:
            self.call(options)
        except FAILURES:
            if options.terminate:
                raise Failed(f"one call takes longer than {limit_s:g} s") from None
            raise
        finally:
            watchdog.cancel()


def open_session(path: Path, threads: int, provider: str) -> onnxruntime.InferenceSession:
    """A session with the options a listener ships with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:  # what it would measure is not what was asked for
        raise Failed(f"onnxruntime fell back from {provider} to {session.get_providers()[0]}")
    return session


def first_value(node: Any, seed: int) -> np.ndarray:
    """Zeros for a state and for whole numbers, quiet noise for all else."""
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in NUMBERS or not all(isinstance(size, int) and size > 0 for size in node.shape):
        raise Failed(f"its input {node.name} is {node.type}{node.shape}: export it with fixed sizes and a number type")
    dtype = np.dtype("float32" if kind == "float" else kind)
    if math.prod(node.shape) * dtype.itemsize > MAX_INPUT_BYTES:
        raise Failed(f"its input {node.name} has the shape {node.shape}, more than {MAX_INPUT_BYTES} bytes")
    if node.name.startswith("state_in_") or dtype.kind != "f":
        return np.zeros(node.shape, dtype)
    return (0.1 * np.random.default_rng(seed).standard_normal(node.shape)).clip(-1, 1).astype(dtype)


class Watch:
    """The share of the machine that others use: /proc/stat less our own CPU time, over windows of some of its ticks."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.mark = self._read()

    def look(self, window_s: float = 0.2) -> None:
        if time.monotonic() - self.mark[0] >= window_s:
            before, self.mark = self.mark, self._read()
            share = (self.mark[2] - before[2]) / max(self.mark[1] - before[1], 1e-9)
            self.shares.append(round(min(1.0, max(0.0, share)), 4))

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds so far: wall clock, all CPUs together, CPU time of others (what a hypervisor stole included)."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        hertz, idle = os.sysconf("SC_CLK_TCK"), ticks[3] + ticks[4]  # idle, and waiting for a disk
        return time.monotonic(), sum(ticks) / hertz, (sum(ticks) - idle) / hertz - time.process_time()


class Blocks:
    """The blocks of back-to-back calls measured of one model."""

    def __init__(self, listener: Listener, block_ms: float, limit_s: float) -> None:
        self.listener = listener
        self.blocks_ms: list[float] = []  # medians: one interrupted call moves the mean of a block, not its median
        self.means_ms: list[float] = []
        self.rejected_ms: list[float] = []  # medians of dirty blocks that were repeated
        self.dirty = 0  # blocks during which we lost the CPU, repeated ones included
        self.calls, self.warm_up_calls = warm_up(listener, block_ms, limit_s)

    def measure(self) -> None:
        """Measure one block more, again when it is dirty."""
        for left in reversed(range(TRIES)):
            times, dirty = self._block()
            self.dirty += dirty
            if not dirty or not left:
                break
            self.rejected_ms.append(statistics.median(times))
        self.blocks_ms.append(statistics.median(times))
        self.means_ms.append(round(statistics.fmean(times), 6))

    def _block(self) -> tuple[list[float], bool]:
        for _ in range(2 + self.calls // 10):  # other models ran since our last block: warm the caches again
            self.listener.call()
        before, cpu, begin = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
        times = [self.listener.call() for _ in range(self.calls)]
        away = 1 - (time.process_time() - cpu) / (time.perf_counter() - begin)
        return times, away > 0.05 or resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before.ru_nivcsw

    def settled(self) -> bool:
        """Whether the lowest quarter of the blocks agrees within 2 %: others only add time, so that is the floor."""
        lowest = sorted(self.blocks_ms)[: max(2, 1 + len(self.blocks_ms) // 4)]
        return lowest[-1] <= 1.02 * lowest[0]

    def result(self) -> dict[str, Any]:
        raw = {"blocks_ms": self.blocks_ms, "means_ms": self.means_ms, "rejected_ms": self.rejected_ms}
        calls = {"calls_per_block": self.calls, "warm_up_calls": self.warm_up_calls}
        return {**raw, **calls, "dirty": self.dirty, "settled": self.settled()}


def warm_up(listener: Listener, block_ms: float, limit_s: float) -> tuple[int, int]:
    """Call until two successive windows agree within 5 %; (the calls that fill a block, the calls made)."""
    calls, made, before, begin = MIN_CALLS, 0, math.inf, time.perf_counter()
    for _ in range(30):
        made, now = made + calls, statistics.median(listener.call() for _ in range(calls))
        if time.perf_counter() - begin > limit_s:
            raise Failed(f"its warm-up takes longer than {limit_s:g} s")
        wanted = min(MAX_CALLS, max(MIN_CALLS, math.ceil(block_ms / max(now, 1e-6))))
        agree, full = abs(now - before) <= 0.05 * now, calls >= wanted / 2
        calls, before = (wanted if full else min(wanted, 4 * calls)), now
        if agree and full:
            break
    return calls, made


def interleaved(names: list[str], rounds: int, seed: int) -> Iterator[str]:
    """Every name once per round, in a new order each round."""
    chance = random.Random(seed)
    for _ in range(rounds):
        yield from chance.sample(names, len(names))


def time_tight(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> None:
    """Time blocks of back-to-back calls, interleaved over the models, until the floor of each is seen (capped)."""
    rounds, block_ms, limit_s = int(task.get("rounds", 12)), float(task.get("block_ms", 3)), float(task["limit_s"])
    models: dict[str, Blocks] = {}
    watch = Watch()
    for done, name in enumerate(task["models"]):
        with failure_told(name, models):
            models[name] = Blocks(Listener(folder / name, job, limit_s), block_ms, limit_s)
        watch.look()
        told.share(0.4 * (done + 1) / len(task["models"]))
    planned = rounds * len(models)
    for done, name in enumerate(interleaved(list(models), MAX_EXTENSION * rounds, job["seed"])):
        if name in models and (done < planned or not models[name].settled()):
            with failure_told(name, models):
                models[name].measure()
            watch.look()
            told.share(0.4 + 0.6 * (done + 1) / planned)
    for name, blocks in models.items():
        emit("tight", model=name, **blocks.result())
    emit("load", foreign=watch.shares)


def time_paced(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> None:
    """Time one call per tick (start to start), the process asleep between; several models take turns."""
    gap_s, calls = float(task.get("gap_ms", 50)) / 1000, COLD_CALLS + int(task.get("calls", 200))
    models: dict[str, Listener] = {}
    for name in task["models"]:
        with failure_told(name, models):
            models[name] = Listener(folder / name, job, float(task["limit_s"]))
    times_ms: dict[str, list[float]] = {name: [] for name in models}
    watch, tick = Watch(), time.perf_counter()
    for turn in range(calls):
        for name in list(models):
            tick = max(tick + gap_s, time.perf_counter())  # a late call moves the ticks, it does not queue them
            time.sleep(max(0.0, tick - time.perf_counter()))
            with failure_told(name, models):
                times_ms[name].append(models[name].call())
            watch.look()
        told.share((turn + 1) / calls)
    for name in models:
        values, cold = times_ms[name][COLD_CALLS:], times_ms[name][:COLD_CALLS]
        emit("paced", model=name, gap_ms=1000 * gap_s, values_ms=values, warm_up_ms=cold)
    emit("load", foreign=watch.shares)


@contextmanager
def failure_told(name: str, models: dict[str, Any]) -> Iterator[None]:
    """Turn the failure of one model into an event, take it out and go on."""
    try:
        yield
    except FAILURES as failure:
        emit("failed", model=name, reason=" ".join(str(failure).split())[-300:])
        models.pop(name, None)


class Progress:
    """Tells how many tasks are done, a few times a second at most."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.said = total, 0, -math.inf

    def share(self, share: float) -> None:
        if time.monotonic() - self.said > 0.25:
            self.said = time.monotonic()
            emit("progress", done=round(self.done + min(share, 1.0), 4), total=self.total)


def emit(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


TASKS = {"tight": time_tight, "paced": time_paced}


def checked(job: Any) -> dict[str, Any]:
    """The job with its defaults, or SystemExit with what is wrong with it."""
    if not isinstance(job, dict) or job.get("format") != FORMAT:
        raise SystemExit(f"job.json is not a job of format {FORMAT}")
    for task in job["tasks"]:
        if task.get("task") not in TASKS:
            raise SystemExit(f"job.json asks for the task {task.get('task')!r}; there are {', '.join(TASKS)}")
        if bad := [name for name in task["models"] if name != os.path.basename(name) or name in ("", "..")]:
            raise SystemExit(f"job.json names {bad[0]!r}, which is not a plain file name")
    tasks = [{"limit_s": LIMIT_S, **task} for task in job["tasks"]]
    return {"threads": 1, "seed": 0, "provider": "CPUExecutionProvider", **job, "tasks": tasks}


def main(folder: Path) -> None:
    job = checked(json.loads((folder / "job.json").read_bytes()))
    versions = {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    emit("environment", **versions, cpu_count=os.cpu_count(), architecture=platform.machine(), threads=job["threads"])
    gc.disable()
    told = Progress(len(job["tasks"]))
    for done, task in enumerate(job["tasks"]):
        told.done = done
        TASKS[task["task"]](folder, job, task, told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
