"""An unfinished profile on disk: what is measured so far, so that an interruption loses only a moment's work."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from toolkit.errors import MilliwiseError
from toolkit.files import digest, remove_file, require_regular

MOST_BYTES = 256_000_000
CHECKED = 16  # hexadecimal digits of the SHA-256 before every line: raw measurements have nothing else to tell by


@contextmanager
def only_writer(path: Path, resume: bool) -> Iterator[None]:
    """Inside, no other process makes a profile with this journal, which is empty at first unless it is resumed.

    Raises:
        MilliwiseError: another process is at it, or the journal cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except OSError as error:
        raise MilliwiseError(f"cannot write {path}: {error.strerror}; choose another place with -o") from None
    with file:
        if not resume:
            file.truncate(0)
        try:
            yield
        finally:
            with suppress(OSError):  # removed before, or left empty because nothing was measured
                if not path.stat().st_size:
                    path.unlink()


def _locked(path: Path) -> IO[bytes]:
    """The journal, locked as long as it is open.

    Raises:
        OSError, MilliwiseError: it cannot be opened, or another process has it.
    """
    while True:
        if path.exists():
            require_regular(path)  # opening a pipe may wait for ever
        file = path.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise MilliwiseError(f"another profile is writing {path}: wait, or choose another -o") from None
        except OSError:  # here nothing can be locked
            return file
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # whoever had it has just removed it


class Partial:
    """Named parts of a measurement, each a list of JSON values, appended to a file as they come.

    Args:
        path: the file, or None to keep nothing.
        identity: what has to agree (arguments, device) for what is stored to be used again.
        refuse_others: what is stored of another measurement is an error, instead of replaced.

    Raises:
        MilliwiseError: the file is damaged, cannot be read, or is of another measurement, if those are refused.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], *, refuse_others: bool = False) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(dict(identity)))
        self.refuse_others = refuse_others
        self.parts: dict[str, list[Any]] = {}
        self.seconds_before = 0.0
        self._begun = time.monotonic()
        if path is None:
            return
        kept = self._read(path) if path.exists() else 0
        try:
            if path.exists():
                os.truncate(path, kept)  # a line that was being written when the process was killed goes
        except OSError as error:
            raise MilliwiseError(f"cannot write {path}: {error.strerror}; start over without --resume") from None
        if not kept:
            self._append({"identity": self.identity})

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
        if not lines or (begun := lines[0].get("identity")) != self.identity:
            if lines and self.refuse_others:
                raise _others(path, begun if isinstance(begun, dict) else {}, self.identity)
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


def _others(path: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> MilliwiseError:
    """The error for a file of another measurement, with what differs."""
    before, now = _flat(begun), _flat(asked)
    odd = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    told = ", ".join(f"{name}: {str(before.get(name))[:60]!r}, not {str(now.get(name))[:60]!r}" for name in odd[:3])
    return MilliwiseError(
        f"unfinished profile {path} was begun with other arguments ({told}): repeat those, or leave out --resume"
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of mappings inside beside the others: `device.kernel`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in _flat(value).items()}
        else:
            found[name] = value
    return found


def _damaged(path: Path) -> MilliwiseError:
    return MilliwiseError(f"unfinished profile {path} is not as milliwise wrote it: start over without --resume")
