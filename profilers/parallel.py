"""Run networks on a target edge by edge: every edge is a model of its own, and threads hand on what they compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper
from torch import nn

from exporters.onnx import to_onnx, with_properties
from profilers.clock import CannotTime
from profilers.latency import Work, edge_work
from profilers.target import Target
from profilers.timing import BUSY, too_many
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph
from toolkit.makespan import HEAD, Operation, Plan, operations
from toolkit.progress import progress
from toolkit.supernet import SuperNetwork

SLEPT_MS = 0.01  # a worker that waited no longer may not have fallen asleep

Samples = dict[tuple[str, int], list[float]]
"""Durations in ms by work (the edge it is filed under, or HEAD) and how many values arrive."""


@dataclass(frozen=True)
class Run:
    """The quietest block of a plan: medians of the makespan and of each operation's begin and end, from the start."""

    plan: Plan
    makespan_ms: float
    begins_ms: Sequence[float]
    ends_ms: Sequence[float]
    blocks_ms: Sequence[float] = ()  # median makespans of all blocks

    def lasted(self) -> Iterator[tuple[Operation, float]]:
        """Every operation and how long it ran."""
        for operation, begin, end in zip(self.plan.operations, self.begins_ms, self.ends_ms, strict=True):
            yield operation, end - begin

    def handoffs_ms(self) -> Iterator[float]:
        """From the end of the last value awaited to the begin, of every operation whose worker slept for it."""
        end_ms, free_ms = (0.0, *self.ends_ms), {0: 0.0}
        for place, (foreign, begin) in enumerate(zip(self.plan.foreign()[1:], self.begins_ms, strict=True), 1):
            worker = self.plan.workers[place - 1]
            awaited = max((end_ms[taken] for taken in foreign), default=-1.0)
            if foreign and awaited > free_ms.get(worker, -1.0) + SLEPT_MS:
                yield max(0.0, begin - awaited)
            free_ms[worker] = end_ms[place]


class Bench:
    """Runs plans on a target: writes the models of their operations, and reads what they took."""

    def __init__(
        self,
        network: SuperNetwork,
        features_shape: tuple[int, ...],
        target: Target,
        workers: int,
        rounds: int,
        seed: int,
    ) -> None:
        self.network, self.target, self.workers, self.rounds, self.seed = network, target, workers, rounds, seed
        self.work = edge_work(network, features_shape)
        self.work[HEAD] = Work(HEAD, network.head, network.sink_shape(features_shape))
        self.passing = {name for name, item in self.work.items() if name != HEAD and type(item.module) is nn.Identity}
        self.foreign: list[float] = []

    def operations(self, live: Architecture) -> tuple[Operation, ...]:
        return operations(self.network.graph, live, self.passing)

    def run(self, plans: Sequence[Plan], title: str) -> list[Run]:
        """What the target tells of each plan."""
        kinds = dict.fromkeys(self._kind(operation) for plan in plans for operation in plan.operations)
        names = {kind: f"{index}.onnx" for index, kind in enumerate(kinds)}
        rows = [
            [
                {"model": names[self._kind(operation)], "takes": list(operation.takes), "worker": worker}
                for operation, worker in zip(plan.operations, plan.workers, strict=True)
            ]
            for plan in plans
        ]
        task = {"task": "parallel", "models": [*names.values()], "workers": self.workers, "plans": rows}
        job = {"format": 1, "threads": 1, "seed": self.seed, "tasks": [{**task, "rounds": self.rounds}]}
        files = {name: operation_model(self.work[kind[0]], kind[1]) for kind, name in names.items()}
        with progress(title, 1.0) as advance:
            done = 0.0

            def told(event: Mapping[str, Any]) -> None:
                nonlocal done
                if event["event"] == "progress" and (share := event["done"] / event["total"]) > done:
                    advance(share - done)
                    done = share

            events = self.target.run(job, files, told)
            advance(1.0 - done)
        self.foreign += [share for event in events if event["event"] == "load" for share in event["foreign"]]
        return _read(events, plans, {file: f"{name} of {values} values" for (name, values), file in names.items()})

    def samples(self, runs: Sequence[Run]) -> Samples:
        """How long the operations of these runs took."""
        found: Samples = {}
        for run in runs:
            for operation, lasted_ms in run.lasted():
                found.setdefault(self._kind(operation), []).append(lasted_ms)
        return found

    def _kind(self, operation: Operation) -> tuple[str, int]:
        return self.work[operation.name].same_as, len(operation.takes)

    @property
    def noisy(self) -> bool:
        """Whether others used too much of the machine for too long."""
        return too_many([share > BUSY for share in self.foreign])


def operation_model(item: Work, values: int) -> bytes:
    """The ONNX model that adds up that many values (inputs `value_0`, …) and applies an edge, or the head, to them."""
    graph, head = Graph((Edge("edge", "in", "out"),), "in", "out"), item.same_as == HEAD
    modules = (nn.Identity(), item.module) if head else (item.module, nn.Identity())
    model = to_onnx(SuperNetwork(graph, {"edge": modules[0]}, nn.Identity(), modules[1]).eval(), item.input_shape)
    names = [f"value_{index}" for index in range(values)]
    partial = [names[0], *(f"sum_{index}" for index in range(1, values - 1)), "features"]
    sums = [helper.make_node("Add", [partial[i], names[i + 1]], [partial[i + 1]]) for i in range(values - 1)]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, item.input_shape) for name in names]
    if values > 1:
        others = [value for value in model.graph.input if value.name != "features"]
        nodes = [*sums, *model.graph.node]
        for field, content in (("input", [*inputs, *others]), ("node", nodes)):
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(content)
    return with_properties(model, {})


def _read(events: Sequence[Mapping[str, Any]], plans: Sequence[Plan], named: Mapping[str, str]) -> list[Run]:
    """The runs of the plans, in order; nothing that failed or is missing counts."""
    found: dict[int, Run] = {}
    for event in events:
        if event["event"] == "failed":
            raise CannotTime(f"cannot run the edge {named.get(event['model'], '?')}: {event['reason']}")
        if event["event"] == "parallel" and event["plan"] in range(len(plans)):
            plan = plans[event["plan"]]
            blocks_ms = event["blocks_ms"]
            run = Run(plan, min(blocks_ms), event["begins_ms"], event["ends_ms"], blocks_ms)
            if not len(run.begins_ms) == len(run.ends_ms) == len(plan.operations):
                raise MilliwiseError("the measuring process told of another plan than was asked for: measure again")
            found[event["plan"]] = run
    if len(found) < len(plans):
        raise MilliwiseError("the measuring process did not tell of every plan: measure again")
    return [found[index] for index in range(len(plans))]
