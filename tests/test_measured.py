"""A whole profile, measured on an abacus: what it finds, what fails alone, and what goes on where it was."""

from __future__ import annotations

import copy
import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from abacus import EFFORT, SPACE, UNIT, Abacus, edges_of

from profilers import profile as profile_module
from profilers.clock import CannotTime
from profilers.makespan import Makespans
from profilers.plan import Effort, Plan
from profilers.profile import profile_device
from profilers.target import LocalTarget, PutOff, RunnerEnded
from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Graph
from toolkit.makespan import ParallelModel
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

GRAPH = SPACE.build().graph  # that of the toy, with its operations
SEGFAULT = "the measuring process ended with signal 11 (SIGSEGV)"


def profiled(target: Abacus, **options: Any) -> DeviceProfile:
    return profile_device(SPACE, target, **{"hop_ms": 40, "effort": EFFORT, **options})


def of_edge(name: str) -> Callable[[bytes], bool]:
    """Models that consist of that edge alone, however often."""
    return lambda model: set(edges_of(model)) == {name}


@pytest.mark.parametrize(("clock", "exact_ms"), [("tight", 0.0012), ("paced", 0.002)])
def test_the_costs_that_were_worked_by_hand_are_found(clock: str, exact_ms: float) -> None:
    """To a little more than a join, which is part of every prior."""
    target = Abacus()
    profile = profiled(target, clock=clock)
    for name, row in profile.edges.items():
        assert row.latency_ms == pytest.approx(UNIT * toy.LATENCY_MS[name], abs=exact_ms), name
        assert row.error_ms is not None and 0 < row.error_ms < 0.004 and row.failed is None
        assert row.spread == pytest.approx(0, abs=0.01)
        assert (row.isolated_ms is None) is (name in ("skip", "pass"))
    assert {name for name, row in profile.edges.items() if row.same_as} == {"early"}
    assert (profile.clock, profile.hop_ms, profile.digest, profile.noisy) == (clock, 40, GRAPH.digest(), False)
    assert profile.held_out.nets == EFFORT.held_out and profile.held_out.mape is not None
    assert profile.held_out.mape < 0.01 and profile.held_out.within_5 == 1
    bound = profile.latency.bound
    assert bound is not None and (bound.coverage, bound.nets) == (0.95, EFFORT.calibrating)
    assert 0.98 < bound.factor < 1.05 and bound.held_out_coverage is not None and bound.held_out_coverage >= 0.8
    whole_ms = toy.LINES["p50"](UNIT * (toy.FULL_TIGHT_MS - toy.FRONT_END_MS))
    assert profile.paced_ms(GRAPH, GRAPH.full, "p50") == pytest.approx(whole_ms, rel=0.02)
    assert {task["task"] for job in target.jobs for task in job["tasks"]} == {"paced"} | {clock}


def test_memory_is_fitted_on_some_networks_and_judged_on_others() -> None:
    target = Abacus()
    profile = profiled(target, effort=replace(EFFORT, weighed=12))
    memory = profile.memory
    assert memory is not None and (memory.fitted_nets, memory.held_out_nets) == (6, 6)
    assert memory.held_out_error is not None and memory.held_out_error < 0.01
    alone = [job for job in target.jobs if job["tasks"][0]["task"] == "memory"]
    assert len(alone) == 12 and all(len(job["tasks"]) == 1 for job in alone)
    assert profiled(Abacus()).memory is None


