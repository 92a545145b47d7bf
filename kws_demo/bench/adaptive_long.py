"""The exported adaptive listener as it runs: after long silence, for an hour, and beside its always-on counterpart."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from exporters.listener import Listener
from exporters.metadata import RATE_HZ
from exporters.onnx import to_onnx, with_properties
from kws_demo.bench.adaptive_gated import ALARMS_PER_HOUR, HOP, HOP_MS, THRESHOLDS, Trial
from kws_demo.bench.capture import Streaming
from kws_demo.bench.listening import resident_mb
from kws_demo.decide import Decider, Decision, is_keyword
from kws_demo.demo import stream_and_record
from kws_demo.detectors import as_pcm
from kws_demo.long_streams import LongStream, idle_then_word, long_stream
from kws_demo.operating_points import TOLERANCE_MS, at_false_alarms
from profilers.check import check_budget
from profilers.export import export_run
from profilers.listener_metadata import listener_metadata
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.progress import progress

IDLE_S = {1: 60, 10: 60, 60: 40, 600: 12}  # seconds of background before a word, and how many words
HOUR_S, SETTLED_S, LAST_S = 3600, 300, 60
STARTED_S, BACKGROUND_S = 10, 60  # of background: until the process has surely caught up, and then
LINE_S = 30
Row = dict[str, Any]


def big_ms(trial: Trial) -> float:
    """p95 of all gates open at every hop, as a file of its own, once per hop."""
    model = with_properties(to_onnx(trial.adaptive.network, (1, HOP)), {})
    return check_budget(model, Budget.parse("100 ms"), LocalTarget(), hop_ms=HOP_MS, calls=200).p95_ms


def cold_onset(trial: Trial) -> Row:
    """Words missed after so many seconds of background, by the listener and with all gates open: the same words."""
    keywords = np.flatnonzero(trial.data.test.label > 1)
    chosen = np.random.default_rng(trial.seed).permutation(keywords)
    threshold = _threshold(trial)
    missed: dict[str, dict[str, float]] = {"own": {}, "big": {}}
    words: dict[str, int] = {}
    with TemporaryDirectory(prefix="milliwise-bench-") as name:
        listeners = {"own": _own(trial, Path(name)), "big": _big(trial, Path(name))}
        with progress("words after silence", sum(IDLE_S.values())) as advance:
            for idle_s, count in IDLE_S.items():
                clips, hits = chosen[:count].tolist(), dict.fromkeys(listeners, 0)
                for clip in clips:
                    seed = 1000 * trial.seed + clip  # of the background
                    stream = idle_then_word(
                        trial.data.test, trial.data.labels, trial.data.test_noise, idle_s, clip, seed
                    )
                    for kind, listener in listeners.items():
                        hits[kind] += _hears(listener, stream, trial.decision, threshold)
                    advance(1)
                words[str(idle_s)] = len(clips)
                for kind, found in hits.items():
                    missed[kind][str(idle_s)] = 1 - found / len(clips)
    more = {idle: missed["own"][idle] - missed["big"][idle] for idle in missed["own"]}
    return {"missed": missed, "more_missed": more, "words": words, "threshold": threshold}


def _threshold(trial: Trial) -> float:
    """With which all gates open has the rate of false alarms that all are compared at."""
    sweep = trial.sweep(trial.heard.scores[:, -1])
    return float(THRESHOLDS[at_false_alarms(sweep, ALARMS_PER_HOUR)])


def _own(trial: Trial, folder: Path) -> Listener:
    export_run(trial.folder, folder / "own.onnx", calls=60)
    return Listener.open(folder / "own.onnx")


def _big(trial: Trial, folder: Path) -> Listener:
    """The network with every gate open, as a file of its own."""
    network = to_onnx(trial.adaptive.network, (1, HOP))
    metadata = listener_metadata(trial.selected, network, None, trial.profile, 1.0)
    (folder / "big.onnx").write_bytes(with_properties(network, metadata.to_properties()))
    return Listener.open(folder / "big.onnx")


def _hears(listener: Listener, stream: LongStream, settings: Decision, threshold: float) -> bool:
    """Whether the word is announced when it is said, as itself: what comes before may be a false alarm."""
    listener.reset()
    labels = listener.labels
    decider = Decider(labels, HOP_MS, settings, {label: threshold for label in labels if is_keyword(label)})
    truth = stream.truths[0]
    earliest_s = (truth.start_ms - TOLERANCE_MS) / 1000
    for hop, block in enumerate(_hops(stream.blocks()), 1):
        found = decider.push(hop * HOP_MS - 1000.0, listener.push(block).probabilities)
        if found is not None and found.keyword == truth.word and found.start_s >= earliest_s:
            return True
    return False


def _hops(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // HOP * HOP
        yield from rest[:whole].reshape(-1, HOP)
        rest = rest[whole:]


def hour(trial: Trial) -> Row:
    """An hour of words on noise without a reset: memory, scores at its end against offline; and background's cost."""
    with TemporaryDirectory(prefix="milliwise-bench-") as name:
        exported = export_run(trial.folder, Path(name) / "own.onnx", calls=400)
        line = stream_and_record(
            Path(name) / "own.onnx", trial.stream.audio[: LINE_S * 16_000], _truths(trial), "stream"
        )
        idle = on_background(Path(name) / "own.onnx", background_of(trial), Path(name))
        audio = trial.stream.audio[: HOUR_S * 16_000]
        np.save(Path(name) / "hour.npy", audio)
        # A process of its own, as a stream has: this one has trained, and its memory changes for other reasons.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            growth_mb, scores = alone.submit(without_reset, Path(name) / "own.onnx", Path(name) / "hour.npy").result()
    return {
        "growth_mb": growth_mb,
        "difference": _offline_difference(trial, audio, scores),
        "p99_ms": exported["measured"]["p99_ms"],
        "background_core": idle["core"],
        "background": idle,
        "bytes": exported["bytes"],
        "exempt": exported["verified"]["exempt"],
        "max_abs_diff": exported["max_abs_diff"],
        "line": line,
    }


