"""`kws-ds`: a causal streaming keyword network of depthwise-separable edges on three resolutions.

Three rows of nodes (fine, middle, coarse) hold ever fewer frequency bands and columns and ever more channels; four
columns of nodes give depth. An architecture picks where the features enter, which kernels and widths work on each row,
where it goes down a row and where it leaves: from two convolutions to 45 edges. Its blocks are those of DS-CNN
(Zhang et al. 2017, "Hello Edge") and MobileNetV2; summing rows of different resolution follows Convolutional Neural
Fabrics (Saxena and Verbeek 2016).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, Expanded, Separable, WindowHead
from toolkit.supernet import SuperNetwork

FRAME_MS = 10
TIME_STRIDE = 4
WINDOW_MS = 1000
DEPTH = 4
WIDTH = 32
Join = Callable[[str, str, str, nn.Module], None]
# Row: channels for each two of the width, frequency bands. The fine row has every 2nd column, the others every 4th.
ROWS = {"fine": (1, 20), "middle": (2, 10), "coarse": (3, 5)}


def build(labels: int, hop_ms: int = 200, width: int = WIDTH) -> SuperNetwork:
    """The super-network: audio [batch, samples] at 16 kHz to logits [batch, hops, labels].

    Args:
        width: channels of the middle row.

    Raises:
        MilliwiseError: the width is odd; or the hop is no multiple of the network's 40 ms column, or longer than its
            window of a second.
    """
    if width % 2:
        raise MilliwiseError(f"a width of {width} cannot be halved for the fine row: take {width - 1} or {width + 1}")
    column_ms = FRAME_MS * TIME_STRIDE
    if hop_ms % column_ms or not column_ms <= hop_ms <= WINDOW_MS:
        nearest = max(column_ms, min(WINDOW_MS, round(hop_ms / column_ms) * column_ms))
        raise MilliwiseError(
            f"a hop of {hop_ms} ms does not fit kws-ds: use a multiple of {column_ms} ms, such as {nearest}"
        )
    operations: dict[str, nn.Module] = {}
    edges: list[Edge] = []

    def join(source: str, target: str, kind: str, operation: nn.Module) -> None:
        name = f"{source}-{target}-{kind}"
        edges.append(Edge(name, source, target))
        operations[name] = operation

    fine, middle, coarse = (width // 2 * share for share, _bands in ROWS.values())
    _entries(join, fine, middle, coarse)
    for depth in range(1, DEPTH):
        for row, channels in zip(ROWS, (fine, middle, coarse), strict=True):
            if row != "fine" or depth < DEPTH - 1:  # the fine row only leads down, so its last column would be dead
                _blocks(join, row, depth, channels)
        join(f"fine{depth - 1}", f"middle{depth}", "down", Separable(fine, middle, (3, 3), (2, 2)))
        join(f"middle{depth - 1}", f"coarse{depth}", "down", Separable(middle, coarse, (3, 3), (2, 1)))
    for row, channels in (("middle", middle), ("coarse", coarse)):
        join(f"{row}{DEPTH - 1}", "out", "all-bands", CausalConv(channels, coarse, (ROWS[row][1], 1), padding=0))
    head = WindowHead(coarse, labels, WINDOW_MS // column_ms, hop_ms // column_ms)
    return SuperNetwork(Graph(tuple(edges), "mel", "out"), operations, LogMel(), head)


def _entries(join: Join, fine: int, middle: int, coarse: int) -> None:
    join("mel", "fine0", "conv3", CausalConv(1, fine, (3, 3), (2, 2)))
    join("mel", "fine0", "conv5", CausalConv(1, fine, (5, 5), (2, 2)))
    join("mel", "middle0", "conv5", CausalConv(1, middle, (5, 5), (4, 4)))
    join("mel", "middle0", "conv9", CausalConv(1, middle, (5, 9), (4, 4)))
    join("mel", "coarse0", "conv9", CausalConv(1, coarse, (9, 9), (8, 4), padding=4))


def _blocks(join: Join, row: str, depth: int, channels: int) -> None:
    here, there = f"{row}{depth - 1}", f"{row}{depth}"
    join(here, there, "skip", nn.Identity())
    join(here, there, "separable3", Separable(channels, channels, (3, 3)))
    join(here, there, "separable5", Separable(channels, channels, (3, 5)))
    join(here, there, "expanded3", Expanded(channels, channels * 3 // 2, (3, 3)))
