"""What every mode of an adaptive network gives the sink, over streams of any length, in flat memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from exporters.metadata import RATE_HZ
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

PIECE_HOPS = 150  # at once
CONTEXT_SAMPLES = 3 * RATE_HZ  # before them, heard again: further back no network looks


def sinks_of(adaptive: AdaptiveNetwork, audio: Tensor, hop_samples: int, title: str = "hearing a stream") -> Tensor:
    """[hops, modes, channels] of audio [samples], cut to whole hops; as `AdaptiveNetwork.sink_values` of all of it.

    Raises:
        MilliwiseError: it is shorter than a hop.
    """
    hops = len(audio) // hop_samples
    if not hops:
        raise MilliwiseError(f"{len(audio)} samples are no hop of {hop_samples}: give a longer stream")
    pieces = []
    with progress(title, hops) as advance:
        for piece in _pieces(adaptive, audio, hop_samples, hops):
            pieces.append(piece)
            advance(len(piece))
    return torch.cat(pieces)


def _pieces(adaptive: AdaptiveNetwork, audio: Tensor, hop_samples: int, hops: int) -> Iterator[Tensor]:
    adaptive.eval()
    before = math.ceil(CONTEXT_SAMPLES / hop_samples)
    for first in range(0, hops, PIECE_HOPS):
        context = min(before, first)
        last = min(first + PIECE_HOPS, hops)
        some = audio[(first - context) * hop_samples : last * hop_samples]
        with torch.no_grad():
            sinks = adaptive.sink_values(adaptive.network.stem(some[None]))
        yield sinks[0, context:]
