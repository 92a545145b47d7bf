"""The run folder: what is edited by hand, damaged or of something else is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.run import Selected, append_log, load_selected, read_log, save_selected
from toolkit.spaces import find_space
from toolkit.training import read_tensors, save_tensors

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


def test_the_log_survives_rubbish_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    append_log(tmp_path, {"epoch": 1})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n"text"\n' + b"[" * 100_000 + b'\n{"epoch": 2}\n{"epoch":')
    assert read_log(tmp_path) == [{"epoch": 1}, {"epoch": 2}]
    (tmp_path / "other" / "log.jsonl").mkdir(parents=True)
    assert read_log(tmp_path / "other") == []
    with pytest.raises(MilliwiseError, match="--resume"):
        append_log(tmp_path / "other", {})


def test_an_export_without_budget_is_refused(run_folder: Path, tmp_path: Path) -> None:
    edited(run_folder / "run.json", lambda content: content.pop("budget"))
    result = CliRunner().invoke(main, ["export", str(run_folder), "-o", str(tmp_path / "m.onnx")])
    assert result.exit_code == 2 and "budget" in result.stderr and not (tmp_path / "m.onnx").exists()
