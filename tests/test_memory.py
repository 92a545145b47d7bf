"""Memory: the plan against a simulation with values of its own, what a process really takes, and the model between."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tiny_onnx import copying, counter, to_bytes, value

from profilers import runner
from profilers.events import checked_event
from profilers.memory import CannotMeasure, CannotTell, Memory, fit_memory, judge_memory, memory_of
from profilers.target import LocalTarget, PutOff
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph
from toolkit.memory import MemoryModel, Planned, peak_activation_bytes

MB = 1_000_000
MEMORY = {"before_bytes": 100, "load_peak_bytes": 180, "peak_bytes": 190, "resident_bytes": 150}


@pytest.mark.parametrize(
    ("kept", "peak"),
    [
        ({"entry", "pass"}, 64),  # mel 32 + low 32; out is low
        ({"entry", "mix"}, 64),  # mel 32 + low 32, then low 32 + out 32
        ({"entry", "pass", "mix"}, 64),  # out is low, until low 32 + mix 32 are its sum
        ({"conv3", "skip", "late"}, 96),  # mel 32 + fine 64; deep is fine: 64 + out 32
        ({"conv1", "skip", "separable", "late"}, 128),  # deep gets a buffer of its own, for fine is still read
        # low 32 + fine 64 + mel 32 while conv3, 64, is not yet added to fine
        (toy.GRAPH.full, 192),
    ],
)
def test_the_peak_of_the_toy_by_hand(kept: set[str], peak: int) -> None:
    live = toy.GRAPH.live(kept)
    assert peak_activation_bytes(toy.GRAPH, live, toy.ACTIVATION_BYTES, toy.FEATURES_BYTES) == peak


@pytest.mark.parametrize(("sizes", "peak"), [([5, 3, 9, 1], 12), ([5, 0, 0, 7], 12), ([8, 0, 0], 8), ([1, 2, 3], 5)])
def test_a_chain_needs_its_largest_neighbours(sizes: list[int], peak: int) -> None:
    edges = tuple(Edge(f"e{index}", f"n{index}", f"n{index + 1}") for index in range(len(sizes) - 1))
    graph = Graph(edges, "n0", f"n{len(edges)}")
    outputs = {edge.name: size for edge, size in zip(edges, sizes[1:], strict=True)}
    assert peak_activation_bytes(graph, graph.full, outputs, sizes[0]) == peak


@dataclass(eq=False)
class Tensor:
    """A value that counts itself while somebody holds it."""

    size: int
    holders: set[str]


def held_by(node: str, tensors: list[Tensor]) -> Tensor | None:
    return next((tensor for tensor in tensors if node in tensor.holders), None)


def simulated(graph: Graph, live: Architecture, outputs: Mapping[str, int], source_bytes: int) -> int:
    """The peak of an interpreter that runs the live edges one by one and looks ahead who still reads what."""
    order = [edge for edge in graph.ordered if edge.name in live]
    tensors = [Tensor(source_bytes, {graph.source})]
    peak = source_bytes

    for index, edge in enumerate(order):
        readers = [later.source for later in order[index + 1 :]]
        given, total = held_by(edge.source, tensors), held_by(edge.target, tensors)
        assert given is not None
        alone = total is not None and total.holders == {edge.target}
        fresh = None
        if outputs[edge.name]:
            fresh = Tensor(outputs[edge.name], set())
        elif total is None:
            given.holders.add(edge.target)
        elif not alone:
            if given.holders == {edge.source} and edge.source not in readers:
                total.holders.discard(edge.target)
                given.holders.add(edge.target)
            else:
                fresh = Tensor(total.size, set())
        if fresh is not None:
            tensors.append(fresh)
            peak = max(peak, sum(tensor.size for tensor in tensors))
            if not alone:
                for tensor in tensors:
                    tensor.holders.discard(edge.target)
                fresh.holders.add(edge.target)
        for tensor in tensors:
            tensor.holders &= {*readers, graph.sink}
        tensors = [tensor for tensor in tensors if tensor.holders]
    return peak


@st.composite
def sized_graphs(draw: st.DrawFn) -> tuple[Graph, Architecture, dict[str, int], int]:
    """A random graph, a network of it, the bytes of every output (0: an identity) and of the source."""
    graph, kept = draw(toy.kept_edges())
    sizes = {node: draw(st.integers(1, 3)) for node in graph.nodes}
    outputs = {}
    for edge in graph.edges:
        same = sizes[edge.source] == sizes[edge.target]
        outputs[edge.name] = 0 if same and draw(st.booleans()) else sizes[edge.target]
    return graph, graph.live(kept) or graph.live(graph.full), outputs, sizes[graph.source]


@given(sized_graphs())
def test_the_peak_is_that_of_a_simulation(drawn: tuple[Graph, Architecture, dict[str, int], int]) -> None:
    graph, live, outputs, source_bytes = drawn
    peak = peak_activation_bytes(graph, live, outputs, source_bytes)
    assert peak == simulated(graph, live, outputs, source_bytes)
    sizes = {graph.source: source_bytes}
    for edge in graph.ordered:
        if edge.name in live:
            sizes[edge.target] = outputs[edge.name] or sizes[edge.source]
    for name in live:  # an edge's input and output exist at the same time
        assert peak >= outputs[name] + sizes[graph.by_name[name].source]
    joins = graph.joins(live)  # only a sum of two values that others hold takes more than the outputs
    assert peak <= source_bytes + sum(outputs[name] for name in live) + joins * max(sizes.values())


def matrix(megabytes: float) -> bytes:
    """scores = audio @ W with weights of that size."""
    weights = np.random.default_rng(0).standard_normal((int(megabytes * MB / 4 / 128), 128)).astype(np.float32)
    node = helper.make_node("MatMul", ["audio", "W"], ["scores"])
    return to_bytes([node], [value("audio", [1, len(weights)])], [value("scores", [1, 128])], {"W": weights})


def test_a_process_takes_the_weights_twice_while_it_loads() -> None:
    found = memory_of(matrix(24), LocalTarget())
    assert found.before_bytes > 10 * MB
    assert found.before_bytes < found.load_peak_bytes <= found.peak_bytes
    assert found.resident_bytes <= found.peak_bytes
    at_load = found.load_peak_bytes - found.before_bytes
    assert found.increment_bytes >= at_load >= 24 * MB
    assert found.increment_bytes < 100 * MB
    kept = found.resident_bytes - found.before_bytes
    assert kept >= 23 * MB


def test_libraries_are_no_cost_of_a_model() -> None:
    assert memory_of(counter(), LocalTarget()).increment_bytes < 3 * MB  # the first session of a process takes 9


def test_a_model_that_does_not_run_is_a_reason() -> None:
    with pytest.raises(CannotMeasure, match=r"cannot measure memory: .*fixed sizes") as caught:
        memory_of(copying(["batch", 4]), LocalTarget())
    assert not isinstance(caught.value, CannotTell)  # of that one


def test_a_device_that_does_not_tell_is_a_reason(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "a.onnx").write_bytes(counter())
    job, task = {"threads": 1, "seed": 0, "provider": "CPUExecutionProvider"}, {"models": ["a.onnx"], "limit_s": 9}
    absent = type("Absent", (), {"__init__": lambda self, path: None})

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    absent.write_text = absent.read_text = refuse
    for name, reason in (("reset_peak", "reset its peak memory.*denied"), ("memory_bytes", "does not tell.*denied")):
        original = getattr(runner, name)

        def without_proc(*arguments: Any, original: Any = original) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(runner, "Path", absent)
                return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(runner, name, without_proc)
            runner.measure_memory(tmp_path, job, task, runner.Progress(1))
        *_, failed = events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        with pytest.raises(CannotTell, match=reason):
            memory_of(b"", Answers(*events))
        assert (failed["event"], failed["model"]) == ("failed", "a.onnx")
        assert re.search(reason, failed["reason"])


@pytest.mark.parametrize("tasks", [[["a", "b"]], [[]], [["a"], ["b"]]])
def test_a_process_has_one_model(tasks: list[list[str]]) -> None:
    job = {"format": 1, "tasks": [{"task": "memory", "models": models} for models in tasks]}
    with pytest.raises(SystemExit, match="a process of its own"):
        runner.checked(job)


@pytest.mark.parametrize(
    "change", [{"peak_bytes": -1}, {"before_bytes": 1.5}, {"model": "b"}, {"load_peak_bytes": None}]
)
def test_a_wrong_event_is_refused(change: dict[str, Any]) -> None:
    event = {"event": "memory", "model": "a", **MEMORY}
    assert checked_event(event, ["a"]) == event
    with pytest.raises(ValueError):
        checked_event({**event, **change}, ["a"])


class Answers:
    """A target that gives the same answer to everything."""

    name = "answers"

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events, self.asked = list(events), 0

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def run(self, _job: object, _files: object, _on_event: object) -> list[dict[str, Any]]:
        self.asked += 1
        if not self.events:
            raise PutOff("another day")
        return self.events


def test_what_a_target_answers() -> None:
    answer = Answers({"event": "environment"}, {"event": "memory", "model": "model.onnx", **MEMORY})
    assert memory_of(b"", answer) == Memory(100, 180, 190, 150)
    assert memory_of(b"", answer).increment_bytes == 90
    with pytest.raises(CannotMeasure, match="said nothing"):
        memory_of(b"", Answers({"event": "environment"}))
    with pytest.raises(PutOff):
        memory_of(b"", Answers())


coefficients = st.tuples(st.integers(0, 20 * MB), st.floats(0, 5), st.floats(0, 5))


@given(coefficients, st.integers(0, 99))
def test_the_fit_finds_what_is_there(truth: tuple[int, float, float], seed: int) -> None:
    chance = np.random.default_rng(seed)
    planned = []
    for _ in range(12):
        parts = chance.integers(1, 30 * MB, chance.integers(1, 6))
        planned.append(Planned(int(parts.sum()), int(parts.max()), 0, int(chance.integers(0, MB))))
    real = MemoryModel(*truth, fitted_nets=0, fitted_error=0.0)
    measured = [1 + round(real(each)) for each in planned]
    found = fit_memory(planned, measured)
    assert found.fitted_nets == 12 and found.fitted_error < 1e-4
    assert min(found.base_bytes, found.per_weight_byte, found.per_largest_byte) >= 0
    assert found(planned[0]) == pytest.approx(measured[0], rel=1e-3)


def test_no_coefficient_is_negative() -> None:
    planned = [Planned(size * MB, size * MB // 2, 0, 0) for size in (1, 2, 3, 4)]
    found = fit_memory(planned, [9 * MB, 8 * MB, 7 * MB, 6 * MB])  # less for more weights
    assert found.per_weight_byte == found.per_largest_byte == 0
    assert 6 * MB < found.base_bytes < 9 * MB
    with pytest.raises(MilliwiseError, match="at least 3"):
        fit_memory(planned[:2], [MB, MB])


def test_it_is_judged_on_other_networks() -> None:
    model = MemoryModel(MB, 2.0, 1.0, 5, 0.01)
    planned = [Planned(10 * MB, 4 * MB, 7, MB), Planned(20 * MB, 20 * MB, 7, 0)]
    assert [model(each) for each in planned] == [26 * MB, 61 * MB]  # 1 + 2·10 + 4 + 1, 1 + 2·20 + 20
    found = judge_memory(model, planned, [26 * MB, 50 * MB])
    assert (found.held_out_nets, found.held_out_within_10) == (2, 0.5)
    assert found.held_out_error == pytest.approx(0.11)
    assert found.rows[1] == {"weight_bytes": 20 * MB, "predicted_bytes": 61 * MB, "measured_bytes": 50 * MB}
    assert judge_memory(model, [], []) == model
