"""`resnet-fabric`: a ResNet for small images with shortcuts between its groups, from Budgeted Super Networks.

Véniat and Denoyer (2018, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks"). Three
groups of basic blocks on ever smaller maps form the chain of a CIFAR ResNet. Block i of a group also hears blocks of
the group before, counted from that group's end, as if it were folded back: `straight` across, one to the `left`, one
to the `right`. What lies beyond a group's first block is what enters that group. Every such shortcut is a block of its
own with a projection of its own. A sum and its ReLU are an edge, too, as are the entries of groups: the published
graph has a node for each.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph
from toolkit.supernet import SuperNetwork

WIDTH = 16  # channels of the first group, which works on the whole image; each further one has twice, on half the size
GROUPS = 3
SHIFTS = {"s": "straight", "l": "left", "r": "right"}


def build(labels: int, hop_ms: int = 200, blocks: int = 3, width: int = WIDTH, size: int = 32) -> SuperNetwork:
    """The super-network: images [batch, 3, size, size] to logits [batch, labels]. An image has no hop.

    Raises:
        MilliwiseError: the size is no multiple of 4.
    """
    if size % 4:
        raise MilliwiseError(f"images of {size} x {size} cannot be halved twice: take a size such as {size - size % 4}")
    return fabric(blocks, labels, width=width)


def fabric(blocks: int, labels: int, shift: str = "slr", width: int = WIDTH) -> SuperNetwork:
    """The super-network: images [batch, 3, size, size] to logits [batch, labels]; the size is a multiple of 4.

    Args:
        blocks: basic blocks in each group: 3 make ResNet-20, 18 make ResNet-110.
        shift: which shortcuts there are, of "s" (straight), "l" (left), "r" (right); "" leaves the plain ResNet.
        width: channels of the first group.

    Raises:
        MilliwiseError: there is no block, or no such shortcut.
    """
    if blocks < 1 or not set(shift) <= SHIFTS.keys():
        raise MilliwiseError(
            f"no ResNet fabric of {blocks} blocks and shortcuts {shift!r}: use at least 1 block, and letters of 'slr'"
        )
    builder = _Builder(blocks, width)
    for group in range(GROUPS):
        for block in range(blocks):
            builder.chain(group, block)
            builder.shortcuts(group, block, shift)
            builder.join(f"relu{group}-{block}", f"sum{group}-{block}", f"map{group}-{block}", nn.ReLU())
    known = {
        f"ResNet-{layers}": resnet(layers, blocks) for layers in (2 * GROUPS * k + 2 for k in range(1, blocks + 1))
    }
    sink = builder.map_of(GROUPS - 1, blocks - 1)
    graph = Graph(tuple(builder.edges), "image", sink, made_by_hand=known)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(builder.channels[-1], labels))
    return SuperNetwork(graph, builder.operations, nn.Identity(), head)


def resnet(layers: int, blocks: int) -> Architecture:
    """The edges of ResNet-20, -32, -44, …, of 6 k + 2 layers, in the fabric of so many blocks a group.

    A shallower one keeps the first k blocks of each group; of the rest only what hands the map on.

    Raises:
        MilliwiseError: there is no such ResNet, or it is deeper than the fabric.
    """
    depth, odd = divmod(layers - 2, 2 * GROUPS)
    if odd or not 1 <= depth <= blocks:
        deepest = 2 * GROUPS * blocks + 2
        raise MilliwiseError(f"no ResNet-{layers} in a fabric of {blocks} blocks: take 8, 14, 20, … {deepest} layers")
    kept = {"conv", *(f"entry{group}" for group in range(1, GROUPS))}
    for group in range(GROUPS):
        kept |= {f"{part}{group}-{block}" for part in ("skip", "relu") for block in range(blocks)}
        kept |= {f"block{group}-{block}" for block in range(depth)}
    return frozenset(kept)


class _Builder:
    """Collects the edges; what each node holds follows from its group."""

    def __init__(self, blocks: int, width: int) -> None:
        self.blocks = blocks
        self.channels = [width * 2**group for group in range(GROUPS)]
        self.edges: list[Edge] = []
        self.operations: dict[str, nn.Module] = {}
        self.join("conv", "image", "entry0", nn.Sequential(*_convolution(3, width, 1), nn.ReLU()))

    def join(self, name: str, source: str, target: str, operation: nn.Module) -> None:
        self.edges.append(Edge(name, source, target))
        self.operations[name] = operation

    def map_of(self, group: int, block: int) -> str:
        """The node a block leaves its result in; what is before the first one is what enters the group."""
        return f"entry{group}" if block < 0 else f"map{group}-{block}"

    def chain(self, group: int, block: int) -> None:
        """The residual block of the plain ResNet; the first of a group halves the map."""
        if group and not block:
            self.join(f"entry{group}", self.map_of(group - 1, self.blocks - 1), f"entry{group}", nn.Identity())
        source, inputs = self.map_of(group, block - 1), self.channels[group - 1 if group and not block else group]
        self._residual("", group, block, source, inputs)

    def shortcuts(self, group: int, block: int, shift: str) -> None:
        """Those from the group before into a block, each a residual block of its own."""
        if not group:
            return
        mirrored = self.blocks - 2 - block
        for letter, place, exists in (
            ("s", mirrored, True),
            ("l", mirrored + 1, block > 0),
            ("r", mirrored - 1, block < self.blocks - 1),
        ):
            if exists and letter in shift:
                # What enters a group has the channels of the group before it; the first convolution those of the first.
                inputs = self.channels[group - 1 if place >= 0 else max(0, group - 2)]
                self._residual(f"{SHIFTS[letter]}-", group, block, self.map_of(group - 1, place), inputs)

    def _residual(self, kind: str, group: int, block: int, source: str, inputs: int) -> None:
        outputs, target = self.channels[group], f"sum{group}-{block}"
        stride = outputs // inputs
        body = (*_convolution(inputs, outputs, stride), nn.ReLU(), *_convolution(outputs, outputs, 1))
        self.join(f"{kind}block{group}-{block}", source, target, nn.Sequential(*body))
        skip = nn.Identity() if inputs == outputs else nn.Sequential(*_convolution(inputs, outputs, stride, kernel=1))
        self.join(f"{kind}skip{group}-{block}", source, target, skip)


def _convolution(inputs: int, outputs: int, stride: int, kernel: int = 3) -> Iterator[nn.Module]:
    """Convolution (with the bias the published network has) and BatchNorm."""
    yield nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    yield nn.BatchNorm2d(outputs)
