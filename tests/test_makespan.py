"""Edges shared by workers: the simulated schedule, the threads that really run it, and what is read off them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from exporters.onnx import to_onnx, with_properties
from profilers import parallel, runner
from profilers.events import checked_event
from profilers.makespan import copies, dealt, measure_makespans
from profilers.target import LocalTarget
from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Architecture, Graph
from toolkit.makespan import HEAD, Operation, OperationCost, ParallelModel, Plan, in_line, operations

Drawn = tuple[Graph, Architecture]
JOB = {"format": 1, "threads": 1, "seed": 0, "provider": "CPUExecutionProvider"}


def model(times_ms: Mapping[str, float], workers: int = 2, slower: float = 1.0, **changes: Any) -> ParallelModel:
    """Edges that take these times alone, and `slower` times as long beside others; joining is free, unless changed."""
    costs = {name: OperationCost(ms, slower * ms, changes.get("join_ms", 0.0)) for name, ms in times_ms.items()}
    return ParallelModel(workers, changes.get("handoff_ms", 0.0), changes.get("wake_ms", 0.0), costs)


@st.composite
def priced(draw: st.DrawFn) -> tuple[tuple[Operation, ...], ParallelModel]:
    """The operations of a random network, and a model of random costs without slowing each other down."""
    graph, kept = draw(toy.kept_edges())
    live = graph.live(kept) or graph.live(graph.full)
    cost = st.floats(0.01, 2.0)
    times = {name: draw(cost) for name in sorted(live)} | {HEAD: draw(cost)}
    joins, handoff = draw(st.floats(0, 0.2)), draw(st.floats(0, 0.5))
    return operations(graph, live), model(times, draw(st.integers(1, 4)), join_ms=joins, handoff_ms=handoff)


def ends_by_recursion(plan: Plan, priced: ParallelModel) -> list[float]:
    """The ends of a plan whose workers do not slow each other down, one operation after the other."""
    free: dict[int, float] = {0: 0.0}
    ends, by = [0.0], [0]
    for operation, worker in zip(plan.operations, plan.workers, strict=True):
        awaited = max((ends[place] for place in operation.takes if by[place] != worker), default=-1.0)
        begin = free.get(worker, -1.0)
        if awaited > begin:
            begin = awaited + priced.handoff_ms
        free[worker] = begin + priced.lasts_ms(operation, 0.0)
        ends.append(free[worker])
        by.append(worker)
    return ends[1:]


def chain_ms(work: Sequence[Operation], priced: ParallelModel) -> float:
    """The longest chain of operations."""
    reached = [0.0]
    for operation in work:
        reached.append(max(reached[place] for place in operation.takes) + priced.lasts_ms(operation, 0.0))
    return reached[-1]


def test_operations_by_hand() -> None:
    work = operations(toy.GRAPH, toy.GRAPH.full, {"skip", "pass"})
    takes = {operation.name: {work[place - 1].name for place in operation.takes if place} for operation in work}
    assert takes == {
        "conv3": set(),
        "conv1": set(),
        "entry": set(),
        "skip": {"conv3", "conv1"},  # two values to add up: work, though the edge changes nothing
        "separable": {"conv3", "conv1"},
        "early": {"conv3", "conv1"},
        "late": {"skip", "separable"},
        "pass": {"entry", "early"},
        "mix": {"entry", "early"},
        HEAD: {"late", "pass", "mix"},
    }
    short = operations(toy.GRAPH, toy.CHEAPEST, {"skip", "pass"})
    assert short == (Operation("entry", (0,)), Operation(HEAD, (1,)))  # one value: `pass` hands it on


@given(priced(), st.data())
def test_a_simulated_plan_ends_when_its_recursion_does(
    drawn: tuple[tuple[Operation, ...], ParallelModel], data: st.DataObject
) -> None:
    work, costs = drawn
    workers = tuple(data.draw(st.integers(0, costs.workers - 1)) for _ in work[:-1])
    for plan in (Plan(work, (*workers, 0)), costs.list_schedule(work, costs.workers)):
        assert costs.ends_ms(plan) == pytest.approx(ends_by_recursion(plan, costs))


@given(priced())
def test_a_plan_keeps_its_bounds(drawn: tuple[tuple[Operation, ...], ParallelModel]) -> None:
    work, costs = drawn
    total = sum(costs.lasts_ms(operation, 0.0) for operation in work)
    assert costs.ends_ms(costs.plan(work, 1))[-1] == pytest.approx(total)
    for plan in (costs.plan(work), costs.list_schedule(work, costs.workers)):
        assert sorted(operation.name for operation in plan.operations) == sorted(operation.name for operation in work)
        assert plan.operations[-1].name == HEAD and plan.workers[-1] == 0
        ms = costs.ends_ms(plan)[-1]
        assert ms >= max(chain_ms(work, costs), total / costs.workers) - 1e-9
        takes = {o.name: sorted(plan.operations[p - 1].name if p else "" for p in o.takes) for o in plan.operations}
        assert takes == {o.name: sorted(work[p - 1].name if p else "" for p in o.takes) for o in work}
    assert costs.ends_ms(costs.plan(work))[-1] <= total + 1e-9


@given(toy.kept_edges(), st.floats(1.0, 4.0), st.floats(0.0, 1.0))
def test_slowing_each_other_down_never_helps(drawn: Drawn, slower: float, wake_ms: float) -> None:
    graph, kept = drawn
    work = operations(graph, graph.live(kept) or graph.live(graph.full))
    times = {operation.name: 1.0 for operation in work}
    plan = Plan(work, (*(index % 3 for index in range(len(work) - 1)), 0))
    ideal, real = model(times, 3), model(times, 3, slower, wake_ms=wake_ms)
    ends = [each.ends_ms(plan) for each in (ideal, real)]
    assert ends[1][-1] >= ends[0][-1] - 1e-9
    assert ends[1][-1] <= 3 * slower * ends[0][-1] + wake_ms * 3 * len(work)


def test_two_branches_by_hand() -> None:
    work = (Operation("long", (0,)), Operation("short", (0,)), Operation(HEAD, (1, 2)))
    times = {"long": 3.0, "short": 1.0, HEAD: 0.5}
    apart = Plan(work, (0, 1, 0))
    assert model(times).ends_ms(apart) == (3.0, 1.0, 3.5)
    assert model(times, handoff_ms=0.25).ends_ms(apart) == (3.0, 1.25, 3.5)  # the value is there before it is awaited
    assert model(times, handoff_ms=2.5).ends_ms(apart) == (3.0, 3.5, 6.5)  # worker 0 slept, too
    assert model(times, wake_ms=0.5).ends_ms(apart) == (3.5, 1.0, 4.0)  # worker 0 first has to wake the other
    # Twice as slow side by side: at 2 the short one is done, and so is a third of the long one, whose rest takes 2.
    assert model(times, slower=2.0).ends_ms(apart) == pytest.approx((4.0, 2.0, 4.5))
    assert model(times, handoff_ms=0.25).plan(work).used == 2
    assert model(times, handoff_ms=2.5).plan(work) == in_line(work)
    assert model(times, slower=2.0).plan(work) == in_line(work)


def test_waking_a_sleeper_costs_the_one_that_wakes_it() -> None:
    work = (Operation("a", (0,)), Operation("b", (1,)), Operation("c", (0,)), Operation(HEAD, (2, 3)))
    costs = model({"a": 3.0, "b": 1.0, "c": 1.0, HEAD: 0.5}, wake_ms=0.5)
    # Worker 0 wakes the other at the start, and again when a is done, before it goes on with c.
    assert costs.ends_ms(Plan(work, (0, 1, 0, 0))) == (3.5, 4.5, 5.0, 5.5)


def test_the_longest_way_goes_first() -> None:
    work = (*(Operation(name, (0,)) for name in ("a", "b", "long")), Operation(HEAD, (1, 2, 3)))
    costs = model({"a": 1.0, "b": 1.0, "long": 2.0, HEAD: 0.0})
    plan = costs.list_schedule(work, 2)
    assert plan.operations[0].name == "long" and costs.ends_ms(plan)[-1] == 2.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 3))
def test_independent_branches_are_shared_nearly_as_well_as_can_be(lasts: list[int], workers: int) -> None:
    """Longest first on the least loaded worker is within 4/3 of the best of all assignments (Graham, 1969)."""
    work = (*(Operation(f"e{i}", (0,)) for i in range(len(lasts))), Operation(HEAD, tuple(range(1, len(lasts) + 1))))
    costs = model({f"e{i}": float(ms) for i, ms in enumerate(lasts)} | {HEAD: 0.0}, workers)
    best = min(
        max(sum(ms for ms, to in zip(lasts, chosen, strict=True) if to == worker) for worker in range(workers))
        for chosen in itertools.product(range(workers), repeat=len(lasts))
    )
    assert best <= costs.ends_ms(costs.list_schedule(work, workers))[-1] <= best * 4 / 3


def test_what_cannot_be_planned_is_refused() -> None:
    costs = model({HEAD: 1.0, **{name: 1.0 for name in toy.LATENCY_MS if name != "mix"}})
    for workers in (0, 3):
        with pytest.raises(MilliwiseError, match=f"on {workers} workers: give 1 to 2"):
            costs.makespan_ms(toy.GRAPH, toy.CHEAPEST, workers)
    with pytest.raises(UnpricedEdge, match="mix"):
        costs.makespan_ms(toy.GRAPH, toy.GRAPH.full)
    with pytest.raises(MilliwiseError, match="do not join"):
        costs.makespan_ms(toy.GRAPH, toy.GRAPH.live({"mix"}))
    with pytest.raises(MilliwiseError, match="made after it"):
        Plan((Operation("a", (2,)), Operation("b", (0,))), (0, 1))


# --- the threads


def bench(workers: int = 2, target: Any = None) -> parallel.Bench:
    return parallel.Bench(toy.network().eval(), toy.FEATURES, target or LocalTarget(), workers, rounds=2, seed=0)


def opened(folder: Path, mine: parallel.Bench, plan: Plan) -> runner.Plan:
    """The plan as the runner runs it, all states zero."""
    rows: list[dict[str, Any]] = []
    steps: dict[str, list[runner.Step]] = {}
    for operation, worker in zip(plan.operations, plan.workers, strict=True):
        path = folder / f"{operation.name}.onnx"
        path.write_bytes(parallel.operation_model(mine.work[operation.name], len(operation.takes)))
        step = runner.Step(path, JOB, 10.0)
        step.feed.update({name: np.zeros_like(step.feed[name]) for name in step.kept.values()})
        steps.setdefault(operation.name, []).append(step)
        rows.append({"model": operation.name, "takes": list(operation.takes), "worker": worker})
    return runner.Plan(rows, steps)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_compute_what_the_whole_network_does(tmp_path: Path, workers: int) -> None:
    """Hop by hop, with the states of every edge: onnxruntime's result for the network in one piece is the oracle."""
    mine = bench(workers)
    whole = with_properties(to_onnx(mine.network, toy.FEATURES), {})
    session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    feed = {each.name: np.zeros(each.shape, np.float32) for each in session.get_inputs()}
    states = [each.name.replace("_out_", "_in_") for each in session.get_outputs()[1:]]
    plan = opened(tmp_path, mine, dealt(mine.operations(toy.GRAPH.full), workers))
    crew = runner.Crew(workers)
    try:
        for hop in range(4):
            features = np.random.default_rng(hop).standard_normal(toy.FEATURES).astype(np.float32)
            scores, *after = session.run(None, {**feed, "features": features})
            feed.update(zip(states, after, strict=True))
            plan.values[0] = features
            took, begins, ends = crew.run(plan)
            np.testing.assert_allclose(plan.values[-1], scores, atol=1e-6)
            assert 0 < ends[-1] <= took and all(0 <= a < b for a, b in zip(begins, ends, strict=True))
    finally:
        crew.close()


