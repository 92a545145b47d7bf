"""The user's own search space: found by its file or module, from any folder; what is wrong in it is one line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
import toy
from click.testing import CliRunner

from exporters.onnx import to_onnx
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.files import write_json
from toolkit.run import Selected, load_selected, save_selected
from toolkit.spaces import SPACES, OwnSpace, built_in, built_in_space, find_space

OWN = '''"""Two ways through small images.

More about it.
"""
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from toolkit.graph import Edge, Graph
from toolkit.supernet import SuperNetwork

INPUT_SHAPE = (1, 3, 8, 8)


@dataclass(frozen=True)
class Width:  # looks its own module up
    channels: int = 4


def build(labels, hop_ms=200):
    channels = Width().channels
    edges = (Edge("wide", "image", "map"), Edge("narrow", "image", "map"))
    operations = {"wide": nn.Conv2d(3, channels, 3, padding=1), "narrow": nn.Conv2d(3, channels, 1)}
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, labels))
    return SuperNetwork(Graph(edges, "image", "map"), operations, nn.Identity(), head)
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own space.py"
    path.write_text(OWN)
    return path


def test_an_own_space_is_found_by_its_file(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    for name in (str(own), own.name, f".{os.sep}{own.name}"):
        space = find_space(name)
        assert space.name == str(own.resolve()) and space.summary == "Two ways through small images."
        assert space.shape(200) == space.input_shape == (1, 3, 8, 8)
    monkeypatch.chdir(own.parent.parent)
    network = find_space(space.name).build(labels=5)
    assert network.graph.full == {"wide", "narrow"} and network.training
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    onnx.checker.check_model(to_onnx(network, space.shape(200)), full_check=True)
    assert str(own.parent) not in sys.path


def test_an_own_space_is_read_anew_and_may_import_its_neighbours(own: Path) -> None:
    assert find_space(str(own)).build().operations["wide"].out_channels == 4
    (own.parent / "milliwise_test_neighbour.py").write_text("CHANNELS = 7\n")
    text = OWN.replace("from torch import nn", "from milliwise_test_neighbour import CHANNELS\nfrom torch import nn")
    own.write_text(text.replace("int = 4", "int = CHANNELS"))
    assert find_space(str(own)).build().operations["wide"].out_channels == 7
    (own.parent / "milliwise_test_later.py").write_text("CHANNELS = 9\n")
    later = "    from milliwise_test_later import CHANNELS\n\n    channels = CHANNELS"
    own.write_text(OWN.replace("    channels = Width().channels", later))
    assert find_space(str(own)).build().operations["wide"].out_channels == 9
    assert str(own.parent) not in sys.path


def test_an_own_space_is_found_by_its_module(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = own.parent / "milliwise_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    own.rename(package / "small.py")
    monkeypatch.syspath_prepend(own.parent)
    space = find_space("milliwise_test_package.small")
    assert space.name == "milliwise_test_package.small" and len(space.build(2).graph.edges) == 2
    with pytest.raises(MilliwiseError, match=r"no module milliwise_test_package\.large: install it"):
        find_space("milliwise_test_package.large")


def test_a_run_of_an_own_space_is_loaded_from_another_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    space = find_space(own.name)
    labels = ("a", "b", "c")
    network = space.build(len(labels)).select({"narrow"}).eval()
    save_selected(Path("run"), Selected(network, frozenset({"narrow"}), labels, 200, {"space": space.name}))
    monkeypatch.chdir(own.parent.parent)
    loaded = load_selected(own.parent / "run", find_space(str(own)))
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(loaded.network(images), network(images))


@pytest.mark.parametrize("name", ["own space.py", "os.path", "milliwise_test_package.small", "../x", "kws-\x1b[2J"])
def test_what_a_run_says_is_not_run(own: Path, name: str) -> None:
    run, before = own.parent / "run", {*sys.modules}
    write_json(run / "run.json", {"format": 1, "kept": ["narrow"], "labels": ["a"], "hop_ms": 200, "space": name})
    own.write_text("raise SystemExit(1)")
    with pytest.raises(
        OwnSpace, match=r"but a program: if you trust it, name it yourself with --space my_space\.py"
    ) as error:
        load_selected(run)
    assert str(error.value).isprintable() and str(run) in str(error.value)
    assert {*sys.modules} == before


@pytest.mark.parametrize("name", ["own", "kws-coarse"])
def test_the_weights_are_those_of_the_seed(own: Path, name: str) -> None:
    """Trying the network out draws no random number."""
    space = find_space(str(own) if name == "own" else name)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append([space.build(3).state_dict() for _ in range(2)])
    for first, second in zip(*drawn, strict=True):
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, drawn[0][1][key]) for key, value in drawn[0][0].items())


BROKEN = {
    "build = 3": "no function build",
    "": "no function build",
    "def build(labels, hop_ms): return None": "returns a NoneType: return a .*SuperNetwork",
    "def build(labels, hop_ms): return 1 / 0": "line 1: ZeroDivisionError: division by zero",
    "def build(): pass": "TypeError: build",
    "x = 1\nraise ValueError('two\\nlines')": "line 2: ValueError: two lines",
    "def build(:": "SyntaxError",
    "import milliwise_test_absent": "line 1: ModuleNotFoundError: No module named 'milliwise_test_absent'",
    "import sys; sys.exit(3)": "line 1: SystemExit: 3",
    "\0": "SyntaxError|ValueError",
    "INPUT_SHAPE = [1, 3]\ndef build(labels, hop_ms): pass": r"INPUT_SHAPE is \[1, 3\]",
    "INPUT_SHAPE = (2, 3)\ndef build(labels, hop_ms): pass": r"INPUT_SHAPE is \(2, 3\)",
    "INPUT_SHAPE = (1, 'samples')\ndef build(labels, hop_ms): pass": "INPUT_SHAPE is",
    "INPUT_SHAPE = (1, True)\ndef build(labels, hop_ms): pass": "INPUT_SHAPE is",
    OWN.replace("(1, 3, 8, 8)", "(1, 2, 8, 8)"): "RuntimeError.*channels",
    OWN.replace("nn.AdaptiveAvgPool2d(1), nn.Flatten()", "nn.Flatten(0)"): "RuntimeError",
    OWN.replace("nn.Linear(channels, labels)", "nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1)"): r"makes \[2, 2\] of",
    OWN.replace('Edge("narrow"', 'Edge("wide"'): "edge 'wide' stands twice",
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.items(), ids=range(len(BROKEN)))
def test_what_is_wrong_in_an_own_space_is_one_line(tmp_path: Path, source: str, reason: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(MilliwiseError, match=reason) as error:
        find_space(str(path)).build()
    assert str(error.value).startswith(f"search space {path}") and "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["import", "build"])
def test_what_an_own_space_prints_is_no_result(own: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = "from dataclasses import" if where == "import" else "    channels = Width()"
    own.write_text(OWN.replace(place, f"{'    ' * (where == 'build')}print('hello')\n{place}"))
    find_space(str(own)).build()
    printed = capsys.readouterr()
    assert printed.out == "" and "hello" in printed.err


@pytest.mark.parametrize("module", ["torch", "onnx"])
def test_an_own_space_on_a_small_install_says_what_to_install(
    own: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.write_text(f"import {module}\n")
    monkeypatch.setitem(sys.modules, module, None)
    seen = CliRunner().invoke(main, ["profile", str(own), "-o", str(own.parent / "p.json")])
    assert seen.exit_code == 2 and "milliwise[search]" in seen.output and "correct it" not in seen.output


@pytest.mark.parametrize("name", ["absent.py", "folder/absent", "folder.py"])
def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(MilliwiseError, match="there is no file"):
        find_space(name)


@pytest.mark.parametrize("name", ["", ".", "..", "/", ".x", "milliwise_test_absent.space", "kws"])
def test_a_name_of_nothing(name: str) -> None:
    with pytest.raises(MilliwiseError) as error:
        find_space(name)
    assert "\n" not in str(error.value)


def test_the_shape_of_one_call() -> None:
    assert {space.shape(40) for space in SPACES.values()} <= {(1, 640), (1, 3, 32, 32)}
    assert find_space("kws-ds").shape(200) == (1, 3200)


def test_what_an_own_space_costs(own: Path, tmp_path: Path) -> None:
    graph = find_space(str(own)).build().graph
    rows = {"wide": replace(toy.NOTHING, latency_ms=0.3), "narrow": replace(toy.NOTHING, latency_ms=0.1)}
    toy.profile(space=str(own), digest=graph.digest(), edges=rows).save(tmp_path / "profile.json")
    arguments = ["feasible", str(own), "--profile", str(tmp_path / "profile.json"), "--budget", "1 ms", "--json"]
    seen = CliRunner().invoke(main, arguments)
    found = json.loads(seen.stdout)
    assert seen.exit_code == 0 and found["feasible"] is True
    assert found["min_ms"] == pytest.approx(0.2 + 2 * (toy.FRONT_END_MS + toy.BASE_MS + 0.1))


def test_the_command_says_that_there_are_own_spaces(own: Path) -> None:
    seen = CliRunner().invoke(main, ["spaces"])
    assert seen.exit_code == 0 and "build(labels, hop_ms)" in seen.output
    assert "Python file" in CliRunner().invoke(main, ["spaces", "--help"]).output


def test_the_command_says_what_can_be_set() -> None:
    assert "resnet-fabric:blocks=3,width=16,size=32" in CliRunner().invoke(main, ["spaces"]).output
    rows = json.loads(CliRunner().invoke(main, ["spaces", "--json"]).stdout)["spaces"]
    fabric = next(row for row in rows if row["name"] == "neural-fabric")
    assert fabric["input_shape"] == [1, 3, 32, 32]
    assert fabric["settings"] == {"columns": 4, "channels": 32, "size": 32, "task": "classify"}
    assert next(row for row in rows if row["name"] == "kws-ds")["input_shape"] == [1, "hop_samples"]


def test_settings_follow_a_colon() -> None:
    space = find_space("neural-fabric:columns=2,size=16,channels=8")
    assert space.name == "neural-fabric:columns=2,size=16,channels=8" and not space.own
    assert space.values == {"columns": 2, "channels": 8, "size": 16, "task": "classify"}
    assert space.shape(200) == (1, 3, 16, 16)
    assert space.build().operations["conv"][0].out_channels == 8
    assert built_in_space(space.name, "a run") == space == built_in(space.name)
    wide = find_space("resnet-fabric:blocks=1,width=4").build()
    assert wide.operations["block2-0"][0].out_channels == 16
    assert find_space("resnet-fabric").shape(200) == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("neural-fabric:", "cannot set '': the settings are columns, channels, size, task, each once"),
        ("neural-fabric:rows=2", "cannot set 'rows=2': the settings are columns"),
        ("neural-fabric:columns=2,columns=3", "cannot set 'columns=3': .* each once"),
        ("neural-fabric:columns=17", "columns is 1 to 16"),
        ("neural-fabric:columns=0", "columns is 1 to 16"),
        ("neural-fabric:columns=-1", "columns is 1 to 16"),
        ("neural-fabric:columns=²", "columns is 1 to 16"),
        ("neural-fabric:columns=" + "9" * 5000, "columns is 1 to 16"),
        ("neural-fabric:columns", "columns is 1 to 16"),
        ("neural-fabric:task=guess", "task is classify or segment"),
        ("kws-ds:blocks=2", "the settings are width"),
        ("kws-cnn:blocks=2", "the settings are none"),
        ("kws-none:blocks=2", "no search space"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, reason: str) -> None:
    with pytest.raises(MilliwiseError, match=reason) as error:
        find_space(name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    if not name.startswith("kws-none"):
        with pytest.raises(MilliwiseError, match=reason):
            built_in_space(name, "a run")
