"""Bundles that were damaged, or made to harm, are refused in one line; and writing one damages nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from bundled import MAKERS, flip, written
from onnx import TensorProto, helper

from exporters.adaptive_bundle import require_bundle_place, write_bundle
from exporters.listener import Listener
from toolkit.errors import MilliwiseError

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: written(tmp_path_factory.mktemp(kind), make()) for kind, make in MAKERS.items()}


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(bundles["hearing"], tmp_path / "copy"))


def signed(folder: Path) -> None:
    """As if whoever changed a file had written the manifest."""
    said = json.loads((folder / "manifest.json").read_text())
    said["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in said["files"]}
    (folder / "manifest.json").write_text(json.dumps(said))


def swap(folder: Path, first: str, second: str) -> None:
    contents = [(folder / name).read_bytes() for name in (second, first)]
    for name, content in zip((first, second), contents, strict=True):
        (folder / name).write_bytes(content)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda at: (at / "net-deep-cold.onnx").unlink(), "its 'net-deep-cold.onnx' is missing: copy the whole folder"),
        (lambda at: (at / "trunk.onnx").unlink(), "its 'trunk.onnx' is missing"),
        (lambda at: shutil.copy(at / "head.onnx", at / "more.onnx"), "'more.onnx' is not in its manifest.json: remove"),
        (lambda at: swap(at, "net-deep-cold.onnx", "net-wide-cold.onnx"),
         r"'net-\w+-cold.onnx' is not the file that manifest.json describes, but 'net-\w+-cold.onnx' \(sha256"),
        (lambda at: flip(at / "policy.onnx"), r"its 'policy.onnx' is not the file .* describes \(sha256 \w{12}, not"),
        (lambda at: os.truncate(at / "head.onnx", 100), "its 'head.onnx' is not the file"),
        (lambda at: os.truncate(at / "head.onnx", 64_000_001), "'head.onnx' cannot be read: it has 64000001 bytes"),
        (lambda at: as_folder(at / "head.onnx"), "its 'head.onnx' cannot be read: it is not a file"),
        (lambda at: as_pipe(at / "head.onnx"), "its 'head.onnx' cannot be read: it is not a file"),
        (lambda at: (at / "manifest.json").unlink(), "not a file, and as a folder it holds no manifest.json: name an"),
        (lambda at: os.truncate(at / "manifest.json", 500), "the manifest .* is truncated or not JSON"),
        (lambda at: os.truncate(at / "manifest.json", 16_000_001), "the manifest .* has more than 16000000 bytes"),
        (lambda at: (at / "manifest.json").write_text("[1]"), "holds a JSON list, not an object"),
        (lambda at: (at / "manifest.json").write_text("{}"), "it has no milliwise metadata"),
        (lambda at: as_pipe(at / "manifest.json"), "cannot read the manifest .*: it is not a file"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused(damage: Edit, told: str, bundle: Path) -> None:
    Listener.open(bundle)
    damage(bundle)
    with pytest.raises(MilliwiseError, match=told) as error:
        Listener.open(bundle)
    assert "\n" not in str(error.value)


def outside(said: dict[str, Any], name: str) -> None:
    """The plan and the files name a file that is elsewhere."""
    said["plan"]["nets"]["now"] = {"on": name}
    said["files"][name] = said["files"].pop("net-now.onnx")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: outside(said, "../net-now.onnx"), "'../net-now.onnx' is no name of a file in it"),
        (lambda said: outside(said, "/etc/net-now.onnx"), "'/etc/net-now.onnx' is no name of a file in it"),
        (lambda said: outside(said, "net\n.onnx"), r"'net\\n.onnx' is no name"),
        (lambda said: outside(said, "head.onnx"), "it names a file twice"),
        (lambda said: said["files"].pop("net-now.onnx"), "has 'net-now.onnx' in its plan or its files alone"),
        (lambda said: said["files"].update({"more.onnx": "0" * 64}), "has 'more.onnx' in its plan or its files alone"),
        (lambda said: said["files"].update({"head.onnx": "0"}), "does not give the sha256 of every file"),
        (lambda said: said.pop("files"), "does not give the sha256 of every file"),
        (lambda said: said.pop("plan"), "a part of it is missing or of another type"),
        (lambda said: said["plan"].update(edges=[["a"]]), "a part of it is missing or of another type"),
        (lambda said: said["plan"].update(edges=[["a", "b", "c"]] * 300), "it has 300 edges, more than 256"),
        (lambda said: said["plan"]["edges"].append(["back", "sum", "trunk"]), "closes a cycle"),
        (lambda said: said["plan"].update(gated=["nowhere"]), "its gates or nets are not edges of its graph"),
        (lambda said: said["plan"].update(gated=["wide", "deep", "now", "now"]), "its gates or nets are not edges"),
        (lambda said: said["plan"]["nets"].pop("now"), "has 'net-now.onnx' in its plan or its files alone"),
        (lambda said: said["plan"]["nets"]["deep"].pop("cold"), "a net is neither on, nor cold and warm"),
        (lambda said: said["plan"].update(gated=["wide", "now", "deep"]), "its modes are not those of its plan"),
        (lambda said: said["milliwise.modes"].pop(), "its modes are not those of its plan, see 'wide warm.deep warm"),
        (lambda said: said.pop("milliwise.labels"), "metadata milliwise.labels missing"),
        (lambda said: said.update({"milliwise.format": 2}), "milliwise.format is 2; it must be 1"),
        (lambda said: said.update({"milliwise.min_onnxruntime": "99.0"}), "it needs onnxruntime 99.0"),
        (lambda said: said.update({"milliwise.hop_samples": 3200}), r"its 'audio' is float32 \[1, 2560\], not .*3200"),
        (lambda said: said["milliwise.states"]["memory"].update(shape=[1, 2**30]), "milliwise.states is"),
        (lambda said: said["milliwise.states"]["memory"].update(shape=[1, 7]), r"its 'memory' is .*\[1, 7\], not"),
        (lambda said: said["milliwise.states"].pop("deep.2"), "its 'deep.2' is missing"),
        (lambda said: said["milliwise.states"].pop("dial"), "its 'dial' is missing"),
        (lambda said: said["milliwise.labels"].append("left"), r"its 'scores' is float32 \[1, 4\], not float32 \[1, 5"),
    ],
)
def test_a_damaged_manifest_is_refused(change: Callable[[dict[str, Any]], object], told: str, bundle: Path) -> None:
    said = json.loads((bundle / "manifest.json").read_text())
    change(said)
    (bundle / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(MilliwiseError, match=told) as error:
        Listener.open(bundle)
    assert "\n" not in str(error.value)


def edit(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def wider(model: onnx.ModelProto) -> None:
    """The value of the edge is no longer what the sink adds up."""
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 1000


def open_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"


def further_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))


def loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], []))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda at: swap(at, "trunk.onnx", "policy.onnx"), "its 'audio' is missing"),
        (lambda at: edit(at / "net-now.onnx", wider), "its files do not agree about 'edge_now'"),
        (lambda at: edit(at / "trunk.onnx", open_size), "its 'trunk.onnx': 'audio' is float32 .* shapes are fixed"),
        (lambda at: edit(at / "head.onnx", loop), "its 'head.onnx': it uses the operator 'Loop', which no listener"),
        (lambda at: edit(at / "net-now.onnx", further_input), "its 'net-now.onnx' reads 'gain', which no file gives"),
        (lambda at: (at / "net-now.onnx").write_bytes(b"?"), "its 'net-now.onnx': it is "),
    ],
)
def test_files_that_do_not_fit_are_refused_whoever_wrote_the_manifest(damage: Edit, told: str, bundle: Path) -> None:
    damage(bundle)
    signed(bundle)
    with pytest.raises(MilliwiseError, match=told) as error:
        Listener.open(bundle)
    assert "\n" not in str(error.value)


def test_another_listener_is_not_mixed_in(bundle: Path, bundles: dict[str, Path]) -> None:
    shutil.copy(bundles["recurrent"] / "head.onnx", bundle / "head.onnx")
    with pytest.raises(MilliwiseError, match=r"its 'head.onnx' is not the file that manifest.json describes"):
        Listener.open(bundle)


def fill(aside: Path) -> None:
    (aside / "new.onnx").write_text("new")


def test_only_a_bundle_is_replaced(bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "fresh", fill)
    (tmp_path / "empty").mkdir()
    for folder in (bundle, tmp_path / "empty"):
        write_bundle(folder, fill)
    for folder in (bundle, tmp_path / "fresh", tmp_path / "empty"):
        assert [path.name for path in folder.iterdir()] == ["new.onnx"]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, told in (("fresh", "no bundle"), ("file", "a bundle is a folder"), ("link", "a bundle is a folder")):
        for refuse in (require_bundle_place, lambda path: write_bundle(path, fill)):
            with pytest.raises(MilliwiseError, match=told):
                refuse(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "empty", "file", "fresh", "link"]


def test_what_is_beside_a_bundle_is_not_removed(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine")
    Listener.open(bundle)
    with pytest.raises(MilliwiseError, match=r"'notes.txt' in it is of no bundle; move it elsewhere"):
        write_bundle(bundle, fill)
    assert (bundle / "notes.txt").read_text() == "mine"


def test_a_bundle_that_fails_half_way_leaves_the_old_one(bundle: Path) -> None:
    def fails(aside: Path) -> None:
        fill(aside)
        raise OSError(28, "No space left on device")

    with pytest.raises(MilliwiseError, match=r"cannot write .*: No space left on device; free some"):
        write_bundle(bundle, fails)
    Listener.open(bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["copy"]
