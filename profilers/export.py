"""Export a finished run: write the network, verify it, measure it on the profile's target, keep the figures in it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from exporters.adaptive_bundle import require_bundle_place
from exporters.images import ImageVerification, images_to_onnx, verify_images
from exporters.onnx import IR_VERSION, OPSET, to_onnx, with_properties
from exporters.verify import Verification, verify
from profilers.check import Check, require_same_machine
from profilers.clock import CHECK_CALLS
from profilers.export_adaptive import export_adaptive, export_bundle
from profilers.listener_metadata import image_properties, listener_metadata
from profilers.measured_file import measured_on, why_not_measured
from profilers.target import LocalTarget
from toolkit.budget import OWN, Budget, show
from toolkit.costs import price, price_modes
from toolkit.errors import MilliwiseError
from toolkit.features import front_end_of
from toolkit.files import require_writable, write_file
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, load_selected
from toolkit.spaces import Space, built_in_space, find_space

PROFILE_NAME = "profile.json"


def export_run(
    folder: Path,
    output: Path,
    *,
    control: str | None = None,
    opset: int = OPSET,
    ir: int = IR_VERSION,
    space: str | None = None,
    on: str | None = None,
    calls: int = CHECK_CALLS,
) -> dict[str, Any]:
    """Write the network a search chose: a listener, or what sees images.

    Args:
        folder: the run folder, with the device profile of the search in it.
        control: how the network is chosen while it runs: `static`, or of an adaptive run `if`, its default, or `bundle`
            (then `output` is a folder).
        space: the search space of the run, where that is none of milliwise's own: the file or module of the user's.
        on: target to measure on instead of the profile's.
        calls: in the measurement.

    Returns:
        The JSON keys of `milliwise export`. `budget_kept` is None, and `reason` says why, when the target could not be
        reached, or the budget is a makespan: workers share edges, not a file.

    Raises:
        MilliwiseError: the run is damaged, or of an own space that is not named; the network neither hears nor sees;
            the export fails a check; or the profile is of another machine.
    """
    own = None if space is None else find_space(space)
    selected, profile = _opened(folder, own)
    Budget.parse(str(selected.facts.get("budget")))  # a damaged one is refused before anything else is looked at
    (require_bundle_place if control == "bundle" else require_writable)(output)
    if (on or profile.target) == "local":
        require_same_machine(profile, LocalTarget())
    if selected.adaptive is None and control not in (None, "static"):
        raise MilliwiseError(f"run {folder} has one network: --control {control} is for what --strategy sanas finds")
    if selected.adaptive is not None and control == "bundle":
        return export_bundle(selected, selected.adaptive, profile, output, opset=opset, ir=ir)
    if selected.adaptive is not None and control != "static":
        return export_adaptive(selected, selected.adaptive, profile, output, opset=opset, ir=ir, on=on, calls=calls)
    return _export_static(selected, profile, own, output, opset=opset, ir=ir, on=on, calls=calls)


def _export_static(
    selected: Selected, profile: DeviceProfile, own: Space | None, output: Path, *,
    opset: int, ir: int, on: str | None, calls: int,
) -> dict[str, Any]:  # fmt: skip
    network, budget = selected.network, Budget.parse(str(selected.facts["budget"]))
    predicted_ms = _predicted_ms(selected, profile)
    space = own or built_in_space(selected.facts["space"], "the run")
    sees, shape = space.sees, space.shape(selected.hop_ms)
    if not sees:
        front_end_of(network.stem, selected.facts["space"])
    model = (images_to_onnx if sees else to_onnx)(network, shape, opset, ir)
    checked: list[Check | None] = []
    verified: list[Verification | ImageVerification] = []

    def described(measured: Check | None) -> bytes:
        if sees:
            return with_properties(model, image_properties(selected, measured, profile, predicted_ms))
        found = listener_metadata(selected, model, measured, profile, predicted_ms)
        return with_properties(model, found.to_properties())

    def write(aside: Path) -> None:
        """Verify first: measuring takes longer, and writes its figures into the same file."""
        aside.write_bytes(described(None))
        verified.append((verify_images if sees else verify)(aside, network))
        checked.append(_measured(aside.read_bytes(), budget, selected, profile, on, calls))
        aside.write_bytes(described(checked[0]))

    write_file(output, write)
    measured = checked[0]
    return {
        "model": str(output),
        "bytes": output.stat().st_size,
        "max_abs_diff": verified[0].max_abs_diff,
        "verified": asdict(verified[0]),
        "predicted_ms": predicted_ms,
        "measured_p50_ms": measured and measured.p50_ms,
        "measured_p95_ms": measured and measured.p95_ms,
        "measured": measured and measured.facts(),
        "budget": str(budget),
        "budget_kept": _is_kept(budget, selected, profile, measured, own),
        "reason": _why_not_told(budget, selected, profile, measured),
    }


def _opened(folder: Path, space: Space | None) -> tuple[Selected, DeviceProfile]:
    """What a search chose and the device profile it used.

    Raises:
        MilliwiseError: one of them is damaged, or they differ in their hop.
    """
    selected, profile = load_selected(folder, space), DeviceProfile.load(Path(folder) / PROFILE_NAME)
    if profile.hop_ms != selected.hop_ms:
        raise MilliwiseError(
            f"run {folder} has a hop of {selected.hop_ms} ms, its profile {profile.hop_ms}: search again"
        )
    return selected, profile


def _is_kept(
    budget: Budget, selected: Selected, profile: DeviceProfile, measured: Check | None, own: Space | None
) -> bool | None:
    """As measured, for a budget of time; as counted, for another; None where neither is of the file."""
    if budget.metric == "makespan_ms":
        return None
    if budget.metric == OWN:
        return _was_kept(selected)
    if budget.metric == "latency_ms" and budget.statistic == "mean":
        return None if measured is None else measured.p50_ms <= budget.limit
    if budget.metric == "latency_ms":
        return None if measured is None else measured.kept
    space = own or built_in_space(selected.facts["space"], "the run")
    graph = space.build(hop_ms=profile.hop_ms).graph
    if budget.statistic == "mean":  # the controller is gone; the front-end is billed if the search did
        prices = selected.facts.get("prices")
        network_only = isinstance(prices, dict) and prices.get("network_only") is True
        return price_modes(graph, profile, front_end=not network_only)(selected.architecture) <= budget.limit
    return price(graph, profile, budget)(selected.architecture) <= budget.limit


def _was_kept(selected: Selected) -> bool:
    """Whether the search found so: an own cost may be a program, and no file may have one run."""
    rows = selected.facts.get("pareto")
    found = rows if isinstance(rows, list) else []
    return any(isinstance(row, dict) and row.get("chosen") is True and row.get("fits") is True for row in found)


def _why_not_told(budget: Budget, selected: Selected, profile: DeviceProfile, measured: Check | None) -> str | None:
    """Why nobody knows whether the file keeps the budget, if nobody does."""
    if budget.metric == "makespan_ms":
        before = selected.facts.get("measured")
        found = before.get("makespan_ms") if isinstance(before, dict) else None
        searched = f"{show(budget.metric, found)} in the search" if isinstance(found, int | float) else "not measured"
        return (
            f"this file is run as a whole, and {budget} is of its network when {budget.workers} workers share its "
            f"edges ({searched})"
        )
    return why_not_measured(profile) if measured is None and budget.metric == "latency_ms" else None


def _predicted_ms(selected: Selected, profile: DeviceProfile) -> float:
    statistic = Budget.parse(str(selected.facts["budget"])).statistic or "p95"
    statistic = "p50" if statistic == "mean" else statistic  # of a network that does not change
    graph = selected.network.graph
    return profile.paced_ms(graph, graph.full, statistic)


def _measured(
    content: bytes, budget: Budget, selected: Selected, profile: DeviceProfile, on: str | None, calls: int
) -> Check | None:
    """Measured; and where this and the search's own measurement of the network disagree, a third one decides."""
    found = measured_on(content, budget, selected.hop_ms, profile, on, calls)
    before = selected.facts.get("measured") if budget.metric == "latency_ms" else None
    if found is None or found.kept or not (isinstance(before, dict) and before.get("kept") is True):
        return found
    third = measured_on(content, budget, selected.hop_ms, profile, on, calls)
    if third is None:
        return found
    return replace(third, attempts=found.attempts + third.attempts, first_upper_ms=found.upper_ms)
