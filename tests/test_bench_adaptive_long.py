"""`milliwise bench adaptive` on background: a real process hears noise without a word, and its own time is read."""

import os
import time
from pathlib import Path

import gated_trial
import numpy as np
import pytest
from fake_adaptive import adaptive
from gated_trial import HOP
from tiny_listener import write

from exporters.listener import Listener
from kws_demo.bench import adaptive_costs, adaptive_long
from kws_demo.detectors import as_pcm
from profilers.clock import PacedTiming


def test_the_background_is_the_noise_of_the_stream_without_its_words() -> None:
    trial = gated_trial.trial()
    hops = adaptive_long.background_of(trial)
    assert hops.shape == (350, HOP)
    stream, said = trial.stream.audio[: hops.size], np.zeros(hops.size, bool)
    for truth in trial.stream.truths:
        said[max(0, round(16 * truth.start_ms) - 16_000) :][:48_000] = True  # a clip lasts a second
    np.testing.assert_array_equal(hops.ravel()[~said[: hops.size]], stream[~said[: hops.size]])
    assert 0.3 < said.mean() < 1 and np.square(hops).mean(1).max() < 2 * np.square(hops).mean()


def test_it_is_heard_by_the_product_in_real_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hops: the process is asked when the first one is done with, and 200 ms of audio later."""
    asked: list[int] = []

    def used_s(process: int) -> float:
        asked.append(process)
        return 10.0 + 3 * len(asked)

    monkeypatch.setattr(adaptive_long, "STARTED_S", 0.2)
    monkeypatch.setattr(adaptive_long, "processor_s", used_s)
    hops = np.full((3, HOP), 0.15, np.float32)  # `wide` opens; at the second one `deep`, too
    hops[1] = 0.25
    found = adaptive_long.on_background(write(tmp_path / "own.onnx", adaptive()), hops, tmp_path)
    assert len(asked) == 2 and asked[0] == asked[1] != os.getpid()
    assert found["core"] == pytest.approx(3 / 0.2)
    assert found["hops"] == 3 and found["overflows"] == 0
    assert {name: count for name, count in found["modes"].items() if count} == {
        "wide cold": 1, "wide warm+deep cold": 1, "wide warm": 1,
    }  # fmt: skip


def test_a_recording_without_reset_grows_nothing_and_ends_with_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_long, "SETTLED_S", 1)
    monkeypatch.setattr(adaptive_long, "LAST_S", 0.4)
    audio = np.random.default_rng(0).normal(0, 0.1, 20 * HOP).astype(np.float32)
    np.save(tmp_path / "hour.npy", audio)
    growth_mb, scores = adaptive_long.without_reset(write(tmp_path / "own.onnx", adaptive()), tmp_path / "hour.npy")
    listener = Listener.open(tmp_path / "own.onnx")
    expected = [listener.push(block).probabilities for block in audio.reshape(-1, HOP)]
    np.testing.assert_array_equal(scores, np.stack(expected[-2:]))
    assert abs(growth_mb) < 50


def test_the_time_of_a_process_is_that_of_its_own_clock() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc here")
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    before = time.process_time()
    told = adaptive_long.processor_s(os.getpid())
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert before - 2 * tick <= told <= time.process_time() + 2 * tick


def test_an_outer_gate_is_timed_as_it_runs_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hop by hop, each given once, as samples or as a microphone's bytes."""
    pytest.importorskip("webrtcvad", reason="webrtcvad-wheels is not installed")
    trial, pushed = gated_trial.trial(), []
    timing = PacedTiming(((1.0, 2.0), (3.0,)), 200.0, False)
    monkeypatch.setattr(adaptive_costs, "time_paced", lambda *_arguments, **_options: timing)
    monkeypatch.setattr(adaptive_costs.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(adaptive_costs.Energy, "detector", lambda _self, _hop: Detector(pushed))
    monkeypatch.setattr(adaptive_costs.Voiced, "detector", lambda _self: Detector(pushed))
    found = adaptive_costs.outer_costs(trial)
    assert found.keys() == {"alone", "restart", "energy", "vad"}
    assert (found["restart"], found["alone"]) == (2.0, [2.0] * len(trial.adaptive.modes))
    hops = trial.stream.audio.reshape(-1, HOP)[: adaptive_costs.CALLS]
    assert [np.asarray(hop).tobytes() for hop in pushed[: len(hops)]] == [hop.tobytes() for hop in hops]
    assert pushed[len(hops) :] == [as_pcm(hop) for hop in hops]


class Detector:
    """Keeps what it is given."""

    def __init__(self, pushed: list[np.ndarray | bytes]) -> None:
        self.push = pushed.append
