"""The bodies of a gated edge in an exported graph: off, and on, cold (it catches up with what it missed) or warm.

Cold and warm differ in what each layer is given; the layer itself, with its weights, is there once. The weights lie
inside the branch: as initialisers of the graph around it, onnxruntime would not bring convolutions into the layout they
are quickest in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import onnx
from onnx import TensorProto
from torch import nn

from exporters.graph_writer import GraphWriter, Value
from exporters.onnx import write
from toolkit.errors import MilliwiseError
from toolkit.layers import CausalConv, WindowMean

STATELESS = {write.dispatch(kind) for kind in (object, nn.Identity, nn.Sequential)}


@dataclass(frozen=True)
class Ring:
    """What a gated edge can catch up from.

    Attributes:
        columns: those of the edge's source, this hop's last.
        hop: how many of them are of this hop.
        heard: hops since the start of the stream, this one included, float32 [1].
    """

    columns: Value
    hop: int
    heard: str


def remembers(module: nn.Module) -> bool:
    """Whether an edge has streaming state."""
    return any(_remembers(layer) for layer in module.modules())


def _remembers(layer: nn.Module) -> bool:
    if isinstance(layer, CausalConv):
        return layer.cached_columns > 0
    if isinstance(layer, WindowMean):
        return layer.window_columns > layer.hop_columns
    return write.dispatch(type(layer)) not in STATELESS


def columns_needed(module: nn.Module, hop: int, name: str) -> int:
    """How many columns of its source an edge sees at a hop, of which `hop` are new.

    Raises:
        MilliwiseError: it has other layers than those whose view is known.
    """
    return _columns(module, hop, name)[0]


def _columns(module: nn.Module, hop: int, name: str) -> list[int]:
    """How many columns each layer is given at a hop that catches up, and how many the last one gives."""
    layers = [layer for _scope, layer in _layers(module, name)]
    needed = 1 if any(isinstance(layer, WindowMean) for layer in layers) else hop // _strides(layers)[-1]
    columns = [needed]
    for layer in reversed(layers):
        if isinstance(layer, WindowMean) and needed == 1:
            needed = max(layer.window_columns, layer.hop_columns)
        elif isinstance(layer, CausalConv):
            needed = (needed - 1) * layer.conv.stride[1] + layer.conv.kernel_size[1]
        else:
            raise MilliwiseError(
                f"cannot gate {name!r}: how far back its {type(layer).__name__} looks is not known; make it of "
                "CausalConv, with a WindowMean at the end at most"
            )
        columns.append(needed)
    return columns[::-1]


def _layers(module: nn.Module, scope: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of (nested) sequences with their scopes, in order."""
    if type(module).forward is nn.Sequential.forward:
        for name, child in module._modules.items():
            assert child is not None
            yield from _layers(child, f"{scope}.{name}")
    elif not isinstance(module, nn.Identity):
        yield scope, module


def _strides(layers: Sequence[nn.Module]) -> list[int]:
    """Columns of the source in a column of each layer's input, and of the last one's output."""
    strides = (layer.conv.stride[1] if isinstance(layer, CausalConv) else 1 for layer in layers)
    return list(accumulate(strides, lambda before, stride: before * stride, initial=1))


@dataclass
class CatchingUp(GraphWriter):
    """Writes layers that are given all columns they need: the caches are left behind as if they had always run.

    A layer that always runs sees zeros before the start of the stream, not what the layer before makes of silence.
    """

    ring: Ring | None = None
    stride: int = 1  # columns of the ring in one of the value that is written next
    columns: int = 0  # of that value, when the layers catch up

    def layers(self, module: nn.Module, value: Value, name: str) -> Value:
        """Append the layers of an edge and return its value."""
        assert self.ring is not None
        layers = list(_layers(module, name))
        strides, columns = _strides([layer for _scope, layer in layers]), _columns(module, self.ring.hop, name)
        for place, (scope, layer) in enumerate(layers):
            self.stride, self.columns = strides[place], columns[place]
            value = write(layer, self, value, scope)
        return value

    def remember(self, name: str, value: Value, count: int, axis: int) -> Value:
        """`value` itself, its columns from before the start made zeros; the state keeps the last `count` of them."""
        if count == 0:
            return value
        assert self.ring is not None
        ages = np.arange(value.shape[axis])[::-1] * self.stride // self.ring.hop  # in hops
        younger = self.node("Sub", [self.ring.heard, self.constant(ages, np.float32)])
        bounds = [self.constant(bound, np.float32) for bound in (0.0, 1.0)]
        heard = self.node("Clip", [younger, *bounds])
        value = Value(self.node("Mul", [value.name, heard]), value.shape)
        self.state(name, (*value.shape[:axis], count, *value.shape[axis + 1 :]))
        self.last(value.name, count, axis, f"state_out_{name}")
        return value


