"""The detectors that hear hop by hop: the floor is numpy's percentile, and the cuts between the hops are not heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.detectors import FULL_SCALE, QUIETEST_DB, RATE_HZ, EnergyDetector, VoiceDetector, as_pcm


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([640, 3200, 6400, 160_000, 320_000]), st.floats(0.5, 20))
def test_the_floor_is_the_percentile_of_the_last_ten_seconds(seed: int, hop: int, above_db: float) -> None:
    """Some levels come again, some are below what counts, and the first seconds had been there before."""
    rng = np.random.default_rng(seed)
    levels_db = rng.choice([*rng.uniform(-90, -3, 8), QUIETEST_DB], 60 if hop > 640 else 400)
    audio = np.float32(10 ** (levels_db / 20))[:, None].repeat(16, 1)  # the length of a hop decides the floor's alone
    detector = EnergyDetector(above_db, hop)
    count = max(1, round(10 * RATE_HZ / hop))
    known_db = np.maximum(levels_db, QUIETEST_DB)
    past = np.lib.stride_tricks.sliding_window_view(np.pad(known_db, (count - 1, 0), "edge"), count)
    above = known_db - np.percentile(past, 10, axis=1)
    for block, expected in zip(audio, above, strict=True):
        heard = detector.push(block)
        assert heard == (expected > above_db) or abs(expected - above_db) < 1e-4


@pytest.mark.parametrize("aggressiveness", range(4))
def test_the_cuts_between_hops_are_not_heard(aggressiveness: int) -> None:
    """As webrtcvad says of the frames of the whole, one after the other."""
    webrtcvad = pytest.importorskip("webrtcvad", reason="webrtcvad-wheels is not installed")
    rng = np.random.default_rng(aggressiveness)
    audio = rng.normal(0, 0.3, 64_000) * (np.sin(np.arange(64_000) / 3000) > 0) * np.sin(np.arange(64_000) / 9)
    content, whole = as_pcm(audio.clip(-1, 1)), webrtcvad.Vad(aggressiveness)
    frames = [content[start : start + 960] for start in range(0, len(content) - 959, 960)]
    voiced = [whole.is_speech(frame, RATE_HZ) for frame in frames]
    assert len(set(voiced)) == 2
    for hop in (640, 3200):
        detector, found = VoiceDetector(0.5, aggressiveness), []
        for start in range(0, len(content), 2 * hop):
            done = [voiced[place] for place in range(len(frames)) if start < 960 * (place + 1) <= start + 2 * hop]
            found.append((detector.push(content[start : start + 2 * hop]), sum(done) > 0.5 * len(done)))
        assert [heard for heard, _expected in found] == [expected for _heard, expected in found]


def test_samples_become_those_of_a_microphone() -> None:
    assert np.frombuffer(as_pcm(np.array([-1.0, 0.0, 0.5, 1.0])), "<i2").tolist() == [-FULL_SCALE, 0, 16383, FULL_SCALE]
