"""Background sound made by numbers: white, pink and brown noise and mains hum, and clips of the silence class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporters.metadata import RATE_HZ

COLOURS = ("white", "pink", "brown", "hum")
CLIP_SAMPLES = RATE_HZ
LEVELS_DB = (-70.0, -15.0)  # RMS of a silence clip, relative to full scale


def coloured(colour: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise float32 [samples] at 16 kHz with an RMS of 1; "hum" is 50 or 60 Hz with harmonics and a little noise."""
    if colour == "hum":
        noise = 0.1 * rng.standard_normal(samples)
        base_hz = float(rng.choice([50.0, 60.0])) * float(rng.uniform(0.99, 1.01))
        for harmonic in range(1, 9):
            phase = 2 * np.pi * (base_hz * harmonic * np.arange(samples) / RATE_HZ + rng.random())
            noise += rng.random() / harmonic * np.sin(phase)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(samples))
        slope = {"white": 0.0, "pink": -0.5, "brown": -1.0}[colour]  # of the amplitude over frequency
        lowest = max(1, round(20 * samples / RATE_HZ))  # flat under 20 Hz: unheard, it would rule the level
        noise = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), lowest) ** slope, samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float32)


def silence_clips(count: int, recordings: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Clips float32 [count, 16000] without speech, at random levels within -1..1.

    Excerpts of the background recordings and synthetic noise; one in eight is almost silent, and one in eight digital
    silence: exact zeros, which a muted microphone sends.
    """
    clips = np.zeros((count, CLIP_SAMPLES), np.float32)
    for index, clip in enumerate(clips):
        level = 10 ** (rng.uniform(*LEVELS_DB) / 20)
        if index % 8 == 0:
            continue
        if index % 8 == 1:
            clip[:] = 10 ** rng.uniform(-5, -3.5) * rng.standard_normal(CLIP_SAMPLES)
        elif index % 8 < 5 and recordings:
            clip[:] = _excerpt(recordings[int(rng.integers(len(recordings)))], level, rng)
        else:
            clip[:] = level * coloured(str(rng.choice(COLOURS)), CLIP_SAMPLES, rng)
    return np.clip(clips, -1, 1)


def _excerpt(recording: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """One second of a recording (repeated where it is shorter), at an RMS of `level`; silence stays silence."""
    start = int(rng.integers(max(1, len(recording) - CLIP_SAMPLES + 1)))
    excerpt = np.resize(recording[start : start + CLIP_SAMPLES], CLIP_SAMPLES)
    rms = float(np.sqrt(np.mean(excerpt**2)))
    return excerpt * (level / rms if rms > 1e-5 else 0.0)
