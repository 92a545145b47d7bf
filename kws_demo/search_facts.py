"""What `run.json` tells of a finished search of a network that does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kws_demo.candidate import Candidate
from kws_demo.settings import Settings
from kws_demo.task import Task
from toolkit.budget import Budget, show
from toolkit.costs import ACCOUNTING, Price
from toolkit.supernet import SuperNetwork


def search_facts(
    settings: Settings,
    space: str,
    price: Price,
    task: Task,
    candidates: Sequence[Candidate],
    winner: Candidate,
    network: SuperNetwork,
) -> dict[str, Any]:
    """As JSON; the winner's network is judged for it, on the test part for the only time.

    Args:
        space: its name.
        price: of what is budgeted.
        network: of the winner alone, trained.
    """
    validated, tested = (task.judge(network, part) for part in ("validation", "test"))
    budget = Budget.parse(settings.budget)
    return {
        "space": space,
        "seed": settings.seed,
        "strategy": settings.strategy,
        "budget": str(budget),
        "arguments": asdict(settings),
        "data": task.description,
        "predicted_ms": winner.predicted_ms,
        "measured": winner.check,
        "cost": show(budget.metric, price(winner.kept)),
        "made_by_hand": price.graph.known_as(winner.kept),
        **({} if price.of_edges is None else {"edge_costs": dict(price.of_edges)}),
        "accounting": ACCOUNTING,
        "accuracy": {
            "validation": validated.share,
            "validation_error": validated.error,
            "test": tested.share,
            "test_error": tested.error,
            "test_clips": tested.clips,
            "between_words": tested.between_words,
            "confusion": tested.confusion.tolist(),
        },
        "pareto": [{**candidate.facts(), "cost": price(candidate.kept)} for candidate in candidates],
    }
