"""`kws-cnn-cached`: cnn-trad-fpool3 as it streams best: no column of its maps is computed twice.

It is the path of `kws-cnn` without shortcuts (Sainath and Parada 2015), no edge of which is worth leaving out. Its
convolutions are valid in time, so that two windows have every column in common that both have heard: a hop computes its
own columns, the others are kept, and the dense layer sees the whole map. The scores are those of `kws-cnn` with the
same weights from 82 columns of the features on; before, its maps begin with zeros instead of what zeros make.

A BatchNorm per layer helps to train; the exported file has it folded into the published weights and biases. The largest
of three values has the same ReLU before as after, where a runtime fuses it with the convolution.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead
from toolkit.spaces.kws_cnn import FEATURES, FRAME_MS, MAPS
from toolkit.supernet import SuperNetwork

LONGEST_HOP_MS = FRAME_MS * MAPS["conv1"][2]  # columns of the last map: with more, some would be heard by no window


def build(labels: int, hop_ms: int = 200) -> SuperNetwork:
    """The network: audio [batch, samples] at 16 kHz to logits [batch, hops, labels].

    Raises:
        MilliwiseError: the hop is no multiple of 10 ms, or longer than 730 ms.
    """
    if hop_ms % FRAME_MS or not FRAME_MS <= hop_ms <= LONGEST_HOP_MS:
        nearest = max(FRAME_MS, min(LONGEST_HOP_MS, round(hop_ms / FRAME_MS) * FRAME_MS))
        raise MilliwiseError(
            f"a hop of {hop_ms} ms does not fit kws-cnn-cached: use a multiple of {FRAME_MS} ms, such as {nearest}"
        )
    operations: dict[str, nn.Module] = {
        "conv0": nn.Sequential(CausalConv(1, 64, (8, 20), padding=0), nn.MaxPool2d((3, 1))),
        "conv1": CausalConv(64, 64, (4, 10), padding=0),
        "lin0": CausalConv(64, 32, MAPS["conv1"][1:], (1, hop_ms // FRAME_MS), padding=0),
        "lin1": CausalConv(32, FEATURES),
    }
    path = pairwise([*MAPS, "features"])
    edges = [Edge(name, source, target) for name, (source, target) in zip(operations, path, strict=True)]
    head = WindowHead(FEATURES, labels, window_columns=1, hop_columns=1, dropout=0.0)
    return SuperNetwork(Graph(tuple(edges), "mel", "features"), operations, LogMel(), head)
