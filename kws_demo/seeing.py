"""Images, to classify or to segment, as the task of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kws_demo.task import Accuracy, Batch, some, standard_error
from kws_demo.train import prefetched
from toolkit.datasets import ImageData, Images
from toolkit.image_augment import PADDING, augmented, normalised
from toolkit.images import IGNORED
from toolkit.supernet import SuperNetwork, recalibrate
from toolkit.training import predict

BATCH = 64
JUDGED = 256  # images at once


class Seeing:
    """See `Task`.

    Args:
        device: where the images go.
    """

    def __init__(self, data: ImageData, seed: int, device: str) -> None:
        trained = f"each moved by up to {PADDING} pixels{', half of them mirrored' * data.flip}"
        self.labels, self.description = data.labels, {"images": data.description, "trained": trained}
        self._data, self._seed, self._device = data, seed, device
        self._pixels, self._labels = (torch.from_numpy(each) for each in (data.train.pixels, data.train.labels))
        self.steps = max(1, len(self._labels) // BATCH)

    def training(self, epoch: int) -> Iterable[Batch]:
        """See `Task`."""
        return prefetched(self._augmented(epoch))

    def _augmented(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self._seed * 7919 + epoch)
        order = torch.randperm(len(self._labels), generator=generator)
        for step in range(self.steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            images, labels = augmented(self._pixels[chosen], self._labels[chosen], generator, flip=self._data.flip)
            yield images.to(self._device), labels.to(self._device)

    def student(self, network: SuperNetwork) -> SuperNetwork:
        """See `Task`."""
        return network

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """See `Task`."""
        return functional.cross_entropy if self._data.task == "classify" else _pixel_loss

    def recalibrate(self, network: SuperNetwork, kept: Iterable[str] | None = None, batches: int = 8) -> None:
        """See `Task`."""
        chosen = [batch for batch, _index in zip(self._augmented(10_000), range(batches), strict=False)]

        def forward_all() -> None:
            for images, _labels in chosen:
                network.from_features(images, kept)

        recalibrate(network, forward_all)

    def judge(
        self, network: SuperNetwork, part: str, kept: Iterable[str] | None = None, most: int | None = None
    ) -> Accuracy:
        """See `Task`; of a segmentation, the error is that of the images, whose pixels are much alike.

        Pixels of which the mask knows nothing are not judged.
        """
        count = len(self.labels)
        confusion, of_each = torch.zeros(count * count, dtype=torch.int64), []
        images: Images = getattr(self._data, part)
        for logits, labels in predict(network, some(self._plain(images), len(images.labels), most), kept):
            given, labels = (each.cpu().reshape(len(labels), -1) for each in (logits.argmax(1), labels))
            known = labels != IGNORED
            confusion += torch.bincount((labels * count + given)[known], minlength=count * count)
            judged = known.sum(1)
            of_each.append((((given == labels) & known).sum(1).double() / judged)[judged > 0])
        right = torch.cat(of_each)
        share = float(right.mean())
        spread = float(right.std()) / len(right) ** 0.5 if self._data.task == "segment" and len(right) > 1 else None
        error = standard_error(share, len(right)) if spread is None else spread
        return Accuracy(share, error, None, len(right), confusion.reshape(count, count).numpy())

    def _plain(self, images: Images) -> Iterator[Batch]:
        for start in range(0, len(images.labels), JUDGED):
            pixels, labels = (torch.from_numpy(each[start : start + JUDGED]) for each in (images.pixels, images.labels))
            yield normalised(pixels).to(self._device), labels.to(self._device)

    def hears_silence(self, network: SuperNetwork) -> None:
        """See `Task`."""
        return None

    def finish(self, network: SuperNetwork) -> dict[str, Any]:
        """See `Task`."""
        return {"task": self._data.task}


def _pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over known pixels; 0 where there are none, as in a picture of which the mask knows nothing."""
    return functional.cross_entropy(logits, labels, reduction="sum") / (labels != IGNORED).sum().clamp(min=1)
