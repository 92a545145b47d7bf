"""Background sound made by numbers: noise of known colours, of machines and of knocks, and clips of silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporters.metadata import RATE_HZ

COLOURS = ("white", "pink", "brown", "hum")
CLIP_SAMPLES = RATE_HZ
LEVELS_DB = (-70.0, -15.0)  # RMS of a silence clip, relative to full scale
# Of a machine: its spectrum is drawn at so many frequencies, up to so much weaker, with so many tones at most.
LOWEST_HZ, BANDS, FALL_DB, TONES = 50.0, 8, 40.0, 6
SWELLS_HZ = (0.3, 20.0)
KNOCKS = 0.25  # of the silence clips with noise are one sudden sound
FADING_S = (0.01, 0.5)  # of a sudden sound, until it is weaker by a factor of e
BEFORE_KNOCK = 0.01  # of its loudness


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


def machine(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise float32 [samples] at 16 kHz with an RMS of 1, as of a machine nobody met: a few tones in a random spectrum.

    Colours alone teach a listener that what has another spectrum is speech. It swells and fades at a random rate.
    """
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    drawn_hz = np.geomspace(LOWEST_HZ, RATE_HZ / 2, BANDS)
    level_db = np.interp(np.log(np.maximum(hz, LOWEST_HZ)), np.log(drawn_hz), rng.uniform(-FALL_DB, 0, BANDS))
    noise = np.fft.irfft(spectrum * 10 ** (level_db / 20), samples)
    noise /= np.sqrt(np.mean(noise**2))
    time_s = np.arange(samples) / RATE_HZ
    for tone_hz in np.exp(rng.uniform(np.log(LOWEST_HZ), np.log(RATE_HZ / 4), int(rng.integers(TONES + 1)))):
        noise += rng.uniform(0, 0.7) * np.sin(2 * np.pi * (tone_hz * time_s + rng.random()))
    swell_hz = np.exp(rng.uniform(*np.log(SWELLS_HZ)))
    noise *= 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * (swell_hz * time_s + rng.random()))
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float32)


def _knocked(noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise as one sudden sound: it begins at a random place of the first half, and fades."""
    since_s = np.arange(len(noise)) / RATE_HZ - rng.uniform(0, len(noise) / RATE_HZ / 2)
    fading = np.exp(-np.maximum(since_s, 0) / np.exp(rng.uniform(*np.log(FADING_S))))
    return np.asarray(noise * np.where(since_s < 0, BEFORE_KNOCK, np.maximum(fading, BEFORE_KNOCK)), np.float32)


def silence_clips(count: int, recordings: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Clips float32 [count, 16000] without speech, at random levels within -1..1.

    Excerpts of the background recordings, colours and machines, some of them as one sudden sound; one in eight is
    almost silent, and one in eight digital silence: exact zeros, which a muted microphone sends.
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
        elif index % 8 == 5:
            clip[:] = level * coloured(str(rng.choice(COLOURS)), CLIP_SAMPLES, rng)
        else:
            clip[:] = level * machine(CLIP_SAMPLES, rng)
        if index % 8 > 1 and rng.random() < KNOCKS:
            clip[:] = _knocked(clip, rng)
    return np.clip(clips, -1, 1)


def _excerpt(recording: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """One second of a recording (repeated where it is shorter), at an RMS of `level`; silence stays silence."""
    start = int(rng.integers(max(1, len(recording) - CLIP_SAMPLES + 1)))
    excerpt = np.resize(recording[start : start + CLIP_SAMPLES], CLIP_SAMPLES)
    rms = float(np.sqrt(np.mean(excerpt**2)))
    return excerpt * (level / rms if rms > 1e-5 else 0.0)