def without_reset(model: Path, recording: Path) -> tuple[float, np.ndarray]:
    """How many MB more it takes after a recording than when it had settled; and the scores of the last minute."""
    listener, audio = (
        Listener.open(model),
        np.load(recording, allow_pickle=False),
    )  # all of it: mapped pages would count
    scores: deque[np.ndarray] = deque(maxlen=round(LAST_S * 1000) // HOP_MS)
    settled_mb = resident_mb(os.getpid())
    with progress("an hour without a reset", len(audio) // HOP) as advance:
        for hop in range(len(audio) // HOP):
            if hop * HOP_MS == 1000 * SETTLED_S:
                settled_mb = resident_mb(os.getpid())
            scores.append(listener.push(audio[hop * HOP : (hop + 1) * HOP]).probabilities)
            advance(1)
    return resident_mb(os.getpid()) - settled_mb, np.stack(scores)


def _truths(trial: Trial) -> list[Row]:
    words = [truth for truth in trial.stream.truths if truth.start_ms < 1000 * LINE_S]
    return [{"keyword": truth.word, "start_s": truth.start_ms / 1000} for truth in words]


def _offline_difference(trial: Trial, audio: np.ndarray, scores: np.ndarray) -> float:
    """Of the last scores from what torch makes of the whole audio at once, the controller's choices included."""
    hops = len(audio) // HOP
    with torch.no_grad():
        offline = trial.adaptive.roll(trial.heard.sinks[None, :hops]).logits[0].softmax(1).numpy()
    return float(np.abs(offline[-len(scores) :] - scores).max())


def background_of(trial: Trial) -> np.ndarray:
    """The noise that the trial's stream begins with, without its words: float32 [hops, HOP]."""
    data, seconds = trial.data, STARTED_S + BACKGROUND_S
    return long_stream(data.test, data.labels, data.test_noise, seconds, 0.0, trial.seed).audio.reshape(-1, HOP)


def on_background(model: Path, hops: np.ndarray, folder: Path) -> Row:
    """Feed `milliwise stream` in real time: processor seconds per second of audio, without its start; its summary."""
    started, times = STARTED_S * 1000 // HOP_MS, []
    with Streaming(model, folder, ["--stdin", "--rate", RATE_HZ]) as streaming:
        assert streaming.process.stdin is not None
        begun = time.monotonic()
        for place, hop in enumerate(hops, 1):
            time.sleep(max(0.0, begun + place * HOP_MS / 1000 - time.monotonic()))  # it is there when it is over
            if place > started:
                times.append(processor_s(streaming.process.pid))
            streaming.write(as_pcm(hop))
            streaming.process.stdin.flush()
        heard = streaming.finish()
    return {"core": (times[-1] - times[0]) / ((len(times) - 1) * HOP_MS / 1000), **heard.summary}


def processor_s(process: int) -> float:
    """What all threads of a process have used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user, system
