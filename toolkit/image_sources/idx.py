"""Read the idx files of the MNIST family, plain or gzip-compressed (LeCun, Cortes and Burges, "The MNIST database")."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular
from toolkit.images import Collection, Images, damaged, numbered, paired, reading, require_bytes

UNSIGNED_BYTE = 8  # the type of value in an idx header
GZIP = b"\x1f\x8b"
CHUNK_BYTES = 2**20
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def find_idx(folder: Path, part: str, kind: str) -> Path | None:
    """The file of a part ("train" or "t10k") of a kind ("images-idx3" or "labels-idx1"), if it is there."""
    stem = f"{part}-{kind}-ubyte"
    spellings = (stem, stem.replace("-idx", ".idx"))  # both are published
    files = [folder / f"{name}{ending}" for name in spellings for ending in ("", ".gz")]
    return next((file for file in files if file.is_file()), None)


def read_idx_folder(folder: Path) -> Collection:
    """The images [count, height, width, 1] of a folder with train-images-idx3-ubyte and its fellows.

    Digits and letters are not to be flipped; clothes are, if the folder, or the one it is in, is called something with
    "fashion".

    Raises:
        MilliwiseError: a file is missing, damaged, or does not go with the others.
    """
    pixels, labels, file = _part(folder, "train")
    fashion = any("fashion" in name.lower() for name in folder.absolute().parts[-2:])
    names = FASHION if fashion else numbered(labels, file)
    train = paired(pixels, labels, len(names), file)
    test: Images | None = None
    if find_idx(folder, "t10k", "images-idx3"):
        pixels, labels, file = _part(folder, "t10k")
        test = paired(pixels, labels, len(names), file)
    return Collection(train, test, names, flip=fashion)


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray, Path]:
    """Pixels, labels and the file of the labels."""
    images, labels = find_idx(folder, part, "images-idx3"), find_idx(folder, part, "labels-idx1")
    if images is None or labels is None:
        missing = "labels-idx1" if images else "images-idx3"
        raise MilliwiseError(f"{printable(folder)} has no {part}-{missing}-ubyte (or .gz): put it there")
    return read_idx(images, 3)[..., None], read_idx(labels, 1), labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of so many dimensions in an idx file.

    Raises:
        MilliwiseError: it is none, too large, or does not hold exactly what its header says.
    """
    with reading(path):
        require_regular(path)
        with path.open("rb") as plain:
            packed = plain.read(len(GZIP)) == GZIP
            plain.seek(0)
            if not packed:
                return _read(plain, dimensions, path)
            with gzip.GzipFile(fileobj=plain) as unpacked:
                return _read(unpacked, dimensions, path)  # type: ignore[arg-type]


def _read(file: BinaryIO, dimensions: int, path: Path) -> np.ndarray:
    head = file.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise damaged(path, f"it begins with {head[:4].hex()}, not as an idx file of {dimensions} dimensions of bytes")
    shape = tuple(int(size) for size in np.frombuffer(head, ">u4", offset=4))
    expected = math.prod(shape)
    require_bytes(expected, path)
    content = bytearray()  # grows as bytes come: a header alone allocates nothing
    while len(content) <= expected and (chunk := file.read(min(CHUNK_BYTES, expected + 1 - len(content)))):
        content += chunk
    if len(content) != expected:
        raise damaged(
            path, f"its header says {expected} values, it has {'fewer' if len(content) < expected else 'more'}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
