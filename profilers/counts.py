"""Multiply-adds, parameters and memory of an edge, counted by fvcore; what it cannot count is reported, never zero."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from toolkit.layers import CausalConv

# These are free in the deployed form: padding is the cache, BatchNorm is folded into the convolution before it.
FREE = ("aten::pad", "aten::batch_norm", "aten::relu", "aten::relu_")


@dataclass(frozen=True)
class Counts:
    """What one call costs, whatever the device.

    Attributes:
        multiply_adds: one multiplication with its addition counts once.
        parameters: trained values, BatchNorm folded.
        memory_bytes: float32 weights, the columns cached between two calls, and the output of the edge.
        uncounted: operators fvcore has no rule for.
    """

    multiply_adds: int
    parameters: int
    memory_bytes: int
    uncounted: tuple[str, ...]


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """Counts of a module for one input of that shape, batch of one included."""
    module = module.eval()
    inputs = torch.zeros(input_shape)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    parameters = sum(value.numel() for value in module.parameters()) - sum(norm.num_features for norm in norms)
    activations, cached = _held(module, inputs)
    if isinstance(module, nn.Identity):
        return Counts(0, 0, 0, ())
    analysis = FlopCountAnalysis(module, inputs).set_op_handle(**{operator: _nothing for operator in FREE})
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)  # what it warns of is in `uncounted`
    analysis.uncalled_modules_warnings(False)
    total = int(analysis.total())
    return Counts(total, parameters, 4 * (parameters + cached + activations), tuple(sorted(analysis.unsupported_ops())))


def _held(module: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """How many values the output has, and how many the causal convolutions keep for the next call."""
    cached = 0

    def note(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal cached
        assert isinstance(layer, CausalConv)
        cached += math.prod(arguments[0].shape[:-1]) * layer.cached_columns

    hooks = [part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, CausalConv)]
    with torch.no_grad():
        activations = math.prod(module(inputs).shape)
    for hook in hooks:
        hook.remove()
    return activations, cached


def _nothing(_inputs: list[Any], _outputs: list[Any]) -> int:
    return 0
