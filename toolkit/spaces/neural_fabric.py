"""`neural-fabric`: a grid of convolutions in which any path through columns and scales is a network.

Saxena and Verbeek (2016, "Convolutional Neural Fabrics"), as Véniat and Denoyer search it (2018, "Learning Time/Memory-
Efficient Deep Architectures with Budgeted Super Networks"). A node of the grid adds what three neighbours of the column
before give it: the finer map by a convolution of stride 2, its own scale's, the coarser one after doubling its size.
The first column is zipped downwards; so is the last one if images are classified, from its one coarsest value. If they
are segmented it is zipped upwards instead, to a map of the size of the image. A sum and its ReLU are an edge, too: the
published graph has a node for each.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph
from toolkit.supernet import SuperNetwork

TASKS = ("classify", "segment")


def build(
    labels: int, hop_ms: int = 200, columns: int = 4, channels: int = 32, size: int = 32, task: str = "classify"
) -> SuperNetwork:
    """The super-network with all scales of images [batch, 3, size, size]; see `fabric`. An image has no hop.

    Raises:
        MilliwiseError: the size is no power of two; or see `fabric`.
    """
    if size.bit_count() != 1:
        raise MilliwiseError(f"images of {size} x {size} cannot be halved down to one value: take a power of two")
    return fabric(labels, columns, channels, size.bit_length(), task)


def fabric(labels: int, columns: int, channels: int, scales: int, task: str = "classify") -> SuperNetwork:
    """The super-network: images [batch, 3, size, size], the size being 2 ** (scales - 1), to logits.

    Args:
        channels: of every map.
        scales: the finest is the image's own, each further one half the size; 6 for 32 x 32, 9 for 256 x 256.
        task: "classify" gives logits [batch, labels], "segment" [batch, labels, size, size].

    Raises:
        MilliwiseError: there is no such task, or nothing to compute.
    """
    if min(columns, channels, scales) < 1 or task not in TASKS:
        raise MilliwiseError(
            f"no neural fabric of {columns} columns, {channels} channels and {scales} scales to {task}: use at least 1 "
            f"of each, and {' or '.join(TASKS)}"
        )
    if task == "segment" and columns == 1:
        raise MilliwiseError("a neural fabric of 1 column cannot segment: use 2, one to go down and one to come up")
    last = scales - 1 if task == "classify" else 0
    edges, operations = [], {}
    for name, source, target, operation in _parts(columns, channels, scales, task):
        edges.append(Edge(name, source, target))
        operations[name] = operation
    known = dict(_made_by_hand(list(operations), columns, scales, task))
    graph = Graph(tuple(edges), "image", f"map{columns - 1}-{last}", made_by_hand=known)
    return SuperNetwork(graph, operations, nn.Identity(), _head(channels, labels, task))


def _made_by_hand(names: Sequence[str], columns: int, scales: int, task: str) -> Iterator[tuple[str, Architecture]]:
    """Fabrics of fewer columns in that of all: from their last one it goes straight on, each map by its own scale.

    What is classified comes from the coarsest scale, so only that goes on, and of their last column what leads there;
    to segment, all do, and are zipped at last.
    """
    onward = range(scales) if task == "segment" else [scales - 1]
    zips = {name for name in names if task == "segment" and name.startswith(f"zip{columns - 1}-")}
    for count in range(1, columns):
        columns_kept = {name for name in names if int(name.split("-")[0].strip(string.ascii_letters) or 0) < count}
        straight = {f"{move}-{scale}" for scale in onward for move in _moves(scale, range(count, columns))}
        yield f"fabric of {count} columns, then straight on", frozenset(columns_kept | straight | zips)
    yield f"fabric of {columns} columns", frozenset(names)


def _moves(scale: int, columns: range) -> Iterator[str]:
    for column in columns:
        yield f"conv{column}-{scale}"
        yield f"relu{column}"


def _head(channels: int, labels: int, task: str) -> nn.Module:
    """The published 1 x 1 convolution; what is classified is one value of each channel."""
    convolution = nn.Conv2d(channels, labels, 1)
    return nn.Sequential(convolution, nn.Flatten()) if task == "classify" else convolution


Part = tuple[str, str, str, nn.Module]


def _parts(columns: int, channels: int, scales: int, task: str) -> Iterator[Part]:
    """Name, source, target and operation of every edge, in the order of the published construction.

    Its order decides which of the greedy schedules is found (see `Graph.ordered`).
    """
    yield "conv", "image", "map0-0", nn.Sequential(*_convolution(3, channels), nn.ReLU())
    yield from (_sum(0, scale) for scale in range(1, scales))
    yield from (_zip(0, scale, scale + 1, channels) for scale in range(scales - 1))
    for column in range(1, columns):
        for scale in range(scales):
            yield _sum(column, scale)
            for other in range(max(0, scale - 1), min(scales, scale + 2)):
                name, source = f"conv{column}-{other}-{scale}", f"map{column - 1}-{other}"
                yield name, source, f"sum{column}-{scale}", _move(other, scale, channels)
    if task == "segment":
        yield from (_zip(columns - 1, scale, scale - 1, channels) for scale in range(scales - 1, 0, -1))
    elif columns > 1:
        yield from (_zip(columns - 1, scale, scale + 1, channels) for scale in range(scales - 1))


def _sum(column: int, scale: int) -> Part:
    place = f"{column}-{scale}"
    return f"relu{place}", f"sum{place}", f"map{place}", nn.ReLU()


def _zip(column: int, scale: int, other: int, channels: int) -> Part:
    """From one scale of a column to the next."""
    name = f"zip{column}-{scale}-{other}"
    return name, f"map{column}-{scale}", f"sum{column}-{other}", _move(scale, other, channels)


def _move(scale: int, other: int, channels: int) -> nn.Module:
    """The convolution from a scale to one beside it, or to itself."""
    doubled = [nn.Upsample(scale_factor=2, mode="nearest")] if other < scale else []
    return nn.Sequential(*doubled, *_convolution(channels, channels, 2 if other > scale else 1))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> Iterator[nn.Module]:
    """Convolution (with the bias the published network has) and BatchNorm."""
    yield nn.Conv2d(inputs, outputs, 3, stride, 1)
    yield nn.BatchNorm2d(outputs)
