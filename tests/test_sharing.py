"""What workers of one network cost each other is found in runs of its list schedules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from profilers.makespan import with_sharing
from profilers.parallel import Run
from toolkit.makespan import HEAD, Operation, OperationCost, ParallelModel, Plan

BRANCHES = (Operation("a", (0,)), Operation("b", (0,)), Operation(HEAD, (1, 2)))
SHARED = Plan(BRANCHES, (0, 1, 0))


def model(surplus_ms: float, passing_ms: float = 0.0) -> ParallelModel:
    """Two branches of 1 ms, and what they take longer beside each other; `unused` hands its value on."""
    costs = {name: OperationCost(1.0, 1.0 + surplus_ms, 0.0) for name in ("a", "b", HEAD)}
    return ParallelModel(2, 0.0, 0.0, costs | {"unused": OperationCost(passing_ms, passing_ms, 0.0, passes=True)})


def runs(makespans_ms: Sequence[float]) -> list[Run]:
    return [Run(SHARED, makespan_ms, [0.0] * 3, [0.0] * 3) for makespan_ms in makespans_ms]


@pytest.mark.parametrize("surplus_ms", [0.0, 0.25, 2.0])
def test_the_surplus_is_found_again(surplus_ms: float) -> None:
    """By hand: both branches run at once for 1 ms + surplus, then the head alone for 1 ms."""
    found = with_sharing(model(0.0), runs([2.0 + surplus_ms]))
    assert found.ends_ms(SHARED)[-1] == pytest.approx(2.0 + surplus_ms, abs=1e-4)
    assert found.costs["a"].beside_ms == pytest.approx(1.0 + surplus_ms, abs=1e-4)
    assert found.costs["a"].alone_ms == 1.0, "alone, nothing is shared"
    assert found.costs["unused"] == model(0.0).costs["unused"], "what is no operation takes no time"


def test_the_median_run_decides() -> None:
    assert with_sharing(model(0.0), runs([2.5, 2.5, 40.0])).ends_ms(SHARED)[-1] == pytest.approx(2.5, abs=1e-3)


def test_a_model_that_promises_too_little_already_stays() -> None:
    found = with_sharing(model(1.0), runs([1.5]))
    assert found.costs["a"].beside_ms == pytest.approx(2.0, abs=1e-4)
