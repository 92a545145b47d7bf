"""Tiny hand-built ONNX models for the tests of the measuring engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper


def value(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def to_bytes(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray] | None = None) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def counter(width: int = 8) -> bytes:
    """scores = audio @ W; its state counts the calls."""
    nodes = [
        helper.make_node("MatMul", ["audio", "W"], ["scores"]),
        helper.make_node("Add", ["state_in_calls", "one"], ["state_out_calls"]),
    ]
    constants = {"W": np.eye(width, dtype=np.float32), "one": np.ones(1, np.float32)}
    inputs = [value("audio", [1, width]), value("state_in_calls", [1])]
    return to_bytes(nodes, inputs, [value("scores", [1, width]), value("state_out_calls", [1])], constants)


def endless() -> bytes:
    """A loop of 2**60 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("x", [1, 4])],
        [value("go_on", [], TensorProto.BOOL), value("y", [1, 4])],
    )
    loop = helper.make_node("Loop", ["trips", "yes", "audio"], ["scores"], body=body)
    constants = {"trips": np.array(2**60), "yes": np.array(True)}
    return to_bytes([loop], [value("audio", [1, 4])], [value("scores", [1, 4])], constants)


def copying(shape: Sequence[int | str], kind: int = TensorProto.FLOAT, name: str = "audio", out: str = "y") -> bytes:
    """An Identity with an input of any name, shape and type."""
    node = helper.make_node("Identity", [name], [out])
    return to_bytes([node], [value(name, shape, kind)], [value(out, shape, kind)])


def crashing() -> bytes:
    """The remainder of the least int64 by minus one: the processor itself refuses, and the process dies."""
    nodes = [
        helper.make_node("Add", ["audio", "least"], ["low"]),
        helper.make_node("Add", ["audio", "minus_one"], ["by"]),
        helper.make_node("Mod", ["low", "by"], ["y"]),
    ]
    constants = {"least": np.array([-(2**63)]), "minus_one": np.array([-1])}
    return to_bytes(nodes, [value("audio", [4], TensorProto.INT64)], [value("y", [4], TensorProto.INT64)], constants)
