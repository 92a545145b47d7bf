"""Export a finished run: write the listener, verify it, measure it on the profile's target, keep the figures in it."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import torch

from exporters.metadata import DEFAULT_DECISION, ListenerMetadata
from exporters.onnx import IR_VERSION, MIN_ONNXRUNTIME, OPSET, state_shapes, to_onnx, with_properties
from exporters.verify import verify
from profilers.check import Check, check_budget, require_same_machine
from profilers.clock import CHECK_CALLS
from profilers.device import identity
from profilers.target import parse_target
from toolkit.budget import Budget
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.files import write_file
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, load_selected

PROFILE_NAME = "profile.json"


def export_run(
    folder: Path,
    output: Path,
    *,
    opset: int = OPSET,
    ir: int = IR_VERSION,
    on: str | None = None,
    calls: int = CHECK_CALLS,
) -> dict[str, Any]:
    """Write the listener a search chose.

    Args:
        folder: the run folder, with the device profile of the search in it.
        on: target to measure on instead of the profile's.
        calls: in the measurement.

    Returns:
        The JSON keys of `milliwise export`. `budget_kept` is None when the target could not be reached.

    Raises:
        MilliwiseError: the run is damaged, the export fails a check, or the profile is of another machine.
    """
    selected = load_selected(folder)
    profile = DeviceProfile.load(Path(folder) / PROFILE_NAME)
    budget = Budget.parse(str(selected.facts["budget"]))
    if on in (None, "local") and profile.target == "local":
        require_same_machine(profile)
    network = selected.network
    assert isinstance(network.stem, LogMel)
    hop_samples = selected.hop_ms * network.stem.spec.rate_hz // 1000
    model = to_onnx(network, (1, hop_samples), opset, ir)
    predicted_ms = profile.paced_ms(network.graph, network.graph.full)
    measured = _measure(with_properties(model, {}), budget, selected.hop_ms, profile, on, calls)
    metadata = _metadata(selected, model, budget, predicted_ms, measured, profile)
    content = with_properties(model, metadata.to_properties())
    verified = []

    def write(aside: Path) -> None:
        aside.write_bytes(content)
        verified.append(verify(aside, network))

    write_file(output, write)
    return {
        "model": str(output),
        "bytes": len(content),
        "max_abs_diff": verified[0].max_abs_diff,
        "verified": asdict(verified[0]),
        "predicted_ms": predicted_ms,
        "measured_p50_ms": measured and measured.p50_ms,
        "measured_p95_ms": measured and measured.p95_ms,
        "measured": measured and measured.facts(),
        "budget": str(budget),
        "budget_kept": measured and (measured.kept if budget.metric == "latency_ms" else True),
    }


def _measure(
    content: bytes, budget: Budget, hop_ms: int, profile: DeviceProfile, on: str | None, calls: int
) -> Check | None:
    """Paced latency on the target; None when it cannot be reached."""
    limit = budget if budget.metric == "latency_ms" else Budget.parse(f"{hop_ms} ms")
    try:
        target = parse_target(on or profile.target)
        return check_budget(
            content,
            limit,
            target,
            hop_ms=hop_ms,
            calls=calls,
            threads=profile.threads,
            profile=profile,
            title="measuring the exported file",
        )
    except MilliwiseError:
        if on is None and profile.target != "local":
            return None
        raise


def _metadata(
    selected: Selected,
    model: onnx.ModelProto,
    budget: Budget,
    predicted_ms: float,
    measured: Check | None,
    profile: DeviceProfile,
) -> ListenerMetadata:
    stem = selected.network.stem
    assert isinstance(stem, LogMel)
    times = None
    if measured is not None:
        times = {
            "p50": measured.p50_ms,
            "p95": measured.p95_ms,
            "p99": measured.p99_ms,
            "hop_ms": float(measured.hop_ms),
        }
    hops_averaged = int(DEFAULT_DECISION["average_ms"] // selected.hop_ms) + 1  # no more results fall into the average
    decision = {**DEFAULT_DECISION, "minimum_count": min(DEFAULT_DECISION["minimum_count"], hops_averaged)}
    return ListenerMetadata(
        labels=list(selected.labels),
        hop_samples=selected.hop_ms * stem.spec.rate_hz // 1000,
        states=state_shapes(model),
        front_end=stem.spec.describe(),
        front_end_sha256=stem.spec.sha256(),
        sample_rate_hz=stem.spec.rate_hz,
        decision=decision,
        budget=str(budget),
        predicted_ms=predicted_ms,
        measured_ms=times,
        device={"target": profile.target, "identity": identity(profile.fingerprint), **profile.fingerprint},
        versions={
            "milliwise": _own_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        seed=int(selected.facts.get("seed", 0)),
        min_onnxruntime=MIN_ONNXRUNTIME,
    )


def _own_version() -> str:
    from importlib.metadata import version

    return version("milliwise")
