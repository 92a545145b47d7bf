"""What `milliwise bench profile` measures of this machine: raw results, without a verdict."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np

from exporters.onnx import to_onnx, with_properties
from kws_demo.bench.profile_methods import OURS, judged, methods
from profilers.clock import measure_tight, time_paced
from profilers.compare import compare
from profilers.counts import count
from profilers.latency import features_only, sample_networks
from profilers.makespan import measure_makespans
from profilers.measured import Measured
from profilers.partial import Partial
from profilers.plan import Effort, Plan
from profilers.profile import profile_device
from profilers.session import Session
from profilers.target import LocalTarget
from toolkit.costs import random_architecture
from toolkit.graph import Architecture
from toolkit.progress import progress
from toolkit.spaces import find_space

LISTENER, FABRIC, LARGE = "kws-ds", "resnet-fabric", "kws-cnn"
HOP_MS = 200
HELD_OUT, CALIBRATING = 200, 100
PACED_NETWORKS, PACED_CALLS = 12, 120
BUSY_PROFILES = 3
REPEATED = 3
WINNERS, CHOSEN_FROM = 30, 2000
MEMORY_NETWORKS, SHARED_NETWORKS = 31, 60
Row = dict[str, Any]


def accuracy(name: str, seed: int) -> Row:
    """Measure a space with many held-out networks; what every method predicts of them, and measured again."""
    space, target = find_space(name), LocalTarget()
    network = space.build().eval()
    effort = Effort(calibrating=CALIBRATING, held_out=HELD_OUT)
    plan = Plan(network, space.shape(HOP_MS), seed, effort)
    clock = "paced" if name == LARGE else "tight"
    found = Measured(plan, Session(target, 1, seed, Partial(None, {})), clock, HOP_MS)
    model = found.fit()
    held_out = found.timed(found.networks.held_out)
    measured = [found.ms(found.names[kept]) for kept in held_out]
    predicted = {name: [predict(kept) for kept in held_out] for name, predict in methods(found, model).items()}
    others = found.timed(found.networks.calibrating)
    again = _again(found, held_out, target, seed)
    return {
        "methods": {name: dataclasses.asdict(judged(values, measured)) for name, values in predicted.items()},
        "again": dataclasses.asdict(judged(again, measured)) if again else None,
        "measured_ms": measured,
        "predicted_ms": predicted[OURS],
        "calibrating": [found.ms(found.names[kept]) / model(network.graph, kept) for kept in others],
        "winners": _winners(found, model, target, seed) if others else None,
        "table_seconds": found.table_seconds,
        "disturbed": list(found.session.disturbances()),
    }


def _again(found: Measured, networks: Sequence[Architecture], target: LocalTarget, seed: int) -> list[float]:
    """The same networks timed in new processes, by the same clock."""
    session = Session(target, 1, seed + 1, Partial(None, {}))
    bodies = [(found.names[kept], found.plan.body(kept)) for kept in networks]
    if found.clock == "tight":
        session.anchors = found.plan.anchors()
        session.tight("the same networks again", bodies, found.plan.effort.rounds)
        session.level()
    else:
        session.paced(
            "the same networks again", lambda: bodies, len(bodies), found.gap_ms, found.plan.effort.paced_calls
        )
    return [session.times[name].ms for name, _body in bodies]


def _winners(found: Measured, model: Callable[..., float], target: LocalTarget, seed: int) -> list[float]:
    """Measured / predicted of networks that a search would pick: the most multiply-adds within budgets in ms."""
    graph, chance = found.plan.network.graph, random.Random(seed)
    counts = {name: count(item.module, item.input_shape).multiply_adds for name, item in found.plan.work.items()}
    drawn = {random_architecture(graph, chance, chance.uniform(0.05, 0.95)) for _ in range(CHOSEN_FROM)}
    priced = sorted((model(graph, kept), sorted(kept)) for kept in drawn - set(found.names))
    budgets = np.quantile([ms for ms, _kept in priced], np.linspace(0.1, 0.95, WINNERS))
    chosen: dict[Architecture, float] = {}
    for budget in budgets:
        within = [(sum(counts[name] for name in kept), ms, frozenset(kept)) for ms, kept in priced if ms <= budget]
        _most, ms, kept = max(within, key=lambda each: each[0])
        chosen[kept] = ms
    bodies = {f"winner {index}": found.plan.body(kept) for index, kept in enumerate(chosen)}
    times = measure_tight(
        {**bodies, **found.session.anchors},
        target,
        rounds=found.plan.effort.rounds,
        seed=seed,
        title="networks a search picks",
    )
    slower = found.session.slower(times.timings)
    return [times.timings[name].best_ms / slower / ms for name, ms in zip(bodies, chosen.values(), strict=True)]


def repeated(seed: int) -> Row:
    """Profiles, each in processes of its own, and what the first predicts of some networks at a listener's pace.

    The drift is that of the worst pair.
    """
    space, effort = find_space(LISTENER), Effort(calibrating=0, held_out=0)
    profiles = [profile_device(space, LocalTarget(), seed=seed, effort=effort) for _ in range(REPEATED)]
    drifts, first = [compare(*pair).median_drift for pair in combinations(profiles, 2)], profiles[0]
    graph = space.build().graph
    return {
        "median_drift": None if None in drifts else max(drift for drift in drifts if drift is not None),
        "drifts": drifts,
        "table_seconds": [profile.measured["table_seconds"] for profile in profiles],
        "p95_ms": [first.paced_ms(graph, kept, "p95") for kept in _paced_networks(seed)],
        "disturbed": [list(profile.noisy_because) for profile in profiles],
    }


def _paced_networks(seed: int) -> list[Architecture]:
    """Networks that no profile of that seed was fitted on."""
    return sample_networks(find_space(LISTENER).build().graph, PACED_NETWORKS, seed + 1000)


def paced(seed: int) -> list[float]:
    """The p95 in ms of whole files called once per hop, in two fresh processes each."""
    space = find_space(LISTENER)
    network, target = space.build().eval(), LocalTarget()
    values = []
    with progress(f"{PACED_NETWORKS} networks at the pace of a listener", PACED_NETWORKS) as advance:
        for kept in _paced_networks(seed):
            model = with_properties(to_onnx(network.select(kept), space.shape(HOP_MS)), {})
            timing = time_paced(model, target, hop_ms=HOP_MS, gap_ms=HOP_MS, calls=PACED_CALLS, title="")
            values.append(sorted(timing.values_ms)[math.ceil(0.95 * PACED_CALLS) - 1])
            advance(1)
    return values


def busy(quiet: Row, seed: int) -> Row:
    """A profile while another process keeps one core busy, judged on the networks that were timed without it."""
    space = find_space(LISTENER)
    with _burning():
        profile = profile_device(space, LocalTarget(), seed=seed, effort=Effort(calibrating=0, held_out=0))
    graph = space.build().graph
    sampled = sample_networks(graph, Effort().fitted + CALIBRATING + HELD_OUT, seed)
    predicted = [profile.table_ms(graph, kept, front_end=False) for kept in sampled[-HELD_OUT:]]
    return {
        "flagged": profile.noisy,
        "why": list(profile.noisy_because),
        **vars(judged(predicted, quiet["measured_ms"])),
    }


@contextmanager
def _burning() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def memory(seed: int) -> list[dict[str, Any]]:
    """Networks of the large space that took no part in the fit: predicted and measured bytes."""
    effort = Effort(paced=2, paced_calls=4, short_calls=4, hop_calls=4, weighed=MEMORY_NETWORKS)
    profile = profile_device(find_space(LARGE), LocalTarget(), seed=seed, effort=effort)
    return [] if profile.memory is None else [dict(each) for each in profile.memory.rows]


def shared(name: str, seed: int) -> Row:
    """Networks really run by two threads, by the plan that is predicted to be the fastest."""
    space = find_space(name)
    network = space.build().eval()
    _bare, shape = features_only(network, space.shape(HOP_MS))
    networks = sample_networks(network.graph, SHARED_NETWORKS, seed + 2000)
    found = measure_makespans(network, shape, networks, LocalTarget(), workers=2, rounds=12, seed=seed)
    return {
        "handoff_ms": found.model.handoff_ms,
        "noisy": found.noisy,
        "rows": [
            {
                "workers": each.workers,
                "predicted_ms": each.predicted_ms,
                "measured_ms": each.measured_ms,
                "one_measured_ms": each.one_measured_ms,
            }
            for each in found.rows
        ],
    }
