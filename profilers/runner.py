"""Time ONNX models on a device: `python runner.py FOLDER` reads FOLDER/job.json and prints JSON lines.

One stand-alone file (standard library, numpy, onnxruntime) that also travels to remote devices. A job is
`{"format": 1, "threads": 1, "seed": 0, "tasks": [...]}`; a task is one of
`{"task": "tight", "models": [file, ...], "rounds": 12, "block_ms": 3.0}`   calls back to back, models interleaved;
    `"known": {file: [block medians in ms]}` are those an interrupted run had measured: they are not measured again
`{"task": "paced", "models": [file, ...], "gap_ms": 50.0, "calls": 200}`    one call per tick, idle between them
`{"task": "parallel", "models": [file, ...], "workers": 2, "plans": [[{"model": file, "takes": [0], "worker": 0}, ...],
    ...]}`   edges of networks as models of their own, dealt to threads; what operation i makes is "taken" as i + 1
`{"task": "memory", "models": [file], "calls": 20}`   what opening and calling one model adds to this process: the only
    task of its job, for memory that something else has used before is used again
Every model is called as a streaming loop calls it: sequential, one thread, no spinning, `state_out_X` fed back as
`state_in_X`. Events: environment, progress, opening (a model: should it kill the process, it is known which), blocks,
paced, memory, load (the share of the machine that others used, and how long the same small work took), failed. Blocks
and load are told as they come, so that an interruption loses no more than a moment's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import platform
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
# Relu of one value. ONNX, so that a device needs no package to make it: IR 7, opset 13.
WARM_UP_MODEL = bytes.fromhex(
    "08073a330a0c0a0178120179220452656c751201775a0f0a0178120a0a0808"
    "0112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)
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
        elapsed_s = time.perf_counter() - begin
        if elapsed_s < 0:
            reason = f"the clock of this device ran backwards by {-elapsed_s:g} s: nothing can be timed on it"
            emit("unfit", reason=reason)  # no model is to blame
            raise SystemExit(reason)
        return round(1000 * elapsed_s, 6)

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
    """What disturbs: the share of the machine that others use (/proc/stat less our own CPU time, over windows of some
    of its ticks), and how long the same small work takes (longer where the processor is slowed down)."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.probes_ms: list[float] = []
        self.work = np.random.default_rng(0).standard_normal((64, 64)).astype("float32")
        self.mark = self._read()

    def look(self, window_s: float = 0.2) -> None:
        if time.monotonic() - self.mark[0] >= window_s:
            before, self.mark = self.mark, self._read()
            share = (self.mark[2] - before[2]) / max(self.mark[1] - before[1], 1e-9)
            self.shares.append(round(min(1.0, max(0.0, share)), 4))
            self.probes_ms.append(min(self._probe() for _ in range(5)))

    def tell(self) -> None:
        """Emit what was seen since the last time."""
        if self.shares:
            emit("load", foreign=self.shares, probes_ms=self.probes_ms)
            self.shares, self.probes_ms = [], []

    def _probe(self) -> float:
        begin = time.perf_counter()
        np.matmul(self.work, self.work)
        return round(max(1e-6, 1000 * (time.perf_counter() - begin)), 6)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds so far: wall clock, all CPUs together, CPU time of others (what a hypervisor stole included)."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        hertz, idle = os.sysconf("SC_CLK_TCK"), ticks[3] + ticks[4]  # idle, and waiting for a disk
        return time.monotonic(), sum(ticks) / hertz, (sum(ticks) - idle) / hertz - time.process_time()


