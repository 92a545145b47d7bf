"""Unknown words made of two recordings: the beginning of one word, then the end of another.

About half of each is of a keyword, said by people and heard by microphones that say and hear nothing else. Without
them a listener learns that whoever sounds like those recordings says a keyword.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kws_demo.data import Clips
from kws_demo.voices import UNKNOWN_LABEL

SHARE = 0.25  # of such keywords, less those whose other part would be of a word too much alike
EARLIEST_CUT, LATEST_CUT = 0.3, 0.7  # of a clip's energy: a click beside the word has little
BEGUN = 0.01  # of it, where the word begins
FADE_SAMPLES = 80  # 5 ms, so that no cut is heard
MOST_GAIN = 4.0


def alike(labels: Sequence[str]) -> Tensor:
    """Which labels begin or end with the same letter, bool [labels, labels]: "o-ff" of "on" and "off" is "off"."""
    names = [label.casefold() for label in labels]
    return torch.tensor([[one[0] == other[0] or one[-1] == other[-1] for other in names] for one in names])


def said_alone(clips: Clips) -> NDArray[np.bool_]:
    """Which clips [N] are recorded keywords of people who say no unknown word: bool [N].

    Where the same people say other words, too, those are better than splices.
    """
    strangers = {speaker for speaker, label in zip(clips.speaker, clips.label, strict=True) if label == UNKNOWN_LABEL}
    alone = np.array([speaker not in strangers for speaker in clips.speaker], bool)
    return alone & clips.recorded & (clips.label > UNKNOWN_LABEL)


def spliced(
    audio: Tensor, labels: Tensor, alone: Tensor, apart: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Clips float32 [B, samples] and labels int64 [B] (0: silence) with some of the keywords made unknown words.

    Each begins or ends with what it was; the rest is of another clip of the batch, of another keyword or an unknown
    word. What was given is left as it is.

    Args:
        alone: bool [B], see `said_alone`.
        apart: bool [labels, labels], of which labels two may be joined.
    """
    if not alone.any():  # nothing is drawn: what else comes from the generator is as without splices
        return audio, labels
    chosen = alone & (torch.rand(len(labels), generator=generator) < SHARE)
    spoken, rows = torch.nonzero(labels >= UNKNOWN_LABEL).flatten(), torch.nonzero(chosen).flatten()
    others = spoken[torch.randint(len(spoken), (len(rows),), generator=generator)]
    swapped = torch.rand(len(rows), generator=generator) < 0.5
    heads, tails = torch.where(swapped, others, rows), torch.where(swapped, rows, others)
    cuts = EARLIEST_CUT + (LATEST_CUT - EARLIEST_CUT) * torch.rand(len(rows), 2, generator=generator)
    begun, until = _reached(audio[heads], torch.full((len(rows),), BEGUN)), _reached(audio[heads], cuts[:, 0])
    since = _reached(audio[tails], cuts[:, 1])
    made, given = audio.clone(), labels.clone()
    for index in torch.nonzero(apart[labels[heads], labels[tails]]).flatten().tolist():
        head, tail = audio[heads[index], : until[index]], audio[tails[index], since[index] :]
        made[rows[index]] = _joined(head, tail, int(begun[index]), audio.shape[1])
        given[rows[index]] = UNKNOWN_LABEL
    return made, given


def _reached(audio: Tensor, share: Tensor) -> Tensor:
    """The first sample after which clips [N, samples] have had that share [N] of their energy: int64 [N], 1 or more."""
    energy = audio.double().square().cumsum(1)
    return (energy < share[:, None] * energy[:, -1:]).sum(1).clamp(1, audio.shape[1] - 1)


def _joined(head: Tensor, tail: Tensor, begun: int, samples: int) -> Tensor:
    """One after the other, at one level, as so many samples; of too many, at first those go before the word begins."""
    tail = tail * (_level(head) / _level(tail)).clamp(1 / MOST_GAIN, MOST_GAIN)
    faded = min(FADE_SAMPLES, len(head), len(tail))
    ramp = torch.linspace(0, 1, faded)
    across = head[len(head) - faded :] * (1 - ramp) + tail[:faded] * ramp
    whole = torch.cat([head[: len(head) - faded], across, tail[faded:]])
    skipped = max(0, min(begun, len(whole) - samples))
    whole = whole[skipped : skipped + samples]
    return functional.pad(whole, (0, samples - len(whole))).clamp(-1, 1)


def _level(audio: Tensor) -> Tensor:
    """RMS of what is within 26 dB of the loudest sample."""
    energy = audio.square()
    return energy[energy >= energy.max() / 400].mean().sqrt().clamp_min(1e-4)
