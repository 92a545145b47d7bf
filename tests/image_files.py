"""Image sets written byte by byte, or by Pillow and numpy, for the tests of what reads them."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 [count, *shape]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An idx file of bytes: two zeros, the type 8, the number of dimensions, each size as a big-endian word."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray] | None) -> Path:
    """The MNIST files: plain for training, compressed for testing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_NAMES, train, strict=False):
        (folder / name).write_bytes(idx(array))
    for name, array in zip(IDX_NAMES[2:], test or (), strict=False):
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def cifar(pixels: np.ndarray, labels: np.ndarray, coarse: bool = False) -> bytes:
    """Records of a label (after a coarse one, in CIFAR-100) and the red, the green and the blue plane."""
    records = b""
    for image, label in zip(pixels, labels, strict=True):
        planes = b"".join(image[:, :, channel].tobytes() for channel in range(3))
        records += (b"\x07" if coarse else b"") + bytes([label]) + planes
    return records


def write_classes(folder: Path, classes: dict[str, np.ndarray]) -> Path:
    """A sub-folder of PNGs a class."""
    for name, pixels in classes.items():
        (folder / name).mkdir(parents=True)
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def png(width: int, height: int, bits: int = 8, data: bytes = b"") -> bytes:
    """A PNG with such a header, whose data need not fit."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
