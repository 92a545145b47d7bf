"""Turn the runner's events into trustworthy times: back to back (tight) and one call per hop (paced)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers.target import Target
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

BUSY = 0.10  # a share of the machine used by others above this disturbs a measurement
FEW = 0.25  # and a measurement is noisy when more than this share of it was disturbed
MAX_SPREAD = 0.15
CHECK_CALLS = 400  # of a check: enough for a narrow bound of the 95th percentile

Model = bytes | Path


@dataclass(frozen=True)
class Timing:
    """Back-to-back calls of one model, in blocks; `blocks_ms` holds the raw median of each block.

    `noisy` when the lowest quarter of the blocks did not come to agree within 2 % (so the floor may not have been
    seen), the spread is above 15 %, or others used more than 10 % of the machine in over a quarter of the readings.
    """

    blocks_ms: tuple[float, ...]
    calls_per_block: int
    dirty: int  # blocks in which the CPU was lost; these were repeated
    noisy: bool

    @property
    def best_ms(self) -> float:
        """The least block median: contention only adds time."""
        return min(self.blocks_ms)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.blocks_ms)

    @property
    def spread(self) -> float:
        """The distance between the quartiles of the blocks, relative to their median."""
        return _spread(self.blocks_ms)


@dataclass(frozen=True)
class PacedTiming:
    """One call per tick, the process asleep between; `processes` holds the raw calls of each fresh process in order.

    `noisy` when others used more than 10 % of the machine in over a quarter of the readings, or the medians of the
    processes differ by more than 15 %.
    """

    processes: tuple[tuple[float, ...], ...]
    gap_ms: float
    noisy: bool

    @property
    def values_ms(self) -> tuple[float, ...]:
        return tuple(value for process in self.processes for value in process)


def time_tight(
    models: Mapping[str, Model],
    target: Target,
    *,
    threads: int = 1,
    rounds: int = 12,
    block_ms: float = 3.0,
    seed: int = 0,
    title: str = "timing",
) -> dict[str, Timing]:
    """Time models back to back in one fresh process, their blocks interleaved.

    Raises:
        MilliwiseError: a model (named) does not load or run on the target, or the target fails.
    """
    if not models:
        return {}
    task = {"task": "tight", "rounds": rounds, "block_ms": block_ms}
    (events,) = _run([task], models, target, threads, seed, title)
    disturbed = _disturbed(events)
    found = _by_model(events, "tight", models)
    return {
        name: Timing(
            blocks_ms=tuple(event["blocks_ms"]),
            calls_per_block=event["calls_per_block"],
            dirty=event["dirty"],
            noisy=disturbed or not event["settled"] or _spread(event["blocks_ms"]) > MAX_SPREAD,
        )
        for name, event in found.items()
    }


def time_paced(
    model: Model,
    target: Target,
    *,
    hop_ms: float = 200.0,
    gap_ms: float = 50.0,
    calls: int = CHECK_CALLS,
    processes: int = 2,
    threads: int = 1,
    seed: int = 0,
    title: str = "timing at the pace of a stream",
) -> PacedTiming:
    """Time a whole listener as a stream calls it, in fresh processes that share the calls.

    A call starts every `gap_ms`, or every `hop_ms` where that is shorter: the pace of the result is its `gap_ms`.

    Raises:
        MilliwiseError: the model does not load or run on the target, or the target fails.
    """
    shares = [calls // processes + (index < calls % processes) for index in range(processes)]
    tasks = [{"task": "paced", "gap_ms": min(gap_ms, hop_ms), "calls": share} for share in shares]
    runs = _run(tasks, {"the model": model}, target, threads, seed, title)
    found = [_by_model(events, "paced", ["the model"])["the model"] for events in runs]
    return _paced(found, any(_disturbed(events) for events in runs))


def upper_quantile_rank(n: int, quantile: float = 0.95, confidence: float = 0.95) -> int:
    """The rank (from 1) of the sorted value that bounds a quantile from above, distribution-free.

    The least r with P(Binomial(n, quantile) >= r) <= 1 - confidence: the r-th value lies below the true quantile
    only when r or more of the n values do.

    >>> upper_quantile_rank(400)
    388

    Raises:
        MilliwiseError: with so few values even the largest is no bound.
    """
    least = math.ceil(math.log(1 - confidence) / math.log(quantile))
    if n < least:
        raise MilliwiseError(f"{n} calls cannot bound the {quantile:.0%} quantile: measure at least {least}")
    rank, tail = n, quantile**n  # tail = P(at least `rank` of the values lie below the quantile)
    while True:
        below = rank - 1
        ways = math.lgamma(n + 1) - math.lgamma(below + 1) - math.lgamma(n - below + 1)
        tail += math.exp(ways + below * math.log(quantile) + (n - below) * math.log(1 - quantile))
        if tail > 1 - confidence:
            return rank
        rank = below


def _run(
    tasks: Sequence[dict[str, Any]], models: Mapping[str, Model], target: Target, threads: int, seed: int, title: str
) -> list[list[dict[str, Any]]]:
    """Run every task over all models in a process of its own; the events of each, under the caller's names."""
    names = {f"{index}.onnx": name for index, name in enumerate(models)}
    files = dict(zip(names, models.values(), strict=True))
    runs = []
    with progress(title, len(tasks)) as advance:
        for task in tasks:
            job = {"format": 1, "threads": threads, "seed": seed, "tasks": [{**task, "models": list(names)}]}
            told = _Told(advance)
            events = target.run(job, files, told)
            told.until(1.0)
            runs.append([{**event, "model": names.get(event.get("model", ""))} for event in events])
    return runs


class _Told:
    """Moves the bar to where the runner says it is."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self.advance, self.done = advance, 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "progress":
            self.until(event["done"] / event["total"])

    def until(self, share: float) -> None:
        self.advance(max(0.0, share - self.done))
        self.done = max(self.done, share)


def _by_model(
    events: Sequence[Mapping[str, Any]], kind: str, names: Mapping[str, Model] | Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The events of a kind by model, in the order of `names`; nothing that failed or is missing counts."""
    for event in events:
        if event["event"] == "failed":
            raise MilliwiseError(f"cannot time {event['model']}: {event['reason']}")
    found = {event["model"]: event for event in events if event["event"] == kind}
    if missing := [name for name in names if name not in found]:
        raise MilliwiseError(f"the measuring process said nothing about {missing[0]}: measure again")
    return {name: found[name] for name in names}


def _disturbed(events: Sequence[Mapping[str, Any]]) -> bool:
    shares = [share for event in events if event["event"] == "load" for share in event["foreign"]]
    return sum(share > BUSY for share in shares) > FEW * len(shares)


def _paced(found: Sequence[Mapping[str, Any]], disturbed: bool) -> PacedTiming:
    processes = tuple(tuple(event["values_ms"]) for event in found)
    medians = [statistics.median(process) for process in processes]
    return PacedTiming(processes, found[0]["gap_ms"], disturbed or max(medians) > (1 + MAX_SPREAD) * min(medians))


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle
