"""The latency model: it finds known costs behind noisy timings and shares them where work is the same."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from profilers.latency import (
    RELATIVE_NOISE,
    Work,
    conformal_bound,
    edge_work,
    fit,
    paced_lines,
    sample_networks,
    spearman,
)
from toolkit.graph import Architecture, Graph
from toolkit.profile import Bound
from toolkit.spaces import find_space

FEATURES = (1, 1, 40, 20)  # one hop of 200 ms


@pytest.fixture(scope="module")
def space() -> tuple[Graph, dict[str, Work]]:
    network = find_space("kws-ds").build(4)
    return network.graph, edge_work(network, FEATURES)


def invented(work: dict[str, Work], seed: int = 0) -> dict[str, float]:
    """Costs of 2 to 60 µs, the same where the work is."""
    rng = np.random.default_rng(seed)
    by_work = {
        item.same_as: 0.0 if isinstance(item.module, nn.Identity) else rng.uniform(0.002, 0.06)
        for item in work.values()
    }
    return {name: by_work[item.same_as] for name, item in work.items()}


def timed(
    graph: Graph, costs: dict[str, float], networks: list[Architecture], noise: float, seed: int = 1
) -> list[float]:
    """What a device with base 0.02 ms and 1 µs a join would take, with relative noise."""
    rng = np.random.default_rng(seed)
    exact = [0.02 + 0.001 * graph.joins(live) + sum(costs[name] for name in live) for live in networks]
    return list(np.array(exact) * rng.normal(1, noise, len(exact)))


def test_known_costs_are_found_behind_noise_and_wrong_priors(space: tuple[Graph, dict[str, Work]]) -> None:
    graph, work = space
    costs = invented(work)
    same_as = {name: item.same_as for name, item in work.items()}
    rng = np.random.default_rng(2)
    wrong = {name: rng.uniform(0.8, 1.25) for name in set(same_as.values())}
    prior_ms = {name: costs[name] * wrong[same_as[name]] for name in costs}
    networks = sample_networks(graph, 160, seed=3)
    model = fit(graph, same_as, prior_ms, networks[:120], timed(graph, costs, networks[:120], 0.01))
    exact = np.array(timed(graph, costs, networks[120:], 0.0))
    predicted = np.array([model(graph, live) for live in networks[120:]])
    before = np.array(
        [0.02 + 0.001 * graph.joins(live) + sum(prior_ms[name] for name in live) for live in networks[120:]]
    )
    assert np.abs(predicted / exact - 1).mean() < 0.01 < np.abs(before / exact - 1).mean()
    assert spearman(predicted.tolist(), exact.tolist()) > 0.995
    assert all(model.edges_ms[name] == model.edges_ms[other] for name, other in same_as.items())
    dear = [name for name in costs if costs[name] > 0.02]
    assert np.median([abs(model.edges_ms[name] / costs[name] - 1) for name in dear]) < 0.08


@pytest.mark.parametrize("seed", range(5))
def test_no_cost_is_negative(space: tuple[Graph, dict[str, Work]], seed: int) -> None:
    """Even when noise alone would make it so."""
    graph, work = space
    same_as = {name: item.same_as for name, item in work.items()}
    networks = sample_networks(graph, 60, seed)
    times = timed(graph, invented(work, seed), networks, 0.3, seed)
    model = fit(graph, same_as, dict.fromkeys(work, 0.001), networks, np.abs(times).tolist())
    assert min(model.base_ms, model.join_ms, *model.edges_ms.values()) >= 0


def test_the_fitted_model_by_hand() -> None:
    """Without noise, on the toy's costs in units of 0.1 ms, from priors that are all a fifth too high."""
    networks = sorted({toy.GRAPH.live(kept) for kept in toy.architectures()} - {frozenset()}, key=sorted)
    times = [0.1 * (toy.tight_ms(live) - toy.FRONT_END_MS) for live in networks]
    wrong = {name: 0.12 * cost for name, cost in toy.LATENCY_MS.items()}
    model = fit(toy.GRAPH, {name: name for name in toy.LATENCY_MS}, wrong, networks, times)
    assert model(toy.GRAPH, toy.CHEAPEST) == pytest.approx(0.025, rel=0.01)
    assert model(toy.GRAPH, toy.GRAPH.full) == pytest.approx(0.165, rel=0.01)
    assert model.edges_ms == pytest.approx({name: 0.1 * cost for name, cost in toy.LATENCY_MS.items()}, abs=0.0005)
    assert toy.GRAPH.joins(toy.GRAPH.full) == 5 and toy.GRAPH.joins(toy.CHEAPEST) == 0


def test_what_the_networks_do_not_show_stays_at_its_prior() -> None:
    networks = [toy.CHEAPEST, frozenset({"conv1", "skip", "late"})]
    times = [0.1 * (toy.tight_ms(live) - toy.FRONT_END_MS) for live in networks]
    prior_ms = {name: 0.1 * cost for name, cost in toy.LATENCY_MS.items()}
    model = fit(toy.GRAPH, {name: name for name in prior_ms}, prior_ms, networks, times)
    assert model.edges_ms == pytest.approx(prior_ms, abs=1e-6)


@pytest.mark.parametrize(("trust", "noise"), [(0.25, RELATIVE_NOISE), (0.1, 2 * RELATIVE_NOISE)])
def test_standard_errors_have_about_the_right_size(
    space: tuple[Graph, dict[str, Work]], trust: float, noise: float
) -> None:
    """Two of them hold most of the true costs, half of one by far not as many; more noise than expected shows."""
    graph, work = space
    same_as = {name: item.same_as for name, item in work.items()}
    distinct = [name for name in same_as if same_as[name] == name and not isinstance(work[name].module, nn.Identity)]
    within: dict[float, list[bool]] = {2.0: [], 0.5: []}
    for seed in range(8):
        costs = invented(work, seed)
        rng = np.random.default_rng(seed)
        wrong = {name: rng.normal(1, trust) for name in set(same_as.values())}
        prior_ms = {name: max(0.0, costs[name] * wrong[same_as[name]]) for name in costs}
        networks = sample_networks(graph, 80, seed)
        model = fit(graph, same_as, prior_ms, networks, timed(graph, costs, networks, noise, seed), trust)
        for share, found in within.items():
            found += [abs(model.edges_ms[each] - costs[each]) <= share * model.errors_ms[each] for each in distinct]
        assert all(model.errors_ms[name] == model.errors_ms[other] for name, other in same_as.items())
    assert np.mean(within[2.0]) >= 0.88 and np.mean(within[0.5]) < 0.65


def test_errors_grow_with_the_noise_and_shrink_with_the_networks(space: tuple[Graph, dict[str, Work]]) -> None:
    graph, work = space
    same_as = {name: item.same_as for name, item in work.items()}
    costs = invented(work)

    def error(count: int, noise: float) -> float:
        networks = sample_networks(graph, count, 0)
        model = fit(graph, same_as, costs, networks, timed(graph, costs, networks, noise))
        return float(np.median(list(model.errors_ms.values())))

    assert error(120, 0.01) < error(30, 0.01) < error(30, 0.1)


@pytest.mark.parametrize(
    ("count", "rank"),
    [(0, None), (1, None), (18, None), (19, 19), (38, 38), (39, 38), (58, 57), (59, 57), (100, 96), (199, 190)],
)
def test_the_rank_of_a_bound_by_hand(count: int, rank: int | None) -> None:
    """⌈(n + 1) · 0.95⌉: of 19 the largest; of 39 the 38th; of 100 the 96th. Fewer than 19 bound nothing."""
    ratios = [1.0 + 0.01 * index for index in range(count)]
    found = conformal_bound(list(np.random.default_rng(0).permutation(ratios)))
    assert found == (None if rank is None else Bound(0.95, ratios[rank - 1], count))


@given(st.integers(1, 2000), st.sampled_from([50, 80, 90, 95, 99]))
def test_the_rank_of_a_bound_in_exact_arithmetic(count: int, percent: int) -> None:
    rank = math.ceil((count + 1) * Fraction(percent, 100))
    found = conformal_bound(list(range(1, count + 1)), percent / 100)
    assert (None if found is None else found.factor) == (rank if rank <= count else None)


@pytest.mark.parametrize("spread", ["narrow", "skewed", "two kinds"])
def test_a_bound_covers_as_many_as_it_says(spread: str) -> None:
    """Whatever the distribution: of 100 calibrating, 95 to 97 % of new ones lie below, in the mean of many splits."""
    rng = np.random.default_rng(0)
    ratios = {
        "narrow": rng.normal(1, 0.01, 600),
        "skewed": rng.lognormal(0, 0.5, 600),
        "two kinds": np.where(rng.random(600) < 0.9, rng.normal(1, 0.02, 600), rng.normal(1.5, 0.1, 600)),
    }[spread]
    covered = []
    for _ in range(300):
        drawn = rng.permutation(ratios)
        bound = conformal_bound(drawn[:100].tolist())
        assert bound is not None
        covered.append(float((drawn[100:] <= bound.factor).mean()))
    assert 0.945 <= np.mean(covered) <= 0.975  # 96 / 101 = 0.950 is expected


def test_networks_are_live_different_and_of_all_sizes(space: tuple[Graph, dict[str, Work]]) -> None:
    graph, _work = space
    networks = sample_networks(graph, 100, seed=0)
    assert len(set(networks)) == len(networks) == 100
    assert all(live and graph.live(live) == live for live in networks)
    sizes = [len(live) / len(graph.edges) for live in networks]
    assert min(sizes) < 0.15 and max(sizes) > 0.85
    assert networks == sample_networks(graph, 100, seed=0) != sample_networks(graph, 100, seed=1)
    assert len(sample_networks(toy.GRAPH, 300, seed=0)) < 300  # there are no more


def test_rank_correlation_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5.
    assert spearman([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([0.1, 0.2, 5.0], [1, 10, 11]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_paced_lines_are_found() -> None:
    """Calls lie between 0.8 and 1.2 of the line 0.3 + 1.1 · tight, evenly: their p95 is 1.18 of it, their p99 1.196."""
    tight = np.linspace(0.05, 0.8, 12)
    spread = 1 + 0.004 * (np.arange(101) - 50)
    lines, error = paced_lines(tight.tolist(), [(0.3 + 1.1 * value) * spread for value in tight])
    assert error == pytest.approx(0, abs=1e-9)
    for name, factor in (("p50", 1.0), ("p95", 1.18), ("p99", 1.196)):
        assert (lines[name].base, lines[name].slope) == pytest.approx((0.3 * factor, 1.1 * factor), rel=1e-6)
    for value in (0.0, 0.4):
        assert lines["p50"](value) < lines["p95"](value) < lines["p99"](value)
        assert all(lines[f"{name}_upper"](value) >= lines[name](value) for name in ("p50", "p95", "p99"))


def test_paced_lines_are_found_behind_noise() -> None:
    rng = np.random.default_rng(0)
    tight = rng.uniform(0.05, 0.8, 14)
    lines, error = paced_lines(tight.tolist(), [(0.3 + 1.1 * value) * rng.lognormal(0, 0.05, 60) for value in tight])
    assert error < 0.02
    for value in (0.1, 0.7):
        assert lines["p50"](value) == pytest.approx(0.3 + 1.1 * value, rel=0.02)
        assert lines["p95"](value) == pytest.approx((0.3 + 1.1 * value) * np.exp(1.645 * 0.05), rel=0.02)


@pytest.mark.parametrize("paced", [[0.5, 0.4, 0.3], [0.01, 0.4, 0.9]])
def test_paced_lines_never_fall_nor_begin_below_zero(paced: list[float]) -> None:
    lines, _error = paced_lines([0.1, 0.2, 0.3], [[value] * 20 for value in paced])
    assert all(line.base >= 0 and line.slope >= 0 for line in lines.values())
