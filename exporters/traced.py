"""The ONNX form of a stateless torch module, by torch's own exporter, spliced into our graph."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from exporters.graph_writer import GraphWriter, Value
from toolkit.errors import MilliwiseError

# The last operator set the exporter knows. What it writes for 20 means the same in 21, which widened types, gave
# (De)QuantizeLinear blocks and redefined GroupNormalization; it writes the latter as InstanceNormalization.
NEWEST_OPSET = 20
OWN_WRITER = "register a writer for it with exporters.onnx.write.register"


def write_traced(module: nn.Module, writer: GraphWriter, value: Value, scope: str) -> Value:
    """Append what `module` computes of `value` in evaluation mode, and return its output.

    Its float32 parameters become initialisers `scope.NAME`, and those the exporter computed (a BatchNorm folded into
    the convolution before it) `scope.folded_INDEX`. The nodes are right for the shape of `value` alone. The module
    itself is left as it is.

    Raises:
        MilliwiseError: it cannot be traced: it does not run on that shape, has several outputs or another batch, keeps
            state or draws random numbers, changes its input, branches on values, or needs what ONNX has not.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings(), _silent():
            warnings.simplefilter("ignore")
            still = copy.deepcopy(module).cpu().eval()
            inputs = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
            output = _run(still, inputs)
            graph = _export(still, inputs, min(writer.opset, NEWEST_OPSET))
    except Exception as error:  # the module is the user's code, which raises what it likes
        raise MilliwiseError(
            f"cannot export {type(module).__name__} at {scope!r}: {_reason(error)}; change it, or {OWN_WRITER}"
        ) from error
    own = {name for name, _value in (*still.named_parameters(), *still.named_buffers())}
    return Value(_splice(graph, writer, value.name, scope, own), tuple(output.shape))


@contextmanager
def _silent() -> Iterator[None]:
    """Without the graph that the exporter writes to standard output before it raises."""
    log = getattr(torch._C, "_jit_onnx_log", None)
    setattr(torch._C, "_jit_onnx_log", lambda *_parts: None)  # noqa: B010  (private, and not in every release)
    try:
        yield
    finally:
        setattr(torch._C, "_jit_onnx_log", log)  # noqa: B010


def _run(module: nn.Module, inputs: Tensor) -> Tensor:
    """The output, when it is one that a stateless edge can have."""
    output = module(inputs)
    if inputs._version:
        raise ValueError("it changes its input in place, which other edges read, too")
    if not isinstance(output, Tensor):
        raise TypeError(f"it gives a {type(output).__name__}, not one tensor")
    if output.dtype != torch.float32 or output.shape[:1] != (1,):
        raise TypeError(f"it gives {output.dtype} {list(output.shape)}, not float32 with a batch of one")
    again = module(inputs)
    if again.shape != output.shape or not torch.allclose(again, output, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError("it answers the same input differently the second time (a state, or random numbers)")
    return output


def _export(module: nn.Module, inputs: Tensor, opset: int) -> onnx.GraphProto:
    file: Any = io.BytesIO()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        torch.onnx.export(module, (inputs,), file, opset_version=opset, do_constant_folding=True, dynamo=False)
    if any(issubclass(warning.category, torch.jit.TracerWarning) for warning in raised):
        _require_no_values(module, inputs)
    model = onnx.load_from_string(file.getvalue())
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or any(each.HasField("g") or each.graphs for each in node.attribute):
            raise ValueError(f"it needs the operator {node.domain}::{node.op_type}")
    if len(model.graph.input) > 1 or len(model.graph.output) != 1:
        raise ValueError("it has several inputs or outputs")
    return model.graph


def _require_no_values(module: nn.Module, inputs: Tensor) -> None:
    """A trace follows one side of a branch: fine if a shape decides, which is fixed, wrong if a value does.

    Tensors without values, on the meta device, tell the two apart.
    """
    try:
        with torch.device("meta"):
            copy.deepcopy(module).to("meta")(inputs.to("meta"))
    except Exception as error:
        raise ValueError(f"its control flow depends on the values it is given ({_reason(error)})") from error


def _splice(graph: onnx.GraphProto, writer: GraphWriter, value: str, scope: str, own: Container[str]) -> str:
    """Append the nodes of a traced graph under new names, and return its output's. Parameters in `own` keep theirs."""
    names = {"": "", **{each.name: value for each in graph.input}}
    for index, tensor in enumerate(graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            name = tensor.name if tensor.name in own else f"folded_{index}"
            names[tensor.name] = writer.parameter(f"{scope}.{name}", array)
        else:  # indices, limits: as they are
            names[tensor.name] = writer.constant(array, array.dtype.type)
    for node in graph.node:
        if node.op_type == "Identity":  # of dropout, or of a parameter that equals another one
            names[node.output[0]] = names[node.input[0]]
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            array = numpy_helper.to_array(node.attribute[0].t)
            names[node.output[0]] = writer.constant(array, array.dtype.type)
        else:
            _append(node, writer, names)
    return names[graph.output[0].name]


def _append(node: onnx.NodeProto, writer: GraphWriter, names: dict[str, str]) -> None:
    stem = writer.fresh(node.op_type)
    for index, output in enumerate(node.output):
        if output:
            names[output] = f"{stem}_{index}" if index else stem
    copied = onnx.NodeProto(op_type=node.op_type, attribute=node.attribute)
    copied.input.extend(names[name] for name in node.input)
    copied.output.extend(names[name] for name in node.output)
    writer.nodes.append(copied)


def _reason(error: BaseException) -> str:
    """The first line of an error, shortened."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= 160 else f"{text[:157]}…"
