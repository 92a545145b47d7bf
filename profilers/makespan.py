"""Measure how long networks take when several workers share their edges, and how well that is predicted.

Every edge is a model of its own here, run by a thread that hands its value on to the others. What an edge takes alone,
what it takes while the other workers are busy, and what waking a worker takes is read off runs of some networks: all on
one worker, a copy of the network on every worker, and dealt out in turn so that nearly every value changes hands. What
workers of one network cost each other beyond that (values another core's cache has, the interpreter's lock) is what its
best list schedules take longer than these times promise.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from profilers.latency import Work, sample_networks
from profilers.parallel import Bench, Run, Samples
from profilers.target import Target
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.makespan import Operation, OperationCost, ParallelModel, Plan, in_line
from toolkit.supernet import SuperNetwork

CLOSE = 0.15
HALVINGS = 20  # of the interval that what sharing costs lies in: to a millionth


@dataclass(frozen=True)
class Makespan:
    """One held-out network: predicted and measured ms, on one worker and by the plan predicted to be the fastest."""

    kept: Architecture
    workers: int
    predicted_ms: float
    measured_ms: float
    one_predicted_ms: float
    one_measured_ms: float

    @property
    def error(self) -> float:
        """Of the plan's prediction, a fraction of what was measured."""
        return abs(self.predicted_ms / self.measured_ms - 1)


@dataclass(frozen=True)
class Makespans:
    """The model, the held-out networks it was judged on, and whether others disturbed the measurement."""

    model: ParallelModel
    rows: tuple[Makespan, ...]
    noisy: bool


def measure_makespans(
    network: SuperNetwork,
    features_shape: tuple[int, ...],
    architectures: Sequence[Architecture],
    target: Target,
    *,
    workers: int = 2,
    calibrating: int = 12,
    rounds: int = 8,
    seed: int = 0,
) -> Makespans:
    """Measure the parallel model of a device, and judge it on networks by really running their branches in parallel.

    Args:
        network: its stem is left out.
        features_shape: of what enters the source node in one call, batch of one included.
        architectures: to judge the model on. Those it is calibrated on (the whole network is one) are left out.
        workers: threads that share a network.
        calibrating: random networks that edges and hand-offs are timed in, beside the whole one.
        rounds: interleaved blocks of each plan.

    Raises:
        MilliwiseError: the target fails, or an edge does not run there.
    """
    if workers < 1:
        raise MilliwiseError(f"cannot run networks on {workers} workers: give at least 1")
    bench = Bench(network, features_shape, target, workers, rounds, seed)
    graph = network.graph
    calibrated = {graph.live(graph.full), *sample_networks(graph, calibrating, seed)}
    model = _calibrate(bench, [bench.operations(kept) for kept in sorted(calibrated, key=sorted)])
    judged = [live for live in dict.fromkeys(graph.live(kept) for kept in architectures) if live not in calibrated]
    rows = _judge(bench, model, judged)
    if rows:
        model = replace(
            model,
            nets=len(rows),
            split=sum(row.workers > 1 for row in rows),
            mape=statistics.fmean(row.error for row in rows),
            within_15=statistics.fmean(row.error <= CLOSE for row in rows),
        )
    return Makespans(model, rows, bench.noisy)


def _calibrate(bench: Bench, networks: Sequence[tuple[Operation, ...]]) -> ParallelModel:
    plans = [make(work, bench.workers) for work in networks for make in (_alone, copies, dealt)]
    runs = bench.run(plans, f"timing edges alone and on {bench.workers} workers")
    alone, beside = (bench.samples(runs[kind::3]) for kind in (0, 1))
    handoffs_ms = [value for run in runs[2::3] for value in run.handoffs_ms()]
    model = ParallelModel(
        workers=bench.workers,
        handoff_ms=statistics.median(handoffs_ms) if handoffs_ms else 0.0,
        wake_ms=statistics.median(run.begins_ms[0] for run in runs[1::3]) / max(1, bench.workers - 1),
        costs=edge_costs(bench.work, bench.passing, alone, beside),
    )
    shared = {model.list_schedule(work, bench.workers) for work in networks}
    plans = sorted((plan for plan in shared if plan.used > 1), key=lambda plan: len(plan.operations))
    return (
        with_sharing(model, bench.run(plans, f"timing networks shared by {bench.workers} workers")) if plans else model
    )


