"""The wire reader, against onnx's own parser as the oracle, and against arbitrary bytes."""

import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper
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


def test_graphs_nested_too_deep_are_refused() -> None:
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=graph)], "g", [], [])
    with pytest.raises(WireError, match="nested"):
        read_model(helper.make_model(graph).SerializeToString())
