"""A device that measures at once: models take what tests/toy.py says by hand, or fail, or kill it, as it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import toy

from profilers.plan import Effort
from profilers.runner import MAX_EXTENSION
from profilers.target import RunnerEnded
from toolkit.spaces import Space

SPACE = Space("toy", "toy", "nine edges, worked by hand", toy.FEATURES)
EFFORT = Effort(30, 40, 20, paced=4, short_calls=10, hop_calls=3, rounds=3, paced_calls=8, weighed=0)
UNIT = 0.1  # and so the base and the joins are those of a real device
QUIET = (1.0, 1.01)  # how long the small work takes on it
# The weights an edge is written with tell which edge it is: what it is called differs from model to model.
WEIGHTS = {
    ((2, 1, 3, 3),): "conv3",
    ((2, 1, 1, 1),): "conv1",
    ((4, 1, 3, 3),): "entry",
    ((2, 1, 3, 3), (2, 2, 1, 1)): "separable",
    ((2, 1, 3, 3), (4, 2, 1, 1)): "late",
    ((4, 4, 1, 1),): "mix",
}


def edges_of(model: bytes) -> Counter[str]:
    """How often each edge of the toy that has weights is in a model; `late` stands for `early`, too."""
    scopes: dict[str, list[tuple[int, ...]]] = {}
    for array in onnx.load_from_string(model).graph.initializer:
        if len(array.dims) == 4:
            scopes.setdefault(array.name.split(".")[0], []).append(tuple(array.dims))
    return Counter(WEIGHTS[tuple(shapes)] for shapes in scopes.values())


def cost_ms(model: bytes) -> float:
    """The formula of tests/toy.py without its front-end, in units of 0.1 ms; every addition in the graph is a join."""
    joins = sum(node.op_type == "Add" for node in onnx.load_from_string(model).graph.node)
    edges = sum(toy.LATENCY_MS[name] * often for name, often in edges_of(model).items())
    return UNIT * (toy.BASE_MS + edges + toy.JOIN_MS * joins)


class Abacus:
    """A target for models of the toy.

    Args:
        dies: models that kill the measuring process when they are opened.
        fails: models that fail by themselves.
        probes_ms: how long the small work takes in each tight run, the last for ever.
        foreign: the share of the machine that others use.
    """

    name = "abacus"

    def __init__(
        self,
        *,
        dies: Callable[[bytes], bool] = lambda model: False,
        fails: Callable[[bytes], bool] = lambda model: False,
        probes_ms: Sequence[Sequence[float]] = (QUIET,),
        foreign: float = 0.01,
    ) -> None:
        self.dies, self.fails, self.probes_ms, self.foreign = dies, fails, list(probes_ms), foreign
        self.jobs: list[dict[str, Any]] = []
        self.files: list[dict[str, bytes]] = []

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu_model": "abacus", "cores": 2, "cache_bytes": {"L2": 1 << 20}, "onnxruntime": "1.0"}

    def run(
        self, job: dict[str, Any], files: Mapping[str, bytes | Path], on_event: Callable[[dict[str, Any]], object]
    ) -> list[dict[str, Any]]:
        models = {name: content for name, content in files.items() if isinstance(content, bytes)}
        self.jobs.append(job)
        self.files.append(models)
        events = []
        for task in json.loads(json.dumps(job))["tasks"]:
            assert list(models) == list(files) == task["models"]
            for event in self._did(task, models):
                events.append(event)
                on_event(event)
        return events

    def _did(self, task: dict[str, Any], models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        yield from self._opened(models)
        left = {name: model for name, model in models.items() if not self.fails(model)}
        yield from {"tight": self._tight, "paced": self._paced, "memory": self._memory}[task["task"]](task, left)

    def _opened(self, models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        for name, model in models.items():
            yield {"event": "opening", "model": name}
            if self.dies(model):
                raise RunnerEnded("the measuring process ended with signal 11 (SIGSEGV)")
            if self.fails(model):
                yield {"event": "failed", "model": name, "reason": "it is not for the abacus"}
        yield {"event": "opened"}

    def _tight(self, task: dict[str, Any], models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        """Every model's blocks in turn, told one by one."""
        for _ in range(task["rounds"]):
            for name, model in models.items():
                known = task["known"].setdefault(name, [])
                if len(known) < task["rounds"]:
                    known.append(cost_ms(model))
                    yield {"event": "blocks", "model": name, "blocks_ms": known[-1:], "calls_per_block": 3}
                assert len(known) <= MAX_EXTENSION * task["rounds"]
        probes_ms = self.probes_ms.pop(0) if len(self.probes_ms) > 1 else self.probes_ms[0]
        yield {"event": "load", "foreign": [self.foreign] * 4, "probes_ms": list(probes_ms)}

    def _memory(self, task: dict[str, Any], models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        """A megabyte, and twice what is written in the file."""
        for name, model in models.items():
            rows = {"before_bytes": 10**7, "peak_bytes": 11 * 10**6 + 2 * len(model)}
            yield {"event": "memory", "model": name, **rows, "load_peak_bytes": 0, "resident_bytes": 0}

    def _paced(self, task: dict[str, Any], models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        """By the line of the toy for the median, a little more and less."""
        for name, model in models.items():
            middle = toy.LINES["p50"](cost_ms(model))
            values = [middle * (1 + 0.002 * (turn % 5 - 2)) for turn in range(task["calls"])]
            yield {"event": "paced", "model": name, "gap_ms": task["gap_ms"], "values_ms": values, "warm_up_ms": []}
        yield {"event": "load", "foreign": [self.foreign] * 4, "probes_ms": [1.0]}
