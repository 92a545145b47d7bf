"""Exporting a run: of every space that hears audio, and of the user's own only where the user names it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported
import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner

from exporters.listener import Listener
from profilers.device import fingerprint
from profilers.export import export_run
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, save_selected
from toolkit.spaces import Space, find_space
from toolkit.supernet import SuperNetwork

LABELS = ("_silence_", "_unknown_", "yes")
OWN = '''"""One convolution, or none."""
from pathlib import Path

from torch import nn

from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead
from toolkit.supernet import SuperNetwork

Path(__file__).with_suffix(".ran").touch()


def build(labels, hop_ms):
    operations = {"bands": CausalConv(1, 4, (40, 1), padding=0), "more": CausalConv(4, 4, (1, 3))}
    operations["skip"] = nn.Identity()
    edges = (Edge("bands", "mel", "low"), Edge("more", "low", "out"), Edge("skip", "low", "out"))
    return SuperNetwork(Graph(edges, "mel", "out"), operations, LogMel(), WindowHead(4, labels, 20, hop_ms // 10))
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def run_folder(folder: Path, space: Space, kept: Architecture, budget: str = "100 ms") -> SuperNetwork:
    """A finished run on this machine, of a network that hears silence as silence."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    whole = space.build(len(LABELS), 200)
    network = whole.select(kept).eval()
    with torch.no_grad():
        list(network.head.parameters())[-1][0] += 3
    facts = {"space": space.name, "budget": budget, "seed": 0}
    save_selected(folder, Selected(network, kept, LABELS, 200, facts))
    profile_of(whole, space).save(folder / "profile.json")
    return network


def profile_of(whole: SuperNetwork, space: Space) -> DeviceProfile:
    rows = dict.fromkeys(whole.graph.by_name, replace(toy.NOTHING, latency_ms=0.1, parameters=1000))
    latency = replace(toy.profile().latency, shortened_gap_ms=2.0)
    named: dict[str, Any] = {"space": space.name, "digest": whole.graph.digest(), "fingerprint": fingerprint()}
    return toy.profile(**named, edges=rows, hop_ms=200, latency=latency)


def export(run: Path, *further: object) -> Any:
    arguments = ["export", run, "-o", run.parent / "listener.onnx", "--calls", 59, "--json", *further]
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_listener_with_more_than_a_front_end_before_its_edges(tmp_path: Path) -> None:
    network = run_folder(tmp_path / "run", find_space("kws-cnn"), frozenset({"shortcut-mel"}))
    done = export(tmp_path / "run")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["budget_kept"] is True and told["verified"]["features"] > 0
    listener = Listener.open(tmp_path / "listener.onnx")
    assert (listener.hop_samples, listener.rate, tuple(listener.labels)) == (3200, 16_000, LABELS)
    for audio in exported.sounds(10 * 3200):
        heard = exported.scores(tmp_path / "listener.onnx", audio, 3200)
        np.testing.assert_allclose(heard, exported.expected_scores(network, audio), atol=1e-5, rtol=0)


NUMBERS = OWN.replace("def build", "INPUT_SHAPE = (1, 8)\n\n\ndef build").replace(
    "LogMel(), WindowHead(4, labels, 20, hop_ms // 10)", "nn.Identity(), nn.Linear(8, labels)"
)
for part in ("CausalConv(1, 4, (40, 1), padding=0)", "CausalConv(4, 4, (1, 3))"):
    NUMBERS = NUMBERS.replace(part, "nn.Linear(8, 8)")


def test_a_network_that_neither_hears_nor_sees(tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text(NUMBERS)
    space = find_space(str(tmp_path / "numbers.py"))
    run_folder(tmp_path / "run", space, space.build(2).graph.full)
    done = export(tmp_path / "run", "--space", space.name)
    assert done.exit_code == 2 and "numbers.py does not hear audio" in done.stderr
    assert not (tmp_path / "listener.onnx").exists()
    arguments = ["search", space.name, "--profile", str(tmp_path / "run" / "profile.json"), "--budget", "1 ms"]
    done = CliRunner().invoke(main, [*arguments, "--data", "synth:yes", "-o", str(tmp_path / "new")])
    assert done.exit_code == 2 and "numbers.py does not hear audio" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_run_does_not_have_a_program_run(own: Path) -> None:
    run, ran = own.parent / "run", own.with_suffix(".ran")
    run_folder(run, find_space(str(own)), frozenset({"bands", "more"}))
    ran.unlink()
    done = export(run)
    assert done.exit_code == 2 and not ran.exists()
    assert str(own) in done.stderr and "--space my_space.py" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("budget", ["100 ms", "10 kparams"])
def test_an_own_space_that_the_user_names(own: Path, budget: str) -> None:
    run = own.parent / "run"
    run_folder(run, find_space(str(own)), frozenset({"bands", "more"}), budget)
    moved = own.rename(own.parent / "elsewhere.py")
    done = export(run, "--space", moved)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["budget_kept"] is True
    assert Listener.open(own.parent / "listener.onnx").labels == list(LABELS)


def test_another_space_than_that_of_the_run(own: Path) -> None:
    run = own.parent / "run"
    run_folder(run, find_space(str(own)), frozenset({"bands", "more"}))
    with pytest.raises(MilliwiseError, match=r"or give the '.*own\.py' of that search"):
        export_run(run, own.parent / "listener.onnx", space="kws-ds")
