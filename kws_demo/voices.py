"""Clips as they are laid into streams: which are drawn, how loud they are, and where in them the word is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from kws_demo.augment import Augmenter, word_bounds
from kws_demo.data import Clips
from kws_demo.noises import CLIP_SAMPLES
from toolkit.errors import MilliwiseError

SILENCE_LABEL, UNKNOWN_LABEL = 0, 1  # every label above is a keyword
EDGE_SAMPLES = 80  # the ends of a clip are faded, so that no cut is heard
QUIETEST = 1e-4  # RMS of a word


class Voice(NamedTuple):
    """A clip ready to be laid: `audio` float32 [16000], its label, and where in it the word starts and stops."""

    audio: np.ndarray
    label: int
    start: int
    stop: int

    @property
    def rms(self) -> float:
        """Of the word; never 0."""
        return max(QUIETEST, float(np.sqrt(np.mean(np.square(self.audio[self.start : self.stop])))))


def chances(label: np.ndarray, unknown_share: float, silence_share: float) -> np.ndarray:
    """How likely each of N clips with these labels is drawn, [N] with a sum of 1; keywords are all equally likely.

    So are the clips of one label. Of what there is no clip, the others are drawn more often.

    Raises:
        MilliwiseError: nothing is left to draw.
    """
    keywords = np.unique(label[label > UNKNOWN_LABEL]).tolist()
    each = (1 - unknown_share - silence_share) / max(1, len(keywords))
    found = np.zeros(len(label))
    for number, share in {
        SILENCE_LABEL: silence_share,
        UNKNOWN_LABEL: unknown_share,
        **dict.fromkeys(keywords, each),
    }.items():
        found[label == number] = share / max(1, np.sum(label == number))
    if not found.sum() > 0:
        raise MilliwiseError(f"none of the {len(label)} clips can be drawn for streams: give clips of keywords")
    return found / found.sum()


def voices_of(clips: Clips, chosen: Sequence[int], augmenter: Augmenter | None = None) -> list[Voice]:
    """These clips, none of them of silence, ready to be laid into a stream."""
    if not chosen:
        return []
    labels = clips.label[list(chosen)]
    audio = torch.from_numpy(clips.audio[list(chosen)])
    if augmenter is not None:
        audio = augmenter(audio, torch.from_numpy(labels))
    audio = audio * _EDGES
    starts, stops = word_bounds(audio)
    return [
        Voice(samples, int(label), int(start), int(stop))
        for samples, label, start, stop in zip(audio.numpy(), labels, starts, stops, strict=True)
    ]


_EDGES = (torch.arange(1, CLIP_SAMPLES + 1).clamp(max=EDGE_SAMPLES) / EDGE_SAMPLES) * (
    torch.arange(CLIP_SAMPLES, 0, -1).clamp(max=EDGE_SAMPLES) / EDGE_SAMPLES
)
