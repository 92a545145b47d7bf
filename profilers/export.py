"""Export a finished run: write the listener, verify it, measure it on the profile's target, keep the figures in it."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import torch

from exporters.metadata import ListenerMetadata, default_decision
from exporters.onnx import IR_VERSION, MIN_ONNXRUNTIME, OPSET, state_shapes, to_onnx, with_properties
from exporters.verify import Verification, verify
from profilers.check import Check, check_budget, require_same_machine
from profilers.clock import CHECK_CALLS
from profilers.device import identity
from profilers.target import LocalTarget, parse_target
from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.errors import MilliwiseError, Unreachable
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
    opset: int = OPSET,
    ir: int = IR_VERSION,
    space: str | None = None,
    on: str | None = None,
    calls: int = CHECK_CALLS,
) -> dict[str, Any]:
    """Write the listener a search chose.

    Args:
        folder: the run folder, with the device profile of the search in it.
        space: the search space of the run, where that is none of milliwise's own: the file or module of the user's.
        on: target to measure on instead of the profile's.
        calls: in the measurement.

    Returns:
        The JSON keys of `milliwise export`. `budget_kept` is None when the target could not be reached.

    Raises:
        MilliwiseError: the run is damaged, or of an own space that is not named; the network does not hear audio; the
            export fails a check; or the profile is of another machine.
    """
    own = None if space is None else find_space(space)
    selected, profile = _opened(folder, own)
    budget = Budget.parse(str(selected.facts.get("budget")))
    require_writable(output)
    if (on or profile.target) == "local":
        require_same_machine(profile, LocalTarget())
    network = selected.network
    rate_hz = front_end_of(network.stem, selected.facts["space"]).rate_hz
    model = to_onnx(network, (1, selected.hop_ms * rate_hz // 1000), opset, ir)
    checked: list[Check | None] = []
    verified: list[Verification] = []

    def write(aside: Path) -> None:
        """Verify first: measuring takes longer, and writes its figures into the same file."""
        aside.write_bytes(with_properties(model, _metadata(selected, model, None, profile).to_properties()))
        verified.append(verify(aside, network))
        checked.append(_measured(aside.read_bytes(), budget, selected, profile, on, calls))
        aside.write_bytes(with_properties(model, _metadata(selected, model, checked[0], profile).to_properties()))

    write_file(output, write)
    measured = checked[0]
    return {
        "model": str(output),
        "bytes": output.stat().st_size,
        "max_abs_diff": verified[0].max_abs_diff,
        "verified": asdict(verified[0]),
        "predicted_ms": _predicted_ms(selected, profile),
        "measured_p50_ms": measured and measured.p50_ms,
        "measured_p95_ms": measured and measured.p95_ms,
        "measured": measured and measured.facts(),
        "budget": str(budget),
        "budget_kept": _is_kept(budget, selected, profile, measured, own),
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
    """As measured, for a budget of time; as counted, for another."""
    if budget.metric == "latency_ms":
        return None if measured is None else measured.kept
    space = own or built_in_space(selected.facts["space"], "the run")
    graph = space.build(hop_ms=profile.hop_ms).graph
    return price(graph, profile, budget)(selected.architecture) <= budget.limit


def _predicted_ms(selected: Selected, profile: DeviceProfile) -> float:
    statistic = Budget.parse(str(selected.facts["budget"])).statistic or "p95"
    graph = selected.network.graph
    return profile.paced_ms(graph, graph.full, statistic)


def _measured(
    content: bytes, budget: Budget, selected: Selected, profile: DeviceProfile, on: str | None, calls: int
) -> Check | None:
    """Measured; and where this and the search's own measurement of the network disagree, a third one decides."""
    found = _measure(content, budget, selected.hop_ms, profile, on, calls)
    before = selected.facts.get("measured")
    if found is None or found.kept or not (isinstance(before, dict) and before.get("kept") is True):
        return found
    third = _measure(content, budget, selected.hop_ms, profile, on, calls)
    if third is None:
        return found
    return replace(third, attempts=found.attempts + third.attempts, first_upper_ms=found.upper_ms)


def _measure(
    content: bytes, budget: Budget, hop_ms: int, profile: DeviceProfile, on: str | None, calls: int
) -> Check | None:
    """Paced latency on the target, also when the budget is not one of time; None when it cannot be reached."""
    limit = budget if budget.metric == "latency_ms" else Budget.parse(f"{hop_ms} ms")
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


def _metadata(
    selected: Selected,
    model: onnx.ModelProto,
    measured: Check | None,
    profile: DeviceProfile,
) -> ListenerMetadata:
    front_end = front_end_of(selected.network.stem, selected.facts["space"])
    times = None
    if measured is not None:
        times = {
            "p50": measured.p50_ms,
            "p95": measured.p95_ms,
            "p99": measured.p99_ms,
            "hop_ms": float(measured.hop_ms),
        }
    return ListenerMetadata(
        labels=list(selected.labels),
        hop_samples=selected.hop_ms * front_end.rate_hz // 1000,
        states=state_shapes(model),
        front_end=front_end.describe(),
        front_end_sha256=front_end.sha256(),
        sample_rate_hz=front_end.rate_hz,
        decision=selected.facts.get("decision", default_decision(selected.hop_ms)),  # refused below if it is none
        budget=str(selected.facts["budget"]),
        predicted_ms=_predicted_ms(selected, profile),
        measured_ms=times,
        device={
            **profile.fingerprint,
            "target": profile.target,
            "threads": profile.threads,
            "identity": identity(profile.fingerprint),
        },
        versions={
            "milliwise": _own_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        seed=selected.facts.get("seed", 0),
        min_onnxruntime=MIN_ONNXRUNTIME,
    )


def _own_version() -> str:
    from importlib.metadata import version

    return version("milliwise")
