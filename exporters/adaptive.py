"""An adaptive listener as one ONNX file: the controller decides at every hop, and `If` skips what it left out.

Which edges run is looked up in a table over all choices of the gates, and every conditional edge is an `If`. One that
does not run gives a single zero, which broadcasts in a sum; who would read it in another shape is as dead as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from exporters.controller import write_memory, write_odds
from exporters.gates import Ring, columns_needed, remembers, write_stateless, write_streaming
from exporters.graph_writer import OPSET, GraphWriter, Value
from exporters.onnx import IR_VERSION, add_up, finished, write
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError
from toolkit.features import log_mel_of
from toolkit.graph import Architecture, Edge

OFF, COLD, WARM, ON = "off", "cold", "warm", "on"
DIAL, RAN = "dial", "ran"  # states: what log-odds have to exceed; 1 for the streaming gates that ran in the hop before
FileMode = tuple[int, frozenset[str]]
"""The mode in torch, and those of its live gates that ran in the hop before, too, of those with streaming state."""


def file_modes(adaptive: AdaptiveNetwork) -> tuple[FileMode, ...]:
    """What `mode` of an exported file counts; the first has all gates shut."""
    found = []
    for place in range(len(adaptive.modes)):
        streaming = _streaming(adaptive, place)
        for warm in product((False, True), repeat=len(streaming)):
            pairs = zip(streaming, warm[::-1], strict=True)  # the first gate is the lowest digit
            found.append((place, frozenset(gate for gate, is_warm in pairs if is_warm)))
    return tuple(found)


def mode_names(adaptive: AdaptiveNetwork) -> tuple[str, ...]:
    """Of the file's modes: the live gates, each with streaming state `warm` when it ran in the hop before, else `cold`.

    Without live gates it is `off`.
    """

    def name(mode: FileMode) -> str:
        streaming = _streaming(adaptive, mode[0])
        state = {gate: f" {WARM if gate in mode[1] else COLD}" for gate in streaming}
        live = adaptive.modes[mode[0]]
        return "+".join(gate + state.get(gate, "") for gate in adaptive.gated if gate in live) or OFF

    return tuple(map(name, file_modes(adaptive)))


def modes_after(adaptive: AdaptiveNetwork) -> NDArray[np.int64]:
    """The file's mode of a mode in torch (second index) after another (first index); before the first hop 0 ran."""
    places = {mode: place for place, mode in enumerate(file_modes(adaptive))}
    count = range(len(adaptive.modes))
    warm = [frozenset(_streaming(adaptive, place)) for place in count]
    return np.array([[places[place, warm[before] & warm[place]] for place in count] for before in count])


def _streaming(adaptive: AdaptiveNetwork, mode: int) -> list[str]:
    """The live gates with streaming state."""
    live, operations = adaptive.modes[mode], adaptive.network.operations
    return [gate for gate in adaptive.gated if gate in live and remembers(operations[gate])]


