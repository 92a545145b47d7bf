"""Memory that opening and calling a network takes: measured in fresh processes on a target, and the fitted model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profilers.target import Target
from toolkit.errors import MilliwiseError
from toolkit.memory import MemoryModel, Planned

Model = bytes | Path
MEGABYTE = 1e6
CALLS = 20  # the second call of onnxruntime takes other buffers than the first; after a few nothing changes


class CannotMeasure(MilliwiseError):
    """The target does not tell its memory, or the model does not run there."""


@dataclass(frozen=True)
class Memory:
    """One process that had opened another small model before, so that libraries are no cost of this one.

    Attributes:
        before_bytes: in memory before the model was opened: Python and the libraries.
        load_peak_bytes: at most, until it was open.
        peak_bytes: at most, the calls included.
        resident_bytes: after the calls.
    """

    before_bytes: int
    load_peak_bytes: int
    peak_bytes: int
    resident_bytes: int

    @property
    def increment_bytes(self) -> int:
        """How much more than before it took, at most."""
        return self.peak_bytes - self.before_bytes


class CannotTell(CannotMeasure):
    """The target tells the memory of no process."""


def memory_of(model: Model, target: Target, *, threads: int = 1, calls: int = CALLS, seed: int = 0) -> Memory:
    """Measure one model in a fresh process on a target (VmHWM of Linux, reset before; freed memory is returned).

    Raises:
        CannotTell: the target tells the memory of no process; with the reason.
        CannotMeasure: the model does not run there; with the reason.
        MilliwiseError: the target fails.
    """
    task = {"task": "memory", "models": ["model.onnx"], "calls": calls}
    job = {"format": 1, "threads": threads, "seed": seed, "tasks": [task]}
    events = target.run(job, {"model.onnx": model}, lambda _event: None)
    for event in events:
        if event["event"] == "failed":
            opened = any(other["event"] == "opening" for other in events)
            raise (CannotMeasure if opened else CannotTell)(f"cannot measure memory: {event['reason']}")
    told = [event for event in events if event["event"] == "memory"]
    if not told:
        raise CannotMeasure("the measuring process said nothing about memory: measure again")
    found = Memory(**{name: told[0][name] for name in Memory.__dataclass_fields__})
    if found.increment_bytes <= 0:
        raise CannotTell(f"the device tells that a model takes {found.increment_bytes} bytes: it cannot measure any")
    return found


def fit_memory(planned: Sequence[Planned], increments_bytes: Sequence[int]) -> MemoryModel:
    """The model with the least squared relative error over these networks, its coefficients not negative.

    Raises:
        MilliwiseError: fewer than three networks: there are three coefficients.
    """
    if len(planned) < 3:
        raise MilliwiseError(f"{len(planned)} networks cannot tell what memory depends on: measure at least 3")
    measured = np.asarray(increments_bytes, float)
    rows = np.array([(MEGABYTE, each.weight_bytes, each.largest_bytes) for each in planned])
    activations = np.array([each.activation_bytes for each in planned], float)
    base, weight, largest = _best_choice_of_columns(rows / measured[:, None], (measured - activations) / measured)
    model = MemoryModel(MEGABYTE * base, weight, largest, len(planned), 0.0)
    return replace(model, fitted_error=float(_errors(model, planned, measured).mean()))


def _best_choice_of_columns(system: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """The least-squares solution without negative values: the best of those over every choice of columns."""
    best, least = np.zeros(system.shape[1]), float(target @ target)
    # Few columns and the first ones come first: of columns that say the same, as the largest part of a space whose
    # front-end is always the largest does, the base is the one to name.
    choices = itertools.product((True, False), repeat=system.shape[1])
    for used in sorted(choices, key=lambda each: (sum(each), [not one for one in each])):
        solution = np.zeros(system.shape[1])
        solution[list(used)] = np.linalg.lstsq(system[:, list(used)], target, rcond=None)[0]
        left = target - system @ solution
        if (solution >= 0).all() and left @ left < (1 - 1e-9) * least:
            best, least = solution, float(left @ left)
    return [float(value) for value in best]


def judge_memory(model: MemoryModel, planned: Sequence[Planned], increments_bytes: Sequence[int]) -> MemoryModel:
    """The model with its error on networks that took no part in its fit."""
    if not planned:
        return model
    errors = _errors(model, planned, np.asarray(increments_bytes, float))
    rows = tuple(
        {"weight_bytes": each.weight_bytes, "predicted_bytes": round(model(each)), "measured_bytes": int(measured)}
        for each, measured in zip(planned, increments_bytes, strict=True)
    )
    return replace(
        model,
        held_out_nets=len(planned),
        held_out_error=float(errors.mean()),
        held_out_within_10=float((errors <= 0.10).mean()),
        rows=rows,
    )


def _errors(model: MemoryModel, planned: Sequence[Planned], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    predicted = np.array([model(each) for each in planned])
    return np.abs(predicted / measured - 1)
