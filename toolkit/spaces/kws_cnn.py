"""`kws-cnn`: the large keyword network cnn-trad-fpool3 with four dense shortcuts, whose weights outgrow a cache.

The network is that of Sainath and Parada (2015, "Convolutional Neural Networks for Small-footprint Keyword Spotting"),
the shortcuts those of SANAS (Véniat, Schwander and Denoyer 2019): from the input and from every layer straight into the
128 features that are classified. It hears a window of 101 columns anew at every hop.

A dense layer is written as the convolution that spans its whole map and moves on by one hop: the same weights and
products, as quick to run (measured), and a clip of many hops is heard at once without computing overlaps again. The
published ReLU of the features is that of the edges into them: a sum of values that are not negative needs no other.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import RecentColumns, WindowHead
from toolkit.supernet import SuperNetwork

FRAME_MS = 10
LONGEST_HOP_MS = 1000
WINDOW_COLUMNS = 101
FEATURES = 128
# Node: channels, frequency bands, columns of one window.
MAPS = {"mel": (1, 40, 101), "conv0": (64, 11, 82), "conv1": (64, 8, 73), "lin0": (32, 1, 1)}
GATED = ("conv0", "conv1", "lin0", "lin1", *(f"shortcut-{node}" for node in MAPS))
CONTROLLER = "recurrent"


def build(labels: int, hop_ms: int = 200) -> SuperNetwork:
    """The super-network: audio [batch, samples] at 16 kHz to logits [batch, hops, labels].

    Raises:
        MilliwiseError: the hop is no multiple of 10 ms, or longer than a second.
    """
    if hop_ms % FRAME_MS or not FRAME_MS <= hop_ms <= LONGEST_HOP_MS:
        nearest = max(FRAME_MS, min(LONGEST_HOP_MS, round(hop_ms / FRAME_MS) * FRAME_MS))
        raise MilliwiseError(
            f"a hop of {hop_ms} ms does not fit kws-cnn: use a multiple of {FRAME_MS} ms, such as {nearest}"
        )
    hop_columns = hop_ms // FRAME_MS
    operations: dict[str, nn.Module] = {
        "conv0": nn.Sequential(nn.Conv2d(1, 64, (8, 20)), nn.MaxPool2d((3, 1)), nn.ReLU()),
        "conv1": nn.Sequential(nn.Conv2d(64, 64, (4, 10)), nn.ReLU()),
        "lin0": _dense("conv1", 32, hop_columns),
        "lin1": _dense("lin0", FEATURES, hop_columns),
    }
    path = pairwise([*MAPS, "features"])
    edges = [Edge(name, source, target) for name, (source, target) in zip(operations, path, strict=True)]
    for node in MAPS:
        edges.append(Edge(f"shortcut-{node}", node, "features"))
        operations[f"shortcut-{node}"] = _dense(node, FEATURES, hop_columns)
    stem = nn.Sequential(LogMel(), RecentColumns(WINDOW_COLUMNS, hop_columns))
    head = WindowHead(FEATURES, labels, window_columns=1, hop_columns=1, dropout=0.0)
    return SuperNetwork(Graph(tuple(edges), "mel", "features"), operations, stem, head)


def _dense(source: str, outputs: int, hop_columns: int) -> nn.Module:
    """Linear layer and ReLU over the map of every hop's window: [batch, outputs, 1, hops]."""
    channels, bands, columns = MAPS[source]
    step = 1 if columns == 1 else hop_columns  # one column of `lin0` is a hop already
    return nn.Sequential(nn.Conv2d(channels, outputs, (bands, columns), (1, step)), nn.ReLU())
