"""An unfinished profile on disk: what is measured so far, so that an interruption loses only the part in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import digest, read_json, remove_file, write_json


class Partial:
    """Named parts of a measurement, written after each.

    Args:
        path: the file, or None to keep nothing.
        identity: what has to agree (arguments, device) for stored parts to be used again.

    Raises:
        MilliwiseError: the file is damaged.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = dict(identity)
        self.parts: dict[str, Any] = {}
        self.seconds_before = 0.0
        self._begun = time.monotonic()
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        stored = read_json(path, "unfinished profile")
        if stored.pop("sha256", None) != digest(stored):  # raw measurements have nothing else to tell by
            raise MilliwiseError(f"unfinished profile {path} is not as milliwise wrote it: start over without --resume")
        if stored["identity"] == self.identity:
            self.parts, self.seconds_before = stored["parts"], stored["seconds"]

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """The part of that name: what was stored, or what `measure` gives now."""
        if name not in self.parts:
            self.parts[name] = measure()
            if self.path is not None:
                seconds = self.seconds_before + time.monotonic() - self._begun
                content = {"identity": self.identity, "seconds": seconds, "parts": self.parts}
                write_json(self.path, {**content, "sha256": digest(content)})
        return self.parts[name]

    def remove(self) -> None:
        """The profile is complete."""
        if self.path is not None:
            remove_file(self.path)
