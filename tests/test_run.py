"""The run folder: what is edited by hand, damaged or of something else is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gated_space
import pytest
import torch
from click.testing import CliRunner

from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.run import Selected, append_log, load_selected, read_log, save_selected
from toolkit.spaces import find_space
from toolkit.weights import read_tensors, save_tensors

LABELS = ("_silence_", "_unknown_", "yes")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run of the smallest network."""
    space = find_space("kws-ds").build(len(LABELS), 200)
    kept = frozenset({"mel-middle0-conv5", "middle0-middle1-skip", "middle1-middle2-skip", "middle2-middle3-skip"})
    kept |= {"middle3-out-all-bands"}
    network = space.select(kept)
    folder = tmp_path / "run"
    save_selected(folder, Selected(network, kept, LABELS, 200, {"space": "kws-ds", "budget": "2 ms", "seed": 0}))
    return folder


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_comes_back_as_it_was_saved(run_folder: Path) -> None:
    selected = load_selected(run_folder)
    assert (selected.labels, selected.hop_ms) == (LABELS, 200) and selected.facts["budget"] == "2 ms"
    assert selected.architecture == selected.network.graph.full and not selected.network.training


@pytest.mark.parametrize(
    "change",
    [
        {"hop_ms": 1e300},
        {"hop_ms": 200.5},
        {"hop_ms": True},
        {"hop_ms": 130},
        {"hop_ms": None},
        {"kept": []},
        {"kept": "abc"},
        {"kept": [1]},
        {"kept": ["nope"]},
        {"labels": None},
        {"labels": "abc"},
        {"space": None},
        {"format": 2},
    ],
)
def test_a_run_edited_by_hand_names_itself(change: dict[str, Any], run_folder: Path) -> None:
    edited(run_folder / "run.json", lambda content: content.update(change))
    with pytest.raises(MilliwiseError, match=f"run {run_folder} .*: search again"):
        load_selected(run_folder)


def test_a_run_with_an_infinite_hop(run_folder: Path) -> None:
    text = (run_folder / "run.json").read_text()
    (run_folder / "run.json").write_text(text.replace('"hop_ms": 200', '"hop_ms": 1e999'))
    with pytest.raises(MilliwiseError, match="not JSON"):
        load_selected(run_folder)


@pytest.mark.parametrize("missing", ["kept", "labels", "hop_ms", "space"])
def test_a_run_that_lacks_a_key(missing: str, run_folder: Path) -> None:
    edited(run_folder / "run.json", lambda content: content.pop(missing))
    with pytest.raises(MilliwiseError, match=f"no '{missing}'"):
        load_selected(run_folder)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda name, tensor: tensor * float("nan") if tensor.is_floating_point() else tensor, "no training gives"),
        (lambda name, tensor: -tensor - 1 if "running_var" in name else tensor, "running_var"),
        (lambda name, tensor: tensor.double() if tensor.is_floating_point() else tensor, "float64"),
        (lambda name, tensor: tensor.reshape(-1)[:1], "not torch"),
        (lambda name, tensor: None if name.endswith("conv.weight") else tensor, "missing"),
    ],
)
def test_weights_of_something_else(
    spoil: Callable[[str, torch.Tensor], torch.Tensor | None], told: str, run_folder: Path
) -> None:
    path = run_folder / "weights.safetensors"
    load_selected(run_folder)
    tensors, _text = read_tensors(path)
    changed = {name: spoil(name, tensor) for name, tensor in tensors.items()}
    save_tensors(path, {name: tensor for name, tensor in changed.items() if tensor is not None})
    with pytest.raises(MilliwiseError, match=told):
        load_selected(run_folder)


