"""An unfinished profile on disk: what is measured so far, so that an interruption loses only a moment's work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import digest, remove_file, require_regular

MOST_BYTES = 256_000_000
CHECKED = 16  # hexadecimal digits of the SHA-256 before every line: raw measurements have nothing else to tell by


class Partial:
    """Named parts of a measurement, each a list of JSON values, appended to a file as they come.

    Args:
        path: the file, or None to keep nothing.
        identity: what has to agree (arguments, device) for what is stored to be used again.

    Raises:
        MilliwiseError: the file is damaged, or cannot be read.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(dict(identity)))
        self.parts: dict[str, list[Any]] = {}
        self.seconds_before = 0.0
        self._begun = time.monotonic()
        if path is None:
            return
        kept = self._read(path) if path.exists() else 0
        if not kept:
            remove_file(path)
            self._append({"identity": self.identity})
        else:
            os.truncate(path, kept)  # a line that was being written when the process was killed

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """The part of that name: what was stored, or what `measure` gives now."""
        if name not in self.parts:
            self.add(name, measure())
        return self.parts[name][0]

    def add(self, name: str, value: Any) -> None:
        """Append one value to the part of that name.

        Raises:
            MilliwiseError: it cannot be written; what was written before stands.
        """
        self.parts.setdefault(name, []).append(value)
        self._append({"part": name, "value": value, "seconds": self.seconds})

    @property
    def seconds(self) -> float:
        """How long the measurement has taken so far, the interrupted runs included."""
        return round(self.seconds_before + time.monotonic() - self._begun, 3)

    def remove(self) -> None:
        """The profile is complete."""
        if self.path is not None:
            remove_file(self.path)

    def _append(self, line: Any) -> None:
        if self.path is None:
            return
        text = json.dumps(line, allow_nan=False)
        content = f"{digest(line)[:CHECKED]} {text}\n".encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(content) < len(content):
                    raise OSError(28, "No space left on device")
        except OSError as error:
            raise MilliwiseError(
                f"cannot write {self.path}: {error.strerror}; free some space, then continue with --resume"
            ) from None

    def _read(self, path: Path) -> int:
        """How many bytes of the file are to be kept: none where it is of another measurement."""
        try:
            require_regular(path)
            if path.stat().st_size > MOST_BYTES:
                raise MilliwiseError(f"unfinished profile {path} has more than {MOST_BYTES} bytes: it is not ours")
            content = path.read_bytes()
        except OSError as error:
            raise MilliwiseError(f"cannot read unfinished profile {path}: {error.strerror}") from None
        whole = content.rfind(b"\n") + 1
        lines = [_line(path, line) for line in content[:whole].splitlines()]
        if not lines or lines[0].get("identity") != self.identity:
            return 0
        try:
            for line in lines[1:]:
                self.parts.setdefault(line["part"], []).append(line["value"])
                self.seconds_before = float(line["seconds"])
        except (KeyError, TypeError, ValueError):
            raise _damaged(path) from None
        return whole


def _line(path: Path, line: bytes) -> dict[str, Any]:
    checksum, _, text = line.partition(b" ")
    try:
        value = json.loads(text)
        if isinstance(value, dict) and digest(value)[:CHECKED].encode() == checksum:
            return value
    except (ValueError, RecursionError):
        pass
    raise _damaged(path)


def _damaged(path: Path) -> MilliwiseError:
    return MilliwiseError(f"unfinished profile {path} is not as milliwise wrote it: start over without --resume")
