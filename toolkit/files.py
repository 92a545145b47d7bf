"""Write files so that nothing half-written is ever seen, and read JSON defensively."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError

MAX_JSON_BYTES = 16_000_000
ASIDE = re.compile(r"\..+\.\w{8}")  # what `write_file` writes to before it renames


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


def holds_anything(folder: Path) -> bool:
    """Whether there is anything in a folder but what a `write_file` that was killed left."""
    return folder.is_dir() and any(not ASIDE.fullmatch(path.name) for path in folder.iterdir())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes as `write_file` does."""
    write_file(path, lambda aside: aside.write_bytes(content))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document as `write_file` does. NaN and infinity are refused."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise MilliwiseError(f"cannot write {path}: a name in it is not UTF-8 text; rename that file") from None
    write_bytes(path, encoded)


def require_writable(path: Path) -> None:
    """Refuse a place where nothing can be written before any work is spent; creates nothing.

    Raises:
        MilliwiseError: it is a folder, or below something that is no folder or may not be written to.
    """
    path = Path(path)
    above = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), path)
    if os.path.isdir(path):
        raise MilliwiseError(f"cannot write {path}: it is a folder; name a file in it")
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise MilliwiseError(f"cannot write {path}: {above} is no folder you may write to; choose another place")


def remove_file(path: Path) -> None:
    """Remove a file, if there is one.

    Raises:
        MilliwiseError: it cannot be removed.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise MilliwiseError(f"cannot replace {path}: {error.strerror}; remove it, or choose another place") from None


def require_regular(path: Path) -> None:
    """Refuse what is no regular file: a pipe may hang, and a device never ends.

    Raises:
        OSError: it is something else, or there is nothing.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a file")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object of at most 16 MB; `what` names it in errors ("device profile", "run").

    Raises:
        MilliwiseError: no such file, too large, truncated, or not a JSON object.
    """
    path = Path(path)
    try:
        require_regular(path)
        with path.open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            raise MilliwiseError(f"{what} {path} has more than {MAX_JSON_BYTES} bytes: it is not ours")
        content = json.loads(text)
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # refuses NaN, infinity and lone surrogates
    except OSError as error:
        raise MilliwiseError(f"cannot read {what} {path}: {error.strerror}; name one that you may read") from None
    except (ValueError, RecursionError) as error:
        raise MilliwiseError(f"{what} {path} is truncated or not JSON ({error}): make it again") from None
    if not isinstance(content, dict):
        raise MilliwiseError(f"{what} {path} holds a JSON {type(content).__name__}, not an object: make it again")
    return content


def digest(content: Any) -> str:
    """SHA-256 of a JSON value: what was edited by hand, where nothing else would tell, has another one."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/milliwise`, or `~/.cache/milliwise`; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "milliwise"
