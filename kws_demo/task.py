"""What a search needs of its data, whatever they are: batches to train on, a loss, and how well a network does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolkit.supernet import SuperNetwork

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Accuracy:
    """How often the label with the highest score is right: of a clip after its last hop, of an image or its pixels.

    Attributes:
        share: over all clips or images; of a segmentation, the mean over images of the share of their known pixels.
        error: standard error of `share`.
        between_words: over keyword clips, the highest score among the keywords; None where there are no words.
        clips: their number; of images, too.
        confusion: [true label][given label] counts.
    """

    share: float
    error: float
    between_words: float | None
    clips: int
    confusion: NDArray[np.int64]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.__dict__, "confusion": self.confusion.tolist()}


def standard_error(share: float, count: int) -> float:
    """Of a share of so many. One is added on either side: a perfect score on few does not claim to be exact."""
    smoothed = (share * count + 1) / (count + 2)
    return math.sqrt(smoothed * (1 - smoothed) / count)


def some(batches: Iterable[Batch], count: int, most: int | None) -> Iterator[Batch]:
    """Of `count` examples about `most`, evenly and the same each time; all when None."""
    every = 1 if most is None else -(-count // most)
    return ((inputs[::every], labels[::every]) for inputs, labels in batches)


class Task(Protocol):
    """Features are what a network's stem gives.

    Attributes:
        labels: of the logits, in order.
        description: of the data, as JSON.
        steps: batches in an epoch.
    """

    labels: tuple[str, ...]
    description: dict[str, Any]
    steps: int

    def training(self, epoch: int) -> Iterable[Batch]:
        """The batches of an epoch, the same whenever that epoch is asked for."""

    def student(self, network: SuperNetwork) -> SuperNetwork:
        """What is trained in a network's place, with its weights: the network itself where there is no teacher."""

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Of what the student tells against labels."""

    def recalibrate(self, network: SuperNetwork, kept: Iterable[str] | None = None, batches: int = 8) -> None:
        """Recalibrate the BatchNorms of a network, or of a sub-network of it."""

    def judge(
        self, network: SuperNetwork, part: str, kept: Iterable[str] | None = None, most: int | None = None
    ) -> Accuracy:
        """Of a network, or of a sub-network of it, on `validation` or `test`, or on about `most` of its examples."""

    def hears_silence(self, network: SuperNetwork) -> bool | None:
        """Whether digital silence is labelled as such; None where nothing is heard."""

    def finish(self, network: SuperNetwork) -> dict[str, Any]:
        """Whatever is left to do with the chosen network, and what `run.json` has to tell of it."""