@pytest.mark.parametrize("values", [1, 2, 3, 4])
def test_the_model_of_an_edge_is_valid_and_adds_up_its_values(values: int) -> None:
    content = parallel.operation_model(bench().work["skip"], values)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feed = {each.name: np.full(each.shape, 10.0**k, np.float32) for k, each in enumerate(session.get_inputs())}
    assert np.all(session.run(None, feed)[0] == sum(10**k for k in range(values)))


def test_a_step_that_fails_leaves_nobody_waiting(tmp_path: Path) -> None:
    mine = bench(2)
    plan = opened(tmp_path, mine, dealt(mine.operations(toy.GRAPH.full), 2))
    plan.values[0] = np.zeros((1, 1, 3, 4), np.float32)
    crew = runner.Crew(2)
    try:
        with pytest.raises(SystemExit, match="cannot be run"):
            crew.run(plan)
    finally:
        crew.close()
    assert not any(thread.is_alive() for thread in crew.threads)


@pytest.mark.parametrize(
    "changed",
    [{"takes": [1]}, {"takes": []}, {"takes": [-1]}, {"worker": 2}, {"worker": -1}, {"model": "b.onnx"}],
)
def test_a_plan_that_would_wait_for_ever_is_refused(changed: dict[str, Any]) -> None:
    row = {"model": "a.onnx", "takes": [0], "worker": 0}
    runner.require_plans({"models": ["a.onnx"], "plans": [[row]]}, 2)
    with pytest.raises(SystemExit, match="cannot be run"):
        runner.require_plans({"models": ["a.onnx"], "plans": [[{**row, **changed}]]}, 2)


