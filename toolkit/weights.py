"""Weights in safetensors files: what a network holds, and while it is trained its optimiser."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from toolkit.errors import MilliwiseError
from toolkit.files import require_regular, write_file


def tensors_of(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What `restore_tensors` takes: the network's own, and Adam's moments of each of its parameters, by number."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    return tensors


def restore_tensors(network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give a network and its Adam the values of a checkpoint.

    Raises:
        ValueError: a value is not finite, or a parameter has not all of its moments.
        RuntimeError: the tensors are of another network.
    """
    if not all(value.isfinite().all() for value in tensors.values()):
        raise ValueError("not all of its values are finite")
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            moments.setdefault(int(index), {})[name] = value
    for number, parameter in enumerate(each for group in optimizer.param_groups for each in group["params"]):
        found = {name: value.shape for name, value in moments.get(number, {}).items()}
        # A parameter that never had a gradient has no moments.
        if found and found != {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
            raise ValueError(f"the optimiser's values of parameter {number} are incomplete")
    weights = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith("network.")}
    network.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def save_tensors(path: Path, tensors: dict[str, Tensor], text: str = "{}") -> None:
    """Write tensors as safetensors with a JSON text beside them, aside and renamed."""
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def write(aside: Path) -> None:
        try:
            save_file(ready, aside, {"milliwise": text})
        except SafetensorError as error:  # its only cause here is the disk
            raise OSError(str(error)) from None

    write_file(path, write)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file and the JSON text stored with them.

    Raises:
        MilliwiseError: missing, truncated or not a safetensors file of ours.
    """
    try:
        require_regular(path)
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["milliwise"]  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise MilliwiseError(f"cannot read the weights {path} ({reason}): make them again") from None
