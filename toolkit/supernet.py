"""A super-network: one module per edge of a graph, between a stem and a head; the only walk over it lives here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from toolkit.errors import MilliwiseError
from toolkit.graph import Edge, Graph

Value = TypeVar("Value")


class SuperNetwork(nn.Module):
    """A graph whose nodes sum what their live incoming edges compute.

    Args:
        graph: the edges.
        operations: one module per edge name. Edges into one node give tensors of one shape.
        stem: applied to the input before the source node (parameter-free: features can be computed once and shared).
        head: applied to the value of the sink node.
    """

    def __init__(self, graph: Graph, operations: Mapping[str, nn.Module], stem: nn.Module, head: nn.Module) -> None:
        super().__init__()
        if operations.keys() != graph.by_name.keys():
            odd = min(operations.keys() ^ graph.by_name.keys())
            raise MilliwiseError(
                f"edge {odd!r} has no operation (or the operation no edge): give each edge exactly one"
            )
        parts = {"stem": stem, **{name: operations[name] for name in graph.by_name}, "head": _of_any_labels(head)}
        self.graph = replace(graph, operations="; ".join(f"{name}: {part}" for name, part in parts.items()))
        self.operations = nn.ModuleDict(operations)
        self.stem = stem
        self.head = head

    def walk(
        self,
        kept: Iterable[str],
        start: Value,
        apply: Callable[[Edge, nn.Module, Value], Value],
        add: Callable[[str, Sequence[Value]], Value],
    ) -> Value:
        """Visit the live edges in topological order and return the value of the sink.

        Whatever is computed over an architecture (tensors, ONNX nodes, shapes, costs) is a pair of functions.

        Args:
            kept: kept edges; those on no path from source to sink are not visited.
            start: the value of the source node.
            apply: the value of an edge, from its module and the value of its source node.
            add: the value of a node, from those of its live incoming edges (called for one edge, too).

        Raises:
            MilliwiseError: no path of kept edges leads from source to sink.
        """
        live = self.graph.live(kept)
        if not live:
            raise MilliwiseError("the kept edges do not join source and sink: keep a whole path")
        arriving: dict[str, list[Value]] = {}
        values = {self.graph.source: start}
        for edge in self.graph.ordered:
            if edge.name not in live:
                continue
            if edge.source not in values:
                values[edge.source] = add(edge.source, arriving.pop(edge.source))
            arriving.setdefault(edge.target, []).append(apply(edge, self.operations[edge.name], values[edge.source]))
        return add(self.graph.sink, arriving[self.graph.sink])

    def forward(self, inputs: Tensor, kept: Iterable[str] | None = None) -> Tensor:
        """What the head makes of the sub-network of `kept` edges (all of them by default)."""
        return self.from_features(self.stem(inputs), kept)

    def from_features(
        self, features: Tensor, kept: Iterable[str] | None = None, gates: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """As `forward`, from the output of the stem.

        Args:
            gates: factors on what edges give, by name: one for all examples, [], or one for each, [batch].
        """
        result: Tensor = self.head(self.sink_value(features, kept, gates))
        return result

    def sink_value(
        self, features: Tensor, kept: Iterable[str] | None = None, gates: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """What the head is given; see `from_features`."""
        kept, gates = self.graph.full if kept is None else kept, gates or {}

        def apply(edge: Edge, operation: nn.Module, value: Tensor) -> Tensor:
            given: Tensor = operation(value)
            return _gated(given, gates[edge.name]) if edge.name in gates else given

        return self.walk(kept, features, apply, lambda _node, values: add_up(values))

    def sink_shape(self, features_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what the head is given, for features of that shape."""
        with torch.no_grad():
            return tuple(
                self.walk(
                    self.graph.full,
                    torch.zeros(features_shape),
                    lambda _edge, operation, value: operation(value),
                    lambda _node, values: values[0],
                ).shape
            )

    def select(self, kept: Iterable[str]) -> SuperNetwork:
        """The network of the live edges alone, with its own copy of their weights."""
        live = self.graph.live(kept)
        edges = tuple(edge for edge in self.graph.edges if edge.name in live)
        graph = Graph(edges, self.graph.source, self.graph.sink)
        chosen = {edge.name: self.operations[edge.name] for edge in edges}
        return copy.deepcopy(SuperNetwork(graph, chosen, self.stem, self.head))


def _of_any_labels(head: nn.Module) -> str:
    """What a head is, whatever the number of its labels, which its last layer gives: one profile is for all of them."""
    head = copy.deepcopy(head)
    layers = [module for module in head.modules() if hasattr(module, "out_features") or hasattr(module, "out_channels")]
    for name in ("out_features", "out_channels"):
        if layers and hasattr(layers[-1], name):
            setattr(layers[-1], name, "labels")
    return str(head)


def _gated(value: Tensor, gate: Tensor) -> Tensor:
    return value * gate.reshape(gate.shape + (1,) * (value.dim() - gate.dim())) if gate.dim() else value * gate


def add_up(values: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, added in order."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def recalibrate(network: nn.Module, forward_all: Callable[[], None]) -> None:
    """Replace the running statistics of every BatchNorm by the plain average over the batches `forward_all` runs.

    Weights shared by many sub-networks leave statistics that fit none of them, so a sub-network is recalibrated
    before it is judged. The network is left in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        forward_all()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
