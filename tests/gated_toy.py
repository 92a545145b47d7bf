"""Small networks with gates: by hand, with inner sums, and with streams whose best decisions are known.

three:   mel ──first──▶ map ──second──▶ out            many:   mel ──conv3──▶ fine ──deep──▶ coarse ──late──▶ out
         mel ──shortcut────────────────▶ out                   mel ──conv1──▶ fine ──early──────────────────▶ out
                                                               mel ──entry─────────────────▶ coarse
                                                               mel ──shortcut───────────────────────────────▶ out
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.adaptive import AdaptiveNetwork, gate
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

HOP_COLUMNS, CHANNELS, LABELS = 2, 3, 4
MANY = ("conv3", "conv1", "entry", "deep", "early", "late", "shortcut")


def head(channels: int = CHANNELS, labels: int = LABELS) -> WindowHead:
    return WindowHead(channels, labels, window_columns=1, hop_columns=1, dropout=0.0)


def pooled(channels: int, window: int = 4) -> nn.Module:
    """Into the sink: all bands, and one value per hop."""
    return nn.Sequential(CausalConv(channels, CHANNELS, (2, 3), padding=0), WindowMean(window, HOP_COLUMNS))


def three() -> SuperNetwork:
    edges = (Edge("first", "mel", "map"), Edge("second", "map", "out"), Edge("shortcut", "mel", "out"))
    operations = {"first": CausalConv(1, 2, (3, 3)), "second": pooled(2), "shortcut": pooled(1)}
    return SuperNetwork(Graph(edges, "mel", "out"), operations, nn.Identity(), head())


def many() -> SuperNetwork:
    places = {
        "conv3": ("mel", "fine", CausalConv(1, 2, (3, 3))),
        "conv1": ("mel", "fine", CausalConv(1, 2)),
        "entry": ("mel", "coarse", CausalConv(1, 2, (1, 3))),
        "deep": ("fine", "coarse", CausalConv(2, 2, (3, 3))),
        "early": ("fine", "out", pooled(2, 1)),
        "late": ("coarse", "out", pooled(2, 5)),
        "shortcut": ("mel", "out", pooled(1)),
    }
    edges = tuple(Edge(name, source, target) for name, (source, target, _module) in places.items())
    operations = {name: module for name, (_source, _target, module) in places.items()}
    return SuperNetwork(Graph(edges, "mel", "out"), operations, nn.Identity(), head())


def side_by_side(always: Sequence[str], gated: Sequence[str], channels: int, labels: int) -> AdaptiveNetwork:
    """Edges from source to sink, some with gates, of which only the values they give are used."""
    edges = tuple(Edge(name, "in", "out") for name in (*always, *gated))
    operations = {edge.name: nn.Identity() for edge in edges}
    network = SuperNetwork(Graph(edges, "in", "out"), operations, nn.Identity(), head(channels, labels))
    return gate(network, gated, "hearing" if always else "recurrent").eval()


def taught(adaptive: AdaptiveNetwork, weight: Sequence[Sequence[float]], bias: Sequence[float]) -> AdaptiveNetwork:
    """With a classifier that knows what the values mean, as if every mode had been trained."""
    with torch.no_grad():
        linear = adaptive.network.head.linear
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))
    return adaptive


def confused(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sinks [streams, hops, 2, 4] of a trunk and a gate, and labels 0 to 2.

    The trunk tells label 1. Labels 0 and 2 differ in the product of two of its values, which no linear classifier can
    tell, but which a controller can hear; the gated branch adds a value that is 1 for label 2.
    """
    labels = torch.randint(0, 3, (streams, hops), generator=generator)
    signs = torch.randint(0, 2, (streams, hops), generator=generator) * 2.0 - 1
    trunk = torch.stack([signs, signs * (labels - 1), (labels == 1) * 1.0, torch.zeros(streams, hops)], 2)
    branch = nn.functional.one_hot((labels == 2) * 3, 4) * (labels == 2)[..., None]
    return torch.stack([trunk, trunk + branch], 2), labels


def for_confused() -> AdaptiveNetwork:
    adaptive = side_by_side(["trunk"], ["branch"], channels=4, labels=3)
    return taught(adaptive, [[0.0] * 4, [0.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 4.0]], [1.0, -1.0, -1.0])


def doubtful(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sinks [streams, hops, 2, 2] of a trunk that is sure of label 0 or 1 to any degree, and a gate that is certain."""
    odds = 3 * torch.randn(streams, hops, generator=generator)
    labels = (torch.rand(streams, hops, generator=generator) < odds.sigmoid()).long()
    trunk = torch.stack([odds, torch.zeros_like(odds)], 2)
    branch = torch.stack([torch.zeros_like(odds), labels * 6.0 - 3], 2)
    return torch.stack([trunk, trunk + branch], 2), labels


def for_doubtful() -> AdaptiveNetwork:
    adaptive = side_by_side(["trunk"], ["branch"], channels=2, labels=2)
    return taught(adaptive, [[-0.5, -1.0], [0.5, 1.0]], [0.0, 0.0])
