"""The search strategies: one file each (variants of one may share a file), and a row in this table."""

from toolkit.errors import MilliwiseError
from toolkit.strategies.base import Proposal, Strategy
from toolkit.strategies.bsn import BudgetedSuperNetwork
from toolkit.strategies.bsn_ablations import (
    DenseStart,
    FewCosts,
    FixedPenalty,
    FreeFromTheStart,
    IndependentEdges,
    PerExample,
)
from toolkit.strategies.bsn_greedy import GreedyBudgetedSuperNetwork
from toolkit.strategies.bsn_published import PublishedBudgetedSuperNetwork, SampledBudgetedSuperNetwork
from toolkit.strategies.evolution import RegularisedEvolution
from toolkit.strategies.gumbel_softmax import GumbelSoftmax
from toolkit.strategies.hand_made import HandMade
from toolkit.strategies.magnitude_pruning import MagnitudePruning
from toolkit.strategies.uniform import Uniform

STRATEGIES: dict[str, type[Strategy]] = {
    "bsn": BudgetedSuperNetwork,
    "bsn-greedy": GreedyBudgetedSuperNetwork,
    "bsn-published": PublishedBudgetedSuperNetwork,
    "bsn-published-sampled": SampledBudgetedSuperNetwork,
    "bsn-fixed-penalty": FixedPenalty,
    "bsn-independent-edges": IndependentEdges,
    "bsn-dense-start": DenseStart,
    "bsn-free-from-the-start": FreeFromTheStart,
    "bsn-few-costs": FewCosts,
    "bsn-per-example": PerExample,
    "evolution": RegularisedEvolution,
    "gumbel-softmax": GumbelSoftmax,
    "magnitude-pruning": MagnitudePruning,
    "uniform": Uniform,
    "hand-made": HandMade,
}

__all__ = ["STRATEGIES", "Proposal", "Strategy", "find_strategy"]


def find_strategy(name: str) -> type[Strategy]:
    """The strategy of that name.

    Raises:
        MilliwiseError: there is none; the message lists those there are. (Adaptive networks are searched otherwise.)
    """
    if name == "sanas":
        raise MilliwiseError("sanas is of milliwise search alone, and of spaces with gates: name another strategy")
    if name not in STRATEGIES:
        raise MilliwiseError(
            f"no strategy {name!r}: choose {' or '.join(STRATEGIES)}; or, to search kws-gated and the like, sanas"
        )
    return STRATEGIES[name]
