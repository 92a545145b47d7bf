"""Images and their labels as arrays, and what every source of them has to fulfil."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import MilliwiseError, printable

IGNORED = -100  # label of a pixel that is neither learnt nor judged; torch leaves it out of the loss
MAX_BYTES = 4 * 2**30  # of one array of images; a header that claims more is not believed


@dataclass(frozen=True)
class Images:
    """Some images with their labels.

    Attributes:
        pixels: uint8 [count, height, width, channels], of 1 or 3 channels.
        labels: int64 [count]; of a segmentation [count, height, width], in which some may be `IGNORED`.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Collection:
    """What a source holds, as it is stored there.

    Attributes:
        train: what is for training and validation, and for testing too if `test` is None.
        names: of the classes, in order of their number.
        task: "classify" or "segment".
        flip: whether a mirrored image still shows its class.
    """

    train: Images
    test: Images | None
    names: tuple[str, ...]
    task: str = "classify"
    flip: bool = True


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a file into one line.

    Raises:
        MilliwiseError: it cannot be read, is truncated or damaged.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise damaged(path, why) from None


def damaged(path: Path, why: str) -> MilliwiseError:
    """The error that says why a file cannot be read."""
    line = printable(why.splitlines()[0] if why else "unreadable")
    return MilliwiseError(f"cannot read {printable(path)}: {line}; get or write the file again")


def require_bytes(count: int, where: Path | str) -> None:
    """Refuse what would need too much memory, before it is allocated.

    Raises:
        MilliwiseError: it is more than `MAX_BYTES`.
    """
    if count > MAX_BYTES:
        raise MilliwiseError(
            f"{printable(where)} says it holds {count} bytes of images, more than {MAX_BYTES}: use fewer or "
            f"smaller ones"
        )


def paired(pixels: np.ndarray, labels: np.ndarray, classes: int, where: Path) -> Images:
    """Images whose labels (of any whole type) are as many, and numbers under `classes`; in masks, or `IGNORED`.

    Raises:
        MilliwiseError: they are not, or there are none.
    """
    if len(pixels) != len(labels) or not len(pixels):
        raise MilliwiseError(
            f"{printable(where)} goes with {len(pixels)} images and has {len(labels)} labels: give every image "
            f"one label"
        )
    known = labels[labels != IGNORED] if labels.ndim == 3 else labels
    for wrong in (known.min(), known.max()):
        if not 0 <= wrong < classes:
            raise MilliwiseError(
                f"{printable(where)} has the label {wrong}, which is none of its {classes} classes: number them 0 to "
                f"{classes - 1}"
            )
    return Images(pixels, labels.astype(np.int64))


def numbered(labels: np.ndarray, where: Path) -> tuple[str, ...]:
    """The names "0", "1", … of classes that have none.

    Raises:
        MilliwiseError: they are not numbered from 0 without a gap: a label is wrong, and nothing says which.
    """
    present = np.unique(labels)
    if present.size and (present[0] != 0 or present[-1] != present.size - 1):
        raise MilliwiseError(
            f"{printable(where)} has {present.size} classes with labels from {present[0]} to {present[-1]}: number "
            f"them 0 to {present.size - 1}, or name all classes where the format can"
        )
    return tuple(str(number) for number in range(present.size))
