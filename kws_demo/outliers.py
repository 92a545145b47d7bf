"""Which of some recordings of one word sounds unlike the others, and is probably another word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.trim import strongest, words_in

HOP, WINDOW, FFT = 320, 400, 512  # 20 ms, 25 ms
MELS, COEFFICIENTS = 40, 12
LOW_HZ, HIGH_HZ = 100.0, 7600.0
FLOOR = 1e-5  # of the mel energies, relative to the loudest: 50 dB under it
BESIDE = 320  # samples kept on either side of the word
LONGEST = 3 * RATE_HZ // 2  # of a word
FEWEST = 3
OTHERS = 20  # at most, that a recording is compared with
BATCH = 400  # pairs compared at once
LEAST_AMONG = 2.0  # of people it is 2.8 or more; copies of a take would make every other one strange
ONE_SPEAKER, MANY_SPEAKERS = 3.0, 3.3


def outliers(clips: Sequence[np.ndarray], threshold: float = ONE_SPEAKER) -> list[int] | None:
    """Places of the clips (float32 [samples] at 16 kHz) that sound unlike the others; None: too few (< 3) to tell.

    `threshold` is what `strangeness` has to exceed. Measured with five takes of a word, one of them of another word:

    | recordings | threshold | other words found | right takes named |
    |---|---|---|---|
    | `keywords_ar/train`, one speaker | 3.0 | 94 % | 1.1 % |
    | `keywords_ar/val`, one speaker; the threshold was not chosen on it | 3.0 | 95 % | 1.4 % |
    | `keywords_ar/train`, five speakers | 3.3 | 56 % | 1.2 % |
    | `keywords_en/val` (bed, cat, happy), five speakers | 3.3 | 26 % | 1.7 % |

    Three takes of one speaker: 95 % and 1.7 %; seven: 95 % and 0.8 %. Among speakers, a voice differs as words do.
    """
    strange = strangeness(clips)
    return None if strange is None else [int(place) for place in np.flatnonzero(strange > threshold)]


def strangeness(clips: Sequence[np.ndarray]) -> np.ndarray | None:
    """How unlike the others each clip sounds, float64 [clips]; None if there are fewer than three.

    The median distance to the others, over the root of the median distance among the others: how far apart words are
    counts, and so does how alike the takes are. Of many clips, 20 stand for all. Right
    takes of one speaker usually have 1.7 to 2.6.
    """
    if len(clips) < FEWEST:
        return None
    features = [cepstra(clip) for clip in clips]
    others = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), OTHERS + 1)).round().astype(int))
    pairs = [(place, column) for place in range(len(clips)) for column in range(len(others)) if place != others[column]]
    distance = np.full((len(clips), len(others)), np.nan)
    for first in range(0, len(pairs), BATCH):
        rows, columns = np.transpose(pairs[first : first + BATCH])
        found = warped_distances([features[row] for row in rows], [features[other] for other in others[columns]])
        distance[rows, columns] = found
    strange = np.zeros(len(clips))
    for place, row in enumerate(distance):
        rest = others != place
        among = float(np.nanmedian(distance[others[rest]][:, rest]))
        strange[place] = np.nanmedian(row) / np.sqrt(max(among, LEAST_AMONG))
    return strange


def cepstra(audio: np.ndarray) -> np.ndarray:
    """Mel cepstra [frames, 12] of the word in a clip, every 20 ms, without their mean, which is the microphone's."""
    words = words_in(audio)
    if words:
        word = strongest(audio, words)
        audio = audio[max(0, word.start - BESIDE) : word.end + BESIDE]
    audio = np.pad(audio[:LONGEST], (0, max(0, WINDOW - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP] * np.hanning(WINDOW)
    mels = np.square(np.abs(np.fft.rfft(frames, FFT))) @ _mel_filters()
    log_mels = np.log(np.maximum(mels, FLOOR * mels.max() + 1e-9))
    angles = np.pi / MELS * (np.arange(MELS)[:, None] + 0.5) * np.arange(1, COEFFICIENTS + 1)
    found = log_mels @ (np.sqrt(2 / MELS) * np.cos(angles))
    return np.asarray(found - found.mean(0))


def warped_distances(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """Distance [pairs] of features [frames, n] under dynamic time warping (Sakoe and Chiba, 1978, symmetric form).

    Euclidean between frames, a diagonal step counts twice, over the sum of the lengths. All pairs are done at once.
    """
    one, two = _stacked(first), _stacked(second)
    squares = np.square(one).sum(2)[:, :, None] + np.square(two).sum(2)[:, None] - 2 * one @ two.transpose(0, 2, 1)
    local = np.sqrt(np.maximum(squares, 0)).transpose(1, 2, 0)
    total = np.full((one.shape[1] + 1, two.shape[1] + 1, len(first)), np.inf)
    total[0, 0] = 0
    for i in range(one.shape[1]):
        for j in range(two.shape[1]):
            step = local[i, j]
            straight = np.minimum(total[i, j + 1], total[i + 1, j]) + step
            total[i + 1, j + 1] = np.minimum(total[i, j] + 2 * step, straight)
    lengths = [(len(a), len(b)) for a, b in zip(first, second, strict=True)]
    return np.array([total[a, b, pair] / (a + b) for pair, (a, b) in enumerate(lengths)])


def _stacked(features: Sequence[np.ndarray]) -> np.ndarray:
    """Features [pairs, most frames, n], the shorter ones filled with zeros that no path to their ends reaches."""
    result = np.zeros((len(features), max(map(len, features)), features[0].shape[1]))
    for row, each in zip(result, features, strict=True):
        row[: len(each)] = each
    return result


def _mel_filters() -> np.ndarray:
    """Triangles [bins, mels] that are equally far apart on the HTK mel scale."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(FFT, 1 / RATE_HZ)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
