"""Write files so that nothing half-written is ever seen, and read JSON defensively."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError

MAX_JSON_BYTES = 16_000_000


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path`, flush it to the disk, then rename it into place.

    Raises:
        MilliwiseError: the folder is missing or read-only, or the disk is full; the old file still stands.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise MilliwiseError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from None
    aside = Path(name)
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    except OSError as error:
        raise MilliwiseError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from None
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes as `write_file` does."""
    write_file(path, lambda aside: aside.write_bytes(content))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document as `write_file` does. NaN and infinity are refused."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object of at most 16 MB; `what` names it in errors ("device profile", "run").

    Raises:
        MilliwiseError: no such file, too large, truncated, or not a JSON object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise MilliwiseError(
                f"{what} {path} has {path.stat().st_size} bytes, more than {MAX_JSON_BYTES}: it is not ours"
            )
        content = json.loads(path.read_bytes())
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # refuses NaN, infinity and lone surrogates
    except OSError as error:
        raise MilliwiseError(f"cannot read {what} {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise MilliwiseError(f"{what} {path} is truncated or not JSON ({error}): make it again") from None
    if not isinstance(content, dict):
        raise MilliwiseError(f"{what} {path} holds a JSON {type(content).__name__}, not an object: make it again")
    return content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
