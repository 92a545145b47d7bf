"""Bundles: an adaptive listener in several files says what it says in one, and a damaged one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import adaptive_listener
import gated_space
import numpy as np
import onnx
import pytest
import soundfile
import torch
from adaptive_listener import HOP
from bundled import MAKERS, flip, in_the_middle, written
from click.testing import CliRunner, Result
from torch import nn

from exporters import verify_adaptive
from exporters.adaptive_bundle import require_bundle_place, to_bundle
from exporters.adaptive_bundle_listener import Bundle
from exporters.listener import Listener
from exporters.verify_adaptive import streams
from profilers import export_adaptive
from profilers.modes import ModeCosts
from toolkit.adaptive import AdaptiveNetwork
from toolkit.cli import main
from toolkit.controller import HearingController
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import WindowHead
from toolkit.run import Selected, save_selected
from toolkit.supernet import SuperNetwork

OPEN, SHUT = -1e6, 1e6


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return {kind: written(tmp_path_factory.mktemp(kind), make()) for kind, make in MAKERS.items()}


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(bundles["hearing"], tmp_path / "copy"))


@pytest.mark.parametrize("kind", MAKERS)
def test_it_says_what_the_single_file_says(kind: str, bundles: dict[str, Path]) -> None:
    """Every choice and score, while the dial is turned; and after a reset again."""
    one, several = (Listener.open(path) for path in (bundles[kind].parent / "adaptive.onnx", bundles[kind]))
    rng, modes = np.random.default_rng(0), set()
    for audio in streams(600, HOP, seed=3):
        for each in (one, several):
            each.reset()
        for place, hop in enumerate(audio.reshape(-1, HOP)):
            if place % 3 == 0:
                dial = rng.normal(0, 3, one.gates).astype(np.float32)
                one.set_dial(dial)
                several.set_dial(dial)
            expected, seen = one.push(hop), several.push(hop)
            assert seen.mode == expected.mode
            np.testing.assert_allclose(seen.probabilities, expected.probabilities, atol=1e-6, rtol=0)
            modes.add(seen.mode)
    assert len(modes) > 15


def test_it_is_an_adaptive_listener(bundles: dict[str, Path]) -> None:
    one, several = (Listener.open(path) for path in (bundles["hearing"].parent / "adaptive.onnx", bundles["hearing"]))
    for what in ("labels", "hop_samples", "rate", "gates", "threads"):
        assert getattr(several, what) == getattr(one, what), what
    assert replace(several.metadata, states=one.metadata.states) == one.metadata
    assert several.sha256 == hashlib.sha256((bundles["hearing"] / "manifest.json").read_bytes()).hexdigest()
    assert Listener.open(bundles["hearing"], threads=2).threads == 2
    described = json.loads((bundles["hearing"] / "manifest.json").read_text())
    assert {key for key in described if key.startswith("milliwise.")} == set(one.metadata.to_properties())
    for name, sha256 in described["files"].items():
        assert hashlib.sha256((bundles["hearing"] / name).read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize("kind", MAKERS)
def test_no_file_has_a_condition_and_all_shapes_are_fixed(kind: str, bundles: dict[str, Path]) -> None:
    paths = sorted(bundles[kind].glob("*.onnx"))
    edges = {"hearing": ["deep-cold", "deep-warm", "now", "wide-cold", "wide-warm"]}.get(
        kind, sorted(MAKERS[kind]().gated)
    )
    assert [path.stem for path in paths] == ["head", *sorted(f"net-{edge}" for edge in edges), "policy", "trunk"]
    for path in paths:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert "If" not in {each.op_type for each in model.graph.node}
        for value in (*model.graph.input, *model.graph.output):
            assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim), value.name


def test_what_is_off_does_not_run(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener.open(bundles["hearing"])
    ran: list[str] = []
    call = Bundle._call
    monkeypatch.setattr(Bundle, "_call", lambda self, name, *rest: (ran.append(name), call(self, name, *rest))[1])
    hop = next(streams(1, HOP, seed=1))
    told = []
    for dial in ([SHUT, SHUT, SHUT], [OPEN, SHUT, SHUT], [OPEN, OPEN, SHUT], [SHUT, OPEN, OPEN], [OPEN, SHUT, SHUT]):
        listener.set_dial(np.array(dial))
        listener.push(hop)
        assert [ran[0], ran[1], ran[-1]] == ["trunk.onnx", "policy.onnx", "head.onnx"]
        told.append([name.removeprefix("net-").removesuffix(".onnx") for name in ran[2:-1]])
        ran.clear()
    assert list(map(sorted, told)) == [
        [], ["wide-cold"], ["deep-cold", "wide-warm"], ["deep-warm", "now"], ["wide-cold"],
    ]  # fmt: skip


def test_a_hop_that_fails_leaves_no_trace(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails in the head, when all else of the hop has run."""
    listener, other = Listener.open(bundles["recurrent"]), Listener.open(bundles["recurrent"])
    hops = next(streams(8, HOP, seed=5)).reshape(-1, HOP)
    call = Bundle._call

    def fails(self: Bundle, name: str, *rest: Any) -> None:
        if name == "head.onnx":
            raise RuntimeError("no memory\nleft")
        call(self, name, *rest)

    for each in (listener, other):
        each.push(hops[0])
    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "_call", fails)
        with pytest.raises(MilliwiseError, match=r"cannot run it \(no memory\)"):
            listener.push(hops[1])
    for hop in hops[2:]:
        np.testing.assert_array_equal(listener.push(hop).probabilities, other.push(hop).probabilities)


