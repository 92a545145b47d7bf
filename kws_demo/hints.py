"""Hints of a teacher: beside its labels, a listener learns to tell at every hop what the speech embedding makes of it.

Synthesisers teach a listener words, but not how people and their microphones sound, which the embedding knows. What
only makes its features like those of a better network is left out of the listener in the end (FitNets, Romero et al.
2015, https://arxiv.org/abs/1412.6550).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from kws_demo.speech_embedding import SIZE, STRIDE_SAMPLES, SpeechEmbedding
from toolkit.layers import WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

MEASURED = 512  # examples, at least, tell mean and deviation of the embedding well enough
HINTS_WEIGHT = 1.0
UNTOLD = -2  # the label of an example that has hints alone


def require_teacher() -> None:
    """Refuse to begin where the teacher is missing.

    Raises:
        MilliwiseError: see `SpeechEmbedding`.
    """
    SpeechEmbedding()


class Teacher:
    """The speech embedding of examples at their hops, each of its numbers with a mean of 0 and a deviation of 1.

    Args:
        examples: audio [N, samples] within -1..1, some of which tells mean and deviation.

    Raises:
        MilliwiseError: the embedding is not installed, or another.
    """

    def __init__(self, examples: Tensor, hop_samples: int) -> None:
        self._embedding, self._hop_samples = SpeechEmbedding(), hop_samples
        some = examples[:: max(1, len(examples) // MEASURED)]
        found = torch.from_numpy(self._embedding(some.numpy()))
        self._mean, self._deviation = found.mean((0, 1)), found.std((0, 1)).clamp_min(1e-3)

    def __call__(self, audio: Tensor) -> Tensor:
        """Audio [batch, samples] of whole hops to hints [batch, hops, 96]: NaN at hops too early for an embedding.

        Embeddings come every 80 ms: a hop has the last one that ends with it, or up to 80 ms before.
        """
        found = (torch.from_numpy(self._embedding(audio.numpy())) - self._mean) / self._deviation
        hops, windows = audio.shape[1] // self._hop_samples, found.shape[1]
        hints = torch.full((len(audio), hops, SIZE), math.nan)
        for back in range(hops):
            place = windows - 1 - math.ceil(back * self._hop_samples / STRIDE_SAMPLES)
            if place >= 0:
                hints[:, hops - 1 - back] = found[:, place]
        return hints


class Guess(nn.Module):
    """From what a listener's head is given, [batch, channels, 1, columns], to hints [batch, hops, 96]."""

    def __init__(self, head: WindowHead) -> None:
        super().__init__()
        self.hop_columns = head.hop_columns
        self.mean = WindowMean(head.window_columns, head.hop_columns)
        self.linear = nn.Linear(2 * head.linear.in_features, SIZE)

    def forward(self, value: Tensor) -> Tensor:
        """See the class; the last column of a hop is told beside the mean of the window."""
        last = value[:, :, 0, self.hop_columns - 1 :: self.hop_columns]
        both = torch.cat([last, self.mean(value).squeeze(2)], 1)
        hints: Tensor = self.linear(both.transpose(1, 2))
        return hints


class Student(SuperNetwork):
    """A network to train in another's place, with the very same weights: in training it tells hints, too.

    Args:
        guess: of its head.
    """

    def __init__(self, network: SuperNetwork, guess: Guess) -> None:
        super().__init__(network.graph, dict(network.operations.items()), network.stem, network.head)
        self.guess = guess

    def from_features(
        self, features: Tensor, kept: Iterable[str] | None = None, gates: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """As in `SuperNetwork`; while it trains logits and hints, [batch, hops, labels + 96]."""
        value = self.sink_value(features, kept, gates)
        logits: Tensor = self.head(value)
        return torch.cat([logits, self.guess(value)], 2) if self.training else logits


def with_hints(labels: Tensor, hints: Tensor) -> Tensor:
    """Labels [batch] and hints [batch, hops, 96] as one tensor of targets, [batch, 1 + hops · 96]."""
    return torch.cat([labels[:, None].to(hints), hints.flatten(1)], 1)


def hinted(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a `Student` against targets with hints, from that of logits against labels."""

    def total(outputs: Tensor, targets: Tensor) -> Tensor:
        logits, guesses = outputs[..., :-SIZE], outputs[..., -SIZE:]
        labels, hints = targets[:, 0].long(), targets[:, 1:].reshape(guesses.shape)
        told, known = labels != UNTOLD, ~hints.isnan()
        value = loss(logits[told], labels[told]) if told.any() else logits.sum() * 0
        return value + HINTS_WEIGHT * (guesses[known] - hints[known]).square().mean() if known.any() else value

    return total
