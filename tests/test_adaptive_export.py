"""Exported adaptive listeners: gates change nothing but what they skip, and that is really skipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import adaptive_listener
import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from adaptive_listener import HOP
from onnx import numpy_helper
from torch import nn

from exporters.adaptive import mode_names, modes_after, to_adaptive_onnx
from exporters.binding import Binding
from exporters.listener import Listener
from exporters.onnx import state_shapes, to_onnx, with_properties
from exporters.verify_adaptive import streams
from toolkit.adaptive import AdaptiveNetwork
from toolkit.controller import Controller, HearingController, RecurrentController
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

Make = Callable[[], AdaptiveNetwork]
BOTH = pytest.mark.parametrize("make", [adaptive_listener.hearing, adaptive_listener.recurrent])
SHUT, OPEN = 1e6, -1e6


def sound(hops: int) -> exported.Audio:
    return next(streams(hops, HOP, seed=3))


def heard(content: bytes, audio: exported.Audio) -> tuple[exported.Audio, list[int]]:
    """Scores [hops, labels] and modes, in a loop of our own."""
    rows = exported.streamed(content, audio[None], HOP, 1, "audio")
    return np.concatenate([row[0] for row in rows]), [int(row[1][0]) for row in rows]


@BOTH
def test_every_gate_was_open_before_the_first_hop(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None fails, or is slow, hours later; and nothing of it is remembered."""
    ran: list[int] = []
    run = Binding.run

    def counted(binding: Binding, options: onnxruntime.RunOptions | None = None) -> None:
        run(binding, options)
        assert binding.mode is not None
        ran.append(int(binding.mode[0]))

    with monkeypatch.context() as patched:
        patched.setattr(Binding, "run", counted)
        listener = Listener.open(adaptive_listener.written(tmp_path, make()))
    names = [mode["name"] for mode in listener.metadata.modes]
    parts = {part for name in names for part in name.split("+")}
    assert {part for place in ran for part in names[place].split("+")} == parts and len(names) - 1 in ran
    fresh = exported.streamed((tmp_path / "adaptive.onnx").read_bytes(), sound(20)[None], HOP, 1, "audio")
    for block, (scores, mode) in zip(sound(20).reshape(-1, HOP), fresh, strict=True):
        told = listener.push(block)
        np.testing.assert_array_equal(told.probabilities, scores[0])
        assert told.mode == int(mode[0])


def test_the_hops_compared_change_their_scores_and_modes() -> None:
    """What is compared above is neither saturated nor always the same."""
    for make in (adaptive_listener.hearing, adaptive_listener.recurrent):
        scores, modes = heard(adaptive_listener.content(make()), sound(200))
        assert scores.std(0).max() > 0.02 and np.median(scores.max(1)) < 0.9
        assert len(set(modes)) > 3


STATES = {"wide": ("off", "cold", "warm"), "deep": ("off", "cold", "warm"), "now": ("off", "on")}


@pytest.mark.parametrize("states", list(product(*STATES.values())), ids="-".join)
def test_cold_and_warm_are_the_edge_that_always_runs_from_the_first_hop(states: tuple[str, ...]) -> None:
    adaptive = adaptive_listener.hearing()
    forced = dict(zip(STATES, states, strict=True))
    scores, modes = heard(adaptive_listener.content(adaptive, forced), sound(25))
    kept = {"trunk", "always"} | {gate for gate, state in forced.items() if state != "off"}
    static = with_properties(to_onnx(adaptive.network.select(kept), (1, HOP)), {})
    np.testing.assert_allclose(scores, exported.scores(static, sound(25), HOP), atol=1e-6, rtol=0)
    name = "+".join(f"{gate} {state}".removesuffix(" on") for gate, state in forced.items() if state != "off")
    assert {mode_names(adaptive)[mode] for mode in modes} == {name or "off"}


def test_every_network_of_a_fully_gated_space() -> None:
    adaptive = adaptive_listener.recurrent()
    for live in adaptive.modes[1::5]:
        forced = {gate: "on" if gate in live else "off" for gate in adaptive.gated}
        scores, modes = heard(adaptive_listener.content(adaptive, forced), sound(6))
        static = with_properties(to_onnx(adaptive.network.select(live), (1, HOP)), {})
        np.testing.assert_allclose(scores, exported.scores(static, sound(6), HOP), atol=1e-6, rtol=0)
        assert set(modes) == {adaptive.modes.index(live)}