@dataclass
class _GoingOn(CatchingUp):
    """Writes layers that go on from their caches when these are warm, and catch up otherwise.

    The shapes are those of warm values: how many columns there are is known when it runs.
    """

    warm: str = ""

    def remember(self, name: str, value: Value, count: int, axis: int) -> Value:
        """What the layer is given either way; the state keeps the last `count` of it."""
        if count == 0:
            return value
        warm = GraphWriter(self.opset, prefix=f"{self.prefix}{name}/warm/")
        cold = CatchingUp(self.opset, prefix=f"{self.prefix}{name}/cold/", ring=self.ring, stride=self.stride)
        joined = warm.remember(name, value, count, axis)
        whole = Value(value.name, (*value.shape[:axis], self.columns, *value.shape[axis + 1 :]))
        whole = cold.remember(name, whole, count, axis)
        self.state(name, warm.states[name])
        branches = warm.branch(_results(warm, joined)), cold.branch(_results(cold, whole))
        given, _kept = self.choose(self.warm, *branches, f"state_out_{name}")
        return Value(given, joined.shape)


def _results(writer: GraphWriter, value: Value) -> list[Value]:
    kept = (Value(f"{writer.prefix}state_out_{name}", shape) for name, shape in writer.states.items())
    return [value, *kept]


def write_body(module: nn.Module, opset: int, value: Value, name: str) -> tuple[GraphWriter, Value]:
    """The edge as in a file where it always runs, in a writer of its own."""
    writer = GraphWriter(opset, prefix=f"{name}/on/")
    output = write(module, writer, value, name)
    if output.name == value.name:  # a branch cannot give what it did not make
        output = Value(writer.node("Identity", [value.name]), value.shape)
    return writer, output


def _off(writer: GraphWriter, name: str, kept: Sequence[str]) -> onnx.GraphProto:
    """A zero that is added to anything, and the caches as they were."""
    off = GraphWriter(writer.opset, prefix=f"{name}/off/")
    zero = Value(off.constant(np.zeros((1, 1, 1, 1)), np.float32), (1, 1, 1, 1))
    states = [Value(off.node("Identity", [f"state_in_{each}"]), writer.states[each]) for each in kept]
    return off.branch([zero, *states])


def write_stateless(writer: GraphWriter, module: nn.Module, value: Value, name: str, live: str) -> Value:
    """Append an edge that runs when it is live; else it gives a zero."""
    body, output = write_body(module, writer.opset, value, name)
    (result,) = writer.choose(live, body.branch([output]), _off(writer, name, []))
    return Value(result, output.shape)


def write_streaming(writer: GraphWriter, module: nn.Module, name: str, live: str, warm: str, ring: Ring) -> Value:
    """Append an edge with streaming state that runs when it is live, from its caches when they are warm.

    Args:
        live: bool of one element.
        warm: number of one element; its caches are, when it is not 0.
        ring: of the edge's source.
    """
    on = _GoingOn(writer.opset, prefix=f"{name}/on/", ring=ring)
    on.warm = on.node("Cast", [warm], to=TensorProto.BOOL)
    cold, fresh = (on.constant([-count], np.int64) for count in (columns_needed(module, ring.hop, name), ring.hop))
    limits = [on.node("Where", [on.warm, fresh, cold]), *(on.constant([each], np.int64) for each in (2**31 - 1, 3))]
    source = Value(on.node("Slice", [ring.columns.name, *limits]), (*ring.columns.shape[:3], ring.hop))
    output = on.layers(module, source, name)
    on.pack(name, list(on.states))
    kept = {state: writer.state(state, shape) for state, shape in on.states.items()}
    off = _off(writer, name, list(kept))
    outputs = writer.choose(live, on.branch(_results(on, output)), off, *(f"state_out_{state}" for state in kept))
    return Value(outputs[0], output.shape)
