"""Profile a device: time every distinct edge and some whole networks, fit the latency model, hold it against others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from exporters.onnx import OPSET
from profilers.bundle import BundleTarget
from profilers.counts import count
from profilers.fixed import head_cost, stem_cost
from profilers.latency import Fitted
from profilers.makespan import measure_makespans
from profilers.measured import Measured
from profilers.partial import Partial
from profilers.plan import Effort, Plan, bound_by_cache
from profilers.session import Session
from profilers.target import Target
from toolkit.errors import MilliwiseError
from toolkit.makespan import ParallelModel
from toolkit.profile import DeviceProfile, EdgeCost
from toolkit.profile_json import parse_parallel
from toolkit.spaces import Space

CLOCKS = ("auto", "tight", "paced")
MAKESPANS = 24  # networks that are really run in parallel, to judge the parallel model
UNASKED_CACHE_BYTES = {"small board": 2_000_000}  # of a bundle's device: the work is written down before it is known


def profile_device(
    space: Space,
    target: Target,
    *,
    threads: int = 1,
    hop_ms: int = 200,
    seed: int = 0,
    clock: str = "auto",
    workers: int = 1,
    effort: Effort | None = None,
    partial: Path | None = None,
) -> DeviceProfile:
    """Measure what every edge of a space costs on a target.

    Args:
        threads: of onnxruntime.
        hop_ms: how often the listener will be called.
        clock: in which rhythm the table is timed: `tight`, `paced`, or `auto`: paced where the weights of the whole
            network do not fit the device's cache, for then it decides how much of them is left after an idle hop.
        workers: when more than one, also measure what as many threads that share a network take (`profile.parallel`).
        partial: file that keeps what is measured so far; with the same arguments the work continues from it. The caller
            removes it when the profile is saved.

    Raises:
        MilliwiseError: the target fails, the hop does not fit the space, or no network is left of the edges that could
            be measured. An edge that fails alone is a row of the profile, with the reason.
        PutOff: the target answers another day; it was asked for everything first.
    """
    if workers > 1 and isinstance(target, BundleTarget):
        raise MilliwiseError("a bundle is carried once, and several workers take two measurements: leave out --workers")
    device = target.fingerprint()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same models every time: a bundle is recognised by them
        network = space.build(hop_ms=hop_ms).eval()
    plan = Plan(network, space.shape(hop_ms), seed, effort or Effort())
    asked = {"threads": threads, "hop_ms": hop_ms, "seed": seed, "clock": clock, "workers": workers}
    asked |= dataclasses.asdict(plan.effort)
    if clock == "auto":
        cache_bytes = UNASKED_CACHE_BYTES if isinstance(target, BundleTarget) else device["cache_bytes"]
        clock = "paced" if bound_by_cache(plan.body(network.graph.full), cache_bytes) else "tight"
    parts = Partial(partial, {"digest": network.graph.digest(), "target": target.name, "device": device, **asked})
    found = Measured(plan, Session(target, threads, seed, parts), clock, hop_ms)
    model = found.fit()
    profile = DeviceProfile(
        space=space.name,
        digest=network.graph.digest(),
        target=target.name,
        fingerprint=device,
        threads=threads,
        hop_ms=hop_ms,
        clock=clock,
        measured={"opset": OPSET, "table_seconds": round(found.table_seconds, 1), **asked, **found.unmeasured()},
        edges=_edges(found, model),
        fixed={"stem": stem_cost(network.stem, plan.input_shape), "head": head_cost(network.head, plan.sink_shape)},
        latency=found.latency(model),
        held_out=found.judge(model),
        noisy=bool(found.session.disturbances()),
        noisy_because=found.session.disturbances(),
        seconds=round(parts.seconds, 1),
    )
    profile = dataclasses.replace(profile, memory=found.memory(profile))
    if workers > 1:
        profile = dataclasses.replace(profile, parallel=_parallel(found, target, workers))
    return profile


def _parallel(found: Measured, target: Target, workers: int) -> ParallelModel | None:
    """What several workers that share a network take, judged on the networks that the latency model was judged on."""
    plan, networks = found.plan, found.networks.held_out[:MAKESPANS]
    asked = {"workers": workers, "rounds": plan.effort.rounds, "seed": plan.seed}

    def measure() -> dict[str, Any]:
        return dataclasses.asdict(measure_makespans(plan.network, plan.features_shape, networks, target, **asked).model)

    return parse_parallel(found.session.parts.keep(f"{workers} workers", measure))


def _edges(found: Measured, model: Fitted) -> dict[str, EdgeCost]:
    work, times, prior = found.plan.work, found.session.times, found.prior()
    counted = {name: count(item.module, item.input_shape) for name, item in work.items() if item.same_as == name}
    rows = {}
    for name, item in work.items():
        time, counts = times.get(f"{item.same_as} x1"), counted[item.same_as]
        rows[name] = EdgeCost(
            latency_ms=None if name in found.failed else model.edges_ms[name],
            isolated_ms=None if time is None else prior[name],
            spread=0.0 if time is None else time.spread,
            steps=int(item.computes),
            **dataclasses.asdict(counts),
            same_as=None if item.same_as == name else item.same_as,
            error_ms=None if name in found.failed else model.errors_ms[name],
            failed=found.failed.get(name),
        )
    return rows
