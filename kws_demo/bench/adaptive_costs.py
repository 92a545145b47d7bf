"""What a hop of every competitor costs that is no mode of the adaptive file: gates outside, and static listeners."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from exporters.onnx import to_onnx, with_properties
from kws_demo.bench.adaptive_gated import HOP, HOP_MS, SPACE, Row, Trial
from kws_demo.detectors import as_pcm
from kws_demo.gates import Energy, Voiced
from profilers.clock import time_paced
from profilers.target import LocalTarget
from toolkit.spaces import SAMPLES_PER_MS, find_space
from toolkit.supernet import SuperNetwork

RESTART_MS = 1000  # of audio that a woken listener has to catch up with: its window
CALLS = 60
T = TypeVar("T")


def outer_costs(trial: Trial) -> Row:
    """Median ms of a hop: of what an outer gate adds (with waking up), and of static listeners to compare with.

    Returns:
        `alone`, every mode as a file without gates; `restart`, one that starts from the sound alone; and every gate.
    """
    network = find_space(SPACE).build(len(trial.data.labels), RESTART_MS).eval()  # its weights do not matter
    modes = [trial.adaptive.network.select(live) for live in trial.adaptive.modes]
    found: Row = {
        "alone": [_file_ms(mode, HOP_MS, f"mode {place + 1} of {len(modes)}") for place, mode in enumerate(modes)],
        "restart": _file_ms(network, RESTART_MS, "a listener that starts"),
    }
    sound = list(trial.stream.audio[: CALLS * HOP].reshape(-1, HOP))
    found["energy"] = _paced_ms(Energy(Energy.tried[0]).detector(HOP).push, sound)
    found["vad"] = _paced_ms(Voiced(Voiced.tried[0]).detector().push, [as_pcm(hop) for hop in sound])
    return found


def _file_ms(network: SuperNetwork, heard_ms: int, title: str) -> float:
    """Of a listener that hears so many ms at once, called once per hop."""
    model = with_properties(to_onnx(network, (1, heard_ms * SAMPLES_PER_MS)), {})
    timing = time_paced(model, LocalTarget(), hop_ms=HOP_MS, gap_ms=HOP_MS, calls=CALLS, title=title)
    return statistics.median(timing.values_ms)


def _paced_ms(push: Callable[[T], Any], hops: Sequence[T]) -> float:
    """The median of calls once per hop, the process asleep between: as a listener's are timed."""
    times = []
    for hop in hops:
        time.sleep(HOP_MS / 1000)
        begun = time.perf_counter()
        push(hop)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)
