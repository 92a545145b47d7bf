"""The default strategy with one of its improvements left out, each by a name: what it is worth is the difference."""

from __future__ import annotations

from typing import Any, ClassVar

from toolkit.costs import Price
from toolkit.strategies.bsn import BudgetedSuperNetwork


class _LeftOut(BudgetedSuperNetwork):
    """See `BudgetedSuperNetwork`; the arguments that it has beside these are of the class."""

    without: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, price: Price, limit: float, seed: int = 0, penalty: float | None = None, warm_up: float = 0.3
    ) -> None:
        given = {} if penalty is None else {"penalty": penalty}
        super().__init__(price, limit, seed, warm_up=warm_up, **{**self.without, **given})


class FixedPenalty(_LeftOut):
    """A penalty that stays, as published: without dual ascent on λ."""

    without: ClassVar[dict[str, Any]] = {"penalty": 1.0}


class IndependentEdges(_LeftOut):
    """Decisions at a node are independent, as published: many samples join nothing, or have dead ends.

    So the warm-up cannot draw networks as dear as the limit, either: it trains those of any density. Nor is there a
    density of which samples cost the limit on average, for those that join nothing are dear: it begins with dense ones.
    """

    without: ClassVar[dict[str, Any]] = {"connected": False, "initial": 0.5}


class DenseStart(_LeftOut):
    """Dense networks are drawn at first, whatever the limit is."""

    without: ClassVar[dict[str, Any]] = {"initial": 0.5}


class FreeFromTheStart(_LeftOut):
    """Nothing holds what is drawn near what was drawn at first."""

    without: ClassVar[dict[str, Any]] = {"temperature": 0.0}


class FewCosts(_LeftOut):
    """The gradient of the cost is of the few networks that are trained, as published, not of many more."""

    without: ClassVar[dict[str, Any]] = {"cost_samples": 0}


class PerExample(_LeftOut):
    """One architecture for every example, as published, so that absent edges are computed and masked."""

    of_examples = True
