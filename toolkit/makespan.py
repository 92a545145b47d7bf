"""Parallel steps on a real device: which worker runs which edge, and how long the whole network then takes.

A step is no unit there. An edge lasts as long as it was measured to, longer while other workers are busy beside it, and
a worker that sleeps until another one is done has to be woken. Assignment is list scheduling: of the operations the one
with the longest way to the end first, on the worker that ends it first (HEFT: Topcuoglu, Hariri and Wu, 2002).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Architecture, Graph
from toolkit.values import count, flag, number, optional_number

HEAD = "(head)"
FEATURES = 0
MAX_WORKERS = 64
GAIN = 0.1  # one worker more must promise this much, a fraction: about as wrong as a prediction may be


@dataclass(frozen=True)
class Operation:
    """An edge, or the head, as a unit of work.

    Attributes:
        name: of the edge; HEAD is the network's head.
        takes: places of the values it adds up and works on. Place 0 holds the features; place i + 1 holds what
            operation i of the same sequence made of those it takes, which all lie before it.
    """

    name: str
    takes: tuple[int, ...]


@dataclass(frozen=True)
class OperationCost:
    """What an edge (or the head) takes as a session of its own.

    Attributes:
        alone_ms: on one value, while the other workers sleep.
        beside_ms: on one value, while all other workers are busy with the same network.
        join_ms: adding one more value to it first.
        passes: it changes nothing; with a single value it is no operation at all.
    """

    alone_ms: float
    beside_ms: float
    join_ms: float
    passes: bool = False


@dataclass(frozen=True)
class Plan:
    """Who runs what, in order. Worker 0 is the caller's thread: it has the features, and runs the head.

    Every worker runs its operations in the order of the sequence, each as soon as the values it takes are there. As
    these all lie before it in the sequence, workers never wait for each other in a circle.

    Raises:
        MilliwiseError: an operation takes a value that is made after it.
    """

    operations: tuple[Operation, ...]
    workers: tuple[int, ...]

    def __post_init__(self) -> None:
        for index, operation in enumerate(self.operations):
            if not all(0 <= place <= index for place in operation.takes):
                raise MilliwiseError(f"edge {operation.name!r} takes a value that is made after it: sort the plan")

    @property
    def used(self) -> int:
        """How many workers have something to do."""
        return len(set(self.workers))

    def foreign(self) -> list[list[int]]:
        """Of every place (none of the features), the places it is made from that other workers have."""
        by = (0, *self.workers)
        takes = [(), *(operation.takes for operation in self.operations)]
        return [[taken for taken in each if by[taken] != by[place]] for place, each in enumerate(takes)]


def operations(graph: Graph, live: Architecture, passing: Collection[str] = ()) -> tuple[Operation, ...]:
    """The live edges in topological order, then the head.

    Args:
        passing: edges that change nothing; where a single value arrives they hand it on and are no operation.

    Raises:
        MilliwiseError: no edge is live.
    """
    if not live:
        raise MilliwiseError("the kept edges do not join source and sink: only a whole network can be run")
    arriving: dict[str, list[int]] = {graph.source: [FEATURES]}
    found: list[Operation] = []
    for edge in graph.ordered:
        if edge.name not in live:
            continue
        takes = tuple(arriving[edge.source])
        place = takes[0]
        if edge.name not in passing or len(takes) > 1:
            found.append(Operation(edge.name, takes))
            place = len(found)
        arriving.setdefault(edge.target, []).append(place)
    return (*found, Operation(HEAD, tuple(arriving[graph.sink])))


def in_line(found: Sequence[Operation]) -> Plan:
    """All of it on the caller's thread."""
    return Plan(tuple(found), (0,) * len(found))