def test_what_is_forced_leaves_the_other_gates_to_the_controller() -> None:
    adaptive = adaptive_listener.hearing()
    free, some = (heard(adaptive_listener.content(adaptive, forced), sound(60))[1] for forced in (None, {"now": "off"}))
    names = mode_names(adaptive)
    without = [names[mode].replace("+now", "").replace("now", "off") for mode in free]
    assert [names[mode] for mode in some] == without and len(set(without)) > 3 and some != free


@pytest.mark.parametrize("idle_hops", [0, 1, 2, 3, 40])
def test_gates_that_open_late_give_what_they_would_always_have_given(tmp_path: Path, idle_hops: int) -> None:
    adaptive = adaptive_listener.hearing()
    listener = Listener.open(adaptive_listener.written(tmp_path, adaptive))
    audio = sound(idle_hops + 12)
    listener.set_dial(np.full(3, SHUT))
    shut = [listener.push(hop) for hop in audio.reshape(-1, HOP)[:idle_hops]]
    listener.set_dial(np.full(3, OPEN))
    opened = [listener.push(hop) for hop in audio.reshape(-1, HOP)[idle_hops:]]
    names = mode_names(adaptive)
    assert [names[each.mode or 0] for each in shut] == ["off"] * idle_hops
    expected = ["wide cold+deep cold+now"] + 11 * ["wide warm+deep warm+now"]
    assert [names[each.mode or 0] for each in opened] == expected
    always = exported.expected_scores(adaptive.network, audio)[idle_hops:]
    np.testing.assert_allclose(np.stack([each.probabilities for each in opened]), always, atol=1e-6, rtol=0)


def test_the_dial_moves_every_gate_by_itself(tmp_path: Path) -> None:
    adaptive = adaptive_listener.recurrent()
    listener = Listener.open(adaptive_listener.written(tmp_path, adaptive))
    for live in (adaptive.modes[0], adaptive.modes[2], adaptive.modes[-1]):
        listener.set_dial(np.array([OPEN if gate in live else SHUT for gate in adaptive.gated]))
        assert {listener.push(hop).mode for hop in sound(5).reshape(-1, HOP)} == {adaptive.modes.index(live)}


def test_the_modes_of_a_file() -> None:
    assert mode_names(adaptive_listener.hearing())[:9] == (
        "off", "wide cold", "wide warm", "deep cold", "deep warm",
        "wide cold+deep cold", "wide warm+deep cold", "wide cold+deep warm", "wide warm+deep warm",
    )  # fmt: skip
    recurrent = adaptive_listener.recurrent()
    assert len(mode_names(recurrent)) == len(recurrent.modes) == 32
    assert {"off", "from-mel", "conv0+from-conv0", "conv0+conv1+lin0+lin1"} < set(mode_names(recurrent))


def test_the_mode_of_a_hop_follows_from_two_modes_in_torch() -> None:
    adaptive = adaptive_listener.hearing()
    names, after = mode_names(adaptive), modes_after(adaptive)
    places = {frozenset(live - {"trunk", "always"}): place for place, live in enumerate(adaptive.modes)}
    none, wide, deep = places[frozenset()], places[frozenset({"wide"})], places[frozenset({"deep"})]
    both = places[frozenset({"wide", "deep"})]
    seen = [names[after[pair]] for pair in ((none, both), (wide, both), (both, both), (both, deep), (wide, none))]
    assert seen == ["wide cold+deep cold", "wide warm+deep cold", "wide warm+deep warm", "deep warm", "off"]
    assert (modes_after(adaptive_listener.recurrent()) == np.arange(32)).all()


def test_the_states_of_a_file() -> None:
    """The ring holds what `deep` looks back to: 9 columns are of 11, these of (11 − 1) · 2 + 4, 4 of them new."""
    model = to_adaptive_onnx(adaptive_listener.hearing(), (1, HOP))
    states = {name: each["shape"] for name, each in state_shapes(model).items()}
    gated = {name: shape for name, shape in states.items() if name not in ("audio", "trunk", "always.1")}
    assert gated == {
        "dial": [1, 3], "memory": [1, 6], "ran": [1, 2], "heard": [1], "trunk.ring": [1, 4, 10, 20],
        "wide": [1, 4 * 10 * 2 + 6 * 2], "deep": [1, 4 * 10 * 2 + 5 * 10 * 2 + 6 * 7],
    }  # fmt: skip


