"""A planned part of the data becomes one array, in order, and is in memory once."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from recorded import record

from kws_demo.noises import silence_clips
from kws_demo.plan import Plan
from kws_demo.recordings import centred, read_clip, word_recordings
from kws_demo.synth import split_voices, synthesise


def test_a_plan_is_read_in_order_and_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    for word in ("ja", "nej"):
        record(tmp_path / word, 20)
    recordings = word_recordings(tmp_path)[:10] * 2  # as added recordings, which come several times
    spoken = synthesise(["yes", "no"], 3, 0, split_voices("en", 0)["train"])
    silence = silence_clips(4, (), np.random.default_rng(0))
    steps: list[float] = []
    plan = Plan(recordings=recordings)
    plan.say(spoken[:3])
    plan.say(spoken[3:], "_unknown_")
    assert plan.labels == [clip.word for clip in spoken[:3]] + ["_unknown_"] * 3 + ["ja"] * 20
    assert plan.speakers == (*(clip.voice for clip in spoken), *(found.speaker for found in recordings))
    clips = [*silence, *(centred(clip.audio) for clip in spoken), *(read_clip(found.path) for found in recordings)]
    audio = plan.read(silence, steps.append)
    assert np.array_equal(audio, np.stack(clips)) and audio.dtype == np.float32
    assert not plan.spoken and len(steps) == 20


def test_recordings_are_in_memory_once(tmp_path: Path) -> None:
    for word in ("ja", "nej"):
        record(tmp_path / word, 20)
    plan = Plan(recordings=word_recordings(tmp_path))
    size = 4 * 16000 * len(plan.recordings)
    tracemalloc.start()
    try:
        assert plan.read(np.zeros((0, 16000), np.float32), lambda amount: None).nbytes == size
        assert tracemalloc.get_traced_memory()[1] < 1.2 * size
    finally:
        tracemalloc.stop()
