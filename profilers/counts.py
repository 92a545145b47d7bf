"""Multiply-adds and parameters of an edge, counted by fvcore; what it cannot count is reported, never zero."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

# These are free in the deployed form: padding is the cache, BatchNorm is folded into the convolution before it.
FREE = ("aten::pad", "aten::batch_norm", "aten::relu", "aten::relu_")


@dataclass(frozen=True)
class Counts:
    """What one call costs, whatever the device.

    Attributes:
        multiply_adds: one multiplication with its addition counts once.
        parameters: trained values, BatchNorm folded.
        memory_bytes: float32 weights and the output of the edge.
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
    with torch.no_grad():
        activations = math.prod(module(inputs).shape)
    if isinstance(module, nn.Identity):
        return Counts(0, 0, 0, ())
    analysis = FlopCountAnalysis(module, inputs).set_op_handle(**{operator: _nothing for operator in FREE})
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)  # what it warns of is in `uncounted`
    analysis.uncalled_modules_warnings(False)
    total = int(analysis.total())
    return Counts(total, parameters, 4 * (parameters + activations), tuple(sorted(analysis.unsupported_ops())))


def _nothing(_inputs: list[Any], _outputs: list[Any]) -> int:
    return 0
