"""Opening files of networks of images: what milliwise wrote is read, anything else is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper

from exporters.image_file import open_images, sees
from exporters.images import images_to_onnx, verify_images
from exporters.onnx import with_properties
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork

TOLD = {"labels": ["a", "b", "c"], "task": "classify", "device": {}, "measured_ms": {"hop_ms": 40.0}}
TOLD["min_onnxruntime"] = "1.17"


def network(settings: str = "") -> SuperNetwork:
    torch.manual_seed(0)
    return find_space(f"neural-fabric:columns=2,channels=4,size=8{settings}").build(3).eval()


def written(path: Path, model: onnx.ModelProto, **changes: Any) -> Path:
    told = {f"milliwise.{name}": json.dumps(value) for name, value in {**TOLD, **changes}.items() if value != "absent"}
    path.write_bytes(with_properties(model, told))
    return path


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return images_to_onnx(network(), (1, 3, 8, 8))


def test_what_was_written_is_opened(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = written(tmp_path / "network.onnx", model)
    assert sees(path)
    found = open_images(path)
    assert (found.labels, found.size, found.hop_ms, found.device) == (("a", "b", "c"), 8, 40, {})
    assert open_images(written(path, model, measured_ms=None)).hop_ms is None
    segmenting = images_to_onnx(network(",task=segment"), (1, 3, 8, 8))
    assert open_images(written(path, segmenting, task="segment")).size == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ["a"]}, "logits"),
        ({"labels": 3}, "metadata are not as milliwise wrote them"),
        ({"labels": "absent"}, "no 'milliwise.labels'"),
        ({"task": "guess"}, "to guess"),
        ({"task": "segment"}, "logits"),
        ({"device": []}, "metadata are not"),
        ({"measured_ms": {"hop_ms": "soon"}}, "metadata are not"),
        ({"measured_ms": {}}, "no 'hop_ms'"),
        ({"min_onnxruntime": "99.0"}, "99.0"),
    ],
)
def test_what_it_says_of_itself_has_to_be_true(
    tmp_path: Path, model: onnx.ModelProto, changes: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path / "network.onnx", model, **changes)
    with pytest.raises(MilliwiseError, match=reason) as error:
        open_images(path)
    assert "\n" not in str(error.value)
    done = CliRunner().invoke(main, ["check", str(path), "--budget", "1 ms"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1


def test_a_file_that_blows_up_is_refused(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 4096.0, 4096.0])
    nodes = [
        helper.make_node("Resize", ["image", "", "scales"], ["huge"], mode="nearest"),
        helper.make_node("GlobalAveragePool", ["huge"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "blown", [image], [logits], [scales])
    bomb = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(MilliwiseError, match="onnxruntime cannot run it"):
        open_images(written(tmp_path / "bomb.onnx", bomb))


def test_a_listener_and_a_text_do_not_see(tmp_path: Path, model: onnx.ModelProto) -> None:
    (tmp_path / "text.onnx").write_text("no")
    assert not sees(tmp_path / "text.onnx") and not sees(tmp_path / "absent.onnx")
    assert not sees(written(tmp_path / "other.onnx", model, task="absent"))


def test_an_export_that_differs_is_refused(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = written(tmp_path / "network.onnx", model)
    assert verify_images(path, network()).max_abs_diff < 1e-4
    other = network()
    with torch.no_grad():
        other.head[0].bias += 0.01
    with pytest.raises(MilliwiseError, match=r"logits differ from torch by 0\.01"):
        verify_images(path, other)
    assert np.isfinite(verify_images(path, network()).images)
