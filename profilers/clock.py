"""Turn the runner's events into trustworthy times: back to back (tight) and one call per hop (paced)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profilers.processes import Processes
from profilers.target import RunnerEnded, Target
from profilers.timing import BUSY, MAX_SPREAD, Event, PacedTiming, Tight, Timing, too_many
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

MAX_DEATHS = 10  # of the measuring process, each by another model: a deadly edge is in several
LATER_COLD_CALLS = 2  # of every pace but the first: a new session, whose second call takes other buffers than the first
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

    A model that kills the measuring process, or hangs it, is tried once more alone. If it does so again it has failed;
    otherwise it is to blame for nothing: perhaps so many models took too much memory. Those left are then measured in
    two smaller processes.

    Args:
        known: what the interrupted run told. It is extended, and returned.
        keep: is given every event that `Tight.add` takes, as it comes.

    Raises:
        MilliwiseError: the target fails.
    """
    found, processes = known or Tight(), Processes(models)
    while not found.finished and (left := processes.next(found)):
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
            if opening.model is None:
                raise
            if processes.failed(opening.model):
                take({"event": "failed", "model": opening.model, "reason": str(ended)})
            elif processes.deaths > MAX_DEATHS:
                raise
            continue
        _require_told(left, found, opening.died, take)
        processes.lived()
    if not found.finished:
        found.add({"event": "finished"})
        keep({"event": "finished"})
    return found


def _require_told(names: Iterable[str], found: Tight, died: str, take: Callable[[Event], None]) -> None:
    """Refuse that nothing was said about a model; those of a bundle whose runner died have failed."""
    missing = [name for name in names if name not in found.timings and name not in found.failures]
    if missing and not died:
        raise MilliwiseError(f"the measuring process said nothing about {missing[0]}: measure again")
    for name in missing:
        take({"event": "failed", "model": name, "reason": f"not measured: the measuring process {died}"})


class _Opening:
    """Which model the runner is opening: the one to blame if nothing more is heard of it.

    `died` is how a runner in a bundle ended that took the rest of its job with it; empty where none did.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.died = ""

    def notice(self, event: Event) -> None:
        self.model = event["model"] if event["event"] == "opening" else None
        if event["event"] == "died":
            self.died = event["reason"]


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
    return _paced(found, [event for events in runs for event in events])


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
        MilliwiseError: the target fails, or tells of other paces.
    """
    tasks = [{"task": "paced", "gap_ms": gap_ms, "calls": calls} for gap_ms, calls in paces]
    for later in tasks[1:]:
        later["cold_calls"] = LATER_COLD_CALLS
    (events,) = _run([tasks], {"the model": model}, target, threads, seed, "")
    _by_model(events, "paced", ["the model"])
    found = [event for event in events if event["event"] == "paced"]
    told = [(event["gap_ms"], len(event["values_ms"])) for event in found]
    if len(told) != len(paces) or not all(_is_pace(*pair) for pair in zip(told, paces, strict=True)):
        raise MilliwiseError("the measuring process did not tell of every pace as it was asked: measure again")
    return [_paced([event], events) for event in found]


def _is_pace(told: tuple[float, int], asked: tuple[float, int]) -> bool:
    return math.isclose(told[0], asked[0], rel_tol=1e-6) and told[1] == asked[1]


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
        if event["event"] == "died":
            raise CannotTime(f"not measured: the measuring process {event['reason']}")
    found = {event["model"]: event for event in events if event["event"] == kind}
    if missing := [name for name in names if name not in found]:
        raise MilliwiseError(f"the measuring process said nothing about {missing[0]}: measure again")
    return {name: found[name] for name in names}


def _paced(found: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> PacedTiming:
    watched = Tight()
    for event in events:
        if event["event"] == "load":
            watched.add(event)
    disturbed = too_many([share > BUSY for share in watched.foreign])
    processes = tuple(tuple(event["values_ms"]) for event in found)
    medians = [statistics.median(process) for process in processes]
    noisy = disturbed or max(medians) > (1 + MAX_SPREAD) * min(medians)
    return PacedTiming(processes, found[0]["gap_ms"], noisy, watched.foreign, watched.probes_ms)
