"""An adaptive listener built by hand: two gates that open by loudness, each cold or warm, and a dial."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_listener import HOP, LABELS, metadata

# A gate's log-odds are 100 e + its bias, of the hop's mean energy e: `wide` opens above 0.01, `deep` above 0.04.
BIASES = (-1.0, -4.0)
MODES = [
    {"name": "off", "predicted_ms": 0.5},
    {"name": "wide cold", "predicted_ms": 3.0},
    {"name": "wide warm", "predicted_ms": 1.0},
    {"name": "deep cold", "predicted_ms": 8.0},
    {"name": "deep warm", "predicted_ms": 2.0},
    {"name": "wide cold+deep cold", "predicted_ms": 10.5},
    {"name": "wide warm+deep cold", "predicted_ms": 8.5},
    {"name": "wide cold+deep warm", "predicted_ms": 4.5},
    {"name": "wide warm+deep warm", "predicted_ms": 2.5},
]
STATES = {"energy": (1, 2), "dial": (1, 2), "warm": (1, 2)}


def properties(modes: list[dict[str, Any]] | None = None) -> dict[str, str]:
    """Its metadata."""
    states = {name: {"shape": list(shape), "dtype": "float32"} for name, shape in STATES.items()}
    return metadata(states=states, modes=MODES if modes is None else modes).to_properties()


def adaptive(modes: list[dict[str, Any]] | None = None) -> onnx.ModelProto:
    """The tiny listener with gates, whose modes are counted as an exported one counts them."""
    nodes = [
        helper.make_node("Mul", ["audio", "audio"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["e"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["state_in_energy", "e"], ["ring"], axis=1),
        helper.make_node("Slice", ["ring", "one", "end", "one"], ["state_out_energy"]),
        helper.make_node("ReduceMean", ["ring"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        helper.make_node("Mul", ["e", "hundred"], ["loud"]),
        helper.make_node("Add", ["loud", "biases"], ["odds"]),
        helper.make_node("Greater", ["odds", "state_in_dial"], ["opened"]),
        helper.make_node("Identity", ["state_in_dial"], ["state_out_dial"]),
        helper.make_node("Cast", ["opened"], ["state_out_warm"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["state_out_warm", "two"], ["open2"]),  # a digit of 0 shut, 2 cold, 3 warm
        helper.make_node("Mul", ["state_out_warm", "state_in_warm"], ["both"]),
        helper.make_node("Add", ["open2", "both"], ["digits"]),
        helper.make_node("MatMul", ["digits", "places"], ["row"]),
        helper.make_node("Cast", ["row"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["found"], axis=0),
        helper.make_node("Reshape", ["found", "one"], ["mode"]),
    ]
    table = {0: 0, 2: 1, 3: 2, 8: 3, 12: 4, 10: 5, 11: 6, 14: 7, 15: 8}
    constants = {
        "one": np.array([1]),
        "end": np.array([3]),
        "gain": np.array([[0, 0, 200]], np.float32),
        "bias": np.array([[2, -4, -2]], np.float32),
        "hundred": np.array(100, np.float32),
        "biases": np.array([BIASES], np.float32),
        "two": np.array(2, np.float32),
        "places": np.array([[1], [4]], np.float32),
        "table": np.array([table.get(place, 0) for place in range(16)]),
    }
    inputs = {"audio": (1, HOP), **{f"state_in_{name}": shape for name, shape in STATES.items()}}
    outputs = {"scores": (1, len(LABELS)), **{f"state_out_{name}": shape for name, shape in STATES.items()}}
    graph = helper.make_graph(
        nodes,
        "adaptive",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()),
            helper.make_tensor_value_info("mode", TensorProto.INT64, (1,)),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, properties(modes))
    return made
