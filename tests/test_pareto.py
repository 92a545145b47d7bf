"""Fronts and hypervolumes: numbers worked by hand, and laws that hold for any points."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import MilliwiseError
from toolkit.pareto import chosen_volume, front, hypervolume

TRADES = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), max_size=8)


def test_front_by_hand() -> None:
    trades = [(8, 0.9), (1, 0.5), (2, 0.5), (4, 0.4), (4, 0.8), (4, 0.8), (9, 0.9)]
    assert [trades[place] for place in front(trades)] == [(1, 0.5), (4, 0.8), (8, 0.9)]
    assert front([]) == []


def test_hypervolume_by_hand() -> None:
    """Against cost 16 and accuracy 0.1: 0.4 over 4 halvings, 0.3 more over 2, 0.1 more over 1."""
    trades = [(1, 0.5), (4, 0.8), (8, 0.9), (2, 0.4), (16, 1.0), (32, 1.0), (0.5, 0.1)]
    assert hypervolume(trades, 16, 0.1) == pytest.approx(0.4 * 4 + 0.3 * 2 + 0.1 * 1)
    assert hypervolume([], 16, 0.1) == 0
    assert hypervolume([(16, 0.9), (1, 0.1)], 16, 0.1) == 0, "as dear, or as bad, as the reference"


def test_a_dearer_choice_that_is_worse_costs_volume() -> None:
    """0.4 above 0.1 for the two halvings from 1 to 4, 0.1 for the two from 4 to 16; nothing beyond the reference."""
    chosen = [(1, 0.5), (4, 0.2), (32, 0.9)]
    assert chosen_volume(chosen, 16, 0.1) == pytest.approx(0.4 * 2 + 0.1 * 2)
    assert chosen_volume([(1, 0.5), (4, 0.05)], 16, 0.1) == pytest.approx(0.4 * 2), "worse than chance is chance"
    assert chosen_volume([], 16, 0.1) == 0


@given(TRADES)
def test_hypervolume_is_the_area_that_a_grid_counts(trades: list[tuple[float, float]]) -> None:
    """The oracle adds up narrow columns of the best accuracy within each cost."""
    columns, octaves = 4000, math.log2(200 / 0.05)
    costs = [200 / 2 ** (octaves * (column + 0.5) / columns) for column in range(columns)]
    best = [max((accuracy for cost, accuracy in trades if cost <= limit), default=0.2) for limit in costs]
    area = sum(max(0.0, each - 0.2) for each in best) * octaves / columns
    assert hypervolume(trades, 200, 0.2) == pytest.approx(area, abs=0.02)


@given(TRADES, st.tuples(st.floats(0.1, 100), st.floats(0, 1)), st.randoms(), st.floats(0.01, 100))
def test_hypervolume_never_falls_and_knows_no_unit(
    trades: list[tuple[float, float]], another: tuple[float, float], chance: object, factor: float
) -> None:
    before = hypervolume(trades, 100, 0.3)
    assert hypervolume([*trades, another], 100, 0.3) >= before - 1e-12
    chosen = [trades[place] for place in front(trades)]
    assert hypervolume(chosen, 100, 0.3) == pytest.approx(before)
    chance.shuffle(trades)  # type: ignore[attr-defined]
    scaled = [(factor * cost, accuracy) for cost, accuracy in trades]
    assert hypervolume(scaled, 100 * factor, 0.3) == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("trade", [(0, 0.5), (-1, 0.5), (math.nan, 0.5), (math.inf, 0.5), (1, math.nan)])
def test_what_is_no_cost_or_accuracy_is_refused(trade: tuple[float, float]) -> None:
    with pytest.raises(MilliwiseError, match="above 0"):
        hypervolume([trade], 1, 0)