@dataclass(frozen=True)
class ParallelModel:
    """How long a network takes on some workers of one device: threads of one process, one onnxruntime session an edge.

    Attributes:
        workers: threads that `beside_ms` was measured with, the most a plan uses.
        handoff_ms: from the end of an operation until a worker that slept for its value begins.
        wake_ms: what waking a worker costs the one that wakes it.
        costs: of every edge that was measured, and of HEAD.
        nets: held-out networks it was judged on; the rest is of these.
        split: how many of them run on more than one worker, because that is predicted to be faster.
        mape: mean relative error of the predicted makespan, a fraction.
        within_15: share of them whose error is at most 15 %.
    """

    workers: int
    handoff_ms: float
    wake_ms: float
    costs: Mapping[str, OperationCost]
    nets: int = 0
    split: int = 0
    mape: float | None = None
    within_15: float | None = None

    def operations(self, graph: Graph, live: Architecture) -> tuple[Operation, ...]:
        """The units of work of a network of live edges.

        Raises:
            UnpricedEdge: an edge has no cost here.
        """
        if missing := sorted({*live, HEAD} - self.costs.keys()):
            raise UnpricedEdge(f"edge {', '.join(missing)} was not measured with several workers: profile again")
        return operations(graph, live, [name for name in live if self.costs[name].passes])

    def makespan_ms(self, graph: Graph, live: Architecture, workers: int | None = None) -> float:
        """Predicted ms from the features to the head's result, on at most that many workers (all by default)."""
        return self.ends_ms(self.plan(self.operations(graph, live), workers))[-1]

    def plan(self, work: Sequence[Operation], workers: int | None = None) -> Plan:
        """The best list schedule on 1, 2, … workers; on more only where that promises to be GAIN faster.

        Raises:
            MilliwiseError: more workers than were measured, or none.
        """
        workers = self.workers if workers is None else workers
        if not 1 <= workers <= self.workers:
            raise MilliwiseError(
                f"cannot schedule on {workers} workers: give 1 to {self.workers}, as many as were measured"
            )
        best = in_line(work)
        least_ms = self.ends_ms(best)[-1]
        for several in range(2, workers + 1):
            plan = self.list_schedule(work, several)
            if (ms := self.ends_ms(plan)[-1]) < (1 - GAIN) * least_ms:
                best, least_ms = plan, ms
        return best

    def list_schedule(self, work: Sequence[Operation], workers: int) -> Plan:
        """The operations, longest way to the end first, each on the worker that ends it first; the head on worker 0."""
        lasts_ms = [self.lasts_ms(operation, busy_share=1.0) for operation in work]
        rank_ms = _longest_way(work, lasts_ms)
        by, end_ms = [0] * (len(work) + 1), [0.0] * (len(work) + 1)  # of each place
        free_ms = [0.0, *[-math.inf] * (workers - 1)]  # the others sleep until there is something to do
        order = sorted(range(len(work)), key=lambda index: (-rank_ms[index], index))
        for index in order:

            def end_on(worker: int, index: int = index) -> float:
                awaited_ms = [end_ms[place] for place in work[index].takes if by[place] != worker]
                return self._begin_ms(free_ms[worker], awaited_ms) + lasts_ms[index]

            chosen = 0 if work[index].name == HEAD else min(range(workers), key=end_on)
            by[index + 1], end_ms[index + 1] = chosen, end_on(chosen)
            free_ms[chosen] = end_ms[index + 1]
        place_of = {FEATURES: FEATURES, **{index + 1: place for place, index in enumerate(order, 1)}}
        moved = tuple(Operation(work[i].name, tuple(place_of[place] for place in work[i].takes)) for i in order)
        return Plan(moved, tuple(by[index + 1] for index in order))

    def ends_ms(self, plan: Plan) -> tuple[float, ...]:
        """When each operation of a plan ends, simulated; the last is the makespan.

        An operation slows down and speeds up as the workers beside it begin and end theirs.
        """
        queues: list[list[int]] = [[] for _ in range(max(plan.workers) + 1)]  # places, the next one last
        for place in reversed(range(1, len(plan.workers) + 1)):
            queues[plan.workers[place - 1]].append(place)
        foreign = plan.foreign()
        end_ms = [0.0, *[math.inf] * len(plan.operations)]
        free_ms = [(plan.used - 1) * self.wake_ms, *[-math.inf] * (len(queues) - 1)]
        left: dict[int, float] = {}  # worker -> the share of its operation that is still to be done
        now_ms = 0.0
        while left or any(queues):
            waiting = {worker: queue[-1] for worker, queue in enumerate(queues) if queue and worker not in left}
            begin_ms = {
                worker: self._begin_ms(free_ms[worker], [end_ms[taken] for taken in foreign[place]])
                for worker, place in waiting.items()
            }
            left.update({worker: 1.0 for worker, begin in begin_ms.items() if begin <= now_ms})
            asleep = [foreign[waiting[worker]] for worker, begin in begin_ms.items() if begin == math.inf]
            busy_share = (len(left) - 1) / max(1, self.workers - 1)
            lasts_ms = {worker: self.lasts_ms(plan.operations[queues[worker][-1] - 1], busy_share) for worker in left}
            till_ms = {worker: now_ms + left[worker] * lasts_ms[worker] for worker in left}
            then_ms = min([*till_ms.values(), *(begin for begin in begin_ms.values() if begin > now_ms)])
            for worker, till in till_ms.items():
                if till <= then_ms:
                    del left[worker]
                    place = queues[worker].pop()
                    end_ms[place] = then_ms
                    free_ms[worker] = then_ms + self.wake_ms * sum(place in awaited for awaited in asleep)
                else:
                    left[worker] -= (then_ms - now_ms) / lasts_ms[worker]
            now_ms = then_ms
        return tuple(end_ms[1:])

    def lasts_ms(self, operation: Operation, busy_share: float) -> float:
        """How long an operation lasts while that share of the other workers is busy, a fraction."""
        cost = self.costs[operation.name]
        joins_ms = (len(operation.takes) - 1) * cost.join_ms
        return cost.alone_ms + busy_share * (cost.beside_ms - cost.alone_ms) + joins_ms

    def _begin_ms(self, free_ms: float, awaited_ms: Sequence[float]) -> float:
        """When a worker begins: once it is free if all values are there by then, else it sleeps and has to be woken."""
        last_ms = max(awaited_ms, default=-math.inf)
        return free_ms if last_ms <= free_ms else last_ms + self.handoff_ms