def test_it_is_verified_against_torch(bundles: dict[str, Path], bundle: Path) -> None:
    for kind, make in MAKERS.items():
        found = verify_adaptive.verify_adaptive(bundles[kind], make(), hops=300)
        assert found.hops == 300 and found.max_abs_diff < 1e-6
    other = adaptive_listener.hearing()
    with torch.no_grad():
        other.network.operations["deep"][2].conv.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(MilliwiseError, match="export refused: the graph is not"):
        verify_adaptive.verify_adaptive(bundle, other, hops=50)


def test_edges_that_read_what_gates_change(tmp_path: Path) -> None:
    """`second` always runs; a part of what it reads is of the trunk, the rest of a gated edge."""
    folder = written(tmp_path, in_the_middle())
    one, several = (Listener.open(path) for path in (tmp_path / "adaptive.onnx", folder))
    assert {path.stem for path in folder.glob("net-*")} == {"net-first", "net-second"}
    for place, hop in enumerate(next(streams(30, HOP, seed=2)).reshape(-1, HOP)):
        for each in (one, several):
            each.set_dial(np.array([SHUT if place % 3 else OPEN]))
        expected, seen = one.push(hop), several.push(hop)
        assert seen.mode == expected.mode == int(place % 3 == 0)
        np.testing.assert_allclose(seen.probabilities, expected.probabilities, atol=1e-6, rtol=0)


def of_edges(*gated: str) -> AdaptiveNetwork:
    operations = {name: nn.Conv2d(1, 6, (40, 16)) for name in ("always", *gated)}
    graph = Graph(tuple(Edge(name, "mel", "sum") for name in operations), "mel", "sum")
    network = SuperNetwork(graph, operations, LogMel(), WindowHead(6, 4, 1, 1)).eval()
    return AdaptiveNetwork(network, gated, HearingController(6, len(gated))).eval()


def test_the_name_of_an_edge_is_no_path() -> None:
    plan, models = to_bundle(of_edges("/a/\n b"), (1, HOP))
    assert plan.nets == {"/a/\n b": {"on": "net-_a___b.onnx"}} and "net-_a___b.onnx" in models
    with pytest.raises(MilliwiseError, match=r"two edges of this network would be written to net-[aA]_b\.onnx: rename"):
        to_bundle(of_edges("a/b", "A_b"), (1, HOP))


