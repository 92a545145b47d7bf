"""Read the binary version of CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features", 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular
from toolkit.images import Collection, damaged, paired, reading, require_bytes

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
MAX_NAMES_BYTES = 100_000
BATCHES, TEST10, NAMES10 = "data_batch_*.bin", "test_batch.bin", "batches.meta.txt"
TRAIN100, TEST100, NAMES100 = "train.bin", "test.bin", "fine_label_names.txt"
PICKLED = ("data_batch_1", "batches.meta", "meta")  # of the Python version


def is_cifar(folder: Path) -> bool:
    """Whether the folder is one of the binary versions, or a Python version that `read_cifar` refuses with the cure."""
    return any(folder.glob(BATCHES)) or any((folder / name).is_file() for name in (TRAIN100, *PICKLED))


def read_cifar(folder: Path) -> Collection:
    """The images [count, 32, 32, 3] with their 10 classes, or their 100 fine ones.

    Raises:
        MilliwiseError: it is the Python version, whose files are pickled, or a file is damaged.
    """
    batches = sorted(folder.glob(BATCHES))
    if batches:
        files, test_file, names_file, classes = batches, folder / TEST10, folder / NAMES10, 10
    elif (folder / TRAIN100).is_file():
        files, test_file, names_file, classes = [folder / TRAIN100], folder / TEST100, folder / NAMES100, 100
    else:
        raise MilliwiseError(
            f"{printable(folder)} holds the Python version of CIFAR, whose pickled files may run code: get the binary "
            f"version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz)"
        )
    names = _names(names_file, classes)
    require_bytes(sum(file.stat().st_size for file in files), folder)
    parts = [_read(file, classes) for file in files]
    for (pixels, labels), file in zip(parts, files, strict=True):
        paired(pixels, labels, classes, file)  # file by file, so that an error names it
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    train = paired(pixels, labels, classes, folder)
    test = paired(*_read(test_file, classes), classes, test_file) if test_file.is_file() else None
    return Collection(train, test, names)


def _read(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a file of records: one label byte, or a coarse and a fine one, then three planes."""
    label_bytes = 1 if classes == 10 else 2
    record = label_bytes + PIXEL_BYTES
    with reading(path):
        require_regular(path)
        require_bytes(path.stat().st_size, path)
        content = np.fromfile(path, np.uint8)
    if content.size % record or not content.size:
        raise damaged(path, f"its {content.size} bytes are not a number of records of {record} bytes")
    records = content.reshape(-1, record)
    planes = records[:, label_bytes:].reshape(-1, 3, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), records[:, label_bytes - 1]


def _names(path: Path, classes: int) -> tuple[str, ...]:
    """One name a line; numbers if there is no such file."""
    if not path.is_file():
        return tuple(str(number) for number in range(classes))
    with reading(path), path.open("rb") as file:
        names = tuple(line.strip() for line in file.read(MAX_NAMES_BYTES).decode().splitlines() if line.strip())
    if len(names) != classes:
        raise damaged(path, f"it has {len(names)} names, not {classes}")
    return names
