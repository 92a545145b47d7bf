"""Clips streamed one after the other: their peaks are what the decider averages; shares come with their interval."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiny_listener

from exporters.listener import Listener, Scores
from kws_demo.evaluate import ClipScores, overconfidence, score_clips, share_of, threshold_for


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    return Listener.open(tiny_listener.write(tmp_path / "tiny.onnx"))


def test_loud_clips_peak_and_quiet_ones_do_not(listener: Listener) -> None:
    loud, quiet = (np.full(16_000, level, np.float32) for level in (0.5, 0.0))
    found = score_clips(listener, [loud, quiet, loud])
    assert found.peaks.shape == (3, 1)
    assert found.score[[0, 2]].min() > 0.9 and found.score[1] < 0.2
    assert found.labelled.tolist() == [2, 0, 2] and found.keyword.tolist() == [0, 0, 0]


def test_the_same_seed_gives_the_same_scores(listener: Listener) -> None:
    clips = [np.random.default_rng(7).normal(0, 0.2, 16_000).astype(np.float32)] * 2
    assert np.array_equal(score_clips(listener, clips, 1).peaks, score_clips(listener, clips, 1).peaks)


class Window:
    """A listener that is sure of its word as long as its window, the last second, holds something loud."""

    labels, hop_samples, rate = ("_silence_", "_unknown_", "loud"), 320, 16_000
    metadata = tiny_listener.metadata(hop_samples=320)

    gates = 0

    def reset(self) -> None:
        self.heard = np.zeros(16_000, np.float32)

    def push(self, block: np.ndarray) -> Scores:
        self.heard = np.concatenate([self.heard, block])[-16_000:]
        sure = np.abs(self.heard).max() > 0.1
        return Scores(np.array([1 - sure, 0, sure], np.float32), None, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_clip_is_scored_without_the_one_before_and_until_its_average_is_full(seed: int) -> None:
    quiet, click = np.zeros(8000, np.float32), np.zeros(8000, np.float32)
    click[-1] = 1.0  # heard at the very end of its clip, and then for a second
    found = score_clips(cast(Listener, Window()), [click, quiet, click, click, quiet, quiet], seed)
    assert found.score.tolist() == [1, 0, 1, 1, 0, 0]


def test_a_threshold_accepts_no_more_than_allowed() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.3], [0.7, 0.6]])
    others = ClipScores(scores, np.zeros(4, np.int64))
    for accepted in range(5):
        threshold = threshold_for(others, accepted)
        assert (others.score > threshold).sum() == accepted


def test_a_share_knows_its_speakers() -> None:
    right = np.array([True] * 50 + [False] * 50)
    few = share_of(right, ["a"] * 50 + ["b"] * 50)
    many = share_of(right, [str(number) for number in range(100)])
    assert few.share == many.share == 0.5 and few.clips == 100
    assert few.high - few.low > many.high - many.low


def test_a_score_that_is_the_chance_of_its_word_is_neither_over_nor_under_confident() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.1, 1.0, (2, 4000))
    peaks = np.zeros((8000, 2))
    peaks[:4000, 0], peaks[4000:, 1] = first, second
    right = np.concatenate([rng.random(4000) < first, rng.random(4000) < np.clip(second - 0.3, 0, 1)])
    even, over = overconfidence(ClipScores(peaks, np.zeros(8000, np.int64)), right)
    assert abs(even) < 0.03 and over > 0.2
    nobody = ClipScores(np.array([[0.9, 0.1]]), np.zeros(1, np.int64))
    assert overconfidence(nobody, np.array([True])) == pytest.approx([-0.1, 0.0])
