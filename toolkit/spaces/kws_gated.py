"""`kws-gated`: a small trunk that listens at every hop, and large branches that a controller may leave out.

The trunk keeps all that is remembered of the audio. Every edge into the features gives one value per hop, pooled by the
edge itself, so a branch that was left out is missing in no later hop. Two edges always listen: to the last second, and
to the moment. The branches are stacks of full convolutions over the trunk's columns: most of the work, and of the
accuracy.
"""

from __future__ import annotations

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, Separable, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

COLUMN_MS = 40  # of the trunk: four of the front-end
WINDOW_MS, MOMENT_MS = 1000, 400
TRUNK, BANDS, FEATURES = 32, 10, 64
BRANCHES = {"wide": (64, 2), "deep": (288, 6)}  # channels and layers
GATED, CONTROLLER = tuple(BRANCHES), "hearing"


def build(labels: int, hop_ms: int = 200) -> SuperNetwork:
    """The super-network: audio [batch, samples] at 16 kHz to logits [batch, hops, labels].

    Raises:
        MilliwiseError: the hop is no multiple of the trunk's 40 ms column, or longer than its window of a second.
    """
    if hop_ms % COLUMN_MS or not COLUMN_MS <= hop_ms <= WINDOW_MS:
        nearest = max(COLUMN_MS, min(WINDOW_MS, round(hop_ms / COLUMN_MS) * COLUMN_MS))
        raise MilliwiseError(
            f"a hop of {hop_ms} ms does not fit kws-gated: use a multiple of {COLUMN_MS} ms, such as {nearest}"
        )
    hop, window, moment = (ms // COLUMN_MS for ms in (hop_ms, WINDOW_MS, MOMENT_MS))
    operations: dict[str, nn.Module] = {
        "trunk": nn.Sequential(CausalConv(1, TRUNK, (5, 9), (4, 4)), Separable(TRUNK, TRUNK, (3, 3))),
        "second": nn.Sequential(Separable(TRUNK, TRUNK, (3, 5)), _all_bands(TRUNK), WindowMean(window, hop)),
        "moment": nn.Sequential(_all_bands(TRUNK), WindowMean(moment, hop)),
    }
    for name, (channels, layers) in BRANCHES.items():
        stack = [CausalConv(channels if depth else TRUNK, channels, (3, 3)) for depth in range(layers)]
        operations[name] = nn.Sequential(*stack, _all_bands(channels), WindowMean(window, hop))
    edges = [Edge(name, "mel" if name == "trunk" else "trunk", "trunk" if name == "trunk" else "features")
             for name in operations]  # fmt: skip
    head = WindowHead(FEATURES, labels, window_columns=1, hop_columns=1)
    return SuperNetwork(Graph(tuple(edges), "mel", "features"), operations, LogMel(), head)


def _all_bands(channels: int) -> nn.Module:
    return CausalConv(channels, FEATURES, (BANDS, 1), padding=0)