def milliwise(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run of a space of one's own, exported by the command; its folder, and what was told."""
    space, home = gated_space.space(), tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    adaptive = space.adaptive(4, 200).eval()
    with torch.no_grad():
        adaptive.network.head.linear.bias[0] += 5
    costs = ModeCosts({name: 1.0 + place for place, name in enumerate(gated_space.MODES)}, 200)
    facts = {"space": space.name, "budget": "2.5 ms mean", "streams": {"mean_ms": 2.0}, "modes": costs.facts()}
    labels = ("_silence_", "_unknown_", "up", "down")
    full = adaptive.graph.full
    save_selected(home / "run", Selected(adaptive.network, full, labels, 200, {**facts, "seed": 0}, adaptive))
    gated_space.profile(space).save(home / "run" / "profile.json")
    with pytest.MonkeyPatch.context() as patched:
        verify = verify_adaptive.verify_adaptive
        patched.setattr(export_adaptive, "verify_adaptive", lambda path, network: verify(path, network, hops=50))
        arguments = ("--space", gated_space.__file__, "--control", "bundle", "--json")
        done = milliwise("export", home / "run", "-o", home / "bundle", *arguments)
    assert done.exit_code == 1, done.output
    assert "is not measured: of several files, only what their modes cost in one file is known" in done.stderr
    return home / "bundle", json.loads(done.stdout)


def test_the_command_exports_it(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, told = exported
    assert told["bytes"] == sum(path.stat().st_size for path in folder.iterdir()) and told["budget_kept"] is None
    assert told["measured"] is told["measured_p50_ms"] is told["measured_p95_ms"] is None
    assert told["verified"]["hops"] == 50 and told["max_abs_diff"] < 1e-5 and told["predicted_ms"] == 2.0
    listener = Listener.open(folder)
    assert [mode["name"] for mode in listener.metadata.modes] == [*told["modes"]] == [*gated_space.MODES]
    assert (listener.metadata.budget, listener.metadata.measured_ms) == ("2.5 ms mean", None)


def test_a_place_that_is_no_bundle_is_refused_before_any_work(
    exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = exported[0].parent / "run"
    (tmp_path / "mine.txt").touch()
    done = milliwise("export", run, "-o", tmp_path, "--space", gated_space.__file__, "--control", "bundle")
    assert done.exit_code == 2 and "which is no bundle" in done.stderr and "verifying" not in done.stderr
    with pytest.raises(MilliwiseError, match=r"cannot (replace|write) /"):
        require_bundle_place(Path("/"))


def test_only_single_files_are_timed(exported: tuple[Path, dict[str, Any]]) -> None:
    done = milliwise("check", exported[0], "--budget", "2 ms")
    assert done.exit_code == 2 and "only a single file is timed" in done.stderr and "Traceback" not in done.output


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "sound.wav", next(streams(60, HOP, seed=9)), 16_000)
    return tmp_path / "sound.wav"


def test_it_is_listened_with(bundles: dict[str, Path], recording: Path) -> None:
    """The same words and modes as of the single file, with and without a dial."""
    for budget in ((), ("--budget-ms", 1)):
        paths = (bundles["recurrent"], bundles["recurrent"].parent / "adaptive.onnx")
        done = [milliwise("stream", path, "--wav", recording, "--threshold", 0.3, *budget, "--json") for path in paths]
        lines = [[json.loads(line) for line in each.stdout.splitlines()] for each in done]
        assert done[0].exit_code == 0 and lines[0][:-1] == lines[1][:-1], done[0].output
        assert lines[0][-1]["modes"] == lines[1][-1]["modes"] and sum(lines[0][-1]["modes"].values()) == 60


def test_a_damaged_one_is_one_line_of_error(bundle: Path, recording: Path) -> None:
    flip(bundle / "net-now.onnx")
    done = milliwise("stream", bundle, "--wav", recording)
    assert done.exit_code == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "net-now.onnx" in line and line.startswith("Error")]


WITHOUT = """
import sys
for name in ("torch", "torchaudio", "onnx"):
    sys.modules[name] = None
import kws_demo.stream_cli
kws_demo.stream_cli.stream.main(sys.argv[1:])
"""


def test_it_listens_where_torch_and_onnx_are_not_installed(bundles: dict[str, Path], recording: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(bundles["hearing"]), "--wav", str(recording), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["hops"] == 60, done.stderr