def to_adaptive_onnx(
    adaptive: AdaptiveNetwork,
    input_shape: tuple[int, ...],
    opset: int = OPSET,
    ir: int = IR_VERSION,
    forced: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The streaming form of an adaptive network, called once per hop.

    Args:
        adaptive: its edges are written as `exporters.onnx.to_onnx` does.
        input_shape: of one call, batch of one included.
        opset: ONNX operator set, 17 or newer.
        ir: ONNX file version.
        forced: what gates do at every hop whatever is decided, to measure it: `off`, `cold` or `warm`, or `on` without
            streaming state.

    Returns:
        A model as `to_onnx` makes it, with `mode` int64 [1], an index of `mode_names`. Among its states are `memory`
        of the controller and `dial` [1, gates], handed through as it is: a gate opens when its log-odds are above it.

    Raises:
        MilliwiseError: an edge with streaming state reads what gates change, a gated one has layers that cannot catch
            up, the controller has no writer, or what is forced is no such thing.
    """
    writer = GraphWriter(opset)
    source = Value("audio" if log_mel_of(adaptive.network.stem) is not None else "features", input_shape)
    assembly = Assembly(adaptive, writer, dict(forced or {}))
    features = write(adaptive.network.stem, writer, source, "stem")
    known = assembly.known(features) if adaptive.controller.looks else ""
    assembly.decide(known)
    sink = assembly.sink(features)
    write_memory(adaptive.controller, writer, known, flat(writer, sink))
    result = write(adaptive.network.head, writer, sink, "head")
    return finished(writer, source, [result, assembly.mode()], ir)


def flat(writer: GraphWriter, value: Value) -> str:
    """[1, channels, 1, 1] as [1, channels]."""
    if value.shape[2:] != (1, 1):
        raise MilliwiseError(f"a hop gives the sink {list(value.shape[2:])} values a channel, not one: change the hop")
    return writer.node("Squeeze", [value.name, writer.constant([2, 3], np.int64)])


class Assembly:
    """The graph of an adaptive network while it is written."""

    def __init__(self, adaptive: AdaptiveNetwork, writer: GraphWriter, forced: dict[str, str]) -> None:
        self.adaptive, self.writer, self.forced = adaptive, writer, forced
        graph, operations = adaptive.network.graph, adaptive.network.operations
        self.edges = [edge for edge in graph.ordered if edge.name in graph.live(graph.full)]
        behind = {edge.name for edge in self.edges} - adaptive.modes[0]  # run for some choices only
        self.streaming = [gate for gate in adaptive.gated if gate in behind and remembers(operations[gate])]
        always = {name for name in behind if name not in adaptive.gated and remembers(operations[name])}
        self.conditional = [edge.name for edge in self.edges if edge.name in behind - always]
        self.settled = {graph.source}  # nodes that have the same value whatever the gates do
        for node in graph.nodes:
            into = [edge for edge in self.edges if edge.target == node]
            if into and all(edge.source in self.settled and edge.name not in self.conditional for edge in into):
                self.settled.add(node)
        # What gates change is in one branch, but where an edge that always runs reads it.
        apart = all(edge.source in self.settled or edge.name in self.conditional for edge in self.edges)
        self.inner = GraphWriter(writer.opset, prefix="some/") if apart else writer
        self.values: dict[str, Value] = {}  # of edges that always run
        self.sums: dict[str, Value] = {}  # of them, at nodes
        self.rings: dict[str, Ring] = {}
        self.heard = self.choice = self.ran = self.number = ""
        self._check(operations)

    def _check(self, operations: nn.ModuleDict) -> None:
        for gate, state in self.forced.items():
            allowed = (OFF, COLD, WARM) if gate in self.streaming else (OFF, ON)
            if gate not in self.adaptive.gated or state not in allowed:
                raise MilliwiseError(
                    f"cannot force {gate!r} to be {state!r}: name a gated edge, and {' or '.join(allowed)}"
                )
        looks = self.adaptive.controller.looks
        for edge in self.edges:
            early = looks and edge.name in self.adaptive.modes[0]
            if edge.source not in self.settled and (early or remembers(operations[edge.name])):
                raise MilliwiseError(
                    f"{edge.name!r} reads {edge.source!r}, which gates change, and "
                    + ("the controller looks at it" if early else "remembers it")
                    + ": gate edges into the sink instead"
                )

    def known(self, features: Value) -> str:
        """What the edges that always run give the sink, [1, channels]."""
        always = self.adaptive.modes[0]
        return flat(self.writer, self.adaptive.network.walk(always, features, self._apply, self._add))

    def decide(self, known: str) -> None:
        """Append the decisions, and what they make live."""
        writer, gates = self.writer, self.adaptive.gated
        odds = write_odds(self.adaptive.controller, writer, known)
        dial = writer.state(DIAL, (1, len(gates)))
        writer.state("memory", (1, self.adaptive.controller.memory_size))
        writer.node("Identity", [dial], f"state_out_{DIAL}")
        shut = {gate: math.inf if state == OFF else -math.inf for gate, state in self.forced.items()}
        opened = writer.node("Greater", [odds, self._force(writer, dial, gates, shut)])
        places, zero = (writer.constant(each, np.int64) for each in (2 ** np.arange(len(gates)), [0]))
        digits = writer.node("Where", [opened, places, zero])
        self.choice = writer.node("ReduceSum", [digits, writer.constant([1], np.int64)], keepdims=0)

    def _force(self, writer: GraphWriter, values: str, gates: Sequence[str], instead: Mapping[str, float]) -> str:
        """The values [1, gates], but of some gates others.

        What is not asked for then is computed all the same: onnxruntime cannot know that nobody cares.
        """
        if not self.forced:
            return values
        mask = writer.constant([gate in instead for gate in gates], np.bool_)
        numbers = writer.constant(np.array([instead.get(gate, 0.0) for gate in gates]), np.float32)
        return writer.node("Where", [mask, numbers, values])

    def _by_choice(self, writer: GraphWriter, table: Sequence[Any], dtype: type, name: str | None = None) -> str:
        """What stands for the choice in a table over all choices of the gates, [1, ...]."""
        return writer.node("Gather", [writer.constant(np.array(table), dtype), self.choice], name)

    @property
    def _live(self) -> list[Architecture]:
        """The edges that run, of every choice."""
        return [self.adaptive.modes[mode] for mode in self.adaptive.mode_of]

    def sink(self, features: Value) -> Value:
        """The value of the sink, [1, channels, 1, 1]: a hop in which all gates are shut passes a single `If`.

        Each costs some 40 us even if it is shut (measured once per hop), so those of the edges are inside of it.
        """
        graph, inner = self.adaptive.network.graph, self.inner
        if self.streaming:
            state = inner.state(RAN, (1, len(self.streaming)))
            warm = {gate: float(state == WARM) for gate, state in self.forced.items()}
            self.ran = self._force(inner, state, self.streaming, warm)
            running = [[float(name in live) for name in self.streaming] for live in self._live]
            self._by_choice(inner, running, np.float32, f"state_out_{RAN}")
        total = self.adaptive.network.walk(graph.full, features, self._apply, self._add)
        if self.conditional:
            self.number = self._number()
        return total if self.inner is self.writer or not self.conditional else self._switched(total)

    def _switched(self, total: Value) -> Value:
        """The sink's value, of what always runs and of the branch whose own sum is `total`."""
        writer, inner = self.writer, self.inner
        number = Value(self.number, (1,))
        off = GraphWriter(writer.opset, prefix="none/")
        nothing = [Value(off.constant(np.zeros(each.shape), np.float32), each.shape) for each in (total, number)]
        kept = {state: writer.state(state, shape) for state, shape in inner.states.items()}
        for state, before in kept.items():
            shut = off.constant(np.zeros(inner.states[state]), np.float32) if state == RAN else before
            off.node("Identity", [shut], f"state_out_{state}")
        branches = (
            each.branch([*values, *(Value(f"{each.prefix}state_out_{state}", inner.states[state]) for state in kept)])
            for each, values in ((inner, (total, number)), (off, nothing))
        )
        some = self._by_choice(writer, [live != self._live[0] for live in self._live], np.bool_)
        outputs = ["number", *(f"state_out_{state}" for state in kept)]
        value, self.number, *_states = writer.choose(some, *branches, *outputs)
        always = self.sums.get(self.adaptive.network.graph.sink)
        return Value(value, total.shape) if always is None else add_up(writer, [always, Value(value, total.shape)])

    def _number(self) -> str:
        """Which of `file_modes` it is: that of the choice, and a binary digit for every live gate that is warm."""
        modes, inner = file_modes(self.adaptive), self.inner
        first = {mode: modes.index((mode, frozenset())) for mode, _warm in modes}
        rows: list[list[int]] = []
        for mode in self.adaptive.mode_of.tolist():
            streaming = _streaming(self.adaptive, mode)
            digits = {gate: 2**place for place, gate in enumerate(streaming)}
            rows.append([*(digits.get(gate, 0) for gate in self.streaming), first[mode]])
        row = self._by_choice(inner, rows, np.float32)  # far below 2 ** 24
        if self.streaming:
            ran = inner.node("Concat", [self.ran, inner.constant(np.ones((1, 1)), np.float32)], axis=1)
            row = inner.node("Mul", [row, ran])
        return inner.node("ReduceSum", [row, inner.constant([1], np.int64)], keepdims=0)

    def mode(self) -> Value:
        """Which of `file_modes` ran."""
        number = self.number or self.writer.constant([0], np.int64)
        return Value(self.writer.node("Cast", [number], "mode", to=TensorProto.INT64), (1,))

    def _apply(self, edge: Edge, module: nn.Module, value: Value) -> Value:
        if edge.name in self.conditional:
            live = self._by_choice(self.inner, [edge.name in live for live in self._live], np.bool_)
            if edge.name not in self.streaming:
                return write_stateless(self.inner, module, value, edge.name, live)
            warm = self.inner.node(
                "Gather", [self.ran, self.inner.constant(self.streaming.index(edge.name), np.int64)], axis=1
            )
            return write_streaming(self.inner, module, edge.name, live, warm, self.ring(edge.source, value))
        if edge.name not in self.values:
            self.values[edge.name] = write(module, self.writer, value, edge.name)
        return self.values[edge.name]

    def ring(self, node: str, value: Value) -> Ring:
        """As many columns of a node as any gated edge needs to catch up."""
        if not self.heard:  # float32 counts hops up to 2 ** 24 and stays there, which is just as well
            self.heard = self.writer.node(
                "Add", [self.writer.state("heard", (1,)), self.writer.constant([1], np.float32)], "state_out_heard"
            )
        if node not in self.rings:
            operations, hop = self.adaptive.network.operations, value.shape[3]
            here = [edge.name for edge in self.edges if edge.source == node and edge.name in self.streaming]
            needed = max(columns_needed(operations[name], hop, name) for name in here)
            columns = self.writer.remember(f"{node}.ring", value, needed - hop, axis=3)
            self.rings[node] = Ring(columns, hop, self.heard)
        return self.rings[node]

    def _add(self, node: str, values: Sequence[Value]) -> Value:
        """Outside the branch what is settled, and of the sink what always runs."""
        sink = self.adaptive.network.graph.sink
        if self.inner is self.writer or (node not in self.settled and node != sink):
            return add_up(self.inner, values)
        inside = [value for value in values if value.name.startswith(self.inner.prefix)]
        always = [value for value in values if value not in inside]
        if always and node not in self.sums:
            self.sums[node] = add_up(self.writer, always)
        return add_up(self.inner, inside) if inside else self.sums[node]
