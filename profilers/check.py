"""Check a budget: an exported file, called once per hop in fresh processes, against its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profilers.bundle import BundleTarget
from profilers.clock import CHECK_CALLS, time_paced, upper_quantile_rank
from profilers.device import difference, fingerprint, identity
from profilers.target import Target
from toolkit.budget import Budget, show
from toolkit.errors import MilliwiseError, ProfileMismatch
from toolkit.profile import DeviceProfile, Line

SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Check:
    """Paced latency of a whole file.

    Attributes:
        upper_ms: upper 95 % confidence bound of the budget's statistic.
        kept: it is within the limit.
        attempts: measurements made; where that is not 1, `first_upper_ms` is what the first gave, which does not count.
    """

    p50_ms: float
    p95_ms: float
    p95_upper_ms: float
    p99_ms: float
    upper_ms: float
    calls: int
    hop_ms: int
    budget: str
    kept: bool
    noisy: bool
    attempts: int = 1
    first_upper_ms: float | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return dict(self.__dict__)


def check_budget(
    model: Path | bytes,
    budget: Budget,
    target: Target,
    *,
    hop_ms: int,
    calls: int = CHECK_CALLS,
    threads: int = 1,
    profile: DeviceProfile | None = None,
    title: str = "checking the budget",
) -> Check:
    """Call the file `calls` times over two fresh processes; again when the machine was busy and it was close.

    Args:
        hop_ms: how often it is called in use.
        profile: of this target; it allows to shorten the gaps between calls and to map what is measured to the hop.
            Without one every gap is a whole hop.

    Raises:
        MilliwiseError: the budget is not one of time or is a mean, or there are too few calls for its bound.
    """
    if budget.metric == "makespan_ms":
        raise MilliwiseError(
            f"a budget of {budget} is of edges that {budget.workers} workers share, and a file is run as a whole: "
            f"check '{show('latency_ms', budget.limit)}', or let milliwise search measure it"
        )
    if budget.metric != "latency_ms":
        raise MilliwiseError(f"the budget {budget} is not one of time: check takes milliseconds, such as '2 ms'")
    if budget.statistic == "mean":
        raise MilliwiseError(
            f"a budget of {budget} depends on what is heard: check a p95, or milliwise score the listener"
        )
    upper_quantile_rank(calls, SHARES[budget.statistic])  # too few calls are refused before any is made
    gap_ms = float(hop_ms) if profile is None else min(profile.latency.shortened_gap_ms, hop_ms)
    to_hop = Line(0.0, 1.0) if profile is None or gap_ms >= hop_ms else profile.latency.shortened

    def measure(title: str) -> Check:
        timing = time_paced(model, target, hop_ms=hop_ms, gap_ms=gap_ms, calls=calls, threads=threads, title=title)
        return _judge([to_hop(value) for value in timing.values_ms], budget, hop_ms, timing.noisy)

    first = measure(title)
    close = 0.75 < first.upper_ms / budget.limit < 1.33
    if not (first.noisy and close):
        return first
    # Whichever way the disturbed one went, it is dropped: repeating only failures would let chance keep the budget.
    again = measure(f"{title} again, for the machine was busy")
    return replace(again, attempts=2, first_upper_ms=first.upper_ms)


def _judge(values_ms: Sequence[float], budget: Budget, hop_ms: int, noisy: bool) -> Check:
    values, calls = sorted(values_ms), len(values_ms)
    p50, p95, p99 = (values[math.ceil(share * calls) - 1] for share in SHARES.values())
    p95_upper = values[upper_quantile_rank(calls) - 1]
    upper = values[upper_quantile_rank(calls, SHARES[budget.statistic]) - 1]
    return Check(p50, p95, p95_upper, p99, upper, calls, hop_ms, str(budget), upper <= budget.limit, noisy)


def own_target(device: Mapping[str, Any]) -> str:
    """Where a listener is measured that names the device it was made for; on that device itself, it is here."""
    target = device.get("target", "local")
    return "local" if device.get("identity") == identity(fingerprint()) else str(target)


def require_same_machine(profile: DeviceProfile, target: Target) -> None:
    """Refuse to measure on a target with the profile of another machine or runtime; a bundle measures nothing more.

    Raises:
        ProfileMismatch: the first difference, with both values.
        MilliwiseError: the target cannot be reached.
    """
    if isinstance(target, BundleTarget):
        return
    where, again = ("here", "") if target.name == "local" else (f"on {target.name}", f" --on {target.name}")
    if differs := difference(profile.fingerprint, target.fingerprint(), where):
        raise ProfileMismatch(
            f"the profile of {profile.space} is of another device: {differs}; run milliwise profile{again} again"
        )
