"""Running speech without a keyword, for training: sentences by many voices, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.synth import speak_sentences
from kws_demo.words import sentences

SENTENCE_S = 3.0  # what one and its pause take, about
PAUSE_S, LEVEL_DB = (0.1, 1.0), (-12.0, 0.0)


def running_speech(
    seconds: float, keywords: Sequence[str], among: Sequence[str], voices: Sequence[str], language: str, seed: int
) -> np.ndarray:
    """About so many seconds, float32 [samples] at 16 kHz; none where espeak-ng can say nothing in the language.

    Args:
        keywords: no word sounds like one of these.
        among: words to use, the most frequent first.

    Raises:
        MilliwiseError: espeak-ng does not know the language.
    """
    rng = np.random.default_rng([seed, 10])
    texts = sentences(language, math.ceil(seconds / SENTENCE_S), seed, keywords, among)
    pieces: list[np.ndarray] = [np.zeros(0, np.float32)]
    for spoken in speak_sentences(texts, seed, voices, language):
        level = np.float32(10 ** (rng.uniform(*LEVEL_DB) / 20))
        pieces += [level * spoken.audio, np.zeros(round(rng.uniform(*PAUSE_S) * RATE_HZ), np.float32)]
    return np.concatenate(pieces)
