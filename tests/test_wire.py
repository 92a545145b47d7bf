"""The wire reader, against onnx's own parser as the oracle, and against arbitrary bytes."""

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_listener import model

from exporters.wire import Tensor, WireError, read_fields, read_model
from toolkit.errors import MilliwiseError

VALID = model().SerializeToString()
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
element_types = st.sampled_from(
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.INT64, "int64"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.INT32, "int32"),
    ]
)
tensors = st.tuples(element_types, st.lists(st.integers(1, 2**40), max_size=4))


@given(
    st.dictionaries(names, tensors, max_size=4),
    st.dictionaries(names, tensors, max_size=4),
    st.dictionaries(names, names),
)
def test_it_reads_what_onnx_writes(inputs: dict, outputs: dict, properties: dict) -> None:
    graph = helper.make_graph(
        [],
        "g",
        [helper.make_tensor_value_info(name, element, shape) for name, ((element, _), shape) in inputs.items()],
        [helper.make_tensor_value_info(name, element, shape) for name, ((element, _), shape) in outputs.items()],
    )
    made = helper.make_model(graph)
    helper.set_model_props(made, properties)
    read = read_model(made.SerializeToString())
    assert read.inputs == {name: Tensor(dtype, tuple(shape)) for name, ((_, dtype), shape) in inputs.items()}
    assert read.outputs == {name: Tensor(dtype, tuple(shape)) for name, ((_, dtype), shape) in outputs.items()}
    assert read.properties == properties


def test_sizes_that_are_not_fixed_are_none() -> None:
    graph = helper.make_graph(
        [], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", None, 0, -4])], []
    )
    assert read_model(helper.make_model(graph).SerializeToString()).inputs["x"].shape == (1, None, None, None, None)


@given(st.binary(max_size=200))
@example(b"\x80" * 11)
@example(b"\x0b")
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_arbitrary_bytes_raise_only_our_error(content: bytes) -> None:
    for read in (read_model, lambda each: read_fields(memoryview(each))):
        try:
            read(content)
        except MilliwiseError as error:
            assert str(error).isprintable()


@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=4))
def test_damaged_models_raise_only_our_error(place: int, patch: bytes) -> None:
    try:
        read_model(VALID[:place] + patch + VALID[place + len(patch) :])
    except MilliwiseError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("cut", range(0, len(VALID.partition(b"milliwise.")[0]), 7))
def test_a_model_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(WireError):
        read_model(VALID[:cut])


def test_what_it_counts_as_external_is_what_onnx_counts() -> None:
    made = model()
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(WireError, match="external"):
        read_model(made.SerializeToString())


def with_nodes(*nodes: onnx.NodeProto) -> bytes:
    made = model()
    for place, node in enumerate(nodes):
        made.graph.node.insert(place, node)
    return made.SerializeToString()


@pytest.mark.parametrize(
    "operator", ["Loop", "Scan", "ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "OneHot", "Upsample", "add", ""]
)
def test_operators_that_make_much_of_little_are_refused_wherever_they_are(operator: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"])
    branch = helper.make_graph([node], "branch", [], [])
    for content in (
        with_nodes(node),
        with_nodes(helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)),
    ):
        with pytest.raises(WireError, match=f"the operator '{operator}'"):
            read_model(content)


ELEMENTWISE = "Elu Erf Floor Gelu HardSwish LogSoftmax Mish Reciprocal Round Selu Shape Sigmoid Sign Softplus Sqrt Tanh"
AXES = numpy_helper.from_array(np.array([1], np.int64), "axes")
CHANNELS = numpy_helper.from_array(np.ones(4, np.float32), "channels")
BOUNDED = {
    **{name: helper.make_node(name, ["x"], ["y"]) for name in [*ELEMENTWISE.split(), "GlobalMaxPool"]},
    "DepthToSpace": helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2),
    "InstanceNormalization": helper.make_node("InstanceNormalization", ["x", "channels", "channels"], ["y"]),
    "LayerNormalization": helper.make_node("LayerNormalization", ["x", "channels"], ["y"]),
    "PRelu": helper.make_node("PRelu", ["x", "channels"], ["y"]),
    "ReduceL2": helper.make_node("ReduceL2", ["x", "axes"], ["y"]),
}


@pytest.mark.parametrize("operator", BOUNDED)
def test_what_is_allowed_makes_no_more_than_it_is_given(operator: str) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 4])
    kind, sizes = (TensorProto.INT64, [None]) if operator == "Shape" else (TensorProto.FLOAT, [None] * 4)
    made = helper.make_tensor_value_info("y", kind, sizes)
    graph = helper.make_graph([BOUNDED[operator]], "g", [given], [made], [AXES, CHANNELS])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString()
    read_model(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {"x": np.ones((1, 4, 3, 4), np.float32)})
    assert value.size <= 48


def test_the_cure_for_a_forbidden_operator_is_true() -> None:
    with pytest.raises(WireError, match=r"'Loop', which no listener may: make it of other layers$"):
        read_model(with_nodes(helper.make_node("Loop", ["x"], ["y"])))


def test_what_we_export_uses_no_other_operators() -> None:
    torch.set_num_threads(1)
    content = exported.listener_bytes(exported.listener_network(None))
    assert read_model(content).inputs["audio"] == Tensor("float32", (1, 3200))


def counting(*limits: onnx.TensorProto | None) -> bytes:
    """A Range between these constants; None is an input of the graph."""
    names = [f"limit{place}" if limit else "audio" for place, limit in enumerate(limits)]
    constants = [
        helper.make_node("Constant", [], [name], value=limit)
        for name, limit in zip(names, limits, strict=True)
        if limit
    ]
    return with_nodes(*constants, helper.make_node("Range", names, ["numbers"]))


def scalar(value: int | float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value))


def test_a_range_counts_between_small_constants() -> None:
    read_model(counting(scalar(0), scalar(65_536), scalar(-1)))
    twice = scalar(3)
    twice.int64_data.append(2**40)
    for limits in (
        [scalar(0), scalar(65_537), scalar(1)],
        [scalar(-(2**40)), scalar(0), scalar(1)],
        [scalar(0), None, scalar(1)],
        [scalar(0), scalar(1e9), scalar(1.0)],
        [scalar(0), scalar(1)],
        [scalar(0), twice, scalar(1)],
        [scalar(0), numpy_helper.from_array(np.array([2**40, 1])), scalar(1)],
    ):
        with pytest.raises(WireError, match="its Range does not count"):
            read_model(counting(*limits))


@pytest.mark.parametrize("sizes", [[2**34], [2**20, 2**20], [-1], [1] * 9, [2**62] * 8])
def test_a_tensor_of_more_values_than_bytes_is_refused(sizes: list[int]) -> None:
    made = model()
    made.graph.initializer.add(name="big", dims=sizes, data_type=TensorProto.FLOAT, raw_data=b"\0" * 16)
    with pytest.raises(WireError, match="more values than it holds bytes"):
        read_model(made.SerializeToString())


def test_graphs_nested_too_deep_are_refused() -> None:
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=graph)], "g", [], [])
    with pytest.raises(WireError, match="nested"):
        read_model(helper.make_model(graph).SerializeToString())