def _longest_way(work: Sequence[Operation], lasts_ms: Sequence[float]) -> list[float]:
    """ms from the begin of each operation to the end of the last, hand-offs not included."""
    way_ms = list(lasts_ms)
    for index in reversed(range(len(work))):
        for place in work[index].takes:
            if place != FEATURES:
                way_ms[place - 1] = max(way_ms[place - 1], lasts_ms[place - 1] + way_ms[index])
    return way_ms


def parse_parallel(row: Mapping[str, Any]) -> ParallelModel:
    """A model from the JSON of `dataclasses.asdict`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not as we wrote it.
    """
    return ParallelModel(
        workers=count(row["workers"], "workers", 1, MAX_WORKERS),
        handoff_ms=number(row["handoff_ms"], "handoff_ms", 0.0),
        wake_ms=number(row["wake_ms"], "wake_ms", 0.0),
        costs={str(name): _operation_cost(name, cost) for name, cost in row["costs"].items()},
        nets=count(row["nets"], "nets of parallel"),
        split=count(row["split"], "split"),
        mape=optional_number(row["mape"], "mape of parallel"),
        within_15=optional_number(row["within_15"], "within_15"),
    )


def _operation_cost(name: str, row: Mapping[str, Any]) -> OperationCost:
    times = {time: number(row[time], f"{time} of {name}", 0.0) for time in ("alone_ms", "beside_ms", "join_ms")}
    return OperationCost(**times, passes=flag(row["passes"], f"passes of {name}"))
