"""`kws-coarse`: the part of `kws-ds` that hears real people best when only synthetic voices taught it.

It enters the features with one large convolution at a coarse resolution and has no fine row, in which a network learns
what sets a synthesiser's voices apart instead of what was said: of listeners taught by espeak-ng, those with the fine
row detected 41 to 48 % of real words where 5 % of others were accepted, this one 60 %.
"""

from __future__ import annotations

from toolkit.graph import Edge, Graph
from toolkit.spaces import kws_ds
from toolkit.supernet import SuperNetwork

KINDS = {"middle": ("skip", "separable5"), "coarse": ("skip", "expanded3")}


def build(labels: int, hop_ms: int = 200, width: int = kws_ds.WIDTH) -> SuperNetwork:
    """The super-network: audio [batch, samples] at 16 kHz to logits [batch, hops, labels]; see `kws_ds.build`."""
    whole = kws_ds.build(labels, hop_ms, width)
    edges = tuple(edge for edge in whole.graph.edges if _is_coarse(edge))
    operations = {edge.name: whole.operations[edge.name] for edge in edges}
    return SuperNetwork(Graph(edges, whole.graph.source, whole.graph.sink), operations, whole.stem, whole.head)


def _is_coarse(edge: Edge) -> bool:
    kind = edge.name.rpartition("-")[2] if not edge.name.endswith("all-bands") else "all-bands"
    if edge.source == "mel":
        return edge.name == "mel-middle0-conv9"
    row = edge.source[:-1]
    if row == "fine" or edge.source == "coarse0":  # nothing leads into coarse0
        return False
    return kind in ("down", "all-bands", *KINDS[row])
