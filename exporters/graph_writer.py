"""What an ONNX graph is collected in while modules are written: its nodes, initialisers and streaming states."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from toolkit.errors import MilliwiseError

OPSET = 17


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: its name and shape, the batch of one included."""

    name: str
    shape: tuple[int, ...]


@dataclass
class GraphWriter:
    """Collects nodes, initialisers and states; the writers of exporters/onnx.py append to it."""

    opset: int = OPSET
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    prefix: str = ""  # of the names made in it: those in a branch are none of those around it
    _constants: dict[tuple[str, bytes, tuple[int, ...]], str] = field(default_factory=dict)

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        output = f"{self.prefix}{output}" if output else self.fresh(operator)
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def split(self, value: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        """Append a node that cuts a value along an axis, and return its parts."""
        parts = [f"{self.fresh('Split')}_{index}" for index in range(len(sizes))]
        lengths = self.constant(sizes, np.int64)
        self.nodes.append(helper.make_node("Split", [value, lengths], parts, axis=axis))
        return parts

    def fresh(self, operator: str) -> str:
        """A name for the output of the node that is appended next."""
        return f"{self.prefix}{operator.lower()}_{len(self.nodes)}"

    def constant(self, value: NDArray[Any] | Sequence[int] | float, dtype: type) -> str:
        """A structural constant (indices, limits): a node, shared by its value; parameters are initialisers."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.node("Constant", [], value=numpy_helper.from_array(array))
        return self._constants[key]

    def parameter(self, name: str, array: NDArray[np.float32]) -> str:
        """An initialiser of that name."""
        name = f"{self.prefix}{name}"
        _require_new(name, self.initializers)
        self.initializers[name] = np.ascontiguousarray(array, np.float32)
        return name

    def state(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare a state and return its input; its output `state_out_<name>` is to be written by a node."""
        _require_new(name, self.states)
        self.states[name] = shape
        return f"state_in_{name}"

    def last(self, value: str, count: int, axis: int, output: str) -> str:
        """The last `count` entries along an axis."""
        limits = [
            self.constant([-count], np.int64),
            self.constant([2**31 - 1], np.int64),
            self.constant([axis], np.int64),
        ]
        return self.node("Slice", [value, *limits], output)

    def remember(self, name: str, value: Value, count: int, axis: int) -> Value:
        """`value` preceded by the last `count` entries of the hops before, which are kept in the state `name`."""
        if count == 0:
            return value
        shape = list(value.shape)
        fresh, shape[axis] = shape[axis], count
        before = self.state(name, tuple(shape))
        shape[axis] = count + fresh
        joined = Value(self.node("Concat", [before, value.name], axis=axis), tuple(shape))
        # The shorter source is sliced: with enough new columns the joined tensor need not exist first.
        self.last(value.name if fresh >= count else joined.name, count, axis, f"state_out_{name}")
        return joined

    def pack(self, name: str, states: Sequence[str]) -> None:
        """Keep several states as one, [1, values]: it is taken apart before all other nodes, and joined after them."""
        if len(states) < 2:
            return
        shapes = {state: self.states.pop(state) for state in states}
        sizes = [math.prod(shape) for shape in shapes.values()]
        before = GraphWriter(self.opset, prefix=f"{self.prefix}{name}/")
        parts = before.split(self.state(name, (1, sum(sizes))), sizes)
        for part, (state, shape) in zip(parts, shapes.items(), strict=True):
            whole = [part, before.constant(shape, np.int64)]
            before.nodes.append(helper.make_node("Reshape", whole, [f"state_in_{state}"]))
        self.nodes[:0] = before.nodes
        flat = self.constant([1, -1], np.int64)
        joined = [self.node("Reshape", [f"{self.prefix}state_out_{state}", flat]) for state in shapes]
        self.node("Concat", joined, f"state_out_{name}", axis=1)

    def branch(self, results: Sequence[Value]) -> onnx.GraphProto:
        """What was collected as a branch of an `If`: all it reads of the graph around it, it reads by name.

        Args:
            results: float32 values of nodes in it.
        """
        outputs = [helper.make_tensor_value_info(each.name, onnx.TensorProto.FLOAT, each.shape) for each in results]
        return helper.make_graph(self.nodes, self.prefix.strip("/"), [], outputs, self.tensors())

    def tensors(self) -> list[onnx.TensorProto]:
        """The initialisers."""
        return [numpy_helper.from_array(array, name) for name, array in self.initializers.items()]

    def choose(self, condition: str, then: onnx.GraphProto, otherwise: onnx.GraphProto, *outputs: str) -> list[str]:
        """Append an `If` and return the names of what the branch gives that was taken: one without, then `outputs`."""
        names = [self.fresh("If"), *(f"{self.prefix}{output}" for output in outputs)]
        self.nodes.append(helper.make_node("If", [condition], names, then_branch=then, else_branch=otherwise))
        return names


def _require_new(name: str, taken: Container[str]) -> None:
    if name in taken:
        raise MilliwiseError(f"two layers would both have {name!r} in the exported file: rename that edge")
