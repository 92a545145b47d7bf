"""A 9-edge super-network whose costs are worked out by hand: the shared oracle. And random graphs for property tests.

    mel ──conv3──▶ fine ──skip──────▶ deep ──late──▶ out
    mel ──conv1──▶ fine ──separable─▶ deep
                   fine ──early─────▶ low ──pass──▶ out
    mel ──entry──────────────────────▶ low ──mix───▶ out

Features of one hop are [1, 1 channel, 2 bands, 4 columns]; fine and deep are [1, 2, 2, 4], low and out [1, 4, 1, 2].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from toolkit.budget import Budget
from toolkit.costs import Price, price
from toolkit.graph import Architecture, Edge, Graph
from toolkit.layers import CausalConv, Separable, WindowHead
from toolkit.profile import PACED, DeviceProfile, EdgeCost, HeldOut, LatencyModel, Line
from toolkit.supernet import SuperNetwork

EDGES = (
    Edge("conv3", "mel", "fine"),
    Edge("conv1", "mel", "fine"),
    Edge("entry", "mel", "low"),
    Edge("skip", "fine", "deep"),
    Edge("separable", "fine", "deep"),
    Edge("early", "fine", "low"),
    Edge("late", "deep", "out"),
    Edge("pass", "low", "out"),
    Edge("mix", "low", "out"),
)
BY_HAND = frozenset({"conv3", "skip", "late"})  # 0.45 ms; p95 = 0.2 + 2 × 0.52 = 1.24
GRAPH = Graph(EDGES, "mel", "out", made_by_hand={"plain": BY_HAND})
FEATURES = (1, 1, 2, 4)
HOP_COLUMNS, WINDOW_COLUMNS, LABELS = 2, 4, 3

# Multiply-adds = output values × taps × input channels / groups. Parameters = weights + one bias a channel (BatchNorm
# folded), 4 bytes each.
MULTIPLY_ADDS = {
    "conv3": 144,  # 2·2·4 outputs × 9 taps × 1
    "conv1": 16,  # 16 outputs × 1 tap × 1
    "entry": 72,  # 4·1·2 outputs × 9 taps × 1
    "skip": 0,
    "separable": 176,  # depthwise 16 × 9, pointwise 16 × 2
    "early": 52,  # depthwise 2·1·2 × 9, pointwise 4·1·2 × 2
    "late": 52,  # the same computation as early
    "pass": 0,
    "mix": 32,  # 4·1·2 outputs × 4
}
PARAMETERS = {
    "conv3": 20,  # 2·1·9 + 2
    "conv1": 4,  # 2·1·1 + 2
    "entry": 40,  # 4·1·9 + 4
    "skip": 0,
    "separable": 26,  # 2·9 + 2, 2·2 + 2
    "early": 32,  # 2·9 + 2, 2·4 + 4
    "late": 32,
    "pass": 0,
    "mix": 20,  # 4·4 + 4
}
STATE_BYTES = {  # 4 × channels × bands × (time kernel − time stride)
    "conv3": 16,  # 4 × 1 · 2 · 2
    "conv1": 0,
    "entry": 8,  # 4 × 1 · 2 · 1
    "skip": 0,
    "separable": 32,  # 4 × 2 · 2 · 2
    "early": 16,  # 4 × 2 · 2 · 1
    "late": 16,
    "pass": 0,
    "mix": 0,
}
ACTIVATION_BYTES = {  # 4 × output values; an identity hands its input on
    "conv3": 64,
    "conv1": 64,
    "entry": 32,
    "skip": 0,
    "separable": 64,
    "early": 32,
    "late": 32,
    "pass": 0,
    "mix": 32,
}
FEATURES_BYTES = 32
STEPS = {"conv3": 1, "conv1": 1, "entry": 1, "skip": 0, "separable": 1, "early": 1, "late": 1, "pass": 0, "mix": 1}

# Invented, but so that sums are easy: tight ms = 0.02 + 0.05 + Σ + 0.01 × joins.
LATENCY_MS = {
    "conv3": 0.30,
    "conv1": 0.10,
    "entry": 0.20,
    "skip": 0.0,
    "separable": 0.40,
    "early": 0.15,
    "late": 0.15,
    "pass": 0.0,
    "mix": 0.25,
}
FRONT_END_MS, BASE_MS, JOIN_MS = 0.02, 0.05, 0.01
LINES = {"p50": Line(0.1, 1.0), "p95": Line(0.2, 2.0), "p99": Line(0.3, 3.0)}  # the bounds `p50_upper` … are the same

CHEAPEST = frozenset({"entry", "pass"})  # 0.20 ms; through fine it takes 0.10 + 0.15
CHEAPEST_TIGHT_MS = 0.27  # 0.02 + 0.05 + 0.20
CHEAPEST_P95_MS = 0.74  # 0.2 + 2 × 0.27
FULL_TIGHT_MS = 1.67  # 0.02 + 0.05 + 1.55 + 5 × 0.01: one more edge into fine, deep and low each, and two into out
FULL_P95_MS = 3.54  # 0.2 + 2 × 1.67


def network(seed: int = 0, labels: int = LABELS) -> SuperNetwork:
    """The super-network with fresh weights: features [batch, 1, 2, time] to logits [batch, time / 4, labels]."""
    torch.manual_seed(seed)
    operations: dict[str, nn.Module] = {
        "conv3": CausalConv(1, 2, (3, 3)),
        "conv1": CausalConv(1, 2),
        "entry": CausalConv(1, 4, (3, 3), (2, 2)),
        "skip": nn.Identity(),
        "separable": Separable(2, 2, (3, 3)),
        "early": Separable(2, 4, (3, 3), (2, 2)),
        "late": Separable(2, 4, (3, 3), (2, 2)),
        "pass": nn.Identity(),
        "mix": CausalConv(4, 4),
    }
    return SuperNetwork(GRAPH, operations, nn.Identity(), WindowHead(4, labels, WINDOW_COLUMNS, HOP_COLUMNS))


def build(labels: int, hop_ms: int) -> SuperNetwork:
    """As a search space has it: its features stand for the input, whatever the hop."""
    return network(labels=labels)


NOTHING = EdgeCost(0.0, None, 0.0, 0, 0, 0, 0, 0, 0)
STEM = replace(NOTHING, activation_bytes=FEATURES_BYTES)


def profile(**changes: Any) -> DeviceProfile:
    """A device profile with the costs above."""
    rows = {
        name: EdgeCost(
            LATENCY_MS[name],
            None,
            0.01,
            weight_bytes=4 * PARAMETERS[name],
            state_bytes=STATE_BYTES[name],
            activation_bytes=ACTIVATION_BYTES[name],
            steps=STEPS[name],
            multiply_adds=MULTIPLY_ADDS[name],
            parameters=PARAMETERS[name],
        )
        for name in LATENCY_MS
    }
    lines = {name: LINES[name.removesuffix("_upper")] for name in PACED}
    values: dict[str, Any] = {
        "space": "toy",
        "digest": GRAPH.digest(),
        "target": "local",
        "fingerprint": {"cpu": "abacus", "cores": 2},
        "threads": 1,
        "hop_ms": 40,
        "clock": "tight",
        "measured": {"rounds": 12},
        "edges": rows,
        "fixed": {"stem": STEM, "head": NOTHING},
        "latency": LatencyModel(FRONT_END_MS, BASE_MS, JOIN_MS, lines, Line(0.0, 1.05), 50.0, 0.02),
        "held_out": HeldOut(2, 0.01, 1.0, 1.0, 1.0, ({"measured_ms": 0.3, "predicted_ms": 0.31},)),
        "noisy": False,
        "noisy_because": (),
        "seconds": 12.5,
    }
    return DeviceProfile(**{**values, **changes})


def pricing(budget: str = "2 ms") -> Price:
    """How the toy profile prices that budget's metric."""
    return price(GRAPH, profile(), Budget.parse(budget))


