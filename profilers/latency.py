"""Latency of networks from latency of edges: what is timed, and the model that is fitted to it.

An edge is timed in context: four perturbed copies side by side minus one, a third of it, in the form that ships.
That is its prior. Whole random networks then correct the priors (a ridge around them, in relative error): borders
between edges cost what no edge alone can show. Other networks calibrate an upper bound (split conformal prediction).
"""

from __future__ import annotations

import copy
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.onnx import Value, to_onnx, with_properties
from profilers.clock import CHECK_CALLS, upper_quantile_rank
from toolkit.costs import random_architecture
from toolkit.graph import Architecture, Edge, Graph
from toolkit.profile import Bound, Line, network_ms
from toolkit.supernet import SuperNetwork

COPIES = 4
RELATIVE_NOISE = 0.03  # of a whole network's timing, what a sum of edges cannot express included
RELATIVE_TRUST = 0.1  # how far an edge in a network may be from its prior, before the networks have spoken
LEAST_FOR_A_LINE = 5  # networks: of fewer it could have any slope


@dataclass(frozen=True)
class Work:
    """What an edge computes: edges with equal work are timed once.

    Attributes:
        same_as: the first edge (in topological order) with this work.
        module: its operation.
        input_shape: of one hop, batch of one included.
        computes: it is more than an identity.
    """

    same_as: str
    module: nn.Module
    input_shape: tuple[int, ...]
    computes: bool = True


def edge_work(network: SuperNetwork, features_shape: tuple[int, ...]) -> dict[str, Work]:
    """The work of every edge, when the source node has that shape."""
    first: dict[str, str] = {}
    found: dict[str, Work] = {}

    def apply(edge: Edge, module: nn.Module, value: Value) -> Value:
        structure, computes = _structure(module, value.shape)
        found[edge.name] = Work(first.setdefault(structure, edge.name), module, value.shape, computes)
        with torch.no_grad():
            return Value(edge.name, tuple(module(torch.zeros(value.shape)).shape))

    network.eval().walk(network.graph.full, Value("features", features_shape), apply, lambda _node, values: values[0])
    return found


def _structure(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, bool]:
    """A hash of an edge's exported form without the values of its weights (what it computes, not what it learnt), and
    whether it computes anything."""
    model = _side_by_side([module], input_shape)
    for array in model.graph.initializer:
        array.ClearField("raw_data")
    computes = any(node.op_type not in ("Identity", "Constant") for node in model.graph.node)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(), computes


def features_only(network: SuperNetwork, input_shape: tuple[int, ...]) -> tuple[SuperNetwork, tuple[int, ...]]:
    """A copy of a (selected) network that starts from its stem's features, and their shape for one call.

    Args:
        input_shape: of one call, batch of one included.
    """
    with torch.no_grad():
        shape = tuple(network.stem(torch.zeros(input_shape)).shape)
    bare = copy.copy(network)
    bare._modules = {**network._modules, "stem": nn.Identity()}
    return bare, shape


def context_models(work: Mapping[str, Work]) -> dict[str, bytes]:
    """For every distinct edge that computes something, the models `NAME x1` and `NAME x4`: copies side by side, added.

    The copies' weights differ, because a runtime computes identical copies only once. Where there are no weights there
    is no `x4`.
    """
    models = {}
    for name, item in work.items():
        if item.same_as == name and item.computes:
            for copies in (1, COPIES) if any(True for _ in item.module.parameters()) else (1,):
                twins = [_perturbed(item.module, index) for index in range(copies)]
                models[f"{name} x{copies}"] = with_properties(_side_by_side(twins, item.input_shape), {})
    return models


def empty_model(features_shape: tuple[int, ...]) -> bytes:
    """The model that gives back what it is given: what calling the runtime costs."""
    return with_properties(_side_by_side([nn.Identity()], features_shape), {})


