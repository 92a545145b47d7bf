"""Time named models on a target by one clock or the other, keeping what is measured as it comes."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from profilers.bundle import BundleTarget
from profilers.clock import CannotTime, measure_tight, time_paces
from profilers.memory import CannotMeasure, CannotTell, memory_of
from profilers.partial import Partial
from profilers.plan import groups
from profilers.target import PutOff, RunnerEnded, Target
from profilers.timing import FEW, Tight, Timing
from toolkit.progress import progress

TURNS = 2  # in which paced models are timed: what drifts meets all of them
SLOWER = 1.08  # a process in which the same small work took this many times as long as in another was slowed down


@dataclasses.dataclass(frozen=True)
class Time:
    """What a model takes: the least block median of a tight loop, or the median of paced calls; its relative spread."""

    ms: float
    spread: float
    noisy: bool


class Session:
    """Measurements of one profile.

    Attributes:
        times: of every model that could be timed.
        failures: of every other, the reason.
        put_off: the target answers another day; what was asked of it.
        no_memory: why the device does not tell the memory of any network, if so.
        memory_failures: why it could not be told of some networks.
        anchors: models that every tight-loop process times beside its own.
    """

    def __init__(self, target: Target, threads: int, seed: int, parts: Partial) -> None:
        self.target = target
        self.threads = threads
        self.seed = seed
        self.parts = parts
        self.times: dict[str, Time] = {}
        self.failures: dict[str, str] = {}
        self.put_off: list[PutOff] = []
        self.no_memory: str | None = None
        self.memory_failures: list[str] = []
        self.anchors: dict[str, bytes] = {}
        self.usual_ms: dict[str, float] = {}  # of the anchors, as `level` found it
        self._processes: list[dict[str, Timing]] = []
        self._calls_ms: dict[str, list[float]] = {}
        self._watched = Tight()  # what disturbed all processes together
        self._slow = False

    def tight(self, title: str, models: Iterable[tuple[str, bytes]], rounds: int) -> None:
        """Time models back to back, as many in a process as it is to hold; again where the device was slowed down."""
        for index, group in enumerate(groups(models)):
            name = title if not index else f"{title} ({index + 1})"
            carried = isinstance(self.target, BundleTarget)  # it answers what it was once asked, failures included
            group |= {anchor: model for anchor, model in self.anchors.items() if carried or anchor not in self.failures}
            found = self._asked(functools.partial(self._tight, name, group, rounds))
            if found is None:
                continue
            if self._slowed(found):
                if not carried:
                    found = self._tight(f"{name} again, for the device was slow", group, rounds)
                self._slow = self._slow or self._slowed(found)
            self._watched.foreign += found.foreign
            self._watched.probes_ms += found.probes_ms
            self.failures.update(found.failures)
            self._processes.append(found.timings)
            for model in found.timings.keys() - self.anchors.keys():
                timing = found.timings[model]
                self.times[model] = Time(timing.best_ms, timing.spread, timing.noisy)

    def level(self) -> None:
        """Take out of tight-loop times what sets processes apart, as the anchors tell: some are a few percent slower.

        Every process is brought to the median of all. Call it once, when everything is measured.
        """
        common = [name for name in self.anchors if all(name in timings for timings in self._processes)]
        if not common or not self._processes:
            return
        self.usual_ms = {
            name: statistics.median(timings[name].best_ms for timings in self._processes) for name in common
        }
        for timings in self._processes:
            slower = self.slower(timings)
            for name in timings.keys() & self.times.keys():
                self.times[name] = dataclasses.replace(self.times[name], ms=self.times[name].ms / slower)

    def slower(self, timings: Mapping[str, Timing]) -> float:
        """How many times as long as usual a process with these timings takes, by the anchors (after `level`)."""
        if not self.usual_ms:
            return 1.0
        return statistics.geometric_mean(timings[name].best_ms / usual for name, usual in self.usual_ms.items())

    def _tight(self, name: str, models: dict[str, bytes], rounds: int) -> Tight:
        known = Tight()
        for event in self.parts.parts.get(name, ()):
            known.add(event)
        return measure_tight(
            models,
            self.target,
            threads=self.threads,
            rounds=rounds,
            seed=self.seed,
            title=f"{name}: {len(models)} models",
            known=known,
            keep=lambda event: self.parts.add(name, event),
        )

    def _slowed(self, found: Tight) -> bool:
        """Whether the fastest that the device did the same small work is much slower than it was before."""
        before = self._watched.probe_ms
        return found.probe_ms is not None and before is not None and found.probe_ms > SLOWER * before

    def paced(
        self, title: str, models: Callable[[], Iterable[tuple[str, bytes]]], total: int, gap_ms: float, calls: int
    ) -> None:
        """Time models one call per `gap_ms`, each in processes of its own, all of them by turns."""
        with progress(title, TURNS * total) as advance:
            for turn in range(TURNS):
                for name, model in models():
                    if name not in self.failures:
                        self.calls(name, model, [(gap_ms, math.ceil(calls / TURNS))], turn)
                    advance(1)

    def calls(
        self, name: str, model: bytes, paces: Sequence[tuple[float, int]], turn: int = 0
    ) -> list[tuple[float, ...]]:
        """The ms of single calls, at every pace (gap in ms, calls), in one process; none where the model fails.

        The median at the first pace, of all turns, is the model's time; it is noisy where one of the turns was.
        """
        part = f"calls of {name}" if not turn else f"calls of {name}, turn {turn + 1}"
        rows = self._asked(lambda: self.parts.keep(part, lambda: self._calls(model, paces)))
        if rows is None:
            return []
        if "failed" in rows[0]:
            self.failures[name] = rows[0]["failed"]
            self.times.pop(name, None)
            return []
        self._watched.foreign += rows[0]["foreign"]
        self._watched.probes_ms += rows[0]["probes_ms"]
        values = self._calls_ms.setdefault(name, [])
        values += rows[0]["values_ms"]
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        noisy = rows[0]["noisy"] or (name in self.times and self.times[name].noisy)
        self.times[name] = Time(middle, (high - low) / middle / len(values) ** 0.5, noisy)
        return [tuple(row["values_ms"]) for row in rows]

    def _calls(self, model: bytes, paces: Sequence[tuple[float, int]]) -> list[dict[str, Any]]:
        try:
            timings = time_paces(model, self.target, paces, threads=self.threads, seed=self.seed)
        except (CannotTime, RunnerEnded) as error:
            return [{"failed": str(error)}]
        watched = {"foreign": timings[0].foreign, "probes_ms": timings[0].probes_ms}  # of all paces together
        return [{"values_ms": list(timing.values_ms), "noisy": timing.noisy, **watched} for timing in timings]

    def memory(self, name: str, model: bytes) -> int | None:
        """By how many bytes a fresh process grows that opens and calls the model; None where that cannot be told."""
        row = self._asked(lambda: self.parts.keep(f"memory of {name}", lambda: self._memory(model)))
        if row is not None and "failed" in row:
            self.memory_failures.append(row["failed"])
            if row["of_any"]:
                self.no_memory = row["failed"]
        return None if row is None else row.get("increment_bytes")

    def _memory(self, model: bytes) -> dict[str, Any]:
        try:
            found = memory_of(model, self.target, threads=self.threads, seed=self.seed)
        except (CannotMeasure, RunnerEnded) as error:
            return {"failed": str(error), "of_any": isinstance(error, CannotTell)}
        return {"increment_bytes": found.increment_bytes}

    def _asked(self, measure: Callable[[], Any]) -> Any:
        """What `measure` gives; None where the target puts it off."""
        try:
            return measure()
        except PutOff as later:
            self.put_off.append(later)
            return None

    def disturbances(self) -> tuple[str, ...]:
        """What disturbed the measurements, in words; nothing where it was quiet."""
        found = list(self._watched.disturbances())
        if self._slow:
            found.append("the device became slower in the middle (heat or power?)")
        noisy = sum(time.noisy for time in self.times.values())
        if noisy > FEW * len(self.times):
            found.append(f"{noisy} of {len(self.times)} models did not settle")
        return tuple(found)
