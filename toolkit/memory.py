"""What a network needs of a device's memory: planned from its edges, and predicted of a process that loads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.graph import Architecture, Graph


@dataclass(frozen=True)
class Planned:
    """The bytes of a network, by what they are for.

    Attributes:
        weight_bytes: of all weights.
        largest_bytes: of the weights of the largest part (an edge, the stem or the head).
        state_bytes: kept between two calls.
        activation_bytes: the most that intermediate results take at a time.
    """

    weight_bytes: int
    largest_bytes: int
    state_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """What a runtime without any overhead would need; a budget in kB is held against this."""
        return self.weight_bytes + self.state_bytes + self.activation_bytes


@dataclass(frozen=True)
class MemoryModel:
    """How much a fresh process grows by that loads a network and calls it (its peak, libraries not included).

    That holds for a process which has freed memory returned, as `milliwise stream` does and the measuring one did
    (toolkit.allocator.return_freed_memory). Without that glibc keeps some of what loading frees, and in every process
    another amount.

    bytes = base_bytes + per_weight_byte · weights + per_largest_byte · weights of the largest part + activations

    The peak is at load, where weights exist as the file holds them and as the runtime packs them, those of the part
    being packed once more or several times (onnxruntime 1.31 on x86-64: a MatMul needs its weights once and, while it
    is packed, once more; a wide convolution twice, and three times more). A file is its weights and a few hundred
    bytes per operator, which are in `base_bytes`.

    Attributes:
        base_bytes: of a network without weights: graph, session, front-end.
        per_weight_byte, per_largest_byte: fitted factors.
        fitted_nets, fitted_error: the networks it was fitted on, and the mean relative error on them, a fraction.
        held_out_nets, held_out_error: those it was then judged on; the error is None without any.
        held_out_within_10: share of those predicted within ±10 %.
        rows: of every held-out network: `weight_bytes`, `predicted_bytes`, `measured_bytes`.
    """

    base_bytes: float
    per_weight_byte: float
    per_largest_byte: float
    fitted_nets: int
    fitted_error: float
    held_out_nets: int = 0
    held_out_error: float | None = None
    held_out_within_10: float | None = None
    rows: tuple[Mapping[str, Any], ...] = ()

    def __call__(self, planned: Planned) -> float:
        """Predicted bytes of a network."""
        weights = self.per_weight_byte * planned.weight_bytes + self.per_largest_byte * planned.largest_bytes
        return self.base_bytes + weights + planned.activation_bytes


def peak_activation_bytes(
    graph: Graph, live: Architecture, activation_bytes: Mapping[str, int], source_bytes: int
) -> int:
    """The most bytes of node values and edge outputs that exist at a time when the live edges run in graph order.

    A node's value lives until the last live edge out of it has run, that of the sink to the end. The output of an edge
    is the value of its target, or is added into that and freed. What an edge computes inside is not counted.

    Args:
        live: edges, all of them on paths from source to sink.
        activation_bytes: of the output of each edge; 0 for an edge that hands its input on as it is, which needs a
            buffer only where that is added to something else while others still need it.
        source_bytes: of the source node's value.
    """
    buffers = _Buffers(graph.source, source_bytes)
    edges = [edge for edge in graph.ordered if edge.name in live]
    readers = Counter(edge.source for edge in edges)
    for edge in edges:
        if output_bytes := activation_bytes[edge.name]:
            buffers.compute(edge.target, output_bytes)
        else:
            buffers.hand_on(edge.source, edge.target, last=readers[edge.source] == 1)
        readers[edge.source] -= 1
        if not readers[edge.source]:
            buffers.release(edge.source)
    return buffers.peak_bytes


class _Buffers:
    """Which buffer holds the value of which node; nodes share one where an edge only hands its input on."""

    def __init__(self, node: str, size: int) -> None:
        self.of: dict[str, int] = {}
        self.sizes: dict[int, int] = {}
        self.made = self.now_bytes = self.peak_bytes = 0
        self.compute(node, size)

    def compute(self, node: str, size: int) -> None:
        """A new buffer with an output, which becomes the node's value or is added to it."""
        self.now_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        if node in self.of and not self._shared(node):
            self.now_bytes -= size  # added into the node's own buffer
            return
        self.release(node)  # a shared one stays as it is: what it holds is added into the new one
        self.made += 1
        self.of[node], self.sizes[self.made] = self.made, size

    def hand_on(self, source: str, node: str, last: bool) -> None:
        """The value of another node becomes the node's, or is added to it; `last` when nothing else reads it."""
        if node not in self.of:
            self.of[node] = self.of[source]
        elif self._shared(node):
            if last and not self._shared(source):  # added into the source's buffer, which is free to be changed
                self.release(node)
                self.of[node] = self.of[source]
            else:
                self.compute(node, self.sizes[self.of[node]])

    def release(self, node: str) -> None:
        """The node's value is not needed any more."""
        buffer = self.of.pop(node, None)
        if buffer is not None and buffer not in self.of.values():
            self.now_bytes -= self.sizes.pop(buffer)

    def _shared(self, node: str) -> bool:
        return list(self.of.values()).count(self.of[node]) > 1
