"""What every search does the same: it times its stages, and refuses to train where it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from kws_demo.run_folder import SECONDS_NAME, RunFolder
from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_json
from toolkit.profile import DeviceProfile

MOST_EPOCHS = 600  # where the minutes do not end a training before
MOST_SECONDS = 1e9  # that a stage is believed to have taken


class Stages:
    """A piece of work in stages, which ends in a run folder.

    Attributes:
        run_folder, profile: where to, and of the device, as the run prices by it.
        seconds: that each stage took, in all sittings; of one that was killed, what its stage had taken is not known.
    """

    run_folder: RunFolder
    profile: DeviceProfile

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._kept: Path | None = None  # once there is a folder

    def begin(self) -> None:
        """Take the folder, when the data proved good; the seconds of a run that is resumed go on from there.

        Raises:
            MilliwiseError: it cannot be written, or the seconds in it are damaged.
        """
        self.run_folder.begin(self.profile)
        self._kept = self.run_folder.path / SECONDS_NAME
        earlier = read_json(self._kept, "seconds of a run") if self._kept.exists() else {}
        for stage, seconds in earlier.items():
            if isinstance(seconds, int | float) and 0 <= seconds < MOST_SECONDS:
                self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time what is done inside, also if it is interrupted."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begun, 1)
            if self._kept is not None:
                with suppress(MilliwiseError):  # a full disk is told by what cannot do without it
                    write_json(self._kept, self.seconds)


def require_device(device: str) -> None:
    """Refuse to train on what is not here.

    Raises:
        MilliwiseError: `cuda`, and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MilliwiseError("--device cuda: torch sees no CUDA device here; use --device cpu")
