"""Predict and measure what an architecture costs, and whether it keeps the budget; its weights do not matter."""

from __future__ import annotations

from exporters.onnx import to_onnx, with_properties
from kws_demo.candidate import Candidate
from kws_demo.task import Accuracy
from profilers.bundle import BundleTarget
from profilers.check import check_budget
from profilers.makespan_check import check_makespan
from profilers.target import Target
from toolkit import costs
from toolkit.budget import Budget
from toolkit.costs import Price
from toolkit.graph import Architecture
from toolkit.profile import DeviceProfile
from toolkit.supernet import SuperNetwork


def predicted_candidate(
    kept: Architecture, judged: Accuracy, budget: Budget, price: Price, profile: DeviceProfile, bound: bool = False
) -> Candidate:
    """An architecture with what the profile predicts of it.

    Args:
        judged: on the validation part, with the shared weights of the super-network.
        bound: predict latency at the bound that the profile calibrated, if it has one.
    """
    statistic, known = budget.statistic or "p95", profile.latency.bound is not None
    predicted_ms = profile.paced_ms(price.graph, kept, statistic)
    upper_ms = profile.paced_ms(price.graph, kept, f"{statistic}_upper", bound=bound and known)
    parameters = int(costs.price(price.graph, profile, Budget.parse("1 params"))(kept))
    makespan_ms = price(kept) if budget.metric == "makespan_ms" else None
    return Candidate(
        sorted(kept),
        predicted_ms,
        upper_ms,
        judged.share,
        parameters,
        predicted_makespan_ms=makespan_ms,
        accuracy_error=judged.error,
    )


def excess(candidate: Candidate, budget: Budget, price: Price) -> tuple[bool, float]:
    """The lower the better: measured before predicted, then the cost, in the budget's unit."""
    if not budget.timed:
        return False, price(candidate.kept)
    return candidate.found_ms is None, candidate.found_ms or candidate.asked_ms


def measure_candidate(
    candidate: Candidate,
    network: SuperNetwork,
    shape: tuple[int, ...],
    budget: Budget,
    price: Price,
    profile: DeviceProfile,
    target: Target,
    calls: int,
    title: str,
) -> None:
    """Write into a candidate what its exported `network` costs on the target; what is only counted is not measured.

    For a makespan it is not exported as a whole: the workers that the budget names really share its edges.
    Nor is anything on a device that is carried by hand: there the prediction, with its upper bound, has to do.

    Args:
        shape: of one call, batch of one included.
        calls: in the measurement.
    """
    if not budget.timed:
        candidate.fits = price(candidate.kept) <= budget.limit
        return
    if isinstance(target, BundleTarget):
        candidate.fits = candidate.asked_ms <= budget.limit
        return
    if budget.metric == "makespan_ms":
        shared = check_makespan(network, shape, price.graph, budget, profile, target, title=title)
        candidate.measured_makespan_ms = shared.makespan_ms
        candidate.measured_makespan_upper_ms = shared.makespan_upper_ms
        candidate.fits, candidate.check = shared.kept, shared.facts()
        return
    found = check_budget(
        with_properties(to_onnx(network, shape), {}),
        budget,
        target,
        hop_ms=profile.hop_ms,
        calls=calls,
        threads=profile.threads,
        profile=profile,
        title=title,
    )
    candidate.measured_p95_ms, candidate.measured_upper_ms = found.p95_ms, found.upper_ms
    candidate.fits, candidate.check = found.kept, found.facts()
