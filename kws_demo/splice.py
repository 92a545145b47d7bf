"""Unknown words made of two recordings: the beginning of one word, then the end of another.

Half of each is of a keyword, said by the people and heard by the microphones that keywords come from. Without them a
listener that is taught by recordings learns that whoever sounds like those says a keyword.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kws_demo.augment import word_bounds

SHARE = 0.25  # of the recorded keywords
UNKNOWN_LABEL = 1  # keywords have the labels after it
EARLIEST_CUT, LATEST_CUT = 0.3, 0.7  # of a word
FADE_SAMPLES = 80  # 5 ms, so that no cut is heard
MOST_GAIN = 4.0


def spliced(audio: Tensor, labels: Tensor, recorded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips float32 [B, samples] and labels int64 [B] (0: silence) with some recorded keywords made unknown words.

    Each begins or ends with what it was; the rest is of another clip of the batch, of another keyword or an unknown
    word. What was given is left as it is.

    Args:
        recorded: bool [B], whose voices are real.
    """
    chosen = (labels > UNKNOWN_LABEL) & recorded & (torch.rand(len(labels), generator=generator) < SHARE)
    spoken, rows = torch.nonzero(labels >= UNKNOWN_LABEL).flatten(), torch.nonzero(chosen).flatten()
    others = spoken[torch.randint(max(1, len(spoken)), (len(rows),), generator=generator)]
    swapped = torch.rand(len(rows), generator=generator) < 0.5
    heads, tails = torch.where(swapped, others, rows), torch.where(swapped, rows, others)
    starts, ends = word_bounds(audio)
    cuts = EARLIEST_CUT + (LATEST_CUT - EARLIEST_CUT) * torch.rand(len(rows), 2, generator=generator)
    until = (starts[heads] + cuts[:, 0] * (ends - starts)[heads]).long()
    since = (starts[tails] + cuts[:, 1] * (ends - starts)[tails]).long()
    made, given = audio.clone(), labels.clone()
    for index in torch.nonzero(labels[heads] != labels[tails]).flatten().tolist():
        head, tail = heads[index], tails[index]
        parts = audio[head, : until[index]], audio[tail, since[index] :]
        made[rows[index]] = _joined(*parts, int(starts[head]), audio.shape[1])
        given[rows[index]] = UNKNOWN_LABEL
    return made, given


def _joined(head: Tensor, tail: Tensor, start: int, samples: int) -> Tensor:
    """One after the other, at one level, as so many samples; the word begins at `start`, or earlier if it is long."""
    tail = tail * (_level(head) / _level(tail)).clamp(1 / MOST_GAIN, MOST_GAIN)
    faded = min(FADE_SAMPLES, len(head), len(tail))
    ramp = torch.linspace(0, 1, faded)
    across = head[len(head) - faded :] * (1 - ramp) + tail[:faded] * ramp
    whole = torch.cat([head[: len(head) - faded], across, tail[faded:]])
    skipped = max(0, min(start, len(whole) - samples))
    whole = whole[skipped : skipped + samples]
    return functional.pad(whole, (0, samples - len(whole))).clamp(-1, 1)


def _level(audio: Tensor) -> Tensor:
    """RMS of what is within 26 dB of the loudest sample."""
    energy = audio.square()
    return energy[energy >= energy.max() / 400].mean().sqrt().clamp_min(1e-4)