def test_a_hostile_event_is_refused() -> None:
    event = {"event": "parallel", "plan": 0, "blocks_ms": [1.0], "begins_ms": [0.0], "ends_ms": [0.5]}
    assert checked_event(event, ()) == event
    for name, value in (("plan", -1), ("blocks_ms", []), ("begins_ms", [-1.0]), ("ends_ms", [float("nan")])):
        with pytest.raises(ValueError):
            checked_event({**event, name: value}, ())


# --- what is measured


class Invented:
    """A target whose edges cost what a parallel model says."""

    name = "invented"

    def __init__(self, truth: ParallelModel, mine: parallel.Bench, change: Any) -> None:
        self.truth, self.change = truth, change
        self.named = {}
        for name in reversed(mine.work):
            for values in range(1, 5):
                self.named[parallel.operation_model(mine.work[name], values)] = name

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def run(self, job: dict[str, Any], files: Mapping[str, Any], on_event: Any) -> list[dict[str, Any]]:
        (task,) = job["tasks"]
        events: list[dict[str, Any]] = []
        for index, rows in enumerate(task["plans"]):
            work = tuple(Operation(self.named[files[row["model"]]], tuple(row["takes"])) for row in rows)
            plan = Plan(work, tuple(row["worker"] for row in rows))
            ends = self.truth.ends_ms(plan)
            busy = float(sum(operation.name == HEAD for operation in work) > 1)  # as many copies as workers
            begins = [end - self.truth.lasts_ms(each, busy) for end, each in zip(ends, work, strict=True)]
            # Copies of one network keep step, so all of them are busy all the time.
            events.append(
                {"event": "parallel", "plan": index, "blocks_ms": [9.0, ends[-1]], "begins_ms": begins, "ends_ms": ends}
            )
        return self.change(events)


