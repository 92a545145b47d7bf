"""The one place that writes ONNX: a super-network, or any part of one, as a graph with explicit streaming state.

The graph is built from our own modules with a table of writers, not traced: it is deterministic, quick enough to export
hundreds of candidates for profiling, and every initialiser carries the name of the parameter it was folded from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exporters.front_end import write_log_mel
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.layers import CausalConv, WindowHead
from toolkit.supernet import SuperNetwork

OPSET = 17
IR_VERSION = 8
MIN_ONNXRUNTIME = "1.17"  # the oldest release this package runs on; opset 17 and IR 8 would load in 1.12


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: its name and shape, the batch of one included."""

    name: str
    shape: tuple[int, ...]


@dataclass
class GraphWriter:
    """Collects nodes, initialisers and states; the writers below append to it."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _constants: dict[tuple[str, bytes, tuple[int, ...]], str] = field(default_factory=dict)

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: NDArray[Any] | Sequence[int] | float, dtype: type) -> str:
        """A structural constant (indices, limits): a node, shared by its value; parameters are initialisers."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.node("Constant", [], value=numpy_helper.from_array(array))
        return self._constants[key]

    def parameter(self, name: str, array: NDArray[np.float32]) -> str:
        """An initialiser of that name."""
        self.initializers[name] = np.ascontiguousarray(array, np.float32)
        return name

    def state(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare a state and return its input; its output `state_out_<name>` is to be written by a node."""
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


@singledispatch
def write(module: nn.Module, writer: GraphWriter, value: Value, scope: str) -> Value:
    """Append the streaming form of `module` and return its output. `scope` prefixes the names of its parameters.

    Raises:
        MilliwiseError: there is no writer for that type of module.
    """
    raise MilliwiseError(f"no ONNX writer for {type(module).__name__} at {scope!r}: register one in exporters/onnx.py")


@write.register
def _identity(module: nn.Identity, writer: GraphWriter, value: Value, scope: str) -> Value:
    return value


@write.register
def _sequential(module: nn.Sequential, writer: GraphWriter, value: Value, scope: str) -> Value:
    for index, child in enumerate(module):
        value = write(child, writer, value, f"{scope}.{index}")
    return value


@write.register
def _log_mel(module: LogMel, writer: GraphWriter, value: Value, scope: str) -> Value:
    spec = module.spec
    if value.shape[1] % spec.hop_samples:
        raise MilliwiseError(f"a hop of {value.shape[1]} samples is no multiple of {spec.hop_samples}: change the hop")
    heard = writer.remember("audio", value, spec.history_samples, axis=1)
    frames = value.shape[1] // spec.hop_samples
    return Value(write_log_mel(writer, spec, heard.name, frames), (1, 1, spec.mels, frames))


def folded(module: CausalConv) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The convolution's weight and bias with its BatchNorm (running statistics) folded in, computed in float64."""
    weight = module.conv.weight.detach().double().cpu().numpy()
    norm = module.norm
    assert norm.running_mean is not None and norm.running_var is not None
    mean, variance = norm.running_mean.double().cpu().numpy(), norm.running_var.double().cpu().numpy()
    gain = norm.weight.detach().double().cpu().numpy() / np.sqrt(variance + norm.eps)
    bias = norm.bias.detach().double().cpu().numpy() - mean * gain
    return (weight * gain[:, None, None, None]).astype(np.float32), bias.astype(np.float32)


@write.register
def _causal_conv(module: CausalConv, writer: GraphWriter, value: Value, scope: str) -> Value:
    conv = module.conv
    (kernel_bands, kernel_columns), (stride_bands, stride_columns) = conv.kernel_size, conv.stride
    padding = int(conv.padding[0])
    bands, columns = value.shape[2], value.shape[3]
    if columns % stride_columns:
        raise MilliwiseError(
            f"{columns} columns a hop do not divide by the stride {stride_columns} at {scope!r}: change the hop"
        )
    inputs = writer.remember(scope, value, module.cached_columns, axis=3)
    weight, bias = folded(module)
    output = writer.node(
        "Conv",
        [inputs.name, writer.parameter(f"{scope}.weight", weight), writer.parameter(f"{scope}.bias", bias)],
        kernel_shape=[kernel_bands, kernel_columns],
        strides=[stride_bands, stride_columns],
        pads=[padding, 0, padding, 0],
        group=conv.groups,
    )
    shape = (1, conv.out_channels, (bands + 2 * padding - kernel_bands) // stride_bands + 1, columns // stride_columns)
    return Value(writer.node("Relu", [output]) if module.relu else output, shape)


@write.register
def _window_head(module: WindowHead, writer: GraphWriter, value: Value, scope: str) -> Value:
    channels, columns = value.shape[1], value.shape[3]
    window = writer.remember("window", value, max(0, module.window_columns - columns), axis=3).name
    if columns > module.window_columns:
        window = writer.last(window, module.window_columns, 3, "window")
    mean = writer.node("Squeeze", [writer.node("GlobalAveragePool", [window]), writer.constant([2, 3], np.int64)])
    weight = module.linear.weight.detach().cpu().numpy().T
    bias = module.linear.bias.detach().cpu().numpy()
    parameters = [writer.parameter(f"{scope}.weight", weight), writer.parameter(f"{scope}.bias", bias)]
    logits = writer.node("Gemm", [mean, *parameters])
    assert weight.shape[0] == channels
    return Value(writer.node("Softmax", [logits], "scores", axis=1), (1, weight.shape[1]))


def to_onnx(
    network: SuperNetwork, input_shape: tuple[int, ...], opset: int = OPSET, ir: int = IR_VERSION
) -> onnx.ModelProto:
    """The streaming form of a whole (selected) network, called once per hop.

    Args:
        network: every live edge is written, with BatchNorm folded by its running statistics.
        input_shape: (1, hop_samples) with a log-mel stem, whose input is named `audio`; else the shape of one hop of
            features, batch of one included, named `features`.
        opset: ONNX operator set, 17 or newer.
        ir: ONNX file version.

    Returns:
        A model with states `state_in_<name>`/`state_out_<name>` that start as zeros, output `scores` with a
        `WindowHead` and `output` without.
    """
    writer = GraphWriter()
    source = Value("audio" if isinstance(network.stem, LogMel) else "features", input_shape)
    features = write(network.stem, writer, source, "stem")

    def add(_node: str, values: Sequence[Value]) -> Value:
        total = values[0]
        for value in values[1:]:
            if value.shape != total.shape:
                raise MilliwiseError(f"edges into one node give {value.shape} and {total.shape}: they must agree")
            total = Value(writer.node("Add", [total.name, value.name]), total.shape)
        return total

    sink = network.walk(
        network.graph.full, features, lambda edge, module, value: write(module, writer, value, edge.name), add
    )
    result = write(network.head, writer, sink, "head")
    if result.name != "scores":
        result = Value(writer.node("Identity", [result.name], "output"), result.shape)
    return _model(writer, source, result, opset, ir)


def _model(writer: GraphWriter, source: Value, result: Value, opset: int, ir: int) -> onnx.ModelProto:
    def info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    states = writer.states.items()
    graph = helper.make_graph(
        writer.nodes,
        "milliwise",
        [info(source.name, source.shape), *(info(f"state_in_{name}", shape) for name, shape in states)],
        [info(result.name, result.shape), *(info(f"state_out_{name}", shape) for name, shape in states)],
        [numpy_helper.from_array(array, name) for name, array in writer.initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="milliwise")
    model.ir_version = ir
    return model


def state_shapes(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """Name → shape and dtype of the model's states, as the metadata of a listener has them."""
    return {
        value.name.removeprefix("state_in_"): {
            "shape": [dimension.dim_value for dimension in value.type.tensor_type.shape.dim],
            "dtype": "float32",
        }
        for value in model.graph.input
        if value.name.startswith("state_in_")
    }


def with_properties(model: onnx.ModelProto, properties: Mapping[str, str]) -> bytes:
    """The serialised model with these `metadata_props`."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    helper.set_model_props(copied, dict(properties))
    content: bytes = copied.SerializeToString()
    return content
