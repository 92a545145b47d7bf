"""Where the nodes of any graph are drawn: a row for every size of map, else a column for every depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.graph import Graph

Cell = tuple[float, float]
Sizes = Mapping[str, float]


@dataclass(frozen=True)
class Layout:
    """What stands where.

    Attributes:
        drawn: the node that each node is drawn as, itself or another.
        cells: (column, row) of every node that is drawn.
        sizes: of the maps in every row, from the top; empty where rows mean nothing.
    """

    drawn: Mapping[str, str]
    cells: Mapping[str, Cell]
    sizes: tuple[float, ...] = ()


def lay_out(graph: Graph, sizes: Sizes | None = None, joints: Collection[str] = ()) -> Layout:
    """A layout of the graph.

    Args:
        sizes: of the map in every node. Nodes with maps of one size share a row, the largest at the top, in the order
            in which they are computed. A row is turned round and moved to where its edges to rows above it are
            shortest: that gives the grid of a neural fabric, and the folds of a ResNet fabric.
        joints: edges that belong to the node before them, such as the ReLU after a sum: where nothing else leads to
            their target, both nodes are drawn as one.
    """
    drawn = _drawn(graph, joints)
    depths = _depths(graph, drawn)
    known = {} if sizes is None else {node: sizes[node] for node in depths if node in sizes and node != graph.source}
    rows: dict[float, list[str]] = {}
    for node in sorted(known, key=lambda node: depths[node]):
        rows.setdefault(known[node], []).append(node)
    if len(rows) < 2 or len(known) != len(depths) - 1:
        return Layout(drawn, layered(depths))
    ordered = sorted(rows, reverse=True)
    cells = _grid([rows[size] for size in ordered], graph, drawn)
    return Layout(drawn, cells, tuple(ordered))


def layered(depths: Mapping[str, int]) -> dict[str, Cell]:
    """Column: the depth of a node. Row: its place among those of that depth, around a common middle."""
    columns: dict[int, list[str]] = {}
    for node, depth in depths.items():
        columns.setdefault(depth, []).append(node)
    most = max(map(len, columns.values()))
    return {
        node: (float(depth), (most - len(nodes)) / 2 + index)
        for depth, nodes in columns.items()
        for index, node in enumerate(nodes)
    }


def depths_of(graph: Graph) -> dict[str, int]:
    """The number of edges of the longest way to every node."""
    return _depths(graph, {node: node for node in graph.nodes})


def _drawn(graph: Graph, joints: Collection[str]) -> dict[str, str]:
    ways = Counter(edge.target for edge in graph.edges)
    drawn = {node: node for node in graph.nodes}
    for edge in graph.ordered:
        if edge.name in joints and ways[edge.target] == 1 and edge.target != graph.source:
            drawn[edge.target] = drawn[edge.source]
    return drawn


def _depths(graph: Graph, drawn: Mapping[str, str]) -> dict[str, int]:
    depths = dict.fromkeys((drawn[node] for node in graph.nodes), 0)
    for source, target in _ends(graph, drawn):
        depths[target] = max(depths[target], depths[source] + 1)
    return depths


def _ends(graph: Graph, drawn: Mapping[str, str]) -> list[tuple[str, str]]:
    ends = ((drawn[edge.source], drawn[edge.target]) for edge in graph.ordered)
    return [(source, target) for source, target in ends if source != target]


def _grid(rows: Sequence[Sequence[str]], graph: Graph, drawn: Mapping[str, str]) -> dict[str, Cell]:
    """Row by row; the source stands before all columns, beside the first node that it leads to."""
    beside: dict[str, list[str]] = {}
    for ends in _ends(graph, drawn):
        for node, other in (ends, ends[::-1]):
            beside.setdefault(node, []).append(other)
    cells: dict[str, Cell] = {}
    for number, nodes in enumerate(rows):
        above = {node: [cells[other][0] for other in beside.get(node, ()) if other in cells] for node in nodes}
        order, first = _aligned(nodes, above, [column for column, _ in cells.values()])
        cells |= {node: (first + place, float(number)) for place, node in enumerate(order)}
    left = min(column for column, _ in cells.values())
    entered = next((cells[node][1] for node in beside.get(graph.source, ()) if node in cells), 0.0)
    moved = {node: (column - left + 1, row) for node, (column, row) in cells.items()}
    return {graph.source: (0.0, entered), **moved}


def _aligned(
    nodes: Sequence[str], above: Mapping[str, Iterable[float]], taken: Sequence[float]
) -> tuple[Sequence[str], float]:
    """The nodes in the order, and from the column, in which their edges upwards are shortest."""
    if not taken:
        return nodes, 0.0
    firsts = range(int(min(taken)) - len(nodes), int(max(taken)) + 2)
    chosen = [(order, float(first)) for order in (nodes, nodes[::-1]) for first in sorted(firsts, key=abs)]

    def length(choice: tuple[Sequence[str], float]) -> float:
        order, first = choice
        return sum((first + place - column) ** 2 for place, node in enumerate(order) for column in above[node])

    return min(chosen, key=length)
