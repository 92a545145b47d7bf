"""The one place that writes ONNX: a super-network, or any part of one, as a graph with explicit streaming state.

Our own modules have writers, which know their streaming state: a table that others extend with `write.register`. Any
other module is stateless, and traced (exporters/traced.py). Both are deterministic, quick enough to export hundreds of
candidates for profiling, and name every initialiser after its layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from exporters.front_end import write_log_mel
from exporters.graph_writer import OPSET, GraphWriter, Value
from exporters.traced import OWN_WRITER, write_traced
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel, log_mel_of
from toolkit.layers import CausalConv, RecentColumns, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

IR_VERSION = 8
MIN_ONNXRUNTIME = "1.17"  # the oldest release this package runs on; opset 17 and IR 8 would load in 1.12


@singledispatch
def write(module: nn.Module, writer: GraphWriter, value: Value, scope: str) -> Value:
    """Append the streaming form of `module` and return its output. `scope` prefixes the names of its parameters.

    A module without a writer of its own is traced.

    Raises:
        MilliwiseError: it cannot be traced, or layers with writers are in it, whose state a trace would drop.
    """
    if layers := _with_writers(module):
        raise MilliwiseError(
            f"cannot export {type(module).__name__} at {scope!r}: it holds {type(layers[0]).__name__}, whose streaming "
            f"state a trace would drop; make it an nn.Sequential, or {OWN_WRITER}"
        )
    return write_traced(module, writer, value, scope)


_default = write.dispatch(object)


def _with_writers(module: nn.Module) -> list[nn.Module]:
    """The layers anywhere in a module that have writers, other than containers and identities."""
    others = {write.dispatch(kind) for kind in (object, nn.Identity, nn.Sequential)}
    return [layer for layer in module.modules() if layer is not module and write.dispatch(type(layer)) not in others]


def _require_forward(module: nn.Module, kind: type[nn.Module], scope: str) -> None:
    if type(module).forward is not kind.forward:
        raise MilliwiseError(
            f"cannot export {type(module).__name__} at {scope!r}: it computes otherwise than {kind.__name__}, whose "
            f"writer it has; {OWN_WRITER}"
        )


@write.register
def _identity(module: nn.Identity, writer: GraphWriter, value: Value, scope: str) -> Value:
    return value if type(module).forward is nn.Identity.forward else _default(module, writer, value, scope)


@write.register
def _sequential(module: nn.Sequential, writer: GraphWriter, value: Value, scope: str) -> Value:
    if type(module).forward is not nn.Sequential.forward or not _with_writers(module):
        return _default(module, writer, value, scope)  # as a whole: BatchNorm is folded
    for name, child in module._modules.items():
        assert child is not None
        value = write(child, writer, value, f"{scope}.{name}")
    return value


@write.register
def _log_mel(module: LogMel, writer: GraphWriter, value: Value, scope: str) -> Value:
    _require_forward(module, LogMel, scope)
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
    _require_forward(module, CausalConv, scope)
    conv = module.conv
    (kernel_bands, kernel_columns), (stride_bands, stride_columns) = conv.kernel_size, conv.stride
    padding = int(conv.padding[0])
    bands, columns = value.shape[2], value.shape[3]
    inputs = writer.remember(scope, value, module.cached_columns, axis=3)
    if (inputs.shape[3] - kernel_columns) % stride_columns:
        raise MilliwiseError(
            f"{columns} columns a hop do not divide by the stride {stride_columns} at {scope!r}: change the hop"
        )
    weight, bias = folded(module)
    output = writer.node(
        "Conv",
        [inputs.name, writer.parameter(f"{scope}.weight", weight), writer.parameter(f"{scope}.bias", bias)],
        kernel_shape=[kernel_bands, kernel_columns],
        strides=[stride_bands, stride_columns],
        pads=[padding, 0, padding, 0],
        group=conv.groups,
    )
    columns = (inputs.shape[3] - kernel_columns) // stride_columns + 1
    shape = (1, conv.out_channels, (bands + 2 * padding - kernel_bands) // stride_bands + 1, columns)
    return Value(writer.node("Relu", [output]) if module.relu else output, shape)


@write.register
def _recent_columns(module: RecentColumns, writer: GraphWriter, value: Value, scope: str) -> Value:
    _require_forward(module, RecentColumns, scope)
    if value.shape[3] != module.hop_columns:
        raise MilliwiseError(
            f"a hop of {value.shape[3]} columns does not fit the network, made for {module.hop_columns}: change the hop"
        )
    return writer.remember("columns", value, module.window_columns - module.hop_columns, axis=3)


def _mean(writer: GraphWriter, value: Value, window_columns: int, name: str) -> str:
    """The mean of the last of these columns, [1, channels, 1, 1]."""
    last = value.name
    if value.shape[3] > window_columns:
        last = writer.last(last, window_columns, 3, f"{name}_columns")
    elif value.shape[3] == 1:
        return last
    return writer.node("GlobalAveragePool", [last])


@write.register
def _window_mean(module: WindowMean, writer: GraphWriter, value: Value, scope: str) -> Value:
    _require_forward(module, WindowMean, scope)
    before = max(0, module.window_columns - module.hop_columns)
    window = writer.remember(scope, value, before, axis=3)
    if value.shape[2] != 1 or window.shape[3] != before + module.hop_columns:
        raise MilliwiseError(
            f"{value.shape[2]} bands of {value.shape[3]} columns at {scope!r}: a mean is of one band and of hops of "
            f"{module.hop_columns} columns"
        )
    return Value(_mean(writer, window, module.window_columns, scope), (1, value.shape[1], 1, 1))


@write.register
def _window_head(module: WindowHead, writer: GraphWriter, value: Value, scope: str) -> Value:
    _require_forward(module, WindowHead, scope)
    channels, columns = value.shape[1], value.shape[3]
    window = writer.remember("window", value, max(0, module.window_columns - columns), axis=3)
    mean = _mean(writer, window, module.window_columns, "window")
    mean = writer.node("Squeeze", [mean, writer.constant([2, 3], np.int64)])
    weight = module.linear.weight.detach().cpu().numpy().T
    bias = module.linear.bias.detach().cpu().numpy()
    parameters = [writer.parameter(f"{scope}.weight", weight), writer.parameter(f"{scope}.bias", bias)]
    logits = writer.node("Gemm", [mean, *parameters])
    assert weight.shape[0] == channels
    return Value(writer.node("Softmax", [logits], "scores", axis=1), (1, weight.shape[1]))


def to_onnx(
    network: SuperNetwork,
    input_shape: tuple[int, ...],
    opset: int = OPSET,
    ir: int = IR_VERSION,
    listener: bool | None = None,
) -> onnx.ModelProto:
    """The streaming form of a whole (selected) network, or of a part of one, called once per hop.

    Args:
        network: every live edge is written, with BatchNorm folded by its running statistics.
        input_shape: of one call, batch of one included.
        opset: ONNX operator set, 17 or newer.
        ir: ONNX file version.
        listener: it hears audio, and its input is named `audio`, else `features`. By default, whether a `LogMel` is in
            its stem: an edge, or what starts from features, is no listener, whatever its shape.

    Returns:
        A model with states `state_in_<name>`/`state_out_<name>` that start as zeros, and one output: `scores`, softmax
        [1, labels], with a `WindowHead`, or where any other head of a listener makes logits [1, labels] or
        [1, 1, labels]; else `output`, what the head gives.
    """
    writer = GraphWriter(opset)
    hears = log_mel_of(network.stem) is not None if listener is None else listener
    source = Value("audio" if hears else "features", input_shape)
    features = write(network.stem, writer, source, "stem")

    sink = network.walk(
        network.graph.full,
        features,
        lambda edge, module, value: write(module, writer, value, edge.name),
        lambda _node, values: add_up(writer, values),
    )
    result = write(network.head, writer, sink, "head")
    return finished(writer, source, [_result(writer, source, result)], ir)


def add_up(writer: GraphWriter, values: Sequence[Value]) -> Value:
    """The sum of values of one shape, added in order."""
    total = values[0]
    for value in values[1:]:
        if value.shape != total.shape:
            raise MilliwiseError(f"edges into one node give {value.shape} and {total.shape}: they must agree")
        total = Value(writer.node("Add", [total.name, value.name]), total.shape)
    return total


def _result(writer: GraphWriter, source: Value, head: Value) -> Value:
    """The output of the model, from that of the head."""
    if head.name == "scores":
        return head
    if source.name != "audio" or head.shape[:-1] not in ((1,), (1, 1)):
        return Value(writer.node("Identity", [head.name], "output"), head.shape)
    shape = (1, head.shape[-1])
    logits = head.name if head.shape == shape else writer.node("Reshape", [head.name, writer.constant(shape, np.int64)])
    return Value(writer.node("Softmax", [logits], "scores", axis=1), shape)


def finished(writer: GraphWriter, source: Value, results: Sequence[Value], ir: int) -> onnx.ModelProto:
    """The model with everything collected, its states beside `source` and `results`; of these, `mode` is int64."""

    def info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if name == "mode" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, list(shape))

    states = writer.states.items()
    graph = helper.make_graph(
        writer.nodes,
        "milliwise",
        [info(source.name, source.shape), *(info(f"state_in_{name}", shape) for name, shape in states)],
        [
            *(info(result.name, result.shape) for result in results),
            *(info(f"state_out_{name}", shape) for name, shape in states),
        ],
        writer.tensors(),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", writer.opset)], producer_name="milliwise")
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
