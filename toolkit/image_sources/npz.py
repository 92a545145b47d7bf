"""Read images from a .npz file with x_train, y_train, x_test, y_test and the names of the classes."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
from pathlib import Path

import numpy as np

from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular
from toolkit.images import Collection, Images, damaged, numbered, paired, reading, require_bytes

NAMES = ("names", "classes")
MAX_HEADER_BYTES = 10_000
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
BROKEN = (  # what zipfile and numpy raise on damaged files, beside what `reading` knows
    zipfile.BadZipFile,
    KeyError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
)


def read_npz(path: Path) -> Collection:
    """The images of a file with the arrays x_train and y_train, perhaps x_test and y_test, perhaps names or classes.

    Images are [count, height, width] or [count, height, width, 1 or 3] in 0 to 255, labels whole numbers [count].

    Raises:
        MilliwiseError: an array is missing, damaged, pickled, too large or of another kind.
    """
    arrays = _arrays(path, ("x_train", "y_train", "x_test", "y_test", *NAMES))
    labels = _labels(arrays, "y_train", path)
    found = next((arrays[name] for name in NAMES if name in arrays), None)
    names = numbered(labels, path) if found is None else _names(found, path)
    train = paired(_pixels(arrays, "x_train", path), labels, len(names), path)
    test: Images | None = None
    if "x_test" in arrays or "y_test" in arrays:
        test = paired(_pixels(arrays, "x_test", path), _labels(arrays, "y_test", path), len(names), path)
    file = path.name.lower()
    return Collection(train, test, names, flip="mnist" not in file or "fashion" in file)


def _arrays(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of these names that are there."""
    with reading(path):
        try:
            require_regular(path)
            with zipfile.ZipFile(path) as archive:
                there = set(archive.namelist())
                return {name: _array(archive, f"{name}.npy", path) for name in wanted if f"{name}.npy" in there}
        except BROKEN as error:
            raise damaged(path, str(error) or type(error).__name__) from None


def _array(archive: zipfile.ZipFile, member: str, path: Path) -> np.ndarray:
    """One array, whose header is compared with what the archive holds before anything is allocated."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise damaged(path, f"{member} has the unknown format {version}")
        shape, _, dtype = HEADERS[version](file, max_header_size=MAX_HEADER_BYTES)
        begun = file.tell()
    if dtype.hasobject:
        raise damaged(path, f"{member} is pickled, which may run code")
    count = math.prod(shape) * dtype.itemsize
    require_bytes(count, path)
    if min(shape, default=0) < 0 or count != archive.getinfo(member).file_size - begun:
        raise damaged(path, f"the header of {member} does not fit its size")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _pixels(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """Images as uint8 [count, height, width, 1 or 3]."""
    pixels = _named(arrays, name, path)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise MilliwiseError(
            f"{name} in {printable(path)} has the shape {list(pixels.shape)}: make it [count, height, width, 1 or 3]"
        )
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "uif" or not (pixels.min() >= 0 and pixels.max() <= 255):  # NaN is neither
        raise MilliwiseError(f"{name} in {printable(path)} ({pixels.dtype}) is not in 0 to 255: store 8-bit values")
    if pixels.dtype.kind == "f" and pixels.max() <= 1:
        raise MilliwiseError(f"{name} in {printable(path)} ({pixels.dtype}) is in 0 to 1: store it times 255")
    return np.rint(pixels).astype(np.uint8)


def _labels(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """Labels as whole numbers [count]; [count, 1] is how some programs write it."""
    labels = _named(arrays, name, path)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise MilliwiseError(
            f"{name} in {printable(path)} is {labels.dtype} {list(labels.shape)}: make it whole numbers [count]"
        )
    return labels


def _named(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise MilliwiseError(f"{printable(path)} has no array {name}: give x_train and y_train, x_test and y_test")
    return arrays[name]


def _names(names: np.ndarray, path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise MilliwiseError(
            f"the names in {printable(path)} are {names.dtype} {list(names.shape)}: make them text [classes]"
        )
    return tuple(str(name) if names.dtype.kind == "U" else name.decode("utf-8", "replace") for name in names)
