"""Latency of networks from latency of edges: what is timed, and the model that is fitted to it.

An edge is timed in context: four perturbed copies side by side minus one, a third of it, in the form that ships.
That is its prior. Whole random networks, timed in the same run, then correct the priors (a ridge around them, in
relative error): borders between edges cost what no edge alone can show.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.onnx import Value, to_onnx, with_properties
from profilers.clock import CHECK_CALLS, upper_quantile_rank
from toolkit.costs import random_architecture
from toolkit.graph import Architecture, Edge, Graph
from toolkit.profile import Line, tight_loop_ms
from toolkit.supernet import SuperNetwork

COPIES = 4
SAMPLES_PER_MS = 16
RELATIVE_NOISE = 0.015  # of a whole network's timing
RELATIVE_TRUST = 0.25  # how far an edge in a network may be from its prior, before the networks have spoken


@dataclass(frozen=True)
class Work:
    """What an edge computes: edges with equal work are timed once.

    Attributes:
        same_as: the first edge (in topological order) with this work.
        module: its operation.
        input_shape: of one hop, batch of one included.
    """

    same_as: str
    module: nn.Module
    input_shape: tuple[int, ...]


def edge_work(network: SuperNetwork, features_shape: tuple[int, ...]) -> dict[str, Work]:
    """The work of every edge, when the source node has that shape."""
    first: dict[tuple[str, tuple[int, ...]], str] = {}
    found: dict[str, Work] = {}

    def apply(edge: Edge, module: nn.Module, value: Value) -> Value:
        key = (str(module), value.shape)
        found[edge.name] = Work(first.setdefault(key, edge.name), module, value.shape)
        with torch.no_grad():
            return Value(edge.name, tuple(module(torch.zeros(value.shape)).shape))

    network.eval().walk(network.graph.full, Value("features", features_shape), apply, lambda _node, values: values[0])
    return found


def features_only(network: SuperNetwork, hop_ms: int) -> tuple[SuperNetwork, tuple[int, ...]]:
    """A copy of a (selected) network that starts from its stem's features, and their shape for one hop."""
    hop = torch.zeros(1, hop_ms * SAMPLES_PER_MS)
    shape = tuple(network.stem(hop).shape)
    bare = copy.copy(network)
    bare._modules = {**network._modules, "stem": nn.Identity()}
    return bare, shape


def context_models(work: Mapping[str, Work]) -> dict[str, bytes]:
    """For every distinct edge that computes something, the models `NAME x1` and `NAME x4`: copies side by side, added.

    The copies' weights differ, because a runtime computes identical copies only once.
    """
    models = {}
    for name, item in work.items():
        if item.same_as == name and not isinstance(item.module, nn.Identity):
            for copies in (1, COPIES):
                models[f"{name} x{copies}"] = _side_by_side(item, copies)
    return models


def _side_by_side(item: Work, copies: int) -> bytes:
    graph = Graph(tuple(Edge(f"copy{i}", "in", "out") for i in range(copies)), "in", "out")
    modules = {edge.name: _perturbed(item.module, index) for index, edge in enumerate(graph.edges)}
    network = SuperNetwork(graph, modules, nn.Identity(), nn.Identity())
    return with_properties(to_onnx(network.eval(), item.input_shape), {})


def _perturbed(module: nn.Module, seed: int) -> nn.Module:
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return twin


def priors(work: Mapping[str, Work], times_ms: Mapping[str, float]) -> dict[str, float]:
    """ms of every edge by difference of the context models; zero for an edge that computes nothing."""
    alone = {
        name: max(0.0, (times_ms[f"{name} x{COPIES}"] - times_ms[f"{name} x1"]) / (COPIES - 1))
        for name in work
        if f"{name} x1" in times_ms
    }
    return {name: alone.get(item.same_as, 0.0) for name, item in work.items()}


def sample_networks(graph: Graph, count: int, seed: int) -> list[Architecture]:
    """Different random architectures of all densities, in random order."""
    chance = random.Random(seed)
    found: dict[Architecture, None] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        found[random_architecture(graph, chance, chance.uniform(0.05, 0.95))] = None
    return list(found)


