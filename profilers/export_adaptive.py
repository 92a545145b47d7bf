"""Export an adaptive run, verified hop by hop: as one file, of which the dearest mode is measured, or as a bundle."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from exporters.adaptive import to_adaptive_onnx
from exporters.adaptive_bundle import bundle_states, to_bundle, write_bundle, write_manifest
from exporters.bundle_manifest import TRUNK
from exporters.onnx import with_properties
from exporters.verify_adaptive import AdaptiveVerification, verify_adaptive
from profilers.check import Check
from profilers.listener_metadata import listener_metadata
from profilers.measured_file import measured_on, why_not_measured
from profilers.modes import ModeCosts, forced
from toolkit.adaptive import AdaptiveNetwork
from toolkit.budget import AVERAGED, Budget
from toolkit.errors import MilliwiseError
from toolkit.files import write_file
from toolkit.profile import DeviceProfile
from toolkit.run import Selected
from toolkit.spaces import SAMPLES_PER_MS


def export_adaptive(
    selected: Selected,
    adaptive: AdaptiveNetwork,
    profile: DeviceProfile,
    output: Path,
    *,
    opset: int,
    ir: int,
    on: str | None,
    calls: int,
) -> dict[str, Any]:
    """Write the adaptive listener of a run; its budget is a mean, which the search predicted of streams of people.

    Returns:
        The JSON keys of `milliwise export`; what is measured is the dearest mode, forced at every hop. Where nothing
        was, nobody says that a budget of time is kept.

    Raises:
        MilliwiseError: the run lacks figures, the export fails a check, or the target fails.
    """
    figures = _figures(selected, adaptive)
    budget, mean_ms, costs, _spent = figures
    shape = (1, selected.hop_ms * SAMPLES_PER_MS)
    model = to_adaptive_onnx(adaptive, shape, opset, ir)
    dearest = max(range(len(costs.named_ms)), key=list(costs.named_ms.values()).__getitem__)
    checked: list[Check | None] = []
    verified: list[AdaptiveVerification] = []

    def write(aside: Path) -> None:
        """Verify first: measuring takes longer, and writes its figures into the same file."""

        def described(measured: Check | None) -> bytes:
            found = listener_metadata(selected, model, measured, profile, mean_ms, costs.named_ms)
            return with_properties(model, found.to_properties())

        aside.write_bytes(described(None))
        verified.append(verify_adaptive(aside, adaptive))
        worst = to_adaptive_onnx(adaptive, shape, opset, ir, forced=forced(adaptive, dearest))
        checked.append(measured_on(with_properties(worst, {}), budget, selected.hop_ms, profile, on, calls))
        aside.write_bytes(described(checked[0]))

    write_file(output, write)
    result = _result(output, output.stat().st_size, verified[0], checked[0], figures)
    if checked[0] is None and budget.timed:
        return {**result, "budget_kept": None, "reason": why_not_measured(profile)}
    return result


def export_bundle(
    selected: Selected, adaptive: AdaptiveNetwork, profile: DeviceProfile, output: Path, *, opset: int, ir: int
) -> dict[str, Any]:
    """Write the adaptive listener of a run as a folder (see exporters/adaptive_bundle.py).

    Nothing of it is measured, because a target runs single files: what its modes cost is what they do in one file, and
    the calls of several come on top.

    Returns:
        As `export_adaptive`; what is measured is None.

    Raises:
        MilliwiseError: the run lacks figures, the export fails a check, or something else is in the folder.
    """
    figures = _figures(selected, adaptive)
    plan, models = to_bundle(adaptive, (1, selected.hop_ms * SAMPLES_PER_MS), opset, ir)
    described = listener_metadata(selected, models[TRUNK], None, profile, figures.mean_ms, figures.costs.named_ms)
    metadata = replace(described, states=bundle_states(models, len(adaptive.gated)))
    sizes: list[int] = []
    verified: list[AdaptiveVerification] = []

    def write(aside: Path) -> None:
        for name, model in models.items():
            (aside / name).write_bytes(with_properties(model, {}))
        sizes.append(write_manifest(aside, plan, metadata))
        verified.append(verify_adaptive(aside, adaptive))

    write_bundle(output, write)
    result = _result(output, sizes[0], verified[0], None, figures)
    if not figures.budget.timed:
        return result
    reason = "of several files, only what their modes cost in one file is known; milliwise stream --wav tells"
    return {**result, "budget_kept": None, "reason": reason}


class _Figures(NamedTuple):
    """Of the search; `spent` is the mean that its budget is held against, in the unit of that."""

    budget: Budget
    mean_ms: float
    costs: ModeCosts
    spent: float


def _result(
    output: Path, size_bytes: int, verified: AdaptiveVerification, measured: Check | None, figures: _Figures
) -> dict[str, Any]:
    return {
        "model": str(output),
        "bytes": size_bytes,
        "max_abs_diff": verified.max_abs_diff,
        "verified": asdict(verified),
        "predicted_ms": figures.mean_ms,
        "measured_p50_ms": measured and measured.p50_ms,
        "measured_p95_ms": measured and measured.p95_ms,
        "measured": measured and measured.facts(),
        "modes": dict(figures.costs.named_ms),
        "budget": str(figures.budget),
        "budget_kept": figures.spent <= figures.budget.limit,
    }


def _figures(selected: Selected, adaptive: AdaptiveNetwork) -> _Figures:
    facts, budget = selected.facts, Budget.parse(str(selected.facts.get("budget")))
    try:
        means = [facts["streams"][AVERAGED[metric]] for metric in ("latency_ms", budget.metric)]
        costs = ModeCosts.from_facts(facts["modes"], adaptive)
    except (KeyError, TypeError, AttributeError):
        raise MilliwiseError("the run has no figures of its modes: search again") from None
    for mean, unit in zip(means, ("ms", "ms" if budget.metric == "latency_ms" else "multiply-adds"), strict=True):
        if not isinstance(mean, float) or not 0 < mean < math.inf:
            raise MilliwiseError(f"the run says that a hop costs {str(mean)[:40]} {unit} on average: search again")
    return _Figures(budget, means[0], costs, means[1])