def _side_by_side(twins: Sequence[nn.Module], input_shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = Graph(tuple(Edge(f"copy{i}", "in", "out") for i in range(len(twins))), "in", "out")
    modules = {edge.name: twin for edge, twin in zip(graph.edges, twins, strict=True)}
    return to_onnx(SuperNetwork(graph, modules, nn.Identity(), nn.Identity()).eval(), input_shape)


def _perturbed(module: nn.Module, seed: int) -> nn.Module:
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return twin


def priors(work: Mapping[str, Work], times_ms: Mapping[str, float], empty_ms: float) -> dict[str, float]:
    """ms of every edge that could be timed, by difference: of four copies and one, a third of it, or of one and none.

    Args:
        times_ms: of the context models.
        empty_ms: of the model that computes nothing.

    Returns:
        Zero for an edge that computes nothing, or could not be timed.
    """
    alone: dict[str, float] = {}
    for name in work:
        one, many = times_ms.get(f"{name} x1"), times_ms.get(f"{name} x{COPIES}")
        if one is not None:
            alone[name] = max(0.0, one - empty_ms if many is None else (many - one) / (COPIES - 1))
    return {name: alone.get(item.same_as, 0.0) for name, item in work.items()}


def sample_networks(graph: Graph, count: int, seed: int) -> list[Architecture]:
    """Different random architectures of all densities, in random order; fewer where the space has fewer."""
    chance = random.Random(seed)
    found: dict[Architecture, None] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        found[random_architecture(graph, chance, chance.uniform(0.05, 0.95))] = None
    networks = list(found)
    chance.shuffle(networks)  # where all there are were found, the probable ones came first
    return networks


@dataclass(frozen=True)
class Fitted:
    """The parts of `network_ms`, and the standard errors of the edges' costs."""

    base_ms: float
    join_ms: float
    chain_ms: float
    edges_ms: Mapping[str, float]
    errors_ms: Mapping[str, float]

    def __call__(self, graph: Graph, live: Architecture) -> float:
        return network_ms(graph, live, self.edges_ms, self.base_ms, self.join_ms, self.chain_ms)


def fit(
    graph: Graph,
    same_as: Mapping[str, str],
    prior_ms: Mapping[str, float],
    networks: Sequence[Architecture],
    times_ms: Sequence[float],
    trust: float = RELATIVE_TRUST,
    prior_errors_ms: Mapping[str, float] | None = None,
) -> Fitted:
    """The model that predicts the networks' times with the least relative error, held near the priors.

    Args:
        same_as: edge to the edge with the same work; they share one cost.
        prior_ms: of every edge.
        networks: live edges of each timed network.
        times_ms: how long they took, front-end not included.
        trust: how far an edge may be from its prior, relative.
        prior_errors_ms: how uncertain the priors of some edges were measured; it is added to that.
    """
    distinct, prior_errors_ms = sorted(set(same_as.values())), prior_errors_ms or {}
    place = {name: 3 + index for index, name in enumerate(distinct)}
    rows = np.zeros((len(networks), 3 + len(distinct)))
    for row, live in zip(rows, networks, strict=True):
        row[:3] = 1.0, graph.joins(live), graph.chains(live)
        for name in live:
            row[place[same_as[name]]] += 1.0
    times = np.asarray(times_ms)
    # What all priors have wrong in common is corrected first: the line is known far better than any single edge.
    line = Line(0.005, 1.0)  # of any device: an empty call, and priors that are right
    if len(networks) >= LEAST_FOR_A_LINE:
        seen = relative_line(np.array([sum(prior_ms[name] for name in live) for live in networks]), times)
        line = seen if seen.slope > 0 else line  # in mere noise the priors are all that is known
    priors_ms = [line.slope * prior_ms[name] for name in distinct]
    expected = np.array([line.base, 0.0, 0.0, *priors_ms])
    unsure_ms = [line.slope * prior_errors_ms.get(name, 0.0) for name in distinct]
    known = [trust * value + 5e-4 + unsure for value, unsure in zip(priors_ms, unsure_ms, strict=True)]
    allowed = np.array([max(0.01, 0.3 * line.base), 0.001, 0.001, *known])
    weights = 1.0 / (RELATIVE_NOISE * times)
    system = np.vstack([rows * weights[:, None], np.diag(1.0 / allowed)])
    solution = _dropping_negatives(system, np.concatenate([times * weights, expected / allowed]))
    residuals = rows @ solution / times - 1
    scale = max(1.0, float(np.sqrt(np.mean(residuals**2))) / RELATIVE_NOISE) if len(times) else 1.0
    spread = scale * np.sqrt(np.diag(np.linalg.inv(system.T @ system)))
    edges = {name: float(solution[place[other]]) for name, other in same_as.items()}
    errors = {name: float(spread[place[other]]) for name, other in same_as.items()}
    return Fitted(float(solution[0]), float(solution[1]), float(solution[2]), edges, errors)


def _dropping_negatives(system: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
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


def conformal_bound(ratios: Sequence[float], coverage: float = 0.95) -> Bound | None:
    """By how much a prediction is to be multiplied, so that a new network lies below with that probability or more.

    Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018): the ⌈(n + 1)·coverage⌉-th smallest of n
    ratios. It holds for networks drawn as these were; a search picks those that the model underprices, and loses some.

    Args:
        ratios: measured / predicted of networks that took no part in the fit.

    Returns:
        None where there are too few for that coverage.
    """
    rank = math.ceil((len(ratios) + 1) * coverage)
    if rank > len(ratios):
        return None
    return Bound(coverage, float(sorted(ratios)[rank - 1]), len(ratios))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank. 0 where all of one side are equal: nothing is ranked."""
    both = [(np.asarray(values), np.sort(values)) for values in (first, second)]
    ranks = [np.searchsorted(order, values) + np.searchsorted(order, values, "right") for values, order in both]
    if any(np.ptp(order) == 0 for order in ranks):
        return 0.0
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def paced_lines(
    table_ms: Sequence[float],
    paced_ms: Sequence[Sequence[float] | NDArray[np.float64]],
    seen_ms: Sequence[float] | NDArray[np.float64] | None = None,
) -> tuple[dict[str, Line], float]:
    """Maps from ms by the table's clock to paced ms of every statistic, and the mean relative error of the median's.

    The medians give one line. A single network's 95th percentile of a few dozen calls is mostly noise, so the calls of
    all networks, each relative to its own median, are pooled for how far above it the percentiles lie. A check's upper
    confidence bound of a percentile is a higher percentile of its calls; its line adds the error of the median's.

    Args:
        table_ms: of each network, by the table's clock.
        paced_ms: calls of each network, at least ten.
        seen_ms: medians to judge the map of the median by; those of `paced_ms` if None.
    """
    tight = np.asarray(table_ms)
    medians = np.array([np.median(calls) for calls in paced_ms])
    middle = relative_line(tight, medians)
    predicted = middle.base + middle.slope * tight
    errors = np.abs(predicted / (medians if seen_ms is None else np.asarray(seen_ms)) - 1)
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
