"""What a listener makes of single clips that come in one long stream, its states never reset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.listener import Listener
from exporters.metadata import RATE_HZ
from kws_demo.decide import Decider, Decision
from kws_demo.dial import Dial, start_anew, turn
from kws_demo.intervals import mean_interval
from kws_demo.noises import coloured

GAP_S = 1.4  # of quiet noise before every clip: longer than a window, so that a clip is scored without the one before
AFTER_S = 0.8  # a word's averaged score reaches its peak within this time after the clip
FLOOR = 1e-4  # RMS of the noise between clips, as of a quiet room


@dataclass(frozen=True)
class ClipScores:
    """Scores of N clips.

    Attributes:
        peaks: float64 [N, keywords], the highest averaged score of every keyword, from the clip's start to 0.8 s after
            its end.
        labelled: int64 [N], the label with the highest score in the window that covers the clip best.
    """

    peaks: NDArray[np.float64]
    labelled: NDArray[np.int64]

    @property
    def keyword(self) -> NDArray[np.int64]:
        """The keyword with the highest peak, int64 [N]."""
        return self.peaks.argmax(1)

    @property
    def score(self) -> NDArray[np.float64]:
        """That peak, [N]."""
        return self.peaks.max(1)


def score_clips(listener: Listener, clips: Sequence[np.ndarray], seed: int = 0, on_hops: bool = False) -> ClipScores:
    """Stream clips float32 [samples] at 16 kHz, one after the other, at places that know nothing of the hops.

    With `on_hops` every clip ends with a hop, so that one window is the clip, as where whole clips are classified.
    """
    rng = np.random.default_rng(seed)
    hop = listener.hop_samples
    hop_ms = 1000 * hop / listener.rate
    decision = Decision(**{**listener.metadata.decision, "threshold": 1.0})
    decider = Decider(listener.labels, hop_ms, decision)
    dial = Dial.of(listener)
    start_anew(listener, dial)
    peaks = np.zeros((len(clips), len(listener.labels) - 2))
    labelled = np.zeros(len(clips), np.int64)
    heard = 0
    for row, clip in enumerate(clips):
        before = int((GAP_S + rng.uniform(0, hop_ms / 1000)) * RATE_HZ)
        if on_hops:
            before += -(before + len(clip)) % hop
        total = -(-(before + len(clip) + int(AFTER_S * RATE_HZ)) // hop) * hop
        audio = (FLOOR * coloured("pink", total, rng)).astype(np.float32)
        audio[before : before + len(clip)] += clip
        nearest = hop
        for end in range(hop, total + 1, hop):
            heard += 1
            told = listener.push(np.clip(audio[end - hop : end], -1, 1))
            turn(listener, dial, told)
            scores = told.probabilities
            decider.update(heard * hop_ms, scores)
            if end > before:
                np.maximum(peaks[row], decider.average[2:], out=peaks[row])
            if abs(end - before - len(clip)) <= nearest:
                nearest = abs(end - before - len(clip))
                labelled[row] = scores.argmax()
    return ClipScores(peaks, labelled)


def threshold_for(others: ClipScores, accepted: int) -> float:
    """The lowest threshold that at most `accepted` of the other clips exceed."""
    ranked = np.sort(others.score)[::-1]
    return float(ranked[accepted]) if accepted < len(ranked) else 0.0


def overconfidence(scores: ClipScores, right: NDArray[np.bool_]) -> list[float]:
    """For each keyword, the mean score of the clips taken for it less the share of them that are `right` [N].

    Near 0 for every keyword, a score means the same for all of them: the chance that the word was said. 0 where no
    clip was taken for it.
    """
    gaps = []
    for keyword in range(scores.peaks.shape[1]):
        taken = scores.keyword == keyword
        gaps.append(float((scores.score[taken] - right[taken]).mean()) if taken.any() else 0.0)
    return gaps


@dataclass(frozen=True)
class Share:
    """A share of clips, with its 95 % interval by bootstrap over speakers."""

    share: float
    low: float
    high: float
    clips: int


def share_of(right: NDArray[np.bool_], speakers: Sequence[str], seed: int = 0) -> Share:
    """The share of `right` [N] clips, whose `speakers` are drawn with replacement for its interval."""
    groups: dict[str, list[float]] = {}
    for value, speaker in zip(right, speakers, strict=True):
        groups.setdefault(speaker, []).append(float(value))
    low, high = mean_interval(list(groups.values()), np.random.default_rng(seed))
    return Share(float(right.mean()), low, high, len(right))
