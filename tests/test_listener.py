"""Opening listeners, hostile ones included, and running them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_listener import FLOAT, HOP, metadata, model, tone, write
from tiny_onnx import endless

from exporters import listener as listener_module
from exporters.listener import Listener, session_options
from toolkit.errors import MilliwiseError


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def far() -> onnx.TensorProto:
    return external(numpy_helper.from_array(np.zeros(3, np.float32), "far"))


def in_initialiser(made: onnx.ModelProto) -> None:
    external(made.graph.initializer[2])


def entries_without_location(made: onnx.ModelProto) -> None:
    made.graph.initializer[2].external_data.add(key="location", value="x")


def in_attribute(made: onnx.ModelProto) -> None:
    made.graph.node.insert(0, helper.make_node("Constant", [], ["far"], value=far()))


def in_subgraph(made: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Constant", [], ["far"], value=far())], "branch", [], [])
    branch.initializer.append(far())
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)], "outer", [], []
    )
    made.graph.node.append(helper.make_node("If", ["c"], [], then_branch=outer, else_branch=outer))


def sparse_initialiser(made: onnx.ModelProto) -> None:
    made.graph.sparse_initializer.add(values=made.graph.initializer[2], dims=[2**34])


def custom_opset(made: onnx.ModelProto) -> None:
    made.opset_import.append(helper.make_opsetid("evil.ops", 1))


def custom_node(made: onnx.ModelProto) -> None:
    made.graph.node[0].domain = "com.microsoft"


def function(made: onnx.ModelProto) -> None:
    made.functions.append(helper.make_function("ai.onnx", "Relu", [], [], [], [helper.make_opsetid("", 17)]))


def no_operator_set(made: onnx.ModelProto) -> None:
    del made.opset_import[:]


def no_scores(made: onnx.ModelProto) -> None:
    del made.graph.output[0]


def no_state_output(made: onnx.ModelProto) -> None:
    del made.graph.output[1]


def no_audio(made: onnx.ModelProto) -> None:
    made.graph.input[0].name = "sound"


def another_input(made: onnx.ModelProto) -> None:
    made.graph.input.append(helper.make_tensor_value_info("gain2", FLOAT, (1,)))


def undeclared_type(made: onnx.ModelProto) -> None:
    made.graph.input[1].type.tensor_type.elem_type = TensorProto.STRING


def dynamic_shape(made: onnx.ModelProto) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"


def another_hop(made: onnx.ModelProto) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1600


def unknown_operator(made: onnx.ModelProto) -> None:
    made.graph.node[0].op_type = "DoEvil"


def endless_loop(made: onnx.ModelProto) -> None:
    made.graph.node.extend(onnx.load_from_string(endless()).graph.node)


def unknown_value(made: onnx.ModelProto) -> None:
    made.graph.node[0].input[0] = "nowhere"


def added_to_the_scores(made: onnx.ModelProto, value: str) -> None:
    made.graph.node[7].output[0] = "almost"
    made.graph.node.append(helper.make_node("ReduceMean", [value], ["total"], keepdims=0))
    made.graph.node.append(helper.make_node("Add", ["almost", "total"], ["scores"]))


def doubles_what_it_hears(made: onnx.ModelProto, value: str = "e") -> None:
    for turn in range(34):
        made.graph.node.append(helper.make_node("Concat", [value, value], [f"double{turn}"], axis=1))
        value = f"double{turn}"
    added_to_the_scores(made, value)


def doubles_a_constant(made: onnx.ModelProto) -> None:
    doubles_what_it_hears(made, "bias")  # onnxruntime would compute it while it loads


def a_table_of_products(made: onnx.ModelProto) -> None:
    for name, shape in {"column": (100_000, 1), "row": (1, 100_000)}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    made.graph.node.append(helper.make_node("MatMul", ["column", "row"], ["table"]))
    added_to_the_scores(made, "table")


def not_a_number(made: onnx.ModelProto) -> None:
    made.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.full((1, 3), np.nan, np.float32), "bias"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (in_initialiser, "external data"),
        (entries_without_location, "external data"),
        (in_attribute, "external data"),
        (in_subgraph, "external data"),
        (sparse_initialiser, "sparse tensors"),
        (custom_opset, "evil.ops"),
        (custom_node, "com.microsoft"),
        (function, "functions of its own"),
        (no_operator_set, "not an ONNX file"),
        (no_scores, "'scores' is missing"),
        (no_state_output, "'state_out_energy' is missing"),
        (no_audio, "'audio' is missing"),
        (another_input, "'gain2' is not in its metadata"),
        (undeclared_type, "shapes are fixed"),
        (dynamic_shape, "shapes are fixed"),
        (another_hop, r"float32 \[1, 1600\], not float32 \[1, 3200\]"),
        (unknown_operator, "the operator 'DoEvil'"),
        (endless_loop, "the operator 'Loop'"),
        (unknown_value, "onnxruntime cannot load it"),
        (doubles_what_it_hears, "onnxruntime cannot run it"),
        (doubles_a_constant, "onnxruntime cannot run it"),
        (a_table_of_products, "onnxruntime cannot run it"),
        (not_a_number, "not finite"),
    ],
)
def test_a_spoilt_listener_is_refused_in_one_line(
    spoil: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = model()
    spoil(made)
    with pytest.raises(MilliwiseError, match=message) as error:
        Listener.open(write(tmp_path / "bad.onnx", made))
    assert "bad.onnx" in str(error.value) and str(error.value).isprintable()
    assert capfd.readouterr() == ("", "")  # onnxruntime has not said it as well


def test_huge_declared_states_are_refused_before_onnxruntime_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    path = write(tmp_path / "huge.onnx", model(state=(100_000, 100_000)))
    with pytest.raises(MilliwiseError, match="states take 40000"):
        Listener.open(path)
    states = {"energy": {"shape": [100_000, 100_000], "dtype": "float32"}}
    properties = metadata().to_properties() | {"milliwise.states": str(states).replace("'", '"')}
    with pytest.raises(MilliwiseError, match=r"milliwise\.states"):
        Listener.open(write(tmp_path / "said.onnx", model(properties)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hop_samples", "48000", "milliwise.hop_samples"),
        ("min_onnxruntime", '"99.1"', "needs onnxruntime 99.1"),
        ("labels", '["_silence_", "_unknown_", "a", "b"]', r"'scores' is float32 \[1, 3\]"),
        ("states", "{}", "'state_in_energy' is not in its metadata"),
    ],
)
def test_metadata_that_disagrees_is_refused(name: str, value: str, message: str, tmp_path: Path) -> None:
    properties = metadata().to_properties() | {"milliwise." + name: value}
    with pytest.raises(MilliwiseError, match=message):
        Listener.open(write(tmp_path / "bad.onnx", model(properties)))


def test_scores_that_are_no_shares_are_refused(tmp_path: Path) -> None:
    made = model()
    last = made.graph.node[-1]
    last.op_type = "Identity"
    del last.attribute[:]
    with pytest.raises(MilliwiseError, match="sum to 1"):
        Listener.open(write(tmp_path / "logits.onnx", made))


@pytest.mark.parametrize("content", [b"", b"hello, world\n", b"\x89PNG\r\n\x1a\n" * 9, b"PK\x03\x04" + bytes(99)])
def test_what_is_not_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(content)
    with pytest.raises(MilliwiseError, match="not an ONNX file"):
        Listener.open(path)


def test_a_truncated_listener_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    content = model().SerializeToString()
    path = tmp_path / "cut.onnx"
    for cut in range(0, len(content), 11):
        path.write_bytes(content[:cut])
        with pytest.raises(MilliwiseError):
            Listener.open(path)


def test_files_that_cannot_be_listeners(tmp_path: Path) -> None:
    big = tmp_path / "big.onnx"
    big.touch()
    os.truncate(big, 64_000_001)
    for path, message in [(big, "64000001"), (tmp_path, "not a file"), (tmp_path / "none.onnx", "No such file")]:
        with pytest.raises(MilliwiseError, match=message):
            Listener.open(path)


def test_scores_are_those_of_a_plain_loop_over_onnxruntime(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.onnx")
    listener = Listener.open(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = np.zeros((1, 2), np.float32)
    audio = tone(2, [(0.5, 1.0)])
    for block in audio.reshape(-1, HOP):
        expected, state = session.run(None, {"audio": block[None], "state_in_energy": state})
        scores = listener.push(block)
        np.testing.assert_array_equal(scores.probabilities, expected[0])
        assert scores.mode is None and scores.elapsed_ms > 0
    assert (listener.labels, listener.hop_samples, listener.rate) == (["_silence_", "_unknown_", "loud"], HOP, 16000)
    assert listener.metadata == metadata()


def test_reset_forgets(tmp_path: Path) -> None:
    listener = Listener.open(write(tmp_path / "tiny.onnx"))
    silence, loud = np.zeros(HOP, np.float32), np.ones(HOP, np.float32)
    first = listener.push(silence).probabilities
    listener.push(loud)
    assert not np.allclose(listener.push(silence).probabilities, first)
    listener.reset()
    np.testing.assert_array_equal(listener.push(silence).probabilities, first)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_hop_that_holds_no_numbers_leaves_no_trace(value: float, tmp_path: Path) -> None:
    listener, other = (Listener.open(write(tmp_path / "tiny.onnx")) for _ in range(2))
    spoilt = tone(0.2, [(0, 0.2)])
    spoilt[7] = value
    listener.push(tone(0.2, [(0, 0.2)]))
    other.push(tone(0.2, [(0, 0.2)]))
    with pytest.raises(MilliwiseError, match="not numbers"):
        listener.push(spoilt)
    silence = np.zeros(HOP, np.float32)
    np.testing.assert_array_equal(listener.push(silence).probabilities, other.push(silence).probabilities)


def test_scores_are_not_written_over_by_the_next_hop(tmp_path: Path) -> None:
    listener = Listener.open(write(tmp_path / "tiny.onnx"))
    quiet = listener.push(np.zeros(HOP, np.float32)).probabilities
    kept = quiet.copy()
    listener.push(np.ones(HOP, np.float32))
    np.testing.assert_array_equal(quiet, kept)


def test_an_adaptive_listener_says_its_mode(tmp_path: Path) -> None:
    listener = Listener.open(write(tmp_path / "mode.onnx", model(mode=True)))
    assert [listener.push(np.full(HOP, level, np.float32)).mode for level in (0, 1)] == [0, 1]


@pytest.mark.parametrize("audio", [np.zeros(HOP), np.zeros((1, HOP), np.float32), np.zeros(HOP - 1, np.float32)])
def test_a_hop_of_another_shape_or_type_is_refused(audio: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="a hop is float32"):
        Listener.open(write(tmp_path / "tiny.onnx")).push(audio)


def test_no_thread_spins_between_hops() -> None:
    options = session_options(threads=2)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"


@pytest.mark.parametrize(("said", "threads"), [(2, 2), (None, 1), (0, 1), (65, 1), ("2", 1), (True, 1)])
def test_it_listens_with_as_many_threads_as_it_was_measured_with(said: object, threads: int, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.onnx", model(metadata(device={"threads": said}).to_properties()))
    assert Listener.open(path).threads == threads
    assert Listener.open(path, threads=3).threads == 3


def test_a_hop_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some minutes of work from a file of 4 MB; the limit is shortened."""
    monkeypatch.setattr(listener_module, "MAX_HOP_S", 0.05)
    made = model()
    made.graph.initializer.append(numpy_helper.from_array(np.full((1000, 1000), 1e-3, np.float32), "power0"))
    for turn in range(5000):
        made.graph.node.append(helper.make_node("MatMul", ["power0", f"power{turn}"], [f"power{turn + 1}"]))
    added_to_the_scores(made, "power5000")
    with pytest.raises(MilliwiseError, match=r"one hop takes longer than 0\.05 s"):
        Listener.open(write(tmp_path / "slow.onnx", made))
