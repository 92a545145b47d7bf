"""Clips of one second whose word is known to the sample, for the rest is exactly zero; and data made of them."""

import numpy as np

from kws_demo.data import Clips, SpeechData

LABELS = ("_silence_", "_unknown_", "yes", "no")
RATE_HZ = 16_000


def word_clips(label: list[int], seed: int = 0) -> Clips:
    """A clip of each label (0: zeros), with a tone of 0.2 to 0.5 s; each by its own speaker, called by its place."""
    rng = np.random.default_rng(seed)
    audio = np.zeros((len(label), RATE_HZ), np.float32)
    for clip, number in zip(audio, label, strict=True):
        length = int(rng.integers(3200, 8000))
        start = int(rng.integers(500, 15_500 - length))
        tone = sum(np.sin(np.arange(length) * 0.05 * k * rng.uniform(0.8, 1.2)) / k for k in range(1, 6))
        if number:
            clip[start : start + length] = rng.uniform(0.05, 0.2) * tone * np.exp(-np.arange(length) / length)
    speakers = tuple(str(place) for place in range(len(label)))
    return Clips(audio, np.array(label, np.int64), speakers, np.zeros(len(label), bool))


def word_data(
    label: list[int],
    noise: tuple[np.ndarray, ...] = (),
    test_noise: tuple[np.ndarray, ...] = (),
    talk: np.ndarray | None = None,
) -> SpeechData:
    """The same clips as train, validation and test."""
    clips = word_clips(label)
    return SpeechData(
        LABELS, clips, clips, clips, noise, test_noise, {}, np.zeros(0, np.float32) if talk is None else talk
    )


def extent(clip: np.ndarray) -> tuple[int, int]:
    """First and past-the-last sample that is not zero."""
    places = np.flatnonzero(clip)
    return int(places[0]), int(places[-1]) + 1


def power_db(audio: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(audio, dtype=np.float64))))
