"""Which models a profile times, and under which names: edges in context, random networks, whole files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporters.onnx import to_onnx, with_properties
from profilers.latency import context_models, edge_work, empty_model, features_only, sample_networks
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Graph
from toolkit.supernet import SuperNetwork

EMPTY = "empty"
MOST_BYTES = 64_000_000  # of models that are timed in one process; loading doubles them
MOST_MODELS = 40  # in one process: every process is a little faster or slower than the next, in all its timings
ANCHORS, ANCHORS_OF = 3, 20  # networks that every process times, chosen from so many
CACHE_SHARE = 0.5  # a network whose weights take more of the last cache than this is not always found in it
LEAST_CALIBRATING = 19  # networks: fewer cannot calibrate a bound of 95 %


@dataclass(frozen=True)
class Effort:
    """How much is measured. The defaults take about 70 s for `kws-ds`.

    Attributes:
        fitted: whole networks the latency model is fitted on.
        calibrating: whole networks that calibrate its upper bound.
        held_out: whole networks it is then judged on.
        paced: networks timed at the pace of a stream, spread from the cheapest to the dearest.
        short_calls: calls of each at the shortened gap.
        hop_calls: calls of each at the hop itself.
        rounds: interleaved blocks of each tight-loop timing.
        paced_calls: calls of each model where the table itself is timed at the pace of a stream.
        weighed: networks whose memory is measured; the model is fitted on half of them and judged on the others.
    """

    fitted: int = 160
    calibrating: int = 100
    held_out: int = 48
    paced: int = 12
    short_calls: int = 24
    hop_calls: int = 6
    rounds: int = 12
    paced_calls: int = 20
    weighed: int = 16


class Plan:
    """What is timed of one super-network.

    Attributes:
        work: of every edge.
        edges: name to model of every distinct edge in context.
        features_shape, sink_shape: of one call, behind the stem and before the head.
    """

    def __init__(self, network: SuperNetwork, input_shape: tuple[int, ...], seed: int, effort: Effort) -> None:
        self.network = network
        self.input_shape = input_shape
        self.seed = seed
        self.effort = effort
        _bare, self.features_shape = features_only(network, input_shape)
        self.work = edge_work(network, self.features_shape)
        self.sink_shape = network.sink_shape(self.features_shape)
        self.edges = {**context_models(self.work), EMPTY: empty_model(self.features_shape)}

    def failed(self, failures: Mapping[str, str]) -> dict[str, str]:
        """Edge to reason, of the failures of the models in `edges`."""
        models = self.edges.keys() - {EMPTY}
        reasons = {name.rpartition(" ")[0]: reason for name, reason in failures.items() if name in models}
        return {name: reasons[item.same_as] for name, item in self.work.items() if item.same_as in reasons}

    def networks(self, without: Collection[str]) -> Networks:
        """The random networks, of the edges that could be measured.

        Raises:
            MilliwiseError: those do not join source and sink.
        """
        graph = self.network.graph
        edges = tuple(edge for edge in graph.edges if edge.name not in without)
        try:
            left = Graph(edges, graph.source, graph.sink) if without else graph
        except MilliwiseError:
            raise MilliwiseError(
                f"no network is left: {len(without)} edges could not be measured, {min(without)} among them"
            ) from None
        effort = self.effort
        wanted = effort.fitted + effort.calibrating + effort.held_out
        return Networks.divided(left, sample_networks(left, wanted, self.seed), effort)

    def anchors(self) -> dict[str, bytes]:
        """A small, a middling and a large network, to tell processes apart by."""
        networks = spread(sample_networks(self.network.graph, ANCHORS_OF, self.seed), ANCHORS)
        return {f"anchor {index}": self.body(kept) for index, kept in enumerate(networks)}

    def body(self, kept: Architecture) -> bytes:
        """The network of these edges without its stem."""
        return with_properties(to_onnx(*features_only(self.network.select(kept), self.input_shape)), {})

    def whole(self, kept: Architecture) -> bytes:
        """The file that would be deployed."""
        return with_properties(to_onnx(self.network.select(kept), self.input_shape), {})


@dataclass(frozen=True)
class Networks:
    """Random networks for three purposes, none for two; `paced` are those of the fitted ones that are timed whole, and
    the network of all edges."""

    fitted: tuple[Architecture, ...]
    calibrating: tuple[Architecture, ...]
    held_out: tuple[Architecture, ...]
    paced: tuple[Architecture, ...]

    @classmethod
    def divided(cls, graph: Graph, sampled: Sequence[Architecture], effort: Effort) -> Networks:
        """A small space is shared between fit and judgement first; a bound needs many networks or none."""
        fitted = min(effort.fitted, max(1, len(sampled) // 2)) if effort.held_out else min(effort.fitted, len(sampled))
        held_out = min(effort.held_out, len(sampled) - fitted)
        calibrating = len(sampled) - fitted - held_out
        if calibrating < LEAST_CALIBRATING:
            calibrating = 0
        paced = dict.fromkeys([*spread(sampled[: max(2, fitted)], max(2, effort.paced - 1)), graph.live(graph.full)])
        rest = sampled[fitted:]
        return cls(
            tuple(sampled[:fitted]),
            tuple(rest[:calibrating]),
            tuple(rest[calibrating : calibrating + held_out]),
            tuple(paced),
        )


def spread(networks: Sequence[Architecture], count: int) -> list[Architecture]:
    """So many of the networks, from the one with the fewest edges to the one with the most; fewer where there are."""
    by_size = sorted(networks, key=lambda kept: (len(kept), sorted(kept)))
    places = np.linspace(0, len(by_size) - 1, min(count, len(by_size))).round().astype(int)
    return [by_size[place] for place in places]


def groups(models: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, bytes]]:
    """Named models in their order, as many at a time as a process is to hold."""
    group: dict[str, bytes] = {}
    for name, content in models:
        if len(group) == MOST_MODELS or (group and sum(map(len, group.values())) + len(content) > MOST_BYTES):
            yield group
            group = {}
        group[name] = content
    if group:
        yield group


def bound_by_cache(model: bytes, cache_bytes: Mapping[str, int]) -> bool:
    """Whether a model's weights are too large to be always found in the last cache of the device."""
    last = max(cache_bytes.values(), default=0)
    return bool(last) and len(model) > CACHE_SHARE * last
