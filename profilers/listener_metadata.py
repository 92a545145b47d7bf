"""The metadata of an exported network, gathered from its run, its model and what was measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy
import onnx
import onnxruntime
import torch

from exporters.metadata import PREFIX, ListenerMetadata, default_decision
from exporters.onnx import MIN_ONNXRUNTIME, state_shapes
from profilers.check import Check
from profilers.device import identity
from toolkit.features import front_end_of
from toolkit.profile import DeviceProfile
from toolkit.run import Selected


def listener_metadata(
    selected: Selected,
    model: onnx.ModelProto,
    measured: Check | None,
    profile: DeviceProfile,
    predicted_ms: float,
    modes: Mapping[str, float] | None = None,
) -> ListenerMetadata:
    """Everything a listener's file says of itself.

    Args:
        measured: on the target; None before it was.
        predicted_ms: of a hop.
        modes: ms of a hop in each mode of an adaptive listener, in the order of its `mode` output.
    """
    front_end = front_end_of(selected.network.stem, selected.facts["space"])
    return ListenerMetadata(
        labels=list(selected.labels),
        hop_samples=selected.hop_ms * front_end.rate_hz // 1000,
        states=state_shapes(model),
        front_end=front_end.describe(),
        front_end_sha256=front_end.sha256(),
        sample_rate_hz=front_end.rate_hz,
        decision=selected.facts.get("decision", default_decision(selected.hop_ms)),  # refused below if it is none
        budget=str(selected.facts["budget"]),
        predicted_ms=predicted_ms,
        modes=[{"name": name, "predicted_ms": ms} for name, ms in (modes or {}).items()],
        measured_ms=_times(measured),
        device=_device(profile),
        versions=_versions(),
        seed=selected.facts.get("seed", 0),
        min_onnxruntime=MIN_ONNXRUNTIME,
    )


def image_properties(
    selected: Selected, measured: Check | None, profile: DeviceProfile, predicted_ms: float
) -> dict[str, str]:
    """What the file of a network of images says of itself: `milliwise.NAME` with JSON values."""
    facts = {
        "format": 1,
        "labels": list(selected.labels),
        "task": selected.facts.get("task", "classify"),
        "normalised": {"divisor": 127.5, "minus": 1},  # of bytes: the image's values are -1 to 1
        "budget": str(selected.facts["budget"]),
        "predicted_ms": predicted_ms,
        "measured_ms": _times(measured),
        "device": _device(profile),
        "versions": _versions(),
        "seed": selected.facts.get("seed", 0),
        "min_onnxruntime": MIN_ONNXRUNTIME,
        "license": "Apache-2.0",
    }
    return {PREFIX + name: json.dumps(value, allow_nan=False) for name, value in facts.items()}


def _times(measured: Check | None) -> dict[str, float] | None:
    if measured is None:
        return None
    times = {"p50": measured.p50_ms, "p95": measured.p95_ms, "p99": measured.p99_ms}
    return {**times, "hop_ms": float(measured.hop_ms)}


def _device(profile: DeviceProfile) -> dict[str, Any]:
    known = {"target": profile.target, "threads": profile.threads, "identity": identity(profile.fingerprint)}
    return {**profile.fingerprint, **known}


def _versions() -> dict[str, str]:
    return {
        "milliwise": version("milliwise"),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
