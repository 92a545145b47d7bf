"""What every search does the same: it times its stages, and refuses to train where it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from toolkit.errors import MilliwiseError

MOST_EPOCHS = 600  # where the minutes do not end a training before


class Stages:
    """A piece of work in stages.

    Attributes:
        seconds: that each finished stage took.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time what is done inside."""
        begun = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - begun, 1)


def require_device(device: str) -> None:
    """Refuse to train on what is not here.

    Raises:
        MilliwiseError: `cuda`, and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MilliwiseError("--device cuda: torch sees no CUDA device here; use --device cpu")
