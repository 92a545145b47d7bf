"""Turn the runner's events into trustworthy times: back to back (tight) and one call per hop (paced)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profilers.target import RunnerEnded, Target
from profilers.timing import BUSY, MAX_SPREAD, Event, PacedTiming, Tight, Timing, too_many
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

MAX_DEATHS = 10  # of the measuring process, each by another model: a deadly edge is in several
CHECK_CALLS = 400  # of a check: enough for a narrow bound of the 95th percentile

Model = bytes | Path


class CannotTime(MilliwiseError):
    """A model does not load or run on the target."""


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
    found = measure_tight(models, target, threads=threads, rounds=rounds, block_ms=block_ms, seed=seed, title=title)
    for name, reason in found.failures.items():
        raise CannotTime(f"cannot time {name}: {reason}")
    return {name: found.timings[name] for name in models}


def measure_tight(
    models: Mapping[str, Model],
    target: Target,
    *,
    threads: int = 1,
    rounds: int = 12,
    block_ms: float = 3.0,
    seed: int = 0,
    title: str = "timing",
    known: Tight | None = None,
    keep: Callable[[Event], None] = lambda event: None,
) -> Tight:
    """As `time_tight`, but what fails is told, not raised, and what an interrupted run measured is not repeated.

    A model that kills the measuring process, or hangs it, has failed; the others are then measured without it.

    Args:
        known: what the interrupted run told. It is extended, and returned.
        keep: is given every event that `Tight.add` takes, as it comes.

    Raises:
        MilliwiseError: the target fails.
    """
    found, deaths = known or Tight(), 0
    while not found.finished and (left := {name: each for name, each in models.items() if name not in found.failures}):
        told = {name: timing.blocks_ms for name, timing in found.timings.items()}
        task = {"task": "tight", "rounds": rounds, "block_ms": block_ms, "known": told}
        opening = _Opening()

        def take(event: Event, opening: _Opening = opening) -> None:
            opening.notice(event)
            found.add(event)
            if event["event"] in ("blocks", "load", "failed"):
                keep(event)

        try:
            _run([[task]], left, target, threads, seed, title, take)
        except RunnerEnded as ended:
            deaths += 1
            if opening.model is None or deaths > MAX_DEATHS:
                raise
            take({"event": "failed", "model": opening.model, "reason": str(ended)})
            continue
        if missing := [name for name in left if name not in found.timings and name not in found.failures]:
            raise MilliwiseError(f"the measuring process said nothing about {missing[0]}: measure again")
        break
    if not found.finished:
        found.add({"event": "finished"})
        keep({"event": "finished"})
    return found


class _Opening:
    """Which model the runner is opening: the one to blame if nothing more is heard of it."""

    def __init__(self) -> None:
        self.model: str | None = None

    def notice(self, event: Event) -> None:
        self.model = event["model"] if event["event"] == "opening" else None


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
    jobs = [[{"task": "paced", "gap_ms": min(gap_ms, hop_ms), "calls": share}] for share in shares]
    runs = _run(jobs, {"the model": model}, target, threads, seed, title)
    found = [_by_model(events, "paced", ["the model"])["the model"] for events in runs]
    return _paced(found, any(_disturbed(events) for events in runs))


def time_paces(
    model: Model,
    target: Target,
    paces: Sequence[tuple[float, int]],
    *,
    threads: int = 1,
    seed: int = 0,
) -> list[PacedTiming]:
    """Time a whole listener at several paces, one after the other, in one fresh process.

    Args:
        paces: ms from start to start, and calls.

    Raises:
        CannotTime: the model does not load or run on the target.
        MilliwiseError: the target fails.
    """
    tasks = [{"task": "paced", "gap_ms": gap_ms, "calls": calls} for gap_ms, calls in paces]
    for later in tasks[1:]:
        later["cold_calls"] = 1  # it has been called before; only the change of pace is new
    (events,) = _run([tasks], {"the model": model}, target, threads, seed, "")
    _by_model(events, "paced", ["the model"])
    found = [event for event in events if event["event"] == "paced"]
    if len(found) < len(paces):
        raise MilliwiseError("the measuring process did not tell of every pace: measure again")
    return [_paced([event], _disturbed(events)) for event in found]


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
    jobs: Sequence[Sequence[dict[str, Any]]],
    models: Mapping[str, Model],
    target: Target,
    threads: int,
    seed: int,
    title: str,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[list[Event]]:
    """Run the tasks of every job over all models in a process of its own; the events of each, by the caller's names."""
    names = {f"{index}.onnx": name for index, name in enumerate(models)}
    files = {name: file for file, name in names.items()}
    contents = dict(zip(names, models.values(), strict=True))
    runs = []
    with progress(title, len(jobs)) as advance:
        for tasks in jobs:
            asked: list[dict[str, Any]] = [{**task, "models": list(names)} for task in tasks]
            for task in asked:
                if "known" in task:
                    task["known"] = {files[name]: value for name, value in task["known"].items() if name in files}
            told = _Told(advance, lambda event: on_event(_named(event, names)))
            events = target.run({"format": 1, "threads": threads, "seed": seed, "tasks": asked}, contents, told)
            told.until(1.0)
            runs.append([_named(event, names) for event in events])
    return runs


def _named(event: Event, names: Mapping[str, str]) -> Event:
    return {**event, "model": names.get(event.get("model", ""))}


class _Told:
    """Moves the bar to where the runner says it is."""

    def __init__(self, advance: Callable[[float], None], on_event: Callable[[Event], None]) -> None:
        self.advance, self.on_event, self.done = advance, on_event, 0.0

    def __call__(self, event: Event) -> None:
        if event["event"] == "unfit":
            raise MilliwiseError(str(event["reason"]))
        if event["event"] == "progress":
            self.until(event["done"] / event["total"])
        self.on_event(event)

    def until(self, share: float) -> None:
        self.advance(max(0.0, share - self.done))
        self.done = max(self.done, share)


def _by_model(
    events: Sequence[Mapping[str, Any]], kind: str, names: Mapping[str, Model] | Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The events of a kind by model, in the order of `names`; nothing that failed or is missing counts."""
    for event in events:
        if event["event"] == "failed":
            raise CannotTime(f"cannot time {event['model']}: {event['reason']}")
    found = {event["model"]: event for event in events if event["event"] == kind}
    if missing := [name for name in names if name not in found]:
        raise MilliwiseError(f"the measuring process said nothing about {missing[0]}: measure again")
    return {name: found[name] for name in names}


def _disturbed(events: Sequence[Mapping[str, Any]]) -> bool:
    shares = [share for event in events if event["event"] == "load" for share in event["foreign"]]
    return too_many([share > BUSY for share in shares])


def _paced(found: Sequence[Mapping[str, Any]], disturbed: bool) -> PacedTiming:
    processes = tuple(tuple(event["values_ms"]) for event in found)
    medians = [statistics.median(process) for process in processes]
    return PacedTiming(processes, found[0]["gap_ms"], disturbed or max(medians) > (1 + MAX_SPREAD) * min(medians))