class Blocks:
    """The blocks of back-to-back calls measured of one model; `known_ms` are the medians of those measured before."""

    def __init__(self, listener: Listener, block_ms: float, limit_s: float, known_ms: list[float]) -> None:
        self.listener = listener
        self.blocks_ms = list(known_ms)  # medians: one interrupted call moves the mean of a block, not its median
        self.calls, self.warm_up_calls = warm_up(listener, block_ms, limit_s)
        self.untold: dict[str, list[float]] = {}

    def measure(self) -> None:
        """Measure one block more, again when it is dirty."""
        for left in reversed(range(TRIES)):
            times, dirty = self._block()
            median = statistics.median(times)
            if not dirty or not left:
                break
            self.untold.setdefault("rejected_ms", []).append(median)
        self.blocks_ms.append(median)
        self.untold.setdefault("blocks_ms", []).append(median)
        self.untold.setdefault("means_ms", []).append(round(statistics.fmean(times), 6))

    def _block(self) -> tuple[list[float], bool]:
        for _ in range(2 + self.calls // 10):  # other models ran since our last block: warm the caches again
            self.listener.call()
        before, cpu, begin = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
        times = [self.listener.call() for _ in range(self.calls)]
        away = 1 - (time.process_time() - cpu) / max(time.perf_counter() - begin, 1e-9)
        return times, away > 0.05 or resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before.ru_nivcsw

    def wanted(self, rounds: int) -> bool:
        """Whether one more block is: the floor has not been seen, and the rounds are not yet extended to the most.

        It has been seen when the lowest quarter of the blocks agrees within 2 %: others only add time.
        """
        lowest = sorted(self.blocks_ms)[: max(2, 1 + len(self.blocks_ms) // 4)]
        settled = len(self.blocks_ms) >= rounds and lowest[-1] <= 1.02 * lowest[0]
        return not settled and len(self.blocks_ms) < MAX_EXTENSION * rounds

    def tell(self, name: str) -> None:
        """Emit what was measured since the last time."""
        if "blocks_ms" in self.untold:
            told = {"rejected_ms": [], **self.untold}
            emit("blocks", model=name, calls_per_block=self.calls, warm_up_calls=self.warm_up_calls, **told)
            self.untold = {}


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
        emit("opening", model=name)
        with failure_told(name, models):
            listener = Listener(folder / name, job, limit_s)
            models[name] = Blocks(listener, block_ms, limit_s, task.get("known", {}).get(name, []))
        watch.look()
        told.share(0.4 * (done + 1) / len(task["models"]))
    emit("opened")
    planned = rounds * len(models)
    for done, name in enumerate(interleaved(list(models), MAX_EXTENSION * rounds, job["seed"])):
        if name in models and models[name].wanted(rounds):
            with failure_told(name, models):
                models[name].measure()
            watch.look()
            if told.share(0.4 + 0.6 * (done + 1) / planned):
                _tell(models, watch)
    _tell(models, watch)


def _tell(models: dict[str, Blocks], watch: Watch) -> None:
    for name, blocks in models.items():
        blocks.tell(name)
    watch.tell()


def time_paced(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> None:
    """Time one call per tick (start to start), the process asleep between; several models take turns."""
    gap_s, cold_calls = float(task.get("gap_ms", 50)) / 1000, int(task.get("cold_calls", COLD_CALLS))
    calls = cold_calls + int(task.get("calls", 200))
    models: dict[str, Listener] = {}
    for name in task["models"]:
        emit("opening", model=name)
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
        values, cold = times_ms[name][cold_calls:], times_ms[name][:cold_calls]
        emit("paced", model=name, gap_ms=1000 * gap_s, values_ms=values, warm_up_ms=cold)
    watch.tell()


class Step(Listener):
    """The model of one operation in a plan: it takes values of other steps where a listener hears its audio."""

    def __init__(self, path: Path, job: dict[str, Any], limit_s: float) -> None:
        super().__init__(path, job, limit_s)
        self.names, self.outputs = list(self.inputs), [node.name for node in self.session.get_outputs()]
        self.feed = {**self.inputs, **self.states}

    def run(self, values: list[np.ndarray]) -> np.ndarray:
        """The value it makes of those it takes; its states are kept in the feed dict."""
        self.feed.update(zip(self.names, values, strict=True))
        outputs = self.session.run(self.outputs, self.feed)
        for k, name in self.kept.items():
            self.feed[name] = outputs[k]
        return outputs[0]


class Plan:
    """Steps dealt to workers: place 0 holds the features, place i + 1 what operation i made, handed over as they are.

    One lock for every value that another worker waits for: a plain lock woke a sleeper as fast as any primitive did.
    """

    def __init__(self, rows: list[dict[str, Any]], opened: dict[str, list[Step]]) -> None:
        by = [0, *(row["worker"] for row in rows)]
        turn = {name: iter(steps) for name, steps in opened.items()}
        steps = [next(turn[row["model"]]) for row in rows]
        self.values: list[Any] = [steps[0].inputs[steps[0].names[0]], *(None for _ in rows)]
        self.begins, self.ends = [0.0] * len(by), [0.0] * len(by)
        self.parts: list[list[Any]] = [[] for _ in range(1 + max(by))]
        self.failure: Exception | None = None
        tells: list[list[Any]] = [[] for _ in by]
        awaited: dict[tuple[int, int], Any] = {}
        for place, (row, step) in enumerate(zip(rows, steps, strict=True), 1):
            waits = []
            for taken in row["takes"]:
                key = (taken, by[place])
                if taken and by[taken] != by[place] and key not in awaited:  # once told, it knows
                    awaited[key] = threading.Lock()
                    awaited[key].acquire()
                    waits.append(awaited[key])
                    tells[taken].append(awaited[key])
            self.parts[by[place]].append((waits, step, row["takes"], place, tells[place]))

    def work(self, worker: int) -> None:
        """Do what is that worker's. After a failure the rest is skipped, but told: nobody waits for ever."""
        values, begins, ends, clock = self.values, self.begins, self.ends, time.perf_counter
        for waits, step, takes, place, tells in self.parts[worker]:
            for lock in waits:
                lock.acquire()
            try:
                if not self.failure:
                    begins[place] = clock()
                    values[place] = step.run([values[taken] for taken in takes])
                    ends[place] = clock()
            except Exception as failure:
                self.failure = failure
            for lock in tells:
                lock.release()


class Crew:
    """Workers that run plans: the caller's thread is the first. Each keeps to a core of its own if there are enough."""

    def __init__(self, workers: int) -> None:
        self.allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self.cores = sorted(self.allowed) if len(self.allowed) >= workers else []
        self.plan: Plan | None = None
        self.begin, self.done = ([threading.Lock() for _ in range(workers)] for _ in range(2))
        for lock in (*self.begin, *self.done):
            lock.acquire()
        self.threads = [threading.Thread(target=self._serve, args=(k,), daemon=True) for k in range(1, workers)]
        for thread in self.threads:
            thread.start()
        self._settle(0)

    def run(self, plan: Plan) -> tuple[float, list[float], list[float]]:
        """ms until the caller's part of a plan is done, and when each operation began and ended."""
        self.plan, others = plan, range(1, len(plan.parts))
        start = time.perf_counter()
        for worker in others:
            self.begin[worker].release()
        plan.work(0)
        took = time.perf_counter() - start
        for worker in others:
            self.done[worker].acquire()
        if plan.failure:
            raise SystemExit(f"a plan cannot be run: {' '.join(str(plan.failure).split())[-300:]}")
        begins, ends = ([1000 * (at - start) for at in times[1:]] for times in (plan.begins, plan.ends))
        return 1000 * took, begins, ends

    def close(self) -> None:
        self.plan = None
        for lock in self.begin[1:]:
            lock.release()
        for thread in self.threads:
            thread.join()
        if self.cores:
            os.sched_setaffinity(0, self.allowed)

    def _settle(self, worker: int) -> None:
        if self.cores:
            os.sched_setaffinity(0, {self.cores[worker]})

    def _serve(self, worker: int) -> None:
        self._settle(worker)
        while True:
            self.begin[worker].acquire()
            if self.plan is None:
                return
            self.plan.work(worker)
            self.done[worker].release()


def run_parallel(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> None:
    """Run plans on several workers, block by block and interleaved; of the least block also when each step ran."""
    rounds, block_ms, workers = int(task.get("rounds", 8)), float(task.get("block_ms", 10)), int(task["workers"])
    require_plans(task, workers)
    opened = open_steps(folder, job, task, told)
    whole = {str(k): rows for k, rows in enumerate(task["plans"]) if {row["model"] for row in rows} <= {*opened}}
    ready = {name: Plan(rows, opened) for name, rows in whole.items()}
    blocks: dict[str, list[tuple[float, list[float], list[float]]]] = {name: [] for name in ready}
    crew, watch = Crew(workers), Watch()
    try:
        for done, name in enumerate(interleaved(list(ready), rounds, job["seed"])):
            blocks[name].append(_block(crew, ready[name], block_ms))
            watch.look()
            told.share(0.4 + 0.6 * (done + 1) / (rounds * len(ready)))
    finally:
        crew.close()
    for name, found in blocks.items():
        _least, begins, ends = min(found)
        emit("parallel", plan=int(name), blocks_ms=[block[0] for block in found], begins_ms=begins, ends_ms=ends)
    watch.tell()


def require_plans(task: dict[str, Any], workers: int) -> None:
    """Refuse plans whose workers would wait for ever: an operation takes values of those before it only."""
    for rows in task["plans"]:
        for index, row in enumerate(rows):
            known = row["model"] in task["models"] and row["worker"] in range(workers)
            if not (known and row["takes"] and all(taken in range(index + 1) for taken in row["takes"])):
                raise SystemExit(f"job.json has a plan that cannot be run: {str(row)[:200]}")


def open_steps(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> dict[str, list[Step]]:
    """As many sessions of every file as a plan uses at most: no two operations of a plan share one."""
    opened: dict[str, list[Step]] = {}
    for done, name in enumerate(task["models"]):
        emit("opening", model=name)
        most = max((sum(row["model"] == name for row in rows) for rows in task["plans"]), default=0)
        with failure_told(name, opened):
            opened[name] = [Step(folder / name, job, float(task["limit_s"])) for _ in range(most)]
        told.share(0.4 * (done + 1) / len(task["models"]))
    return opened


def _block(crew: Crew, plan: Plan, block_ms: float) -> tuple[float, list[float], list[float]]:
    """Medians of a block of runs, after two that warm the caches: the makespan, and each step's begin and end."""
    warm = min(crew.run(plan)[0] for _ in range(2))
    runs = [crew.run(plan) for _ in range(min(MAX_CALLS, max(MIN_CALLS, math.ceil(block_ms / max(warm, 1e-6)))))]
    begins, ends = (np.median([run[k] for run in runs], axis=0).round(6).tolist() for k in (1, 2))
    return round(statistics.median(run[0] for run in runs), 6), begins, ends


@contextmanager
def failure_told(name: str, models: dict[str, Any]) -> Iterator[None]:
    """Turn the failure of one model into an event, take it out and go on."""
    try:
        yield
    except FAILURES as failure:
        models.pop(name, None)
        emit("failed", model=name, reason=" ".join(str(failure).split())[-300:])


class Progress:
    """Tells how many tasks are done, a few times a second at most."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.said = total, 0, -math.inf

    def share(self, share: float) -> bool:
        """Whether it was time to tell."""
        due = time.monotonic() - self.said > 0.25
        if due:
            self.said = time.monotonic()
            emit("progress", done=round(self.done + min(share, 1.0), 4), total=self.total)
        return due


def emit(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


class Watched(Listener):
    """A listener that notes the most memory that opening its model took, before the first call."""

    def _first_call(self, limit_s: float) -> None:
        self.load_peak_bytes = memory_bytes("VmHWM")
        super()._first_call(limit_s)


def measure_memory(folder: Path, job: dict[str, Any], task: dict[str, Any], told: Progress) -> None:
    """How much a process grows by that opens one model and calls it as a listener: at most, and for good.

    Before, it opened another model: the libraries, which a first session loads, are no cost of the model.
    """
    return_freed_memory()
    (name,) = task["models"]
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(WARM_UP_MODEL)
        file.flush()
        Listener(Path(file.name), job, LIMIT_S).call()
    with failure_told(name, {}):
        reset_peak()
        before = memory_bytes("VmRSS")
        emit("opening", model=name)  # what fails before is no fault of the model
        listener = Watched(folder / name, job, float(task["limit_s"]))
        calls = int(task.get("calls", 20))
        for call in range(calls):
            listener.call()
            told.share((call + 1) / calls)
        peak, resident = memory_bytes("VmHWM"), memory_bytes("VmRSS")
        found = {"before_bytes": before, "load_peak_bytes": listener.load_peak_bytes}
        emit("memory", model=name, **found, peak_bytes=peak, resident_bytes=resident)


def return_freed_memory() -> None:
    """As `milliwise stream` has it: glibc returns large blocks that are freed, not only those above a growing size."""
    if platform.libc_ver()[0] == "glibc":
        with suppress(OSError, AttributeError):  # a C library that cannot be asked
            ctypes.CDLL(None).mallopt(-3, 131_072)  # M_MMAP_THRESHOLD, see mallopt(3)


def reset_peak() -> None:
    """From now on the peak of this process (VmHWM) is counted anew; it is inherited from the parent otherwise."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise Failed(f"this device does not let a process reset its peak memory: {error}") from None


def memory_bytes(field: str) -> int:
    """VmRSS (in memory now) or VmHWM (the most since the reset) of this process."""
    try:
        rows = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(row.split()[1]) for row in rows if row.startswith(f"{field}:"))
    except (OSError, StopIteration) as error:
        raise Failed(f"this device does not tell the memory of a process: {error or field}") from None


TASKS = {"tight": time_tight, "paced": time_paced, "parallel": run_parallel, "memory": measure_memory}


def checked(job: Any) -> dict[str, Any]:
    """The job with its defaults, or SystemExit with what is wrong with it."""
    if not isinstance(job, dict) or job.get("format") != FORMAT:
        raise SystemExit(f"job.json is not a job of format {FORMAT}")
    for task in job["tasks"]:
        if task.get("task") == "memory" and (len(task["models"]), len(job["tasks"])) != (1, 1):
            raise SystemExit("job.json asks for the memory of several models: each needs a process of its own")
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
