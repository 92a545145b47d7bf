"""Long streams of words on background noise at known times: what streaming metrics and cold onsets are measured on.

The words are recordings of single words, laid on noise: nobody speaks in sentences here (`kws_demo/talk.py` has that).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.background import Background
from kws_demo.data import Clips
from kws_demo.labels import Truth
from kws_demo.noises import CLIP_SAMPLES
from kws_demo.voices import SILENCE_LABEL, chances, voices_of
from toolkit.errors import MilliwiseError

APART_S = 1.2  # from the start of a word to that of the next, at least
BEFORE_S, AFTER_S = 1.0, 2.0  # without a word, at the ends: the last one is heard out
LOUDEST_RMS = 0.1  # of words with the highest signal-to-noise ratio: their peaks are not cut
DRAWN_AT_ONCE = 64
MOST_S = 1e6  # eleven days
MOST_DB = 100.0


class Placed(NamedTuple):
    """Which clip is laid where: the sample at which it begins (below 0: its first part is cut), at what gain."""

    clip: int
    begin: int
    gain: float


@dataclass(frozen=True)
class LongStream:
    """Words on noise, made when it is asked for.

    Attributes:
        samples: its length at 16 kHz.
        truths: the words in order of time, as the listener's labels name them; start and end as their energy tells.
        speakers: of the words.
        noise_rms: of the noise behind them.
    """

    samples: int
    truths: list[Truth]
    speakers: tuple[str, ...]
    noise_rms: float
    seed: int
    _clips: Clips = field(repr=False)
    _placed: tuple[Placed, ...] = field(repr=False)
    _background: Background = field(repr=False)

    @cached_property
    def audio(self) -> np.ndarray:
        """All of it, float32 [samples] within -1..1."""
        return np.concatenate([np.zeros(0, np.float32), *self.blocks()])

    def blocks(self) -> Iterator[np.ndarray]:
        """The same, ten seconds or less at a time: memory stays flat."""
        begins = np.array([placed.begin for placed in self._placed])
        start = 0
        for noise in self._background.blocks(self.samples, self.seed):
            block, stop = np.float32(self.noise_rms) * noise, start + len(noise)
            heard = self._placed[np.searchsorted(begins, start - CLIP_SAMPLES, "right") : np.searchsorted(begins, stop)]
            voices = voices_of(self._clips, [placed.clip for placed in heard])
            for (_, begin, gain), voice in zip(heard, voices, strict=True):
                first, past = max(begin, start), min(begin + CLIP_SAMPLES, stop)
                block[first - start : past - start] += np.float32(gain) * voice.audio[first - begin : past - begin]
            yield np.clip(block, -1, 1)
            start = stop


class _Said(NamedTuple):
    """A clip, where in it the word starts and stops, and the RMS of the word."""

    clip: int
    start: int
    stop: int
    rms: float


def long_stream(
    clips: Clips,
    labels: Sequence[str],
    noise: Sequence[np.ndarray],
    seconds: float,
    speech_share: float,
    seed: int,
    snr_db: tuple[float, float] = (5.0, 30.0),
    unknown_share: float = 0.5,
) -> LongStream:
    """Words at random times, the noise behind them always as loud.

    Args:
        labels: the names of the clips' labels.
        noise: background recordings, float32 at 16 kHz, possibly none.
        speech_share: of the time; the number of words is the one that comes nearest.
        snr_db: uniform range of the words' levels above that of the noise.
        unknown_share: of the words.

    Raises:
        MilliwiseError: a value is out of range, or so many words do not fit in at least 1.2 s apart.
    """
    if not 0 < seconds <= MOST_S or not 0 <= speech_share <= 1 or not 0 <= unknown_share <= 1 or seed < 0:
        raise MilliwiseError(
            f"a stream of {seconds} s, speech for {speech_share} of it, {unknown_share} of the words unknown, seed"
            f" {seed}: give up to {MOST_S:g} s, shares of 0 to 1, and a seed of 0 or more"
        )
    if not -MOST_DB <= snr_db[0] <= snr_db[1] <= MOST_DB:
        raise MilliwiseError(
            f"signal-to-noise ratios of {snr_db} dB: give the lowest, then the highest, up to {MOST_DB:g}"
        )
    rng = np.random.default_rng([seed, 25])
    samples, apart = round(seconds * RATE_HZ), round(APART_S * RATE_HZ)
    room = samples - round((BEFORE_S + AFTER_S) * RATE_HZ)  # for the starts of words
    most = max(0, room // apart + 1)
    said = _said(clips, chances(clips.label, unknown_share, 0.0), speech_share * samples, most, rng)
    free = room - (len(said) - 1) * apart
    starts = np.sort(rng.integers(free + 1, size=len(said))) if said else np.zeros(0, np.int64)
    starts = starts + round(BEFORE_S * RATE_HZ) + apart * np.arange(len(said))
    words = list(zip(said, starts.tolist(), rng.uniform(*snr_db, len(said)).tolist(), strict=True))
    return _stream(clips, labels, noise, samples, words, snr_db[1], seed)


def idle_then_word(
    clips: Clips,
    labels: Sequence[str],
    noise: Sequence[np.ndarray],
    idle_s: float,
    clip: int,
    seed: int,
    snr_db: float = 10.0,
    after_s: float = AFTER_S,
) -> LongStream:
    """The word of one clip after exactly `idle_s` of background, which goes on for `after_s` after its start.

    Raises:
        MilliwiseError: a value is out of range, or the clip is one of silence.
    """
    if not 0 <= idle_s <= MOST_S or not 1 <= after_s <= MOST_S or not abs(snr_db) <= MOST_DB or seed < 0:
        raise MilliwiseError(
            f"a word after {idle_s} s, {after_s} s before the end, at {snr_db} dB, seed {seed}: give times of up to"
            f" {MOST_S:g} s, the second 1 or more, up to {MOST_DB:g} dB, and a seed of 0 or more"
        )
    if not 0 <= clip < len(clips.label) or clips.label[clip] == SILENCE_LABEL:
        raise MilliwiseError(f"clip {clip} of {len(clips.label)} is no word: give the place of one that is")
    start = round(idle_s * RATE_HZ)
    samples = start + round(after_s * RATE_HZ)
    [said] = _heard(clips, [clip])
    return _stream(clips, labels, noise, samples, [(said, start, snr_db)], snr_db, seed)


def _said(clips: Clips, likely: np.ndarray, wanted_samples: float, most: int, rng: np.random.Generator) -> list[_Said]:
    """Words drawn until they are together as long as wanted, or as near as whole words come."""
    said: list[_Said] = []
    length = 0
    while length < wanted_samples and len(said) <= most:
        for one in _heard(clips, rng.choice(len(likely), DRAWN_AT_ONCE, p=likely).tolist()):
            if length >= wanted_samples:
                break
            said.append(one)
            length += one.stop - one.start
    if said and length - wanted_samples > (said[-1].stop - said[-1].start) / 2:
        said.pop()
    if len(said) > most:
        raise MilliwiseError(
            f"speech for {wanted_samples / RATE_HZ:.1f} s needs {len(said)} words or more, and {most} fit in, "
            f"{APART_S} s apart: give a smaller share of speech, or a longer stream"
        )
    return said


def _heard(clips: Clips, chosen: Sequence[int]) -> list[_Said]:
    voices = zip(chosen, voices_of(clips, chosen), strict=True)
    return [_Said(clip, voice.start, voice.stop, voice.rms) for clip, voice in voices]


def _stream(
    clips: Clips,
    labels: Sequence[str],
    noise: Sequence[np.ndarray],
    samples: int,
    words: Sequence[tuple[_Said, int, float]],
    highest_db: float,
    seed: int,
) -> LongStream:
    """Words, each at its sample and so many dB above the noise."""
    noise_rms = LOUDEST_RMS * 10 ** (-highest_db / 20)
    truths, placed = [], []
    for said, start, snr_db in words:
        stop = start + said.stop - said.start
        truths.append(Truth(labels[int(clips.label[said.clip])], 1000 * start / RATE_HZ, 1000 * stop / RATE_HZ))
        placed.append(Placed(said.clip, start - said.start, noise_rms * 10 ** (snr_db / 20) / said.rms))
    speakers = tuple(clips.speaker[said.clip] for said, _, _ in words)
    return LongStream(samples, truths, speakers, noise_rms, seed, clips, tuple(placed), Background(noise, seed))
