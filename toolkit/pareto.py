"""What trades cost against accuracy: the Pareto front, and how much it dominates as one number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from toolkit.errors import MilliwiseError

Trade = tuple[float, float]
"""Cost (any unit, lower is better) and accuracy (a share, higher is better)."""


def front(trades: Sequence[Trade]) -> list[int]:
    """The places of those that no cheaper or equally cheap one matches in accuracy, from cheap to dear.

    As in the thesis of BSN: sorted by cost, one is kept if its accuracy strictly exceeds the best so far.

    >>> front([(3, 0.9), (1, 0.5), (2, 0.5), (1, 0.6)])
    [3, 0]
    """
    kept: list[int] = []
    for place in sorted(range(len(trades)), key=lambda place: (trades[place][0], -trades[place][1])):
        if not kept or trades[place][1] > trades[kept[-1]][1]:
            kept.append(place)
    return kept


def hypervolume(trades: Sequence[Trade], reference_cost: float, reference_accuracy: float) -> float:
    """The area between the front and a reference that is dearer and worse: accuracy × log2 of cost.

    Costs count by their logarithm, as budgets are chosen: 0.01 more accuracy within half the cost of the reference, and
    so within all of that last halving, adds 0.01. What is not better than the reference in both adds nothing.

    Raises:
        MilliwiseError: a cost or the reference cost is not above zero, or something is not finite.

    >>> hypervolume([(1, 0.5), (2, 0.75)], reference_cost=4, reference_accuracy=0.25)
    0.75
    """
    return chosen_volume([trades[place] for place in front(trades)], reference_cost, reference_accuracy)


def chosen_volume(trades: Sequence[Trade], reference_cost: float, reference_accuracy: float) -> float:
    """The same of those that were chosen by something else, from cheap to dear: each stands until the next, dearer one.

    A dearer one that turns out worse lowers it: who would have taken that does not have the cheaper one.

    >>> chosen_volume([(1, 0.5), (2, 0.25)], reference_cost=4, reference_accuracy=0.0)
    0.75
    """
    for cost, accuracy in (*trades, (reference_cost, reference_accuracy)):
        if not (0 < cost < math.inf and math.isfinite(accuracy)):
            raise MilliwiseError(
                f"a hypervolume of cost {cost} and accuracy {accuracy}: give finite numbers, costs above 0"
            )
    ends = [min(cost, reference_cost) for cost, _accuracy in (*trades, (reference_cost, 0.0))][1:]
    return sum(
        max(0.0, accuracy - reference_accuracy) * math.log2(end / min(cost, end))
        for (cost, accuracy), end in zip(trades, ends, strict=True)
    )