def test_the_log_survives_rubbish(tmp_path: Path) -> None:
    append_log(tmp_path, {"epoch": 1})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n"text"\n' + b"[" * 100_000 + b'\n{"epoch": 2}\n{"epoch":')
    assert read_log(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


def test_a_torn_line_takes_no_other_with_it(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{")
    append_log(tmp_path, {"epoch": 1})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"epoch": 2, "lo')  # killed, or the disk was full
    append_log(tmp_path, {"epoch": 2})
    append_log(tmp_path, {"epoch": 3})
    assert read_log(tmp_path) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 5


def test_an_epoch_told_twice_is_one_row(tmp_path: Path) -> None:
    """As where a search is killed between telling of an epoch and saving it; a stage that begins anew is kept apart."""
    told = [("a", 1, 9), ("b", 1, 8), ("a", 2, 7), ("b", 2, 6), ("a", 2, 5), ("b", 2, 4), ("a", 3, 3), ("a", 1, 2)]
    for stage, epoch, loss in told:
        append_log(tmp_path, {"stage": stage, "epoch": epoch, "loss": loss})
    for value in (1, 2):  # of no epoch
        append_log(tmp_path, {"stage": "c", "value": value})
    assert [row.get("loss", row.get("value")) for row in read_log(tmp_path)] == [9, 8, 5, 4, 3, 2, 1, 2]


def test_a_log_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "other" / "log.jsonl").mkdir(parents=True)
    assert read_log(tmp_path / "other") == []
    with pytest.raises(MilliwiseError, match="--resume"):
        append_log(tmp_path / "other", {})


def test_an_export_without_budget_is_refused(run_folder: Path, tmp_path: Path) -> None:
    edited(run_folder / "run.json", lambda content: content.pop("budget"))
    result = CliRunner().invoke(main, ["export", str(run_folder), "-o", str(tmp_path / "m.onnx")])
    assert result.exit_code == 2 and "budget" in result.stderr and not (tmp_path / "m.onnx").exists()


@pytest.fixture(scope="module")
def gated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a listener that chooses its edges."""
    adaptive = find_space("kws-gated").adaptive(len(LABELS)).eval()
    folder = tmp_path_factory.mktemp("gated") / "run"
    facts = {"space": "kws-gated", "budget": "1 ms mean"}
    save_selected(folder, Selected(adaptive.network, adaptive.graph.full, LABELS, 200, facts, adaptive))
    return folder


def test_a_listener_with_gates_comes_back_as_it_was_saved(gated_run: Path) -> None:
    adaptive, again = (load_selected(gated_run).adaptive for _ in range(2))
    assert adaptive is not None and again is not None
    assert (adaptive.gated, adaptive.kind) == (("wide", "deep"), "hearing") and not adaptive.training
    stored, _text = read_tensors(gated_run / "weights.safetensors")
    assert stored.keys() == adaptive.state_dict().keys() and any(name.startswith("controller.") for name in stored)
    assert all(torch.equal(value, stored[name]) for name, value in adaptive.state_dict().items())
    audio = 0.1 * torch.randn(1, 5 * 3200)
    assert torch.equal(adaptive(audio), again(audio)) and adaptive.network is not again.network
    assert load_selected(gated_run).facts == {"space": "kws-gated", "budget": "1 ms mean"}


@pytest.mark.parametrize(
    ("adaptive", "told"),
    [
        (None, "adaptive is not"),
        ([], "adaptive is not"),
        ("if", "adaptive is not"),
        ({}, "no 'controller'"),
        ({"gated": ["wide"]}, "no 'controller'"),
        ({"controller": "hearing"}, "no 'gated'"),
        ({"controller": ["hearing"], "gated": ["wide"]}, "adaptive is not"),
        ({"controller": "seeing", "gated": ["wide", "deep"]}, "no controller 'seeing'"),
        ({"controller": "hearing", "gated": "wide"}, "gated is no list"),
        ({"controller": "hearing", "gated": [1]}, "gated is no list"),
        ({"controller": "hearing", "gated": []}, "0 gated edges"),
        ({"controller": "hearing", "gated": ["wide", "wide"]}, "2 gated edges"),
        ({"controller": "hearing", "gated": ["wide", "narrow"]}, "no edge 'narrow'"),
        ({"controller": "hearing", "gated": ["trunk", "deep"]}, "no edges that always run"),
    ],
)
def test_gates_edited_by_hand_are_one_line(adaptive: Any, told: str, gated_run: Path, tmp_path: Path) -> None:
    for path in gated_run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edited(tmp_path / "run.json", lambda content: content.update(adaptive=adaptive))
    with pytest.raises(MilliwiseError, match=f"run {tmp_path} is not as milliwise wrote it .*{told}") as error:
        load_selected(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gated", [["wide"], ["deep", "wide", "second"]])
def test_weights_for_other_gates_are_refused(gated: list[str], gated_run: Path, tmp_path: Path) -> None:
    for path in gated_run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edited(tmp_path / "run.json", lambda content: content["adaptive"].update(gated=gated))
    with pytest.raises(MilliwiseError, match=r"weights .* are of another network, or damaged"):
        load_selected(tmp_path)


def test_a_network_that_remembers_hops_takes_no_gates(run_folder: Path) -> None:
    gates = {"controller": "recurrent", "gated": ["mel-middle0-conv5"]}
    edited(run_folder / "run.json", lambda content: content.update(adaptive=gates))
    with pytest.raises(MilliwiseError, match="the head remembers hops"):
        load_selected(run_folder)


@pytest.mark.parametrize("control", ["if", "bundle"])
def test_one_network_is_not_chosen_while_it_runs(control: str, run_folder: Path, tmp_path: Path) -> None:
    space = find_space("kws-ds")
    gated_space.profile(space).save(run_folder / "profile.json")
    arguments = ["export", str(run_folder), "-o", str(tmp_path / "m.onnx"), "--control", control]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and f"has one network: --control {control} is for" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "m.onnx").exists()
