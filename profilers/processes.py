"""Which models are timed in which measuring process, and which of them a process died of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from profilers.timing import Tight


class Processes:
    """Which models are left to be measured, those of one process after those of another.

    The one that was being opened when a process died is tried once more, alone, before the others go on.
    """

    def __init__(self, models: Mapping[str, bytes | Path]) -> None:
        self.models, self.deaths = models, 0
        self.waiting = [[*models]]
        self.running: list[str] = []
        self.suspect: list[str] | None = None

    def next(self, found: Tight) -> dict[str, bytes | Path]:
        """The models of the next process; none when all are measured, or have failed."""
        while self.waiting:
            self.running = self.waiting.pop(0)
            if left := {name: self.models[name] for name in self.running if name not in found.failures}:
                return left
        return {}

    def failed(self, blamed: str) -> bool:
        """Whether the model on which the process died has failed: it did so alone, once more."""
        if self.running is self.suspect:
            return True
        self.deaths += 1
        self.suspect = [blamed]
        self.waiting = [self.suspect, [name for name in self.running if name != blamed], *self.waiting]
        return False

    def lived(self) -> None:
        """The process did not die. Where a suspect was alone in it, so many models are too much for one."""
        if self.running is self.suspect:
            others = self.waiting.pop(0)
            self.waiting = [others[::2], others[1::2], *self.waiting]
