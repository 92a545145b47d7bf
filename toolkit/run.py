"""The run folder: what a search chose, as `run.json` and `weights.safetensors`, enough to rebuild the network."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.adaptive import AdaptiveNetwork, gate
from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_json
from toolkit.graph import Architecture
from toolkit.spaces import OwnSpace, Space, built_in_space
from toolkit.supernet import SuperNetwork
from toolkit.weights import read_tensors, save_tensors

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
        adaptive: the same network with its gates and controller, if it chooses its edges at every hop.
    """

    network: SuperNetwork
    architecture: Architecture
    labels: tuple[str, ...]
    hop_ms: int
    facts: dict[str, Any]
    adaptive: AdaptiveNetwork | None = None


def save_selected(folder: Path, selected: Selected) -> None:
    """Write the weights, then `run.json`: a folder with a `run.json` is complete."""
    adaptive = selected.adaptive
    save_tensors(folder / "weights.safetensors", (adaptive or selected.network).state_dict())
    kind = {} if adaptive is None else {"adaptive": {"gated": list(adaptive.gated), "controller": adaptive.kind}}
    content = {
        "format": FORMAT,
        "kept": sorted(selected.architecture),
        "labels": list(selected.labels),
        "hop_ms": selected.hop_ms,
        **kind,
        **selected.facts,
    }
    write_json(folder / "run.json", content)


def load_selected(folder: Path, space: Space | None = None) -> Selected:
    """Rebuild the network of a finished run.

    Args:
        space: that of the run, where it is the user's own: a run folder names it, but is not trusted to have it run.

    Raises:
        MilliwiseError: the folder holds no finished run, one that is damaged or of a newer format, or one of an own
            space that is not given.
    """
    folder = Path(folder)
    if not os.path.isfile(folder / "run.json"):
        raise MilliwiseError(
            f"{folder} holds no finished run: name the folder given to milliwise search -o, or finish it with --resume"
        )
    content = read_json(folder / "run.json", "run")
    if content.get("format") != FORMAT:
        raise MilliwiseError(
            f"run {folder} has format {content.get('format')!r}, this version reads {FORMAT}: search again"
        )
    try:
        kept, labels = frozenset(_names(content, "kept")), _names(content, "labels")
        hop_ms = content["hop_ms"]
        if type(hop_ms) is not int or not 0 < hop_ms < 10_000:
            raise ValueError(f"hop_ms is {str(hop_ms)[:40]}")
        if not isinstance(content["space"], str):
            raise ValueError(f"space is {str(content['space'])[:40]}")
        chosen = space or built_in_space(content["space"], f"run {folder}")
        network = chosen.build(len(labels), hop_ms).select(kept)
        adaptive = _gated(network, content["adaptive"]) if "adaptive" in content else None
    except OwnSpace:
        raise
    except (KeyError, TypeError, ValueError, MilliwiseError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        cure = "search again" if space is None else f"search again, or give the {content.get('space')!a} of that search"
        raise MilliwiseError(f"run {folder} is not as milliwise wrote it ({reason}): {cure}") from None
    tensors, _text = read_tensors(folder / "weights.safetensors")
    whole = adaptive or network
    if odd := _odd_tensor(tensors, whole.state_dict()):
        raise MilliwiseError(f"the weights in {folder} are of another network, or damaged ({odd}): search again")
    whole.load_state_dict(tensors)
    whole.eval()
    known = {"format", "kept", "labels", "hop_ms", "adaptive"}
    facts = {name: value for name, value in content.items() if name not in known}
    return Selected(network, kept, labels, hop_ms, facts, adaptive)


def _gated(network: SuperNetwork, described: Any) -> AdaptiveNetwork:
    if not isinstance(described, dict) or not isinstance(described["controller"], str):
        raise ValueError("adaptive is not {gated, controller}")
    return gate(network, _names(described, "gated"), described["controller"])


def _names(content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content[key]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{key} is no list of names")
    return tuple(value)


def _odd_tensor(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str | None:
    """The first tensor that is missing, superfluous, of another kind, or not finite, and why."""
    for name in sorted(found.keys() ^ expected.keys()):
        return f"{name} is {'missing' if name in expected else 'not one of its tensors'}"
    for name, tensor in found.items():
        mine = expected[name]
        if (tensor.shape, tensor.dtype) != (mine.shape, mine.dtype):
            kinds = (f"{value.dtype} {list(value.shape)}" for value in (tensor, mine))
            return f"{name} is {', not '.join(kinds)}"
        if not tensor.isfinite().all() or (name.endswith("running_var") and (tensor < 0).any()):
            return f"{name} holds values that no training gives"
    return None


def append_log(folder: Path, row: dict[str, Any]) -> None:
    """Add one JSON line to the run's `log.jsonl`.

    Raises:
        MilliwiseError: the folder cannot be written, or the disk is full.
    """
    path = folder / "log.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            torn = bool(file.tell()) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")
    except OSError as error:
        raise MilliwiseError(
            f"cannot write {path}: {error.strerror}; free some space, then continue with --resume"
        ) from None


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of `log.jsonl`; what is no row, such as a last line cut short by an interruption, is left out.

    An epoch told, but interrupted before it was saved, is trained and told again: its later row stands for both.
    """
    path = folder / "log.jsonl"
    rows: list[dict[str, Any]] = []
    places: dict[str, int] = {}  # by stage, of its last row
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict):
            continue
        stage, epoch = str(row.get("stage")), row.get("epoch")
        if epoch is not None and stage in places and rows[places[stage]].get("epoch") == epoch:
            rows[places[stage]] = row
        else:
            places[stage] = len(rows)
            rows.append(row)
    return rows
