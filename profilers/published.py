"""Multiply-adds of a whole image network as the tables of Budgeted Super Networks count them, to compare with those.

They bill what our own price leaves out, which is of edges alone: a sum costs the values of its map for every input
beyond the first. And they leave out what it bills: pooling costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import nn

from profilers.counts import count
from profilers.latency import edge_work
from toolkit.supernet import SuperNetwork


def published_multiply_adds(network: SuperNetwork, input_shape: tuple[int, ...], *, legacy: bool = False) -> int:
    """Of all edges, all sums and the head, for one image of that shape, batch of one included.

    Args:
        legacy: bill a convolution behind an upsampling for the small map before it, a quarter of what it computes. The
            released code does, so that only this gives the figures printed for Convolutional Neural Fabrics.

    Raises:
        MilliwiseError: an edge does not fit its source.
    """
    graph, work = network.graph, edge_work(network, input_shape)
    distinct = {name: item for name, item in work.items() if item.same_as == name}
    counted = {name: count(item.module, item.input_shape).multiply_adds for name, item in distinct.items()}
    alone = {name: counted[item.same_as] for name, item in work.items()}
    if legacy:
        alone = {name: each // _enlarged(network.operations[name]) for name, each in alone.items()}
    inputs = Counter(edge.target for edge in graph.edges)
    sizes = {edge.source: math.prod(work[edge.name].input_shape) for edge in graph.edges}
    sums = sum(sizes[node] * (several - 1) for node, several in inputs.items() if node in sizes)
    return sum(alone.values()) + sums + _classifier(network.head, network.sink_shape(input_shape))


def _classifier(head: nn.Module, shape: tuple[int, ...]) -> int:
    """Every weight once for every place that is labelled; what is pooled before costs nothing."""
    with torch.no_grad():
        places = math.prod(head(torch.zeros(shape)).shape[2:])
    return places * sum(weight.numel() for weight in head.parameters() if weight.dim() > 1)


def _enlarged(operation: nn.Module) -> int:
    """How many times as large an operation makes its map by upsampling."""
    factors = [part.scale_factor for part in operation.modules() if isinstance(part, nn.Upsample)]
    return math.prod(int(factor) ** 2 for factor in factors if isinstance(factor, float))