def with_sharing(model: ParallelModel, runs: Sequence[Run]) -> ParallelModel:
    """The model whose operations take longer beside other workers, all by the same, as these runs of plans say.

    That much is added to `beside_ms` for which the median of predicted over measured makespan is one; nothing if the
    model promises too little already.
    """

    def slower(by_ms: float) -> ParallelModel:
        costs = {
            name: cost if cost.passes and not cost.beside_ms else replace(cost, beside_ms=cost.beside_ms + by_ms)
            for name, cost in model.costs.items()
        }
        return replace(model, costs=costs)

    def promised(by_ms: float) -> float:
        candidate = slower(by_ms)
        return statistics.median(candidate.ends_ms(run.plan)[-1] / run.makespan_ms for run in runs)

    least_ms, most_ms = 0.0, max(run.makespan_ms for run in runs)
    for _halving in range(HALVINGS):
        middle_ms = (least_ms + most_ms) / 2
        least_ms, most_ms = (middle_ms, most_ms) if promised(middle_ms) < 1 else (least_ms, middle_ms)
    return slower(least_ms)


def _judge(bench: Bench, model: ParallelModel, networks: Sequence[Architecture]) -> tuple[Makespan, ...]:
    """Networks the model has not seen: on one worker, and by their best plan where that is another."""
    work = [bench.operations(live) for live in networks]
    ones, best = [in_line(each) for each in work], [model.plan(each) for each in work]
    plans = list(dict.fromkeys([*ones, *best]))
    runs = bench.run(plans, f"timing {len(networks)} networks on {bench.workers} workers") if plans else []
    measured = {run.plan: run.makespan_ms for run in runs}
    rows = []
    for live, one, plan in zip(networks, ones, best, strict=True):
        predicted = [model.ends_ms(each)[-1] for each in (plan, one)]
        rows.append(Makespan(live, plan.used, predicted[0], measured[plan], predicted[1], measured[one]))
    return tuple(rows)


def _alone(work: Sequence[Operation], _workers: int) -> Plan:
    return in_line(work)


def copies(work: Sequence[Operation], workers: int) -> Plan:
    """The network once on every worker, at the same time and independently."""
    shifted = [
        Operation(operation.name, tuple(taken and taken + copy * len(work) for taken in operation.takes))
        for copy in range(workers)
        for operation in work
    ]
    return Plan(tuple(shifted), tuple(copy for copy in range(workers) for _ in work))


def dealt(work: Sequence[Operation], workers: int) -> Plan:
    """The operations dealt out in turn, the head to worker 0."""
    turns = [(index + 1) % workers for index in range(len(work) - 1)]
    return Plan(tuple(work), (*turns, 0))


def edge_costs(
    work: Mapping[str, Work], passing: Collection[str], alone: Samples, beside: Samples
) -> dict[str, OperationCost]:
    """What every edge costs that is in some network: the median alone, and the lower quartile beside other workers.

    (With every core in use, whatever else runs on the machine adds time to our samples, and nothing takes any away.)
    Values of one size take the same time to add, whichever edge does it: how much longer the same work takes on more
    of them is a common slope.
    """
    joins_ms = _joins_ms(work, alone)
    found = {}
    for name, item in work.items():
        join_ms = joins_ms.get(item.input_shape, 0.0)
        alone_ms = _of_one_value(alone, item.same_as, join_ms, 0.5)
        beside_ms = _of_one_value(beside, item.same_as, join_ms, 0.25)
        if alone_ms is not None and beside_ms is not None:
            found[name] = OperationCost(alone_ms, max(alone_ms, beside_ms), join_ms, name in passing)
        elif name in passing:  # a single value arrives in every network
            found[name] = OperationCost(0.0, 0.0, 0.0, passes=True)
    return found


def _of_one_value(samples: Samples, name: str, join_ms: float, quantile: float) -> float | None:
    """A quantile of the durations of a work, less what more than one value added; None if it was not seen."""
    times_ms = [
        lasted_ms - (values - 1) * join_ms
        for (other, values), lasted in samples.items()
        for lasted_ms in lasted
        if other == name
    ]
    return max(0.0, float(np.quantile(times_ms, quantile))) if times_ms else None


def _joins_ms(work: Mapping[str, Work], alone: Samples) -> dict[tuple[int, ...], float]:
    """ms of one more value, by its shape: the slope within works of that shape, by least squares."""
    products: dict[tuple[int, ...], list[float]] = {}
    for name in {name for name, _values in alone}:
        points = [(values, statistics.median(times)) for (other, values), times in alone.items() if other == name]
        mean_values, mean_ms = (statistics.fmean(column) for column in zip(*points, strict=True))
        sums = products.setdefault(work[name].input_shape, [0.0, 0.0])
        sums[0] += sum((values - mean_values) * (ms - mean_ms) for values, ms in points)
        sums[1] += sum((values - mean_values) ** 2 for values, _ms in points)
    return {shape: max(0.0, xy / xx) if xx else 0.0 for shape, (xy, xx) in products.items()}