def initialisers(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Those of a graph and of all graphs in it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += initialisers(attribute.g) if attribute.HasField("g") else []
    return found


@BOTH
def test_the_weights_of_gated_edges_lie_in_branches_once(make: Make) -> None:
    adaptive = make()
    model = onnx.load_from_string(adaptive_listener.content(adaptive))
    outside = {tensor.name for tensor in model.graph.initializer}
    edges = {name.split(".")[0].split("/")[0] for name in outside}
    assert edges == {"head", "controller"} | (adaptive.modes[0] - set(adaptive.gated))
    inside = [tensor.name for tensor in initialisers(model.graph) if tensor.name not in outside]
    assert {name.split("/")[0] for name in inside} == set(adaptive.gated)
    always_on = {tensor.name for tensor in to_onnx(adaptive.network, (1, HOP)).graph.initializer}
    assert sorted(name.split("/")[-1] for name in inside) == sorted(always_on - outside)


def poisoned(content: bytes, edge: str) -> bytes:
    """All weights of an edge are NaN: whatever computes it gives NaN."""
    model = onnx.load_from_string(content)
    weights = [tensor for tensor in initialisers(model.graph) if tensor.name.startswith(f"{edge}/")]
    assert weights
    for tensor in weights:
        tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("edge", ["wide", "deep", "now"])
def test_what_is_off_is_not_computed(edge: str) -> None:
    adaptive = adaptive_listener.hearing()
    for state in STATES[edge]:
        content = poisoned(adaptive_listener.content(adaptive, {**dict.fromkeys(STATES, "off"), edge: state}), edge)
        scores, _modes = heard(content, sound(4))
        assert np.isfinite(scores).all() == (state == "off"), state


def test_what_is_on_but_dead_is_not_computed() -> None:
    adaptive = adaptive_listener.recurrent()
    dead = {"conv0": "off", "conv1": "on", "lin0": "on", "lin1": "on", "from-conv0": "on", "from-mel": "on"}
    rest = {"from-conv1": "off", "from-lin0": "off"}
    for edge, finite in (("conv1", True), ("lin0", True), ("lin1", True), ("from-conv0", True), ("from-mel", False)):
        scores, _modes = heard(poisoned(adaptive_listener.content(adaptive, {**dead, **rest}), edge), sound(3))
        assert np.isfinite(scores).all() == finite, edge
    unheard = {**dict.fromkeys(adaptive.gated, "off"), "from-mel": "on", "conv0": "on", "conv1": "on"}
    assert np.isfinite(heard(poisoned(adaptive_listener.content(adaptive, unheard), "conv0"), sound(3))[0]).all()


@BOTH
def test_newer_operator_sets(make: Make) -> None:
    adaptive = make()
    newer = adaptive_listener.content(adaptive, opset=20)
    onnx.checker.check_model(onnx.load_from_string(newer), full_check=True)
    expected, modes = heard(adaptive_listener.content(adaptive), sound(30))
    scores, again = heard(newer, sound(30))
    assert again == modes
    np.testing.assert_allclose(scores, expected, atol=1e-6, rtol=0)


@BOTH
def test_the_independent_checker_passes_it(make: Make, tmp_path: Path, contract_checker: Path) -> None:
    path = adaptive_listener.written(tmp_path, make())
    seen = subprocess.run(
        [sys.executable, contract_checker, path, "--hops", "100"], capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0 and "FAIL" not in seen.stdout, seen.stdout + seen.stderr


@pytest.mark.parametrize(("gate", "state"), [("nowhere", "off"), ("trunk", "on"), ("wide", "on"), ("now", "cold")])
def test_what_cannot_be_forced(gate: str, state: str) -> None:
    with pytest.raises(MilliwiseError, match=f"cannot force '{gate}' to be '{state}': name a gated edge, and"):
        to_adaptive_onnx(adaptive_listener.hearing(), (1, HOP), forced={gate: state})


def two_steps(first: nn.Module, second: nn.Module, gated: str, controller: type[Controller]) -> AdaptiveNetwork:
    """mel → middle by `plain` and `first`, middle → sum by `second`."""
    operations = {"plain": CausalConv(1, 4, (4, 1), (4, 1)), "first": first, "second": second}
    edges = (Edge("plain", "mel", "middle"), Edge("first", "mel", "middle"), Edge("second", "middle", "sum"))
    head = WindowHead(adaptive_listener.CHANNELS, 4, 1, 1)
    network = SuperNetwork(Graph(edges, "mel", "sum"), operations, LogMel(), head)
    return AdaptiveNetwork(network, [gated], controller(adaptive_listener.CHANNELS, 1)).eval()


def step() -> nn.Module:
    return CausalConv(1, 4, (4, 1), (4, 1))


def pooled(columns: int) -> nn.Module:
    return nn.Sequential(CausalConv(4, adaptive_listener.CHANNELS, (11, 1), padding=0), WindowMean(columns, 16))


def test_what_remembers_may_not_read_what_gates_change() -> None:
    with pytest.raises(MilliwiseError, match="'second' reads 'middle', which gates change, and remembers it"):
        to_adaptive_onnx(two_steps(step(), pooled(20), "first", RecurrentController), (1, HOP))
    with pytest.raises(MilliwiseError, match="'second' reads 'middle', which gates change, and the controller looks"):
        to_adaptive_onnx(two_steps(step(), pooled(16), "first", HearingController), (1, HOP))


def test_what_remembers_nothing_may_read_what_gates_change() -> None:
    adaptive = two_steps(step(), pooled(16), "first", RecurrentController)
    for state, kept in (("on", {"plain", "first", "second"}), ("off", {"plain", "second"})):
        content = with_properties(to_adaptive_onnx(adaptive, (1, HOP), forced={"first": state}), {})
        expected = exported.expected_scores(adaptive.network.select(kept).eval(), sound(5))
        np.testing.assert_allclose(heard(content, sound(5))[0], expected, atol=1e-5, rtol=0)


def test_what_cannot_catch_up_cannot_be_gated() -> None:
    branch = nn.Sequential(CausalConv(1, 4, (4, 3), (4, 1)), nn.Tanh())
    with pytest.raises(MilliwiseError, match="cannot gate 'first': how far back its Tanh looks is not known; make it"):
        to_adaptive_onnx(two_steps(branch, pooled(16), "first", RecurrentController), (1, HOP))


def test_a_controller_without_a_writer() -> None:
    class Coin(RecurrentController):
        """Decides otherwise than its base."""

        def forward(self, memory: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            return super().forward(memory, known) * 0

    with pytest.raises(MilliwiseError, match="cannot export Coin: register writers"):
        to_adaptive_onnx(two_steps(step(), pooled(16), "first", Coin), (1, HOP))


class Conditional(nn.Module):
    """One hop of an adaptive network in torch's own words."""

    def __init__(self, adaptive: AdaptiveNetwork) -> None:
        super().__init__()
        network, controller = adaptive.network, adaptive.controller
        assert isinstance(controller, HearingController)
        self.always, self.gated = network.operations["always"], network.operations["gated"]
        self.hidden, self.linear, self.classifier = controller.hidden, controller.linear, network.head.linear

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        known = self.always(features)
        heard = torch.cat([known.flatten(1), torch.zeros_like(known.flatten(1))], 1)
        opened = self.linear(self.hidden(heard).relu())[0, 0] > 0
        gated = torch.cond(opened, lambda x: self.gated(x), lambda x: torch.zeros(1, 6, 1, 1), (features,))
        return self.classifier((known + gated).flatten(1)).softmax(1), opened


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_is_what_torch_exports_of_cond() -> None:
    """The oracle: torch's own exporter, and its `If`."""
    pytest.importorskip("onnxscript")
    operations = {
        "always": nn.Sequential(nn.Conv2d(1, 6, (40, 16)), nn.ReLU()),
        "gated": nn.Sequential(nn.Conv2d(1, 6, (40, 16)), nn.ReLU()),
    }
    graph = Graph((Edge("always", "mel", "sum"), Edge("gated", "mel", "sum")), "mel", "sum")
    network = SuperNetwork(graph, operations, nn.Identity(), WindowHead(6, 4, 1, 1)).eval()
    adaptive = AdaptiveNetwork(network, ["gated"], HearingController(6, 1)).eval()
    inputs = torch.randn(40, 1, 1, 40, 16)
    with torch.no_grad():
        adaptive.controller.linear.weight.mul_(5)
        sinks = adaptive.sink_values(inputs.flatten(0, 1))
        odds = torch.stack([adaptive.roll(each[None]).log_odds[0, 0, 0] for each in sinks])
        adaptive.controller.linear.bias -= odds.median() + 0.01
    oracle = torch.onnx.export(Conditional(adaptive).eval(), (inputs[0],), dynamo=True, verbose=False)
    assert oracle is not None and "If" in {node.op_type for node in oracle.model_proto.graph.node}
    theirs = onnxruntime.InferenceSession(oracle.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = with_properties(to_adaptive_onnx(adaptive, (1, 1, 40, 16)), {})
    modes = set()
    for each in inputs.numpy():
        expected, opened = theirs.run(None, {theirs.get_inputs()[0].name: each})
        ((scores, mode),) = exported.streamed(ours, each, 16, 3, "features")
        np.testing.assert_allclose(scores, expected, atol=1e-6, rtol=0)
        assert bool(mode[0]) == bool(opened)
        modes.add(bool(opened))
    assert modes == {False, True}
