"""Measure an exported file on the target of a profile, once per hop."""

from __future__ import annotations

from typing import Any

from profilers.bundle import BundleTarget
from profilers.check import Check, check_budget, require_same_machine
from profilers.target import parse_target
from toolkit.budget import Budget
from toolkit.errors import Unreachable
from toolkit.profile import DeviceProfile


def measured_on(
    content: bytes, budget: Budget, hop_ms: int, profile: DeviceProfile, on: str | None, calls: int
) -> Check | None:
    """Paced latency on the target, also when the budget is not one of time.

    Args:
        content: of the file.
        on: a target instead of the profile's.

    Returns:
        None when the profile's own target cannot be reached.

    Raises:
        MilliwiseError: the profile is of another machine, or the target fails.
    """
    timed = budget.metric == "latency_ms" and budget.statistic != "mean"
    limit = budget if timed else Budget.parse(f"{hop_ms} ms")
    options: dict[str, Any] = {"hop_ms": hop_ms, "calls": calls, "threads": profile.threads, "profile": profile}
    try:
        target = parse_target(on or profile.target)
        if target.name != "local":
            require_same_machine(profile, target)
        return check_budget(content, limit, target, title="measuring the exported file", **options)
    except Unreachable:
        if on is None:  # the profile's own: what it predicts holds, the listener is only not measured
            return None
        raise


def why_not_measured(profile: DeviceProfile) -> str:
    """Why `measured_on` has nothing to tell of the profile's own target, with the cure."""
    if isinstance(parse_target(profile.target), BundleTarget):
        return f"{profile.target} is carried by hand: copy the file to the device and run milliwise check there"
    return f"{profile.target} cannot be reached: export again when it can"