def test_a_network_whose_memory_is_not_told_is_left_out_and_a_device_that_tells_of_none_is_asked_once() -> None:
    class Forgetful(Abacus):
        def __init__(self, opened: bool, every: int) -> None:
            super().__init__()
            self.opened, self.every, self.asked = opened, every, 0

        def _memory(self, task: Any, models: Any) -> Any:
            self.asked += 1
            if self.asked % self.every:
                return super()._memory(task, models)
            return iter([{"event": "failed", "model": name, "reason": "not now"} for name in models])

        def _opened(self, models: Any) -> Any:
            return (each for each in super()._opened(models) if self.opened or each["event"] != "opening")

    effort = replace(EFFORT, weighed=12)
    some = profiled(Forgetful(True, 4), effort=effort)
    assert some.memory is not None and (some.memory.fitted_nets, some.memory.held_out_nets) == (5, 4)
    assert "no_memory" not in some.measured
    none = Forgetful(True, 1)
    profile = profiled(none, effort=effort)
    assert profile.memory is None and "not now" in profile.measured["no_memory"] and none.asked == 12
    unable = Forgetful(False, 1)
    profile = profiled(unable, effort=effort)
    assert profile.memory is None and "not now" in profile.measured["no_memory"] and unable.asked == 1


@pytest.mark.parametrize(("fault", "told"), [(None, None), (CannotTime("no kernel"), "no kernel")])
def test_workers_are_timed_on_the_edges_that_could_be_measured(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None, told: str | None
) -> None:
    asked: list[Any] = []

    def measure(network: Any, _shape: Any, networks: Any, _target: Any, **options: Any) -> Makespans:
        asked.append((network.graph.full, set().union(*networks)))
        if fault:
            raise fault
        return Makespans(ParallelModel(options["workers"], 0.1, 0.0, {}), (), noisy=True)

    monkeypatch.setattr(profile_module, "measure_makespans", measure)
    profile = profiled(Abacus(fails=of_edge("late")), workers=2)
    ((edges, held_out),) = asked
    assert edges == {"entry", "pass", "mix"} >= held_out
    assert profile.measured.get("no_parallel") == told and profile.measured["workers"] == 2
    assert (profile.parallel is None) is bool(told) and profile.noisy is not bool(told)
    assert profile.noisy_because == (() if told else ("others were busy while workers were timed",))


def test_an_unfinished_profile_of_other_models_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.partial"
    expected = profiled(Abacus(), partial=path)
    content = path.read_bytes()
    for options, told in (({"seed": 1}, "seed: '0', not '1'"), ({"clock": "paced"}, "clock: 'tight', not 'paced'")):
        with pytest.raises(MilliwiseError, match=f"begun with other arguments .*{told}.*leave out --resume"):
            profiled(Abacus(), partial=path, **options)
    other = replace(SPACE, module="toy_of_another_kernel")
    kind = types.ModuleType(other.module)

    def build(labels: int, hop_ms: int) -> Any:
        network = SPACE.build(labels, hop_ms)
        with torch.no_grad():
            next(network.operations["mix"].parameters()).add_(1.0)
        return network

    kind.build = build  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, other.module, kind)
        with pytest.raises(MilliwiseError, match=r"\(models: '.*', not '.*'\)"):
            profile_device(other, Abacus(), hop_ms=40, effort=EFFORT, partial=path)
    assert path.read_bytes() == content
    again = profiled(Abacus(dies=lambda model: pytest.fail("measured again")), partial=path, clock="tight")
    assert again.edges == expected.edges


def test_an_edge_may_be_called_as_an_anchor_is() -> None:
    plan = Plan(SPACE.build().eval(), toy.FEATURES, 0, EFFORT)
    plan.work["anchor"] = replace(plan.work["mix"], same_as="anchor")
    assert plan.failed({"anchor 0": "of a network"}) == {} and "anchor 0" in plan.anchors()
    assert plan.failed({"mix x4": "of an edge", "empty": "of all"}) == {"mix": "of an edge"}


def test_the_clock_follows_from_the_cache() -> None:
    small = Abacus()
    small.fingerprint = lambda: {**Abacus().fingerprint(), "cache_bytes": {"L1": 256, "L2": 4096}}  # type: ignore[method-assign]
    assert profiled(small).clock == "paced" and profiled(Abacus()).clock == "tight"