def invented(change: Any = lambda events: events, **costs: Any) -> tuple[Invented, ParallelModel]:
    truth = model({name: 0.5 + ms for name, ms in toy.LATENCY_MS.items()} | {HEAD: 0.4}, **costs)
    return Invented(truth, bench(), change), truth


def test_invented_costs_are_found_again() -> None:
    target, truth = invented(handoff_ms=0.03, join_ms=0.02)
    networks = list({toy.GRAPH.live(kept) for kept in toy.architectures()} - {frozenset()})
    found = measure_makespans(toy.network(), toy.FEATURES, networks, target, calibrating=8)
    assert found.model.handoff_ms == pytest.approx(0.03, abs=1e-6) and found.model.wake_ms == pytest.approx(0, abs=1e-9)
    assert found.model.costs.keys() == {*toy.LATENCY_MS, HEAD}
    for operation in operations(toy.GRAPH, toy.GRAPH.full):
        lasts = found.model.lasts_ms(operation, 0.0)
        assert (
            lasts
            == pytest.approx(truth.lasts_ms(operation, 0.0))
            == pytest.approx(found.model.lasts_ms(operation, 1.0))
        )
        assert operation.name == HEAD or found.model.costs[operation.name].passes == (
            operation.name in ("skip", "pass")
        )
    assert found.model.nets == len(found.rows) > 5 and found.model.within_15 == 1.0 and not found.noisy
    assert 0 < found.model.split <= found.model.nets
    for row in found.rows:
        assert row.predicted_ms == pytest.approx(row.measured_ms) and row.error < 1e-6
        assert row.one_measured_ms == pytest.approx(row.one_predicted_ms) and row.one_predicted_ms >= row.predicted_ms
        assert found.model.makespan_ms(toy.GRAPH, row.kept) == pytest.approx(row.predicted_ms)


