"""Keyword clips as the task of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from exporters.metadata import default_decision
from kws_demo.calibrate import calibrate
from kws_demo.data import SpeechData
from kws_demo.hints import Guess, Student
from kws_demo.task import Accuracy, Batch, some
from kws_demo.train import Speech, accuracy
from toolkit.errors import MilliwiseError
from toolkit.layers import WindowHead
from toolkit.spaces import SAMPLES_PER_MS
from toolkit.supernet import SuperNetwork


class Hearing:
    """See `Task`.

    Args:
        network: whose front-end makes the features.
        device: where they go.
        taught: with the hints of a teacher.

    Raises:
        MilliwiseError: the teacher is not installed, or another; or the network's head is none that it could help.
    """

    def __init__(
        self, data: SpeechData, network: SuperNetwork, hop_ms: int, seed: int, device: str, taught: bool = False
    ) -> None:
        self.labels, self.description, self._hop_ms = data.labels, data.description, hop_ms
        self._guess = _guess_of(network.head).to(device) if taught else None
        self._speech = Speech(data, network.stem, hop_ms * SAMPLES_PER_MS, seed, device, taught)
        self.steps = self._speech.steps

    def student(self, network: SuperNetwork) -> SuperNetwork:
        """See `Task`."""
        return network if self._guess is None else Student(network, self._guess)

    def training(self, epoch: int) -> Iterable[Batch]:
        """See `Task`."""
        return self._speech.training(epoch)

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """See `Task`."""
        return self._speech.loss()

    def recalibrate(self, network: SuperNetwork, kept: Iterable[str] | None = None, batches: int = 8) -> None:
        """See `Task`."""
        self._speech.recalibrate(network, kept, batches)

    def judge(
        self, network: SuperNetwork, part: str, kept: Iterable[str] | None = None, most: int | None = None
    ) -> Accuracy:
        """See `Task`."""
        batches = self._speech.evaluation(part)
        return accuracy(network, some(batches, sum(len(labels) for _inputs, labels in batches), most), kept)

    def hears_silence(self, network: SuperNetwork) -> bool:
        """See `Task`."""
        return self._speech.hears_silence(network)

    def finish(self, network: SuperNetwork) -> dict[str, Any]:
        """Calibrate the scores; see `Task`."""
        decision = default_decision(self._hop_ms)
        calibration = calibrate(network, self._speech, int(decision["average_ms"] // self._hop_ms) + 1)
        return {"calibration": calibration.facts(), "decision": {**decision, "threshold": calibration.threshold}}


def _guess_of(head: nn.Module) -> Guess:
    if not isinstance(head, WindowHead):
        kind = type(head).__name__
        raise MilliwiseError(f"--teacher needs a space with a WindowHead, and this one has a {kind}: leave it out")
    return Guess(head)
