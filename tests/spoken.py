"""Sounds that have the shape of a spoken word, and recordings with some of them in quiet noise."""

import numpy as np

RATE_HZ = 16000


def word(seconds: float = 0.5, formants_hz: tuple[float, ...] = (500, 1500, 900), seed: int = 0) -> np.ndarray:
    """A buzz whose resonance moves through `formants_hz`, float32 with a peak of 0.5, soft at both ends."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    place = np.linspace(0, len(formants_hz) - 1, len(time_s))
    formant_hz = np.interp(place, np.arange(len(formants_hz)), formants_hz) * rng.uniform(0.98, 1.02)
    pitch_hz = 120 * rng.uniform(0.95, 1.05)
    sound = np.zeros(len(time_s))
    for harmonic in range(1, 40):
        gain = 1 / (1 + ((harmonic * pitch_hz - formant_hz) / 150) ** 2)
        sound += gain * np.sin(2 * np.pi * harmonic * pitch_hz * time_s + rng.uniform(0, 6))
    sound *= np.sin(np.pi * np.arange(len(time_s)) / len(time_s)) ** 0.5
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def recording(*words: np.ndarray, pause_s: float = 0.6, noise: float = 0.0005, seed: int = 0) -> np.ndarray:
    """The words with a pause before each and after the last, in white noise of that RMS; float32 in -1..1."""
    pause = np.zeros(int(pause_s * RATE_HZ), np.float32)
    sound = np.concatenate([pause, *(part for each in words for part in (each, pause))])
    return np.clip(sound + noise * np.random.default_rng(seed).standard_normal(len(sound)), -1, 1).astype(np.float32)