def test_invented_costs_beside_others_are_found_again() -> None:
    target, truth = invented(slower=1.5, join_ms=0.02)
    found = measure_makespans(toy.network(), toy.FEATURES, [], target, calibrating=8)
    for name, cost in found.model.costs.items():
        mine = truth.costs[name]
        assert (cost.alone_ms, cost.beside_ms) == pytest.approx((mine.alone_ms, mine.beside_ms), abs=1e-6)
    assert (found.model.nets, found.model.mape, found.rows) == (0, None, ())


def test_a_device_that_answers_wrongly_is_refused() -> None:
    def renamed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**event, "ends_ms": list(event["ends_ms"])[1:]} for event in events]

    failed = [{"event": "failed", "model": "0.onnx", "reason": "no such operator"}]
    for change, reason in (
        (renamed, "another plan"),
        (lambda events: events[1:], "every plan"),
        (lambda events: failed, "cannot run the edge .* of 1 values: no such operator"),
    ):
        target, _truth = invented(change=change)
        with pytest.raises(MilliwiseError, match=reason):
            measure_makespans(toy.network(), toy.FEATURES, [], target, calibrating=2)


def test_no_workers_are_refused() -> None:
    with pytest.raises(MilliwiseError, match="at least 1"):
        measure_makespans(toy.network(), toy.FEATURES, [], LocalTarget(), workers=0)


def test_copies_keep_to_themselves() -> None:
    work = operations(toy.GRAPH, toy.GRAPH.full)
    plan = copies(work, 3)
    assert [operation.name for operation in plan.operations] == 3 * [operation.name for operation in work]
    assert set().union(*plan.foreign()) <= {0}, "all have the features in common, and nothing else"
    times = {operation.name: 1.0 for operation in work}
    ends = model(times, 3).ends_ms(plan)
    assert ends == 3 * model(times, 3).ends_ms(in_line(work))


def test_edges_of_this_machine_are_measured() -> None:
    """For real: two threads, the toy's edges; no time is asserted."""
    networks = [toy.CHEAPEST, frozenset({"conv1", "skip", "late"}), toy.GRAPH.full]
    found = measure_makespans(toy.network(), toy.FEATURES, networks, LocalTarget(), calibrating=2, rounds=2)
    assert found.model.costs.keys() == {*toy.LATENCY_MS, HEAD}
    assert all(cost.beside_ms >= cost.alone_ms > 0 for cost in found.model.costs.values())
    assert toy.GRAPH.full not in [row.kept for row in found.rows], "the whole network is calibrated on"
    assert all(row.measured_ms > 0 and row.predicted_ms > 0 for row in found.rows)
