"""What is checked before a listener is written: an export passes, and every kind of damage is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import exported
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from exporters.verify import Verification, signals, verify
from toolkit.errors import MilliwiseError
from toolkit.supernet import SuperNetwork

HOPS = 40


@pytest.fixture(scope="module")
def network() -> SuperNetwork:
    return exported.listener_network(2, 0.3)


@pytest.fixture(scope="module")
def content(network: SuperNetwork) -> bytes:
    return exported.listener_bytes(network)


def check(folder: Path, model: onnx.ModelProto | bytes, network: SuperNetwork) -> Verification:
    path = folder / "listener.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return verify(path, network, HOPS)


def test_an_export_passes(tmp_path: Path, network: SuperNetwork, content: bytes) -> None:
    found = check(tmp_path, content, network)
    assert 0 < found.max_abs_diff == max(found.scores, found.stream) <= 1e-5
    assert found.features <= 1e-3 and found.hops == HOPS
    assert found.initializers == len(onnx.load_from_string(content).graph.initializer)


def test_the_network_of_other_weights_is_not_this_file(tmp_path: Path, network: SuperNetwork, content: bytes) -> None:
    other = network.select(network.graph.full)
    with torch.no_grad():
        other.head.linear.bias[1] += 1e-3
    with pytest.raises(MilliwiseError, match=r"head\.bias differs"):
        check(tmp_path, content, other.eval())
    with pytest.raises(MilliwiseError, match="initialiser"):
        check(tmp_path, content, exported.listener_network(5, 0.3))


def first_conv(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "Conv")


def change_a_weight(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += 1e-4
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def add_an_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "stowaway"))


def rename_an_initialiser(model: onnx.ModelProto) -> None:
    conv, tensor = first_conv(model), model.graph.initializer[0]
    conv.input[list(conv.input).index(tensor.name)] = tensor.name = "renamed"


def lose_a_state(model: onnx.ModelProto) -> None:
    output = next(item for item in model.graph.output if item.name.startswith("state_out_"))
    model.graph.output.remove(output)


def forget_a_state(model: onnx.ModelProto) -> None:
    """The new state is the old one: right for the first hop only."""
    name = next(item.name for item in model.graph.output if item.name == "state_out_audio")
    node = next(node for node in model.graph.node if name in node.output)
    node.CopyFrom(helper.make_node("Identity", ["state_in_audio"], [name]))


def skip_a_relu(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Identity"


def change_the_floor(model: onnx.ModelProto) -> None:
    """A constant of the front-end, which is no initialiser."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                array = numpy_helper.to_array(attribute.t)
                if array.shape == () and abs(float(array) - 1e-3) < 1e-9:
                    attribute.t.CopyFrom(numpy_helper.from_array(np.array(2e-3, np.float32)))
                    return
    raise AssertionError("the floor was not found")


def break_the_graph(model: onnx.ModelProto) -> None:
    first_conv(model).input[0] = "nowhere"


def use_a_custom_domain(model: onnx.ModelProto) -> None:
    first_conv(model).domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def lose_the_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (change_a_weight, "differs from the layer"),
        (add_an_initialiser, "stowaway is of no live layer"),
        (rename_an_initialiser, "initialiser"),
        (lose_a_state, "state_out_"),
        (forget_a_state, "differ"),
        (skip_a_relu, "scores differ from torch"),
        (change_the_floor, "differ from torch"),
        (break_the_graph, "not valid ONNX"),
        (use_a_custom_domain, "domain"),
        (lose_the_metadata, "no milliwise metadata"),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, network: SuperNetwork, content: bytes, tamper: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = onnx.load_from_string(content)
    tamper(model)
    with pytest.raises(MilliwiseError, match=reason):
        check(tmp_path, model, network)


def test_silence_heard_as_a_word_is_refused(tmp_path: Path, network: SuperNetwork) -> None:
    deaf = network.select(network.graph.full).eval()
    with torch.no_grad():
        deaf.head.linear.bias[2] += 5
    with pytest.raises(MilliwiseError, match="silence is heard as 'word0'"):
        check(tmp_path, exported.listener_bytes(deaf), deaf)


def test_the_signals_are_hard_and_within_full_scale() -> None:
    heard = list(signals(16_000))
    assert [signal.dtype for signal in heard] == [np.float32] * 4
    assert all(np.abs(signal).max() <= 1 and signal.shape == (16_000,) for signal in heard)
    assert not heard[0].any() and (np.abs(heard[-1]) == 1).mean() > 0.3
