"""A listener small enough to check by hand, built without torch: it hears loudness, and remembers it in one state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.metadata import ListenerMetadata

LABELS = ["_silence_", "_unknown_", "loud"]
HOP = 3200
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def metadata(**changes: Any) -> ListenerMetadata:
    """Valid metadata of the tiny listener, with changes."""
    values: dict[str, Any] = {
        "labels": LABELS,
        "hop_samples": HOP,
        "states": {"energy": {"shape": [1, 2], "dtype": "float32"}},
        "front_end": {"kind": "energy"},
        "front_end_sha256": "0" * 64,
        "budget": "2 ms",
        "predicted_ms": 0.4,
        "measured_ms": {"p50": 0.3, "p95": 0.4, "p99": 0.5, "hop_ms": 200},
    }
    return ListenerMetadata(**{**values, **changes})


def model(
    properties: dict[str, str] | None = None, mode: bool = False, state: tuple[Any, ...] = (1, 2)
) -> onnx.ModelProto:
    """The mean energy of this hop and of the two before decides: p(loud) = softmax([2, -4, 200 e - 2])."""
    nodes = [
        helper.make_node("Mul", ["audio", "audio"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["e"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["state_in_energy", "e"], ["ring"], axis=1),
        helper.make_node("Slice", ["ring", "one", "end", "one"], ["state_out_energy"]),
        helper.make_node("ReduceMean", ["ring"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    constants = {
        "one": np.array([1]),
        "end": np.array([3]),
        "gain": np.array([[0, 0, 200]], np.float32),
        "bias": np.array([[2, -4, -2]], np.float32),
    }
    outputs = [("scores", FLOAT, (1, 3)), ("state_out_energy", FLOAT, state)]
    if mode:
        nodes += [
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
            helper.make_node("Min", ["best", "one"], ["mode"]),
        ]
        outputs.append(("mode", INT64, (1,)))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(*each)
            for each in (("audio", FLOAT, (1, HOP)), ("state_in_energy", FLOAT, state))
        ],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, metadata().to_properties() if properties is None else properties)
    return made


def write(path: Path, made: onnx.ModelProto | None = None) -> Path:
    """Save a model (the valid tiny one) and return its path."""
    path.write_bytes((made or model()).SerializeToString())
    return path


def tone(seconds: float, loud: list[tuple[float, float]], amplitude: float = 0.5) -> np.ndarray:
    """Silence of so many seconds, with a 440 Hz tone in each (start, end): float32 at 16 kHz."""
    time = np.arange(round(seconds * 16000)) / 16000
    heard = np.any([(start <= time) & (time < end) for start, end in loud], axis=0) if loud else np.zeros(len(time))
    return (amplitude * np.sin(2 * np.pi * 440 * time) * heard).astype(np.float32)
