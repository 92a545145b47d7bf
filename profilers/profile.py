"""Profile a device: time every distinct edge and some whole networks, fit the latency model, hold it against others."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.onnx import OPSET
from profilers.bundle import BundleTarget
from profilers.clock import CannotTime
from profilers.counts import count
from profilers.fixed import head_cost, stem_cost
from profilers.latency import Fitted
from profilers.makespan import measure_makespans
from profilers.measured import Measured
from profilers.partial import Partial
from profilers.plan import Effort, Plan, bound_by_cache
from profilers.session import Session
from profilers.target import RunnerEnded, Target
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile, EdgeCost
from toolkit.profile_json import parse_parallel
from toolkit.spaces import Space

MAKESPANS = 24  # networks that are really run in parallel, to judge the parallel model
ASSUMED_CACHE_BYTES = 2_000_000  # a small board's: of a device that does not tell, or that is not known yet (a bundle)


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
            network do not fit the device's cache (of one that is not told, `ASSUMED_CACHE_BYTES` are assumed).
        workers: when more than one, also measure what as many threads that share a network take (`profile.parallel`).
        partial: file that keeps what is measured so far; the work continues from it. The caller removes it when the
            profile is saved.

    Raises:
        MilliwiseError: the target fails, the hop does not fit the space, no network is left of the edges that could be
            measured, or `partial` was begun with other arguments, models or on another device. An edge that fails alone
            is a row of the profile, with the reason.
        PutOff: the target answers another day; it was asked for everything first.
    """
    if workers > 1 and isinstance(target, BundleTarget):
        raise MilliwiseError("a bundle is carried once, and several workers take two measurements: leave out --workers")
    device = target.fingerprint()
    plan = _plan(space, hop_ms, seed, effort)
    network = plan.network
    asked = {"threads": threads, "hop_ms": hop_ms, "seed": seed, "clock": clock, **dataclasses.asdict(plan.effort)}
    clock, assumed = _clock(plan, target, device, clock)
    same = {"space": space.name, "models": _models_digest(plan), "target": target.name, "device": device}
    parts = Partial(partial, {**same, **asked, "clock": clock}, refuse_others=True)
    found = Measured(plan, Session(target, threads, seed, parts), clock, hop_ms)
    model, together = found.fit(), _parallel(found, target, workers)
    disturbed = (*found.session.disturbances(), *together["noisy_because"])
    asked |= {"workers": workers, **assumed, **found.unmeasured(), **together["unmeasured"]}
    profile = DeviceProfile(
        space=space.name,
        digest=network.graph.digest(),
        target=target.name,
        fingerprint=device,
        threads=threads,
        hop_ms=hop_ms,
        clock=clock,
        measured={"opset": OPSET, "table_seconds": round(found.table_seconds, 1), **asked},
        edges=_edges(found, model),
        fixed={"stem": stem_cost(network.stem, plan.input_shape), "head": head_cost(network.head, plan.sink_shape)},
        latency=found.latency(model),
        held_out=found.judge(model),
        noisy=bool(disturbed),
        noisy_because=disturbed,
        seconds=round(parts.seconds, 1),
        parallel=together["model"] and parse_parallel(together["model"]),
    )
    return dataclasses.replace(profile, memory=found.memory(profile))


def _plan(space: Space, hop_ms: int, seed: int, effort: Effort | None) -> Plan:
    """What is timed of a space; the same models every time, for a bundle is recognised by them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.build(hop_ms=hop_ms).eval()
    return Plan(network, space.shape(hop_ms), seed, effort or Effort())


def _clock(plan: Plan, target: Target, device: Mapping[str, Any], clock: str) -> tuple[str, dict[str, int]]:
    """The table's clock, and what was assumed of the device to choose it, as a fact of the profile."""
    if clock != "auto":
        return clock, {}
    # What a bundle asks is written down before its device is known, and must be the same when it has answered.
    told = {} if isinstance(target, BundleTarget) else device["cache_bytes"]
    assumed = {} if any(told.values()) else {"cache_assumed_bytes": ASSUMED_CACHE_BYTES}
    whole = plan.body(plan.network.graph.full)
    return "paced" if bound_by_cache(whole, assumed or told) else "tight", assumed


def _models_digest(plan: Plan) -> str:
    """SHA-256 of the models of all edges and of the whole network: what a profile is of."""
    found = hashlib.sha256()
    for model in (*plan.edges.values(), plan.whole(plan.network.graph.full)):
        found.update(hashlib.sha256(model).digest())
    return found.hexdigest()


def _parallel(found: Measured, target: Target, workers: int) -> dict[str, Any]:
    """What several workers that share a network take, judged on the networks that the latency model was judged on.

    Returns:
        `model` (None where it was not asked for, or an edge does not run so), and what to say in `unmeasured` and
        `noisy_because`.
    """
    plan, networks = found.plan, found.networks.held_out[:MAKESPANS]
    asked = {"workers": workers, "rounds": plan.effort.rounds, "seed": plan.seed}
    row: dict[str, Any] = {"model": None, "unmeasured": {}, "noisy_because": []}
    if workers == 1:
        return row
    network = plan.network.select(plan.network.graph.full - found.failed.keys())

    def measure() -> dict[str, Any]:
        try:
            made = measure_makespans(network, plan.features_shape, networks, target, **asked)
        except (CannotTime, RunnerEnded) as error:
            return {**row, "unmeasured": {"no_parallel": str(error)}}
        busy = ["others were busy while workers were timed"] if made.noisy else []
        return {**row, "model": dataclasses.asdict(made.model), "noisy_because": busy}

    return dict(found.session.parts.keep(f"{workers} workers", measure))


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
