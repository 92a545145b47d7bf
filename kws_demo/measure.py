"""Measure on the target whether an architecture keeps the budget; its weights do not matter for that."""

from __future__ import annotations

from exporters.onnx import to_onnx, with_properties
from kws_demo.candidate import Candidate
from profilers.bundle import BundleTarget
from profilers.check import check_budget
from profilers.target import Target
from toolkit.budget import Budget
from toolkit.costs import Price
from toolkit.profile import DeviceProfile
from toolkit.supernet import SuperNetwork


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

    Nor is anything on a device that is carried by hand: there the prediction, with its upper bound, has to do.

    Args:
        shape: of one call, batch of one included.
        calls: in the measurement.
    """
    if budget.metric != "latency_ms":
        candidate.fits = price(candidate.kept) <= budget.limit
        return
    if isinstance(target, BundleTarget):
        candidate.fits = candidate.predicted_upper_ms <= budget.limit
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
