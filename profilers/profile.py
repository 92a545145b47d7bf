"""Profile a device: time every distinct edge and some whole networks, fit the latency model, hold it against others."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporters.front_end import log_mel_counts
from exporters.onnx import OPSET, to_onnx, with_properties
from profilers.clock import Timing, time_paced, time_tight
from profilers.counts import count
from profilers.latency import (
    SAMPLES_PER_MS,
    Fitted,
    Work,
    context_models,
    edge_work,
    features_only,
    fit,
    paced_lines,
    priors,
    relative_line,
    sample_networks,
    spearman,
)
from profilers.partial import Partial
from profilers.target import PutOff, Target
from toolkit.features import LogMel
from toolkit.graph import Architecture
from toolkit.layers import WindowHead
from toolkit.profile import DeviceProfile, EdgeCost, HeldOut, LatencyModel, Line
from toolkit.progress import progress
from toolkit.spaces import Space
from toolkit.supernet import SuperNetwork

SHORT_GAP_MS = 50.0


@dataclass(frozen=True)
class Effort:
    """How much is measured. The defaults take about 65 s for `kws-ds`.

    Attributes:
        fitted: whole networks the latency model is fitted on.
        held_out: whole networks it is then judged on.
        paced: networks timed at the pace of a stream, spread from the cheapest to the dearest.
        short_calls: calls of each at the shortened gap.
        hop_calls: calls of each at the hop itself.
        rounds: interleaved blocks of each tight-loop timing.
    """

    fitted: int = 60
    held_out: int = 48
    paced: int = 12
    short_calls: int = 30
    hop_calls: int = 6
    rounds: int = 12


def profile_device(
    space: Space,
    target: Target,
    *,
    threads: int = 1,
    hop_ms: int = 200,
    seed: int = 0,
    effort: Effort | None = None,
    partial: Path | None = None,
) -> DeviceProfile:
    """Measure what every edge of a space costs on a target.

    Args:
        threads: of onnxruntime.
        hop_ms: how often the listener will be called.
        partial: file that keeps what is measured so far; with the same arguments the work continues from it.

    Raises:
        MilliwiseError: the target fails, a model does not run there, or the hop does not fit the space.
    """
    effort = effort or Effort()
    begun = time.monotonic()
    device = target.fingerprint()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same models every time: a bundle is recognised by them
        network = space.build(hop_ms=hop_ms).eval()
    graph = network.graph
    asked = {"threads": threads, "hop_ms": hop_ms, "seed": seed, **dataclasses.asdict(effort)}
    parts = Partial(partial, {"digest": graph.digest(), "target": target.name, "device": device, **asked})
    plan = _Plan(network, hop_ms, sample_networks(graph, effort.fitted + effort.held_out, seed), effort)
    timings, paced = _measure(plan, target, threads, seed, parts)
    best = {name: timing.best_ms for name, timing in timings.items()}
    prior = priors(plan.work, best)
    same_as = {name: item.same_as for name, item in plan.work.items()}
    fitted_on, held_out = plan.networks[: effort.fitted], plan.networks[effort.fitted :]
    model = fit(graph, same_as, prior, fitted_on, [best[plan.name(kept)] for kept in fitted_on])
    latency, paced_noisy = _latency(plan, model, best, paced)
    profile = DeviceProfile(
        space=space.name,
        digest=graph.digest(),
        target=target.name,
        fingerprint=device,
        threads=threads,
        hop_ms=hop_ms,
        measured={"clock": "tight: least block median; paced: once per hop", "opset": OPSET, **asked},
        edges=_edges(plan.work, model, prior, timings),
        fixed={"stem": _stem_cost(network, hop_ms), "head": _head_cost(network, hop_ms)},
        latency=latency,
        held_out=judge(plan, model, best, held_out),
        noisy=sum(timing.noisy for timing in timings.values()) > len(timings) / 4 or paced_noisy,
        seconds=round(time.monotonic() - begun + parts.seconds_before, 1),
    )
    parts.remove()
    return profile


class _Plan:
    """Which models are timed, and under which names."""

    def __init__(self, network: SuperNetwork, hop_ms: int, networks: Sequence[Architecture], effort: Effort) -> None:
        self.network = network
        self.hop_ms = hop_ms
        self.effort = effort
        _bare, self.features_shape = features_only(network, hop_ms)
        self.work = edge_work(network, self.features_shape)
        self.networks = list(networks)
        self.context = context_models(self.work)
        self._names = {kept: f"network {index}" for index, kept in enumerate(self.networks)}
        by_size = sorted(self.networks[: effort.fitted], key=lambda kept: (len(kept), sorted(kept)))
        places = np.linspace(0, len(by_size) - 1, max(2, effort.paced - 1)).round().astype(int)
        self.paced = [*dict.fromkeys(by_size[place] for place in places), network.graph.full]
        gap_ms = min(SHORT_GAP_MS, float(hop_ms))
        self.paces = {"short": (gap_ms, effort.short_calls), "hop": (float(hop_ms), effort.hop_calls)}  # ms, calls

    def name(self, kept: Architecture) -> str:
        return self._names[kept]

    def models(self) -> dict[str, bytes]:
        """Everything timed in a tight loop: edges in context, networks without front-end, the paced ones with it."""
        bodies = {self.name(kept): self._write(kept, front_end=False) for kept in self.networks}
        return {**self.context, **bodies, **{f"whole {index}": model for index, model in enumerate(self.whole())}}

    def whole(self) -> list[bytes]:
        """The whole files of the networks that are paced."""
        return [self._write(kept, front_end=True) for kept in self.paced]

    def _write(self, kept: Architecture, front_end: bool) -> bytes:
        network = self.network.select(kept)
        if front_end:
            return with_properties(to_onnx(network, (1, self.hop_ms * SAMPLES_PER_MS)), {})
        return with_properties(to_onnx(*features_only(network, self.hop_ms)), {})


def _measure(
    plan: _Plan, target: Target, threads: int, seed: int, parts: Partial
) -> tuple[dict[str, Timing], list[dict[str, Any]]]:
    """Everything timed: back to back in one run, then some networks at the pace of a stream.

    Raises:
        PutOff: the target answers another day; it was asked for everything first.
    """
    put_off: list[PutOff] = []

    def ask(name: str, measure: Callable[[], Any]) -> Any:
        try:
            return parts.keep(name, measure)
        except PutOff as later:
            put_off.append(later)

    tight = ask("tight", functools.partial(_tight, plan, target, threads, seed))
    paced = []
    with progress(f"timing {len(plan.paced)} networks at the pace of a stream", len(plan.paced)) as advance:
        for index, content in enumerate(plan.whole()):
            paces = plan.paces.items()
            rows = {
                name: ask(f"paced {index} {name}", functools.partial(_paced, content, target, threads, *pace))
                for name, pace in paces
            }
            paced.append(rows)
            advance(1)
    if put_off:
        raise put_off[0]
    return {name: Timing(**row) for name, row in tight.items()}, paced


def _tight(plan: _Plan, target: Target, threads: int, seed: int) -> dict[str, Any]:
    title = f"timing {len(plan.context)} parts and {len(plan.networks)} networks"
    found = time_tight(plan.models(), target, threads=threads, rounds=plan.effort.rounds, seed=seed, title=title)
    return {name: dataclasses.asdict(timing) for name, timing in found.items()}


def _paced(content: bytes, target: Target, threads: int, pace_ms: float, calls: int) -> dict[str, Any]:
    timing = time_paced(
        content, target, hop_ms=pace_ms, gap_ms=pace_ms, calls=calls, processes=1, threads=threads, title=""
    )
    return {"values_ms": list(timing.values_ms), "noisy": timing.noisy}


def _latency(
    plan: _Plan, model: Fitted, best: Mapping[str, float], rows: Sequence[Mapping[str, Any]]
) -> tuple[LatencyModel, bool]:
    """The maps from tight to paced and from the shortened gap to the hop, and whether others disturbed the former."""
    gap_ms, _calls = plan.paces["short"]
    short = [np.asarray(row["short"]["values_ms"]) for row in rows]
    shortened = Line(0.0, 1.0)
    if gap_ms < plan.hop_ms:
        at_hop = np.array([np.median(row["hop"]["values_ms"]) for row in rows])
        shortened = relative_line(np.array([np.median(calls) for calls in short]), at_hop)
    whole = [best[f"whole {index}"] for index in range(len(rows))]
    lines, error = paced_lines(whole, [shortened.base + shortened.slope * calls for calls in short])
    graph = plan.network.graph
    front_end = [max(0.0, seen - model(graph, graph.live(kept))) for seen, kept in zip(whole, plan.paced, strict=True)]
    noisy = sum(row["short"]["noisy"] for row in rows) > len(rows) / 4
    return LatencyModel(
        float(np.median(front_end)), model.base_ms, model.join_ms, lines, shortened, gap_ms, error
    ), noisy


def judge(plan: _Plan, model: Fitted, best: Mapping[str, float], networks: Sequence[Architecture]) -> HeldOut:
    """Predicted against measured tight-loop ms, front-end not included, of networks the model has not seen."""
    predicted = [model(plan.network.graph, kept) for kept in networks]
    measured = [best[plan.name(kept)] for kept in networks]
    errors = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    rows = tuple(
        {"kept": sorted(kept), "predicted_ms": p, "measured_ms": m}
        for kept, p, m in zip(networks, predicted, measured, strict=True)
    )
    return HeldOut(
        nets=len(networks),
        mape=float(errors.mean()),
        within_5=float((errors <= 0.05).mean()),
        within_10=float((errors <= 0.10).mean()),
        spearman=spearman(predicted, measured),
        rows=rows,
    )


def _edges(
    work: Mapping[str, Work], model: Fitted, prior: Mapping[str, float], timings: Mapping[str, Timing]
) -> dict[str, EdgeCost]:
    counted = {name: count(item.module, item.input_shape) for name, item in work.items() if item.same_as == name}
    rows = {}
    for name, item in work.items():
        counts, timing = counted[item.same_as], timings.get(f"{item.same_as} x1")
        rows[name] = EdgeCost(
            latency_ms=model.edges_ms[name],
            isolated_ms=None if timing is None else prior[name],
            spread=0.0 if timing is None else timing.spread,
            memory_bytes=counts.memory_bytes,
            steps=0 if timing is None else 1,
            multiply_adds=counts.multiply_adds,
            parameters=counts.parameters,
            uncounted=counts.uncounted,
            same_as=None if item.same_as == name else item.same_as,
        )
    return rows


def _stem_cost(network: SuperNetwork, hop_ms: int) -> EdgeCost:
    """The front-end in its exported form: matrices made at load, so their bytes are memory but not parameters."""
    assert isinstance(network.stem, LogMel)
    spec = network.stem.spec
    multiply_adds, matrix_values = log_mel_counts(spec, hop_ms * SAMPLES_PER_MS // spec.hop_samples)
    held = matrix_values + spec.history_samples + spec.mels * (hop_ms * SAMPLES_PER_MS // spec.hop_samples)
    return EdgeCost(0.0, None, 0.0, 4 * held, 0, multiply_adds, 0)


def _head_cost(network: SuperNetwork, hop_ms: int) -> EdgeCost:
    """The classifier; its ring of columns is in its memory."""
    head = network.head
    assert isinstance(head, WindowHead)
    counts = count(head, (1, head.linear.in_features, 1, head.hop_columns))
    ring = 4 * head.linear.in_features * max(0, head.window_columns - head.hop_columns)
    return EdgeCost(
        0.0, None, 0.0, counts.memory_bytes + ring, 0, counts.multiply_adds, counts.parameters, counts.uncounted
    )