@dataclass(frozen=True)
class Fitted:
    """The parts of `tight_loop_ms`."""

    base_ms: float
    join_ms: float
    edges_ms: Mapping[str, float]

    def __call__(self, graph: Graph, live: Architecture) -> float:
        return tight_loop_ms(graph, live, self.edges_ms, self.base_ms, self.join_ms)


def fit(
    graph: Graph,
    same_as: Mapping[str, str],
    prior_ms: Mapping[str, float],
    networks: Sequence[Architecture],
    times_ms: Sequence[float],
) -> Fitted:
    """The model that predicts the networks' times with the least relative error, held near the priors.

    Args:
        same_as: edge to the edge with the same work; they share one cost.
        prior_ms: of every edge.
        networks: live edges of each timed network.
        times_ms: their tight-loop times, front-end not included.
    """
    distinct = sorted(set(same_as.values()))
    place = {name: 2 + index for index, name in enumerate(distinct)}
    rows = np.zeros((len(networks), 2 + len(distinct)))
    for row, live in zip(rows, networks, strict=True):
        row[0], row[1] = 1.0, graph.joins(live)
        for name in live:
            row[place[same_as[name]]] += 1.0
    times = np.asarray(times_ms)
    expected = np.array([0.005, 0.001, *(prior_ms[name] for name in distinct)])
    trust = np.array([0.01, 0.001, *(RELATIVE_TRUST * prior_ms[name] + 5e-4 for name in distinct)])
    weights = 1.0 / (RELATIVE_NOISE * times)
    system = np.vstack([rows * weights[:, None], np.diag(1.0 / trust)])
    solution = _not_negative(system, np.concatenate([times * weights, expected / trust]))
    edges = {name: float(solution[place[other]]) for name, other in same_as.items()}
    return Fitted(float(solution[0]), float(solution[1]), edges)


def _not_negative(system: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares in which no cost is below zero: negative ones are set to zero and the rest is solved again."""
    free = np.ones(system.shape[1], bool)
    solution = np.zeros(system.shape[1])
    while free.any():
        solution[:] = 0.0
        solution[free] = np.linalg.lstsq(system[:, free], target, rcond=None)[0]
        if (solution >= 0).all():
            break
        free &= solution >= 0
    return np.maximum(solution, 0.0)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank. 0 where all of one side are equal: nothing is ranked."""
    ranks = []
    for values in (np.asarray(first), np.asarray(second)):
        order = np.searchsorted(np.sort(values), values, "left") + np.searchsorted(np.sort(values), values, "right")
        ranks.append(order.astype(float))
    if any(np.ptp(order) == 0 for order in ranks):
        return 0.0
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def paced_lines(
    tight_ms: Sequence[float], paced_ms: Sequence[Sequence[float] | NDArray[np.float64]]
) -> tuple[dict[str, Line], float]:
    """Maps from tight-loop ms to paced ms of every statistic, and the mean relative error of the median's map.

    The medians give one line. A single network's 95th percentile of a few dozen calls is mostly noise, so the calls of
    all networks, each relative to its own median, are pooled for how far above it the percentiles lie. A check's upper
    confidence bound of a percentile is a higher percentile of its calls; its line adds the error of the median's.

    Args:
        tight_ms: of each network.
        paced_ms: calls of each network, at least ten.
    """
    tight = np.asarray(tight_ms)
    medians = np.array([np.median(calls) for calls in paced_ms])
    middle = relative_line(tight, medians)
    predicted = middle.base + middle.slope * tight
    errors = np.abs(predicted / medians - 1)
    excess = np.concatenate([np.asarray(calls) / value for calls, value in zip(paced_ms, medians, strict=True)])
    lines = {}
    for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        bound_share = upper_quantile_rank(CHECK_CALLS, share) / CHECK_CALLS
        for statistic, factor in (
            (name, np.quantile(excess, share)),
            (f"{name}_upper", np.quantile(excess, bound_share) * (1 + np.quantile(errors, 0.75))),
        ):
            lines[statistic] = Line(middle.base * float(factor), middle.slope * float(factor))
    return lines, float(errors.mean())


def relative_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> Line:
    """The line with the least squared relative error whose base and slope are not negative."""
    base, slope = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(x)), rcond=None)[0]
    if slope < 0:
        return Line(float(np.median(y)), 0.0)
    if base < 0:
        return Line(0.0, float(np.median(y / x)))
    return Line(float(base), float(slope))
