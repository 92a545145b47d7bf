"""The run folder: what a search chose, as `run.json` and `weights.safetensors`, enough to rebuild the network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_json
from toolkit.graph import Architecture
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork
from toolkit.training import read_tensors, save_tensors

FORMAT = 1


@dataclass(frozen=True)
class Selected:
    """The chosen network.

    Attributes:
        network: pruned to its live edges, trained, in evaluation mode.
        architecture: those edges.
        labels: of its scores, in order.
        hop_ms: how often it is called.
        facts: space, arguments, figures: whatever else `run.json` holds.
    """

    network: SuperNetwork
    architecture: Architecture
    labels: tuple[str, ...]
    hop_ms: int
    facts: dict[str, Any]


def save_selected(folder: Path, selected: Selected) -> None:
    """Write the weights, then `run.json`: a folder with a `run.json` is complete."""
    save_tensors(folder / "weights.safetensors", selected.network.state_dict())
    content = {
        "format": FORMAT,
        "kept": sorted(selected.architecture),
        "labels": list(selected.labels),
        "hop_ms": selected.hop_ms,
        **selected.facts,
    }
    write_json(folder / "run.json", content)


def load_selected(folder: Path) -> Selected:
    """Rebuild the network of a finished run.

    Raises:
        MilliwiseError: the folder holds no finished run, or one that is damaged or of a newer format.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise MilliwiseError(
            f"{folder} holds no finished run: name the folder given to milliwise search -o, or finish it with --resume"
        )
    content = read_json(folder / "run.json", "run")
    if content.get("format") != FORMAT:
        raise MilliwiseError(
            f"run {folder} has format {content.get('format')!r}, this version reads {FORMAT}: search again"
        )
    try:
        kept = frozenset(map(str, content["kept"]))
        labels = tuple(map(str, content["labels"]))
        hop_ms = int(content["hop_ms"])
        network = find_space(str(content["space"])).build(len(labels), hop_ms).select(kept)
    except (KeyError, TypeError, ValueError) as error:
        raise MilliwiseError(f"run {folder} is not as milliwise wrote it ({error}): search again") from None
    tensors, _text = read_tensors(folder / "weights.safetensors")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise MilliwiseError(
            f"the weights in {folder} are of another network ({str(error).splitlines()[0]}): search again"
        ) from None
    known = {"format", "kept", "labels", "hop_ms"}
    return Selected(
        network.eval(), kept, labels, hop_ms, {name: value for name, value in content.items() if name not in known}
    )


def append_log(folder: Path, row: dict[str, Any]) -> None:
    """Add one JSON line to the run's `log.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of `log.jsonl`; a last line cut short by an interruption is left out."""
    path = folder / "log.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
