"""A search space as `kws-cnn`, small enough to be trained in a test: a convolution and dense edges, all of them gated.

What a hop multiplies, over a window of 40 bands and 25 columns, is worked out by hand.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import gated_space
import torch
from torch import nn

from profilers.counts import count
from profilers.fixed import head_cost, stem_cost
from profilers.latency import edge_work
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import RecentColumns, WindowHead
from toolkit.profile import DeviceProfile, EdgeCost
from toolkit.spaces import Space, find_space
from toolkit.supernet import SuperNetwork

GATED, CONTROLLER = ("conv", "large", "small"), "recurrent"
MODES = ("off", "conv+large", "small", "conv+large+small")
HOP_COLUMNS, FEATURES, LABELS = 20, 8, 12
CONV, LARGE, SMALL = 4 * 4 * 5 * 13 * 5, 8 * 4 * 4 * 5, 8 * 40 * 25  # outputs × taps
CLASSIFIER, SUM = FEATURES * LABELS, FEATURES
NETWORK_ONLY = (CLASSIFIER, CLASSIFIER + SUM + CONV + LARGE, CLASSIFIER + SUM + SMALL,
                CLASSIFIER + SUM + CONV + LARGE + SMALL)  # fmt: skip
CONTROLLER_MULTIPLY_ADDS = 3 * 100 * (FEATURES + 100) + 100 * len(GATED)


def build(labels: int, hop_ms: int) -> SuperNetwork:
    assert hop_ms == 10 * HOP_COLUMNS
    operations: dict[str, nn.Module] = {
        "conv": nn.Sequential(nn.Conv2d(1, 4, (13, 5), (9, 5)), nn.ReLU()),
        "large": nn.Sequential(nn.Conv2d(4, FEATURES, (4, 5), (1, 4)), nn.ReLU()),
        "small": nn.Sequential(nn.Conv2d(1, FEATURES, (40, 25), (1, HOP_COLUMNS)), nn.ReLU()),
    }
    edges = (Edge("conv", "mel", "map"), Edge("large", "map", "sum"), Edge("small", "mel", "sum"))
    stem = nn.Sequential(LogMel(), RecentColumns(25, HOP_COLUMNS))
    return SuperNetwork(Graph(edges, "mel", "sum"), operations, stem, WindowHead(FEATURES, labels, 1, 1))


def space() -> Space:
    """As a user's own one is found."""
    return find_space(str(Path(__file__)))


def counted_profile(chosen: Space, hop_ms: int = 200) -> DeviceProfile:
    """Of any space, on this machine: times are invented, the rest is counted as a profile has it."""
    network, shape = chosen.build(LABELS, hop_ms).eval(), chosen.shape(hop_ms)
    with torch.no_grad():
        features = network.stem(torch.zeros(shape))
        sink = network.walk(
            network.graph.full, features, lambda _edge, module, value: module(value), lambda _n, v: v[0]
        )
    work = edge_work(network, tuple(features.shape))
    counted = {name: asdict(count(item.module, item.input_shape)) for name, item in work.items()}
    rows = {name: EdgeCost(0.1, 0.1, 0.0, steps=int(work[name].computes), **counts) for name, counts in counted.items()}
    fixed = {"stem": stem_cost(network.stem, shape), "head": head_cost(network.head, tuple(sink.shape))}
    return gated_space.profile(chosen, edges=rows, fixed=fixed, hop_ms=hop_ms)
