"""The exported graph: valid, torch's scores hop by hop, nothing superfluous in it, the same bytes every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import exported
import numpy as np
import onnx
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporters.onnx import state_shapes, to_onnx, with_properties
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

HOP = 3200


def network_of(module: nn.Module, head: nn.Module | None = None, stem: nn.Module | None = None) -> SuperNetwork:
    """One edge."""
    graph = Graph((Edge("only", "in", "out"),), "in", "out")
    return SuperNetwork(graph, {"only": module}, stem or nn.Identity(), head or nn.Identity()).eval()


@pytest.mark.parametrize(("seed", "keep"), [(None, 1.0), (1, 0.1), (2, 0.5), (3, 0.8)])
def test_the_scores_are_torchs(seed: int | None, keep: float) -> None:
    network = exported.listener_network(seed, keep)
    content = exported.listener_bytes(network)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    for audio in exported.sounds(12 * HOP):
        expected, seen = exported.expected_scores(network, audio), exported.scores(content, audio, HOP)
        assert expected.std(0).max() < 0.5 and np.isfinite(seen).all(), "a test of saturated scores would show nothing"
        np.testing.assert_allclose(seen, expected, atol=1e-5, rtol=0)


def test_the_scores_differ_between_sounds() -> None:
    """The parity above is not that of a constant."""
    network = exported.listener_network(2, 0.5)
    last = [exported.expected_scores(network, audio)[-1] for audio in exported.sounds(12 * HOP)]
    assert np.ptp(last, axis=0).max() > 0.01


def test_the_scores_are_torchs_on_recordings(shared_data: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    network = exported.listener_network(4, 0.6)
    content = exported.listener_bytes(network)
    clips = sorted((shared_data / "keywords_en" / "val").rglob("*.flac"))[:3]
    assert clips
    for clip in clips:
        audio, rate = soundfile.read(clip, dtype="float32", always_2d=True)
        assert rate == 16_000
        audio = audio[: len(audio) // HOP * HOP, 0] / np.abs(audio).max()  # at full scale
        np.testing.assert_allclose(
            exported.scores(content, audio, HOP), exported.expected_scores(network, audio), atol=1e-5, rtol=0
        )


@settings(max_examples=10)
@given(columns=st.integers(1, 25), seed=st.integers(0, 99), keep=st.floats(0.05, 0.6))
def test_any_hop_of_the_space(columns: int, seed: int, keep: float) -> None:
    hop_ms = 40 * columns
    network = exported.listener_network(seed, keep, hop_ms=hop_ms)
    audio = np.random.default_rng(seed).normal(0, 0.2, 16 * hop_ms * max(3, 60 // columns)).astype(np.float32)
    seen = exported.scores(exported.listener_bytes(network, hop_ms), audio, 16 * hop_ms)
    np.testing.assert_allclose(seen, exported.expected_scores(network, audio), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hop_columns", [4, 8, 16])
def test_every_architecture_of_the_toy(hop_columns: int) -> None:
    network = toy.network()
    exported.randomise(network)
    network.head = WindowHead(4, 3, toy.WINDOW_COLUMNS, hop_columns // 2).eval()
    features = torch.randn(1, 1, 2, 64)
    for kept in toy.architectures()[:: 7 if hop_columns > 4 else 3]:
        if live := toy.GRAPH.live(kept):
            content = with_properties(to_onnx(network.select(live), (1, 1, 2, hop_columns)), {})
            rows = exported.streamed(content, features.numpy(), hop_columns, 3, "features")
            with torch.no_grad():
                expected = network.from_features(features, kept)[0].softmax(-1).numpy()
            np.testing.assert_allclose(np.concatenate([row[0] for row in rows]), expected, atol=1e-5, rtol=0)


def test_every_initialiser_is_a_folded_parameter_of_a_live_edge() -> None:
    network = exported.listener_network(2, 0.5)
    model = to_onnx(network, (1, HOP))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    expected = {"head.weight": (48, 4), "head.bias": (4,)}
    for name, module in network.operations.named_modules():
        if isinstance(module, CausalConv):  # its weight, and one bias a channel for its BatchNorm
            expected |= {f"{name}.weight": tuple(module.conv.weight.shape), f"{name}.bias": (module.conv.out_channels,)}
    assert shapes == expected
    used = {name for node in model.graph.node for name in node.input}
    assert shapes.keys() <= used


def test_nothing_of_a_dead_edge_is_left() -> None:
    whole = exported.listener_network(None)
    kept = {name for name in whole.graph.full if not name.startswith(("fine", "mel-fine"))}
    network = whole.select(kept)
    model = to_onnx(network, (1, HOP))
    names = {tensor.name for tensor in model.graph.initializer} | set(state_shapes(model))
    assert not any("fine" in name for name in names)
    assert any("fine" in tensor.name for tensor in to_onnx(whole, (1, HOP)).graph.initializer)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == sum(
        isinstance(module, CausalConv) for name in network.graph.full for module in whole.operations[name].modules()
    )


@pytest.mark.parametrize(("window", "hop"), [(5, 2), (6, 2), (2, 2), (2, 5), (1, 1)])
def test_a_mean_over_hops_is_torchs(window: int, hop: int) -> None:
    network = network_of(WindowMean(window, hop))
    model = to_onnx(network, (1, 3, 1, hop))
    onnx.checker.check_model(model, full_check=True)
    assert [state["shape"] for state in state_shapes(model).values()] == [[1, 3, 1, window - hop]] * (window > hop)
    inputs = torch.randn(1, 3, 1, 7 * hop)
    rows = exported.streamed(with_properties(model, {}), inputs.numpy(), hop, 3, "features")
    seen = np.concatenate([row[0] for row in rows], 3)
    np.testing.assert_allclose(seen, network(inputs).numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 1, 3), (1, 3, 2, 2)])
def test_a_mean_of_other_columns_or_of_bands_is_not_exported(shape: tuple[int, ...]) -> None:
    with pytest.raises(MilliwiseError, match=rf"{shape[2]} bands of {shape[3]} columns at 'only'"):
        to_onnx(network_of(WindowMean(4, 2)), shape)


def test_the_states_are_the_caches() -> None:
    network = toy.network().select({"conv3", "separable", "late"})
    shapes = {name: state["shape"] for name, state in state_shapes(to_onnx(network, toy.FEATURES)).items()}
    assert shapes == {
        "conv3": [1, 1, 2, 2],  # kernel 3, stride 1
        "separable.0": [1, 2, 2, 2],
        "late.0": [1, 2, 2, 1],  # kernel 3, stride 2
        "window": [1, 4, 1, 2],  # 4 columns, of which a hop brings 2
    }
    assert state_shapes(to_onnx(exported.listener_network(1), (1, HOP)))["audio"] == {
        "shape": [1, 320],
        "dtype": "float32",
    }


SAME_BYTES = """
import sys; sys.path.insert(0, {tests!r})
import exported, hashlib
print(hashlib.sha256(exported.listener_bytes(exported.listener_network(2, 0.5))).hexdigest())
"""


def test_the_same_network_gives_the_same_bytes() -> None:
    content = exported.listener_bytes(exported.listener_network(2, 0.5))
    assert exported.listener_bytes(exported.listener_network(2, 0.5)) == content
    assert exported.listener_bytes(exported.listener_network(3, 0.5)) != content
    script = SAME_BYTES.format(tests=str(Path(__file__).parent))
    other = subprocess.run(  # a process with another order of sets
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert other.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_what_ships_is_small_and_old_enough(tmp_path: Path) -> None:
    content = exported.listener_bytes(exported.listener_network(None, labels=12), labels=12)
    assert len(content) <= 500_000
    model = onnx.load_from_string(content)
    assert model.ir_version == 8
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    inputs = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in model.graph.input}
    outputs = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in model.graph.output}
    assert inputs.pop("audio") == [1, HOP] and outputs.pop("scores") == [1, 12]
    assert {name.replace("_in_", "_out_", 1): shape for name, shape in inputs.items()} == outputs


@pytest.mark.parametrize(("opset", "ir"), [(17, 9), (18, 8), (20, 9), (21, 10)])
def test_newer_operator_sets_are_valid_too(opset: int, ir: int) -> None:
    network = exported.listener_network(1, 0.2)
    model = to_onnx(network, (1, HOP), opset, ir)
    assert model.opset_import[0].version == opset and model.ir_version == ir
    onnx.checker.check_model(model, full_check=True)
    audio = np.random.default_rng(0).normal(0, 0.1, 3 * HOP).astype(np.float32)
    seen = exported.scores(model.SerializeToString(), audio, HOP)
    np.testing.assert_allclose(seen, exported.expected_scores(network, audio), atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [480, 640 * 3 + 160, 3210])
def test_a_hop_that_does_not_divide_is_refused(samples: int) -> None:
    with pytest.raises(MilliwiseError, match="hop"):
        to_onnx(exported.listener_network(None), (1, samples))


def test_a_layer_that_cannot_be_written_is_named() -> None:
    with pytest.raises(MilliwiseError, match="GRU at 'only'"):
        to_onnx(network_of(nn.GRU(4, 4)), (1, 1, 2, 4))


def test_edges_that_disagree_are_refused() -> None:
    graph = Graph((Edge("a", "in", "out"), Edge("b", "in", "out")), "in", "out")
    network = SuperNetwork(graph, {"a": CausalConv(1, 2), "b": CausalConv(1, 3)}, nn.Identity(), nn.Identity()).eval()
    with pytest.raises(MilliwiseError, match="must agree"):
        to_onnx(network, (1, 1, 2, 4))


@pytest.mark.parametrize("hop", [160, 480, 3200])
def test_the_front_end_alone(hop: int) -> None:
    network = network_of(nn.Identity(), stem=LogMel())
    content = with_properties(to_onnx(network, (1, hop)), {})
    assert len(content) < 10_000
    for audio in exported.sounds(9600):
        seen = np.concatenate([row[0] for row in exported.streamed(content, audio[None], hop, 1, "audio")], 3)
        np.testing.assert_allclose(seen, LogMel()(torch.from_numpy(audio)[None]).numpy(), atol=1e-3, rtol=0)


def test_the_independent_checker_passes_it(tmp_path: Path, contract_checker: Path) -> None:
    path = tmp_path / "listener.onnx"
    path.write_bytes(exported.listener_bytes(exported.listener_network(2, 0.5)))
    seen = subprocess.run(
        [sys.executable, contract_checker, path, "--hops", "120"], capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0 and "FAIL" not in seen.stdout, seen.stdout + seen.stderr