def test_an_edge_that_kills_the_process_is_a_row_with_the_reason(tmp_path: Path) -> None:
    target = Abacus(dies=lambda model: "conv3" in edges_of(model))
    profile = profiled(target)
    row = profile.edges["conv3"]
    assert (row.failed, row.latency_ms, row.isolated_ms, row.error_ms) == (SEGFAULT, None, None, None)
    assert row.multiply_adds == toy.MULTIPLY_ADDS["conv3"]  # what can be counted is
    for name, other in profile.edges.items():
        assert name == "conv3" or other.latency_ms == pytest.approx(UNIT * toy.LATENCY_MS[name], abs=0.0012)
    assert profile.held_out.nets > 0 and all("conv3" not in found["kept"] for found in profile.held_out.rows)
    lived = [not any(map(target.dies, files.values())) for files in target.files]
    deaths = lived.index(True)  # two by every model, the second of which it was alone in, and then never again
    assert len(target.files[0]) - len(target.files[deaths]) == deaths / 2 >= 2 and all(lived[deaths:])
    assert all(len(files) == 1 for files in target.files[1:deaths:2])
    profile.save(tmp_path / "p.json")
    assert DeviceProfile.load(tmp_path / "p.json") == profile


def test_a_network_with_an_edge_that_failed_has_no_price() -> None:
    profile = profiled(Abacus(fails=of_edge("late")))
    assert {name for name, row in profile.edges.items() if row.failed} == {"late", "early"}  # the same work
    assert profile.table_ms(GRAPH, toy.CHEAPEST) == pytest.approx(0.025, rel=0.05)
    for name in ("late", "early"):
        with pytest.raises(UnpricedEdge, match=rf"edge {name} could not be measured \(it is not for the abacus\)"):
            profile.table_ms(GRAPH, [*toy.CHEAPEST, name])
    with pytest.raises(UnpricedEdge, match=r"edge early could not be measured \(it is not for the abacus\)"):
        price(GRAPH, profile, Budget.parse("2 ms"))
    known = {name: row for name, row in profile.edges.items() if not row.failed}
    left = Graph(tuple(edge for edge in toy.EDGES if edge.name in known), "mel", "out")
    assert left.live(left.full) == {"entry", "pass", "mix"}


def test_when_no_network_is_left_it_is_said_once() -> None:
    target = Abacus(fails=lambda model: {*edges_of(model)} & {"entry", "late"} != set())
    with pytest.raises(MilliwiseError, match=r"^no network is left: 3 edges could not be measured, early among them$"):
        profiled(target)
    assert len(target.jobs) == 1


def test_a_target_on_which_nothing_runs_says_why() -> None:
    with pytest.raises(MilliwiseError, match="does not run even an empty model: it is not for the abacus"):
        profiled(Abacus(fails=lambda model: True))
    with pytest.raises(RunnerEnded, match="SIGSEGV"):
        profiled(Abacus(dies=lambda model: True))
    with pytest.raises(MilliwiseError, match="hardly a network of this space runs on the target: it is not for"):
        profiled(Abacus(fails=lambda model: len(edges_of(model)) > 1 or b"head" in model))


@pytest.mark.parametrize("clock", ["tight", "paced"])
def test_a_network_that_fails_is_left_out(clock: str) -> None:
    """Here those of which both `mix` and `separable` are part."""
    profile = profiled(Abacus(fails=lambda model: {"mix", "separable"} <= {*edges_of(model)}), clock=clock)
    assert not any(row.failed for row in profile.edges.values())
    assert 0 < profile.held_out.nets < EFFORT.held_out
    assert profile.edges["mix"].latency_ms == pytest.approx(0.025, abs=0.0015)


def test_a_busy_neighbour_is_flagged() -> None:
    profile = profiled(Abacus(foreign=0.5))
    assert profile.noisy
    assert "others used 50 % of the machine for 100 % of the time" in profile.noisy_because


