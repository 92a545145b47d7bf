"""Where the words are in a recording, from its energy alone: to cut them out of silence, without torch."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.noises import CLIP_SAMPLES

FRAME = 160  # samples: 10 ms
BAND_HZ = (200, 7000)  # of speech: neither an offset nor the hum of a cable counts
EMPTY_DB = -120.0  # a frame of digital silence: a single bit of 16 is 20 dB above it
OVER_NOISE_DB = 9.0  # what a frame of speech has over the noise, at least
UNDER_SPEECH_DB = 26.0  # what it lacks to the loud frames of the words, at most
JOINED_FRAMES = 25  # a shorter pause is part of a word: a stop consonant closes the mouth for some 100 ms
LEAST_FRAMES = 6  # what is shorter is a click
MARGIN, LEAST_MARGIN = RATE_HZ // 4, RATE_HZ // 20  # around a word that is cut out


class Span(NamedTuple):
    """From the first sample of a word to the one after its last."""

    start: int
    end: int


def frame_levels_db(audio: np.ndarray) -> np.ndarray:
    """Level [samples // 160] of every 10 ms of audio [samples] in the band of speech, in dB against full scale.

    Each is the mean over 30 ms: that of 10 ms of rumbling noise is now and then as high as a word's.
    """
    count = len(audio) // FRAME
    window = np.hanning(FRAME)
    hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
    band = (hz >= BAND_HZ[0]) & (hz <= BAND_HZ[1])
    power = np.zeros(count)
    for first in range(0, count, 10_000):  # a long recording takes the memory of a short one
        frames = audio[first * FRAME : min(first + 10_000, count) * FRAME].reshape(-1, FRAME)
        power[first : first + len(frames)] = np.square(np.abs(np.fft.rfft(frames * window)[:, band])).sum(1)
    if count:
        power = np.convolve(np.pad(power, 1, mode="edge"), np.ones(3) / 3, "valid")
    power *= 2 / (FRAME * np.square(window).sum())
    return 10 * np.log10(np.maximum(power, 10 ** (EMPTY_DB / 10)))


def noise_level_db(levels_db: np.ndarray) -> float:
    """The level that one frame in ten stays under; digital silence does not count, for it is padding.

    It counts where all the rest is equally loud: then it is the pause around a sound that was generated.
    """
    heard = levels_db[levels_db > EMPTY_DB]
    if not len(heard):
        return EMPTY_DB
    quiet_db, loud_db = np.percentile(heard, [10, 95])
    padded = len(heard) < 0.9 * len(levels_db)
    return EMPTY_DB if padded and loud_db - quiet_db < OVER_NOISE_DB else float(quiet_db)


def words_in(audio: np.ndarray) -> list[Span]:
    """The words of a recording float32 [samples] at 16 kHz, in order; none where nothing stands out of the noise.

    A frame is speech if it is 9 dB above the noise and not 26 dB below the loud frames of all words; a pause of 250 ms
    parts two words, and what is shorter than 60 ms is none.
    """
    levels_db = frame_levels_db(audio)
    over_noise_db = noise_level_db(levels_db) + OVER_NOISE_DB
    above = levels_db[levels_db > over_noise_db]
    if len(above) < LEAST_FRAMES:
        return []
    loud_db = np.percentile(above, 90)  # a knock on the table is louder than all words, but short
    places = np.flatnonzero(levels_db > max(over_noise_db, loud_db - UNDER_SPEECH_DB))
    words = np.split(places, np.flatnonzero(np.diff(places) > JOINED_FRAMES) + 1)
    return [Span(int(w[0]) * FRAME, (int(w[-1]) + 1) * FRAME) for w in words if len(w) >= LEAST_FRAMES]


def strongest(audio: np.ndarray, words: list[Span]) -> Span:
    """The word with the most energy: the others are a breath, a chair, somebody else."""
    return max(words, key=lambda word: float(np.square(audio[word.start : word.end], dtype=np.float64).sum()))


def with_margin(word: Span, words: list[Span], samples: int) -> Span:
    """The word with up to 250 ms of what is before and after it, and with no part of another word.

    The margins shrink, to 50 ms at least, where the clip would exceed the second that a listener hears at a time.
    """
    margin = min(MARGIN, max(LEAST_MARGIN, (CLIP_SAMPLES - (word.end - word.start)) // 2))
    room = surroundings(words, samples, margin)
    return room[words.index(word)]


def surroundings(words: list[Span], samples: int, margin: int) -> list[Span]:
    """Each word with at most `margin` samples on either side, less where the middle of a pause is nearer."""
    middles = [(before.end + after.start) // 2 for before, after in pairwise(words)]
    limits = zip(words, [0, *middles], [*middles, samples], strict=False)  # without words there is still one end
    return [Span(max(first, word.start - margin), min(last, word.end + margin)) for word, first, last in limits]
