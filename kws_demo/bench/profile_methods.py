"""The known ways to predict a network's latency from its edges, side by side on the same measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from profilers.latency import Fitted, fit, priors, relative_line, spearman
from profilers.measured import Measured
from profilers.plan import EMPTY
from toolkit.graph import Architecture

OURS = "whole networks around edges in context"  # what a profile predicts with
FEW = 5  # whole networks that a line is fitted on
Predict = Callable[[Architecture], float]


@dataclass(frozen=True)
class Judged:
    """How far predictions are from what was measured: fractions, and a rank correlation."""

    mape: float
    within_5: float
    within_10: float
    spearman: float


def judged(predicted: Sequence[float], measured: Sequence[float]) -> Judged:
    """Of networks, in the same order; at least one."""
    errors = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    within_5, within_10 = (float((errors <= limit).mean()) for limit in (0.05, 0.10))
    return Judged(float(errors.mean()), within_5, within_10, spearman(predicted, measured))


def methods(found: Measured, model: Fitted) -> dict[str, Predict]:
    """Each method as a function of the live edges."""
    times = {name: time.ms for name, time in found.session.times.items()}
    work, empty_ms = found.plan.work, times[EMPTY]
    busy = [name for name, item in work.items() if item.computes]
    alone = {name: times[f"{work[name].same_as} x1"] for name in busy}
    beside = priors(work, times, empty_ms)

    def isolated(live: Architecture) -> float:
        return sum(alone.get(name, 0.0) for name in live)

    def without_empty(live: Architecture) -> float:
        return empty_ms + sum(max(0.0, alone[name] - empty_ms) for name in live if name in alone)

    def in_context(live: Architecture) -> float:
        return empty_ms + sum(beside[name] for name in live)

    return {
        "sum of isolated edges": isolated,
        "isolated edges less the empty session": without_empty,
        "edges in context, by difference": in_context,
        f"isolated edges, line through {FEW} networks": _on_line(found, isolated),
        f"edges in context, line through {FEW} networks": _on_line(found, in_context),
        "whole networks alone, least squares": _networks_alone(found),
        OURS: lambda live: model(found.plan.network.graph, live),
    }


def _on_line(found: Measured, total: Predict) -> Predict:
    """`total` corrected by a line, fitted on a few networks of spread size."""
    networks = sorted(found.timed(found.networks.fitted), key=total)
    places = np.linspace(0, len(networks) - 1, min(FEW, len(networks))).round().astype(int)
    chosen = [networks[place] for place in places]
    line = relative_line(
        np.array([total(kept) for kept in chosen]), np.array([found.ms(found.names[kept]) for kept in chosen])
    )
    return lambda live: line(total(live))


def _networks_alone(found: Measured) -> Predict:
    """The same model with a prior that says next to nothing: every edge costs an equal part of the mean network."""
    networks = found.timed(found.networks.fitted)
    times = [found.ms(found.names[kept]) for kept in networks]
    each = float(np.mean(times)) / max(1.0, float(np.mean([len(kept) for kept in networks])))
    work = found.plan.work
    flat = {name: each if item.computes else 0.0 for name, item in work.items()}
    same_as = {name: item.same_as for name, item in work.items()}
    model = fit(found.plan.network.graph, same_as, flat, networks, times, trust=20.0)
    return lambda live: model(found.plan.network.graph, live)
