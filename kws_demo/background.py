"""Background noise by the piece, or without end: recordings where there are some, coloured noise beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.noises import COLOURS, coloured

GENERATED_SAMPLES = 20 * RATE_HZ  # of each colour
RECORDED = 0.6  # of the pieces, where there are recordings
BLOCK_SAMPLES = 10 * RATE_HZ
FADE_SAMPLES = RATE_HZ // 2  # from one block's noise to that of the next
SILENT = 1e-5  # RMS of an excerpt that is digital silence: other noise is taken


class Background:
    """Noise with an RMS of 1; all that is random about a piece comes with the call."""

    def __init__(self, recordings: Sequence[np.ndarray], seed: int, recorded_share: float = RECORDED) -> None:
        """`recordings` are float32 at 16 kHz, possibly none; `seed` is that of the coloured noise."""
        rng = np.random.default_rng([seed, 20])
        self._generated = [coloured(colour, GENERATED_SAMPLES, rng) for colour in COLOURS]
        self._recorded = [recording for recording in recordings if len(recording)]
        self._recorded_share = recorded_share if self._recorded else 0.0

    def excerpt(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """A piece of one noise, float32 [samples] with an RMS of 1; what is shorter is repeated."""
        if rng.random() < self._recorded_share:
            found, rms = _cut(self._recorded, samples, rng)
            if rms > SILENT:
                return found / rms
        found, rms = _cut(self._generated, samples, rng)
        return found / rms

    def blocks(self, samples: int, seed: int) -> Iterator[np.ndarray]:
        """Noise without a gap, float32, ten seconds or less at a time; every block has another noise, faded in.

        A block depends on the seed, its place and the one before alone: a longer stream begins like a shorter one.
        """
        rise = np.sin(np.linspace(0, np.pi / 2, FADE_SAMPLES, dtype=np.float32))  # and fall: the power stays the same
        tail: np.ndarray | None = None
        for index, start in enumerate(range(0, samples, BLOCK_SAMPLES)):
            block = self.excerpt(BLOCK_SAMPLES + FADE_SAMPLES, np.random.default_rng([seed, 23, index]))
            if tail is not None:
                block[:FADE_SAMPLES] = block[:FADE_SAMPLES] * rise + tail
            tail = block[BLOCK_SAMPLES:] * rise[::-1]
            yield block[: min(BLOCK_SAMPLES, samples - start)]


def _cut(sources: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.float32]:
    """Samples of one of the sources from a random place on, and their RMS."""
    source = sources[int(rng.integers(len(sources)))]
    start = int(rng.integers(max(1, len(source) - samples + 1)))
    found = np.resize(source[start : start + samples], samples).astype(np.float32)
    return found, np.float32(np.sqrt(np.mean(np.square(found, dtype=np.float64))))
