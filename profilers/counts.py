"""Multiply-adds, parameters and memory of an edge as it is exported; what fvcore cannot count is named, never zero."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from exporters.graph_writer import GraphWriter, Value
from exporters.onnx import write

SCOPE = "edge"
STATISTICS = (".running_mean", ".running_var")
# Values are moved, set to zero or compared, none is multiplied or added: technically nothing to count. fvcore leaves
# out more of this kind by itself: flatten, reshape, permute, cat, slice, relu, dropout (idle outside training).
FREE = (
    *("aten::pad", "aten::max_pool1d", "aten::max_pool2d", "aten::relu_", "aten::hardtanh", "aten::hardtanh_"),
    "aten::upsample_nearest2d",
)
# One operation per value of the output. (A BatchNorm that is folded into a convolution is taken off again.)
PER_OUTPUT = (
    *("aten::add", "aten::add_", "aten::sub", "aten::mul", "aten::mul_", "aten::div", "aten::batch_norm"),
    *("aten::leaky_relu", "aten::prelu"),
)
PER_INPUT = ("aten::mean", "aten::sum")
POOLING = ("aten::avg_pool1d", "aten::avg_pool2d")


@dataclass(frozen=True)
class Counts:
    """What one call costs, whatever the device.

    Attributes:
        multiply_adds: one multiplication with its addition counts once; so does either of them alone.
        parameters: trained values, BatchNorm folded where the exported form has it folded.
        weight_bytes: of the exported initialisers.
        state_bytes: of what the exported form keeps between two calls.
        activation_bytes: of the output; 0 when that is the input itself.
        uncounted: operators fvcore has no rule for.
    """

    multiply_adds: int
    parameters: int
    weight_bytes: int
    state_bytes: int
    activation_bytes: int
    uncounted: tuple[str, ...]


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """Counts of a module, which is left as it is, for one input of that shape, batch of one included.

    Raises:
        MilliwiseError: the module has no exported form.
    """
    module = _as_trained(module)
    writer = GraphWriter()
    value = Value("input", input_shape)
    output = write(module, writer, value, SCOPE)
    multiply_adds, uncounted = _multiply_adds(module, input_shape, writer)
    trained = [array for name, array in writer.initializers.items() if not name.endswith(STATISTICS)]
    return Counts(
        multiply_adds=multiply_adds,
        parameters=sum(array.size for array in trained),
        weight_bytes=sum(array.nbytes for array in writer.initializers.values()),
        state_bytes=4 * sum(math.prod(shape) for shape in writer.states.values()),
        activation_bytes=0 if output == value else 4 * math.prod(output.shape),
        uncounted=uncounted,
    )


def _as_trained(module: nn.Module) -> nn.Module:
    """A copy for evaluation in which no two tensors are equal: torch exports equal ones (of a new BatchNorm) once."""
    twin = copy.deepcopy(module).eval()
    with torch.no_grad():
        for index, tensor in enumerate((*twin.parameters(), *twin.buffers())):
            if tensor.is_floating_point():
                tensor.add_(1e-3 * (index + 1))
    return twin


def _multiply_adds(module: nn.Module, input_shape: tuple[int, ...], writer: GraphWriter) -> tuple[int, tuple[str, ...]]:
    if isinstance(module, nn.Identity):
        return 0, ()
    rules = {
        **dict.fromkeys(FREE, _nothing),
        **dict.fromkeys(PER_OUTPUT, _per_output),
        **dict.fromkeys(PER_INPUT, _per_input),
        **dict.fromkeys(POOLING, _pooling),
    }
    analysis = FlopCountAnalysis(module, torch.zeros(input_shape)).set_op_handle(**rules)
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)  # what it warns of is in `uncounted`
    analysis.uncalled_modules_warnings(False)
    total = int(analysis.total()) - sum(int(analysis.by_module()[name]) for name in _folded(module, writer))
    return total, tuple(sorted(analysis.unsupported_ops()))


def _folded(module: nn.Module, writer: GraphWriter) -> list[str]:
    """The BatchNorms that have no statistics in the exported form."""
    norms = [name for name, part in module.named_modules() if isinstance(part, _BatchNorm)]
    return [name for name in norms if ".".join(filter(None, (SCOPE, name, "running_var"))) not in writer.initializers]


def _size(value: Any) -> int:
    sizes: list[int] = value.type().sizes()
    return math.prod(sizes)


def _nothing(_inputs: list[Any], _outputs: list[Any]) -> int:
    return 0


def _per_output(_inputs: list[Any], outputs: list[Any]) -> int:
    return _size(outputs[0])


def _per_input(inputs: list[Any], _outputs: list[Any]) -> int:
    return _size(inputs[0])


def _pooling(inputs: list[Any], outputs: list[Any]) -> int:
    """Every output is a sum over a window; of one value there is nothing to sum, and nothing is exported."""
    window = math.prod(length.toIValue() for length in inputs[1].node().inputs())
    return _size(outputs[0]) * window if window > 1 else 0
