"""What timing told: the times of models, and what disturbed them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BUSY = 0.10  # a share of the machine used by others above this disturbs a measurement
FEW = 0.25  # and a measurement is noisy when more than this share of it was disturbed
MAX_SPREAD = 0.15
SLOWED = 1.15  # the same small work takes this many times as long: the processor was slowed down

Event = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Back-to-back calls of one model, in blocks; `blocks_ms` holds the raw median of each block.

    `noisy` when the lowest quarter of the blocks did not come to agree within 2 % (so the floor may not have been
    seen), or the spread is above 15 %.
    """

    blocks_ms: tuple[float, ...]
    calls_per_block: int

    @property
    def best_ms(self) -> float:
        """The least block median: contention only adds time."""
        return min(self.blocks_ms)

    @property
    def spread(self) -> float:
        """The distance between the quartiles of the blocks, relative to their median."""
        return _spread(self.blocks_ms)

    @property
    def noisy(self) -> bool:
        lowest = sorted(self.blocks_ms)[: max(2, 1 + len(self.blocks_ms) // 4)]
        return lowest[-1] > 1.02 * lowest[0] or self.spread > MAX_SPREAD


@dataclass
class Tight:
    """What a run of back-to-back calls told.

    Attributes:
        timings: of every model that was timed.
        failures: of every other, the reason.
        foreign: readings of the share of the machine that others used.
        probes_ms: how long the same small work took, from time to time.
        finished: nothing is left to be measured.
    """

    timings: dict[str, Timing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    foreign: list[float] = field(default_factory=list)
    probes_ms: list[float] = field(default_factory=list)
    finished: bool = False

    def add(self, event: Event) -> None:
        """Take in one event of the runner (under the caller's names of models)."""
        if event["event"] == "blocks":
            before = self.timings.get(event["model"])
            blocks_ms = (*(before.blocks_ms if before else ()), *event["blocks_ms"])
            self.timings[event["model"]] = Timing(blocks_ms, event["calls_per_block"])
        elif event["event"] == "failed":
            self.failures[event["model"]] = event["reason"]
            self.timings.pop(event["model"], None)
        elif event["event"] == "load":
            self.foreign += event["foreign"]
            self.probes_ms += event.get("probes_ms", ())
        elif event["event"] == "finished":
            self.finished = True

    @property
    def probe_ms(self) -> float | None:
        """The small work at full speed; None if it was never done."""
        return min(self.probes_ms, default=None)

    def disturbances(self) -> tuple[str, ...]:
        """What disturbed the run, in words; nothing where it was quiet."""
        found = []
        if too_many(busy := [share > BUSY for share in self.foreign]):
            most = statistics.median(share for share in self.foreign if share > BUSY)
            found.append(f"others used {100 * most:.0f} % of the machine for {100 * _share(busy):.0f} % of the time")
        slow = [value > SLOWED * min(self.probes_ms) for value in self.probes_ms]
        if too_many(slow):
            found.append(f"the same work took over {SLOWED:g} times as long for {100 * _share(slow):.0f} % of the time")
        return tuple(found)


@dataclass(frozen=True)
class PacedTiming:
    """One call per tick, the process asleep between; `processes` holds the raw calls of each fresh process in order.

    `noisy` when others used more than 10 % of the machine in over a quarter of the readings, or the medians of the
    processes differ by more than 15 %.
    """

    processes: tuple[tuple[float, ...], ...]
    gap_ms: float
    noisy: bool
    foreign: Sequence[float] = ()
    probes_ms: Sequence[float] = ()

    @property
    def values_ms(self) -> tuple[float, ...]:
        return tuple(value for process in self.processes for value in process)


def too_many(disturbed: Sequence[bool]) -> bool:
    """Whether more than FEW of the readings were."""
    return sum(disturbed) > FEW * len(disturbed)


def _share(disturbed: Sequence[bool]) -> float:
    return sum(disturbed) / len(disturbed)


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle
