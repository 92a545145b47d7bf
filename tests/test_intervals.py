"""Intervals against published tables and against counting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws_demo.intervals import mean_interval, rate_interval, rate_lower, rate_upper, share_interval
from toolkit.errors import MilliwiseError

# Exact limits of a Poisson mean, as in any table of them (half a chi-square quantile).
ONE_SIDED_95 = {0: 2.996, 1: 4.744, 2: 6.296, 3: 7.754, 5: 10.513, 10: 16.962}
TWO_SIDED_95 = {1: (0.0253, 5.572), 2: (0.2422, 7.225), 3: (0.6187, 8.767), 10: (4.795, 18.39), 100: (81.36, 121.63)}


@pytest.mark.parametrize(("events", "bound"), ONE_SIDED_95.items())
def test_the_upper_bound_of_a_rate_is_the_one_of_the_table(events: int, bound: float) -> None:
    assert rate_upper(events, 1) == pytest.approx(bound, abs=6e-4)
    assert rate_upper(events, 6.5) == pytest.approx(bound / 6.5, rel=1e-3)


def test_none_in_some_hours_shows_less_than_three_over_the_hours() -> None:
    assert rate_upper(0, 0.4) == pytest.approx(-math.log(0.05) / 0.4, rel=1e-12)
    assert rate_lower(0, 0.4) == 0
    assert rate_interval(0, 0.4) == (0, rate_upper(0, 0.4))


@pytest.mark.parametrize(("events", "bounds"), TWO_SIDED_95.items())
def test_the_interval_of_a_rate_is_the_one_of_the_table(events: int, bounds: tuple[float, float]) -> None:
    assert rate_interval(events, 1) == pytest.approx(bounds, rel=1e-3)


def test_many_events_come_near_the_normal_distribution() -> None:
    low, high = rate_interval(10_000, 10)
    assert (low, high) == pytest.approx((1000 - 19.6, 1000 + 19.6), abs=0.5)


@given(st.integers(0, 300), st.floats(0.5, 0.999))
def test_at_the_bound_so_few_events_have_the_chance_that_is_left(events: int, confidence: float) -> None:
    def chance_of_at_most(count: int, mean: float) -> float:
        term = total = math.exp(-mean)
        for k in range(1, count + 1):
            term *= mean / k
            total += term
        return total

    assert chance_of_at_most(events, rate_upper(events, 1, confidence)) == pytest.approx(1 - confidence, rel=1e-6)
    if events:
        low = rate_lower(events, 1, confidence)
        assert chance_of_at_most(events - 1, low) == pytest.approx(confidence, rel=1e-6)
        assert low < events < rate_upper(events, 1, confidence) or confidence < 0.6


# Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
@pytest.mark.parametrize(
    ("hits", "total", "bounds"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_interval_of_a_share_is_the_published_one(hits: int, total: int, bounds: tuple[float, float]) -> None:
    assert share_interval(hits, total) == pytest.approx(bounds, abs=5e-5)
    low, high = share_interval(total - hits, total)
    assert (1 - high, 1 - low) == pytest.approx(bounds, abs=5e-5)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_share_is_within_its_interval_and_that_within_0_and_1(first: int, second: int) -> None:
    hits, total = sorted((first, second))
    low, high = share_interval(hits, total)
    assert 0 <= low <= high <= 1
    assert total == 0 or low <= hits / total <= high


def test_single_values_have_nearly_the_interval_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = mean_interval([[value] for value in values], np.random.default_rng(2))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_clips_of_a_speaker_belong_together() -> None:
    values = np.random.default_rng(1).normal(5, 2, 100)
    once = mean_interval([[value] for value in values], np.random.default_rng(2))
    repeated = mean_interval([[value] * 50 for value in values], np.random.default_rng(2))
    assert repeated == pytest.approx(once)  # 50 copies say no more
    assert mean_interval([[1, 1, 1], [0], []], np.random.default_rng(0)) == (0, 1)


def test_the_same_seed_gives_the_same_interval_and_one_speaker_none() -> None:
    groups = [[0.0, 1.0], [1.0], [0.5, 0.0]]
    assert mean_interval(groups, np.random.default_rng(7)) == mean_interval(groups, np.random.default_rng(7))
    for few in ([], [[1.0, 0.0]], [[], [1.0]]):
        with pytest.raises(MilliwiseError, match="two or more"):
            mean_interval(few, np.random.default_rng(0))