def architectures() -> list[Architecture]:
    """Every one of the 2⁹ choices of edges."""
    names = [edge.name for edge in EDGES]
    return [frozenset(choice) for size in range(len(names) + 1) for choice in combinations(names, size)]


def paths(graph: Graph, kept: Iterable[str]) -> list[tuple[str, ...]]:
    """Every path of kept edges from source to sink, found the slow and obvious way."""
    kept = set(kept)

    def onwards(node: str) -> list[tuple[str, ...]]:
        if node == graph.sink:
            return [()]
        steps = [edge for edge in graph.edges if edge.source == node and edge.name in kept]
        return [(edge.name, *rest) for edge in steps for rest in onwards(edge.target)]

    return onwards(graph.source)


def tight_ms(live: Iterable[str], latency_ms: Mapping[str, float] = LATENCY_MS) -> float:
    """Tight-loop ms of live edges, front-end included, by the formula above."""
    live = set(live)
    joins = len(live) - len({edge.target for edge in EDGES if edge.name in live})
    return FRONT_END_MS + BASE_MS + sum(latency_ms[name] for name in live) + JOIN_MS * joins


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random acyclic graphs of 2 to 7 nodes with a path from source to sink, dead edges and edges side by side."""
    count = draw(st.integers(2, 7))
    ranks = [(i, j) for i in range(count) for j in range(i + 1, count)]
    pairs = draw(st.lists(st.sampled_from(ranks), min_size=0, max_size=10))
    source = draw(st.integers(0, count - 2))
    sink = draw(st.integers(source + 1, count - 1))
    names = draw(st.permutations([f"n{i}" for i in range(count)]))
    pairs = draw(st.permutations([*pairs, (source, sink)]))
    edges = tuple(Edge(f"e{i}", names[a], names[b]) for i, (a, b) in enumerate(pairs))
    return Graph(edges, names[source], names[sink])


@st.composite
def kept_edges(draw: st.DrawFn) -> tuple[Graph, Architecture]:
    """A random graph and some of its edges."""
    graph = draw(graphs())
    return graph, draw(st.frozensets(st.sampled_from([edge.name for edge in graph.edges])))