class Impatient(Abacus):
    """An abacus whose user loses patience after so many events, in whatever it is doing."""

    def __init__(self, patience: int, **options: Any) -> None:
        super().__init__(**options)
        self.patience = patience

    def run(self, job: Any, files: Any, on_event: Any) -> list[dict[str, Any]]:
        def hear(event: dict[str, Any]) -> None:
            self.patience -= 1
            if self.patience < 0:
                raise KeyboardInterrupt
            on_event(event)

        return super().run(job, files, hear)


def test_an_interrupted_profile_goes_on_where_it_was_and_finds_the_same(tmp_path: Path) -> None:
    effort = replace(EFFORT, fitted=10, calibrating=0, held_out=5)
    dies = of_edge("mix")
    whole = Impatient(10**6, dies=dies)
    expected = profiled(whole, effort=effort)
    events = 10**6 - whole.patience
    for patience in (3, events // 4, events // 2, events - 9):
        partial = tmp_path / f"{patience}.partial"
        with pytest.raises(KeyboardInterrupt):
            profiled(Impatient(patience, dies=dies), effort=effort, partial=partial)
        before = partial.read_bytes().splitlines()
        resumed = Impatient(10**6, dies=dies)
        assert comparable(profiled(resumed, effort=effort, partial=partial)) == comparable(expected)
        after = partial.read_bytes().splitlines()
        assert after[: len(before)] == before
        assert len(before) == 1 or patience + (10**6 - resumed.patience) < 1.5 * events
        nothing = Abacus(dies=lambda model: pytest.fail("measured again"))
        assert comparable(profiled(nothing, effort=effort, partial=partial)) == comparable(expected)
        assert nothing.jobs == [] and partial.read_bytes().splitlines() == after


def comparable(profile: DeviceProfile) -> DeviceProfile:
    measured = {**profile.measured, "table_seconds": 0}
    return replace(profile, seconds=0.0, measured=measured)


def test_what_another_day_answers_is_asked_for_at_once() -> None:
    """As a bundle is written: every job is put down before anything is said."""

    class Later(Abacus):
        def run(self, job: Any, files: Any, on_event: Any) -> list[dict[str, Any]]:
            self.jobs.append(copy.deepcopy(job))
            raise PutOff("another day")

    later, now = Later(), Abacus()
    with pytest.raises(PutOff):
        profiled(later)
    profiled(now)
    assert json.dumps(later.jobs) == json.dumps(now.jobs)


TWO_EDGES = """
from torch import nn
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv
from toolkit.supernet import SuperNetwork

INPUT_SHAPE = (1, 4, 16, 8)


def build(labels, hop_ms):
    graph = Graph((Edge("wide", "in", "out"), Edge("narrow", "in", "out")), "in", "out")
    modules = {"wide": CausalConv(4, 64, (5, 5)), "narrow": CausalConv(4, 64)}
    return SuperNetwork(graph, modules, nn.Identity(), nn.Conv2d(64, labels, 1))
"""


def test_a_space_of_the_user_is_timed_at_the_pace_of_a_stream_on_this_machine(tmp_path: Path) -> None:
    """One of three networks, which is all that there are."""
    (tmp_path / "two.py").write_text(TWO_EDGES)
    space = find_space(str(tmp_path / "two.py"))
    effort = Effort(4, 0, 4, paced=3, short_calls=4, hop_calls=2, paced_calls=6, weighed=0)
    partial = tmp_path / "p.json.partial"
    profile = profile_device(space, LocalTarget(), hop_ms=4, clock="paced", effort=effort, partial=partial)
    profile.save(tmp_path / "p.json")
    profile = DeviceProfile.load(tmp_path / "p.json")
    graph = space.build(hop_ms=4).graph
    assert profile.clock == "paced" and partial.exists()  # whoever saves the profile removes it
    assert profile.held_out.nets == 2 and profile.latency.bound is None
    assert profile.latency.shortened_gap_ms == 4 and profile.latency.shortened(1.0) == 1.0
    for statistic in ("p50", "p95", "p99"):
        assert 0 < profile.paced_ms(graph, ["narrow"], statistic) <= profile.paced_ms(graph, graph.full, statistic)
