"""A search space with gates, small enough to be trained in a test: a trunk, and two branches that remember columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import toy
from torch import nn

from profilers.device import fingerprint
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead, WindowMean
from toolkit.profile import DeviceProfile
from toolkit.spaces import Space, find_space
from toolkit.supernet import SuperNetwork

GATED = ("wide", "deep")
MODES = (
    "off", "wide cold", "wide warm", "deep cold", "deep warm", "wide cold+deep cold", "wide warm+deep cold",
    "wide cold+deep warm", "wide warm+deep warm",
)  # fmt: skip
COLUMN_MS = 40


def build(labels: int, hop_ms: int) -> SuperNetwork:
    hop = hop_ms // COLUMN_MS
    operations: dict[str, nn.Module] = {
        "trunk": CausalConv(1, 4, (5, 9), (4, 4)),
        "always": nn.Sequential(_all_bands(4), WindowMean(25, hop)),
        "wide": nn.Sequential(CausalConv(4, 5, (3, 3)), _all_bands(5), WindowMean(25, hop)),
        "deep": nn.Sequential(CausalConv(4, 5, (3, 3)), CausalConv(5, 5, (3, 3)), _all_bands(5), WindowMean(25, hop)),
    }
    edges = [Edge("trunk", "mel", "trunk"), *(Edge(name, "trunk", "sum") for name in list(operations)[1:])]
    return SuperNetwork(Graph(tuple(edges), "mel", "sum"), operations, LogMel(), WindowHead(8, labels, 1, 1))


def _all_bands(channels: int) -> nn.Module:
    return CausalConv(channels, 8, (10, 1), padding=0)


def space() -> Space:
    """As a user's own one is found."""
    return find_space(str(Path(__file__)))


def profile(chosen: Space, **changes: Any) -> DeviceProfile:
    """Of a space on this machine, invented; as a call is mapped from its shortened gap to the hop it takes 5 % more."""
    graph = chosen.build(4, 200).graph
    rows = dict.fromkeys(graph.by_name, replace(toy.NOTHING, latency_ms=0.1, parameters=1000))
    named: dict[str, Any] = {"space": chosen.name, "digest": graph.digest(), "fingerprint": fingerprint()}
    return toy.profile(**{**named, "edges": rows, "hop_ms": 200, **changes})
