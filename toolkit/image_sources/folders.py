"""Read folders of PNG files: a sub-folder a class, or images with masks of the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from toolkit.errors import MilliwiseError, printable
from toolkit.image_sources.png import png_size, read_image, read_mask
from toolkit.images import IGNORED, Collection, Images, numbered, paired, reading, require_bytes

IMAGES, MASKS = "images", "masks"
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
VOID = 255  # in a mask: nobody knows what is there, as PASCAL VOC has it


def is_segmentation(folder: Path) -> bool:
    """Whether the folder has images or masks, of which `read_segmentation` misses the other."""
    return {path.name for path in _folders(folder)} in ({IMAGES}, {MASKS}, {IMAGES, MASKS})


def has_folders(folder: Path) -> bool:
    """Whether there may be classes in it."""
    return bool(_folders(folder))


def read_classes(folder: Path) -> Collection:
    """The images of a folder with a sub-folder of PNGs a class, or with such folders called train and test.

    Classes are in the order of their names, or of the numbers if all names are numbers.

    Raises:
        MilliwiseError: a class is empty, something is no PNG or damaged, sizes differ, or train and test have other
            classes.
    """
    names = {path.name for path in _folders(folder)}
    if part := next((name for name in sorted(names & PARTS) if is_segmentation(folder / name)), None):
        raise MilliwiseError(
            f"{printable(folder / part)} has images and masks, not classes: give that folder, or join it with the "
            f"other parts in {IMAGES}/ and {MASKS}/ of one; what tests is drawn from it"
        )
    if names not in ({"train"}, {"train", "test"}):  # "train" may also be a class
        _require_no_parts(folder, names)
        return Collection(_classes(folder, classes := _class_names(folder)), None, classes)
    classes = _class_names(folder / "train")
    train = _classes(folder / "train", classes)
    if "test" not in names:
        return Collection(train, None, classes)
    if (found := _class_names(folder / "test")) != classes:
        odd = sorted(set(found) ^ set(classes))[0]
        raise MilliwiseError(
            f"{printable(folder)} has the class {printable(odd)} in train or in test only: put it in both"
        )
    return Collection(train, _classes(folder / "test", classes), classes)


def _require_no_parts(folder: Path, names: set[str]) -> None:
    """Refuse parts that are called otherwise, or are three, before they are taken for classes."""
    if len(names) > 1 and names <= PARTS and all(_folders(folder / name) for name in names):
        raise MilliwiseError(
            f"{printable(folder)} has the parts {', '.join(sorted(names))}: call them train and test; what validates "
            "is drawn from train, so put a third part's images there"
        )


def read_segmentation(folder: Path) -> Collection:
    """The images in images/ with the masks in masks/, whose values are class numbers, or 255 where none is known.

    Raises:
        MilliwiseError: an image has no mask or a mask no image, or one is damaged or of another size.
    """
    for name, other in ((IMAGES, MASKS), (MASKS, IMAGES)):
        if not (folder / name).is_dir():
            raise MilliwiseError(f"{printable(folder)} has {other} and no folder {name}: put it there")
    images, masks = _pngs(folder / IMAGES), _pngs(folder / MASKS)
    alone = sorted({path.name for path in images} ^ {path.name for path in masks})
    if alone:
        where, other = (IMAGES, MASKS) if (folder / IMAGES / alone[0]).exists() else (MASKS, IMAGES)
        raise MilliwiseError(
            f"{printable(folder / where / alone[0])} has no fellow in {other}: add it, or remove this one"
        )
    size = png_size(images[0])
    pixels = _stacked(images, (*size, 3), read_image)
    labels = _stacked(masks, size, read_mask).astype(np.int64)
    labels[labels == VOID] = IGNORED
    if labels.max() == 0 and (labels == IGNORED).any():
        raise MilliwiseError(
            f"{printable(folder / MASKS)} has nothing but 0 and {VOID}, which means unknown: write the other class as 1"
        )
    if not (known := labels[labels != IGNORED]).size:
        raise MilliwiseError(f"{printable(folder / MASKS)} knows no class anywhere: number them from 0")
    names = numbered(known, folder / MASKS)
    return Collection(paired(pixels, labels, len(names), folder / MASKS), None, names, "segment")


def _classes(folder: Path, names: tuple[str, ...]) -> Images:
    files = [_pngs(folder / name) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(some) for some in files])
    everything = [path for some in files for path in some]
    pixels = _stacked(everything, (*png_size(everything[0]), 3), read_image)
    return paired(pixels, labels, len(names), folder)


def _stacked(paths: list[Path], shape: tuple[int, ...], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """All images as uint8 [count, *shape]; their sizes are compared before one is unpacked."""
    for path in paths:
        if (size := png_size(path)) != shape[:2]:
            raise MilliwiseError(
                f"{printable(path)} is {size[0]} x {size[1]}, but the first image is {shape[0]} x {shape[1]}: bring "
                f"all to one size"
            )
    require_bytes(len(paths) * int(np.prod(shape)), paths[0].parent)
    stacked = np.empty((len(paths), *shape), np.uint8)
    for index, path in enumerate(paths):
        stacked[index] = read(path)
    return stacked


def _class_names(folder: Path) -> tuple[str, ...]:
    names = [path.name for path in _folders(folder)]
    if not names:
        raise MilliwiseError(f"{printable(folder)} has no folders: put the images of each class into one")
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def _folders(folder: Path) -> list[Path]:
    with reading(folder):
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _pngs(folder: Path) -> list[Path]:
    """The PNGs of a folder by name; anything else in it is an error, for it would be missing without a word."""
    with reading(folder):
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not paths:
        raise MilliwiseError(f"{printable(folder)} is empty: put PNG images into it, or remove it")
    for path in paths:
        if path.suffix.lower() != ".png" or not path.is_file():
            raise MilliwiseError(f"{printable(path)} is no PNG file: convert it, or move it away")
    return paths
