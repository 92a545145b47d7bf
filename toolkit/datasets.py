"""Images for a search: found by what a path is, brought to one size and split the same way for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import MilliwiseError, printable
from toolkit.image_sources.cifar import is_cifar, read_cifar
from toolkit.image_sources.download import PUBLISHED, downloaded
from toolkit.image_sources.folders import IMAGES, MASKS, has_folders, is_segmentation, read_classes, read_segmentation
from toolkit.image_sources.idx import find_idx, read_idx_folder
from toolkit.image_sources.npz import read_npz
from toolkit.images import IGNORED, Collection, Images, reading, require_bytes

KNOWN = (
    f"a folder with train-images-idx3-ubyte, with data_batch_1.bin or train.bin of CIFAR, with a folder of PNGs a "
    f"class, or with {IMAGES} and {MASKS}; a .npz file; or {', '.join(PUBLISHED)}"
)


@dataclass(frozen=True)
class ImageData:
    """Images in the parts that a search uses, all uint8 [count, size, size, 3].

    Attributes:
        task: "classify" or "segment", as the neural fabric calls it.
        labels: names of the classes, in order of their number.
        description: one line for people: where from, and how many of each part.
        flip: whether training may mirror an image (digits may not be).
    """

    task: str
    labels: tuple[str, ...]
    train: Images
    validation: Images
    test: Images
    description: str
    flip: bool


def load_images(
    source: str, *, size: int, seed: int, validation_share: float = 0.1, most: int | None = None
) -> ImageData:
    """Read images and split them; the same source, seed and share give the same validation and test images.

    Args:
        source: a path, or the name of a published set (a folder of such a name is `./mnist`).
        size: height and width that come out; smaller images are centred on black (of which masks know nothing).
        seed: of the split, and of the choice of `most`.
        validation_share: of what is for training, a fraction. As much is split off for testing if the source has no
            test part. Classes keep their proportions.
        most: as many training images at most; the other parts stay whole.

    Raises:
        MilliwiseError: there are no such images, they are damaged, of another size, or too few.
    """
    if not 0 < validation_share < 0.5 or (most is not None and most < 1):
        raise MilliwiseError(
            f"validation share {validation_share} and at most {most} training images: use a share between 0 and 0.5, "
            f"and 1 image or more"
        )
    if source in PUBLISHED:
        folder = downloaded(source)
        found = read_cifar(folder) if is_cifar(folder) else read_idx_folder(folder)
    else:
        found = _read(Path(source))
    _require_usable(found, source)
    train, validation, test = _split(found, source, np.random.default_rng(seed), validation_share)
    if most is not None:
        train = Images(train.pixels[:most], train.labels[:most])
    for part, images in (("training", train), ("validation", validation), ("test", test)):
        if images.labels.ndim == 3 and not (images.labels != IGNORED).any():
            raise MilliwiseError(f"of the {part} masks of {printable(source)} nothing is known: draw more of them")
    parts = (_sized(train, size, source), _sized(validation, size, source), _sized(test, size, source))
    return ImageData(found.task, found.names, *parts, _description(found, source, parts), found.flip)


def _read(path: Path) -> Collection:
    """The images of a path, recognised by what is there."""
    with reading(path):
        if path.is_file() and path.suffix.lower() == ".npz":
            return read_npz(path)
        if path.is_dir():
            if find_idx(path, "train", "images-idx3") or find_idx(path, "train", "labels-idx1"):
                return read_idx_folder(path)
            if is_cifar(path):
                return read_cifar(path)
            if is_segmentation(path):
                return read_segmentation(path)
            if has_folders(path):
                return read_classes(path)
        seen = "it is something else" if path.exists() else "nothing is there"
    raise MilliwiseError(f"no images in {printable(path)} ({seen}): give {KNOWN}")


def _require_usable(found: Collection, source: str) -> None:
    """Refuse images of one class, or of different sizes in training and test."""
    if len(found.names) < 2 or len(np.unique(found.train.labels)) < 2:
        raise MilliwiseError(f"all training images of {printable(source)} are of one class: give at least two classes")
    if found.test and found.test.pixels.shape[1:3] != found.train.pixels.shape[1:3]:
        sizes = [" x ".join(map(str, part.pixels.shape[1:3])) for part in (found.train, found.test)]
        raise MilliwiseError(
            f"{printable(source)} has training images of {sizes[0]} and test images of {sizes[1]}: bring "
            f"all to one size"
        )


def _description(found: Collection, source: str, parts: tuple[Images, ...]) -> str:
    counts = " + ".join(str(len(part.labels)) for part in parts)
    side = found.train.pixels.shape[1]
    return (
        f"{printable(source)}: {counts} images (train + validation + test) of {side} x {side}, {len(found.names)} "
        f"classes"
    )


def _split(
    found: Collection, source: str, generator: np.random.Generator, share: float
) -> tuple[Images, Images, Images]:
    """Train, validation and test; the order of the first is a random one in which any beginning is stratified."""
    order = _stratified(found.train.labels, generator)
    held_out = round(share * len(order))
    begin = held_out if found.test else 2 * held_out  # a test part that is not there is taken before validation
    if not held_out or begin >= len(order):
        raise MilliwiseError(
            f"{printable(source)} has {len(order)} training images, too few to hold out a share of {share:g}: give "
            f"more images or another share"
        )
    test = found.test or _taken(found.train, order[:held_out])
    return _taken(found.train, order[begin:]), _taken(found.train, order[begin - held_out : begin]), test


def _stratified(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of the images in which any stretch holds the classes in their proportion.

    The images of a class are spread evenly over it; masks have no class, and the order is only random.
    """
    shuffled = generator.permutation(len(labels))
    if labels.ndim > 1:
        return shuffled
    place = np.empty(len(labels))
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels[shuffled] == label)
        place[of_class] = (np.arange(of_class.size) + 0.5) / of_class.size
    return shuffled[np.argsort(place, kind="stable")]


def _taken(images: Images, chosen: np.ndarray) -> Images:
    return Images(images.pixels[chosen], images.labels[chosen])


def _sized(images: Images, size: int, source: str) -> Images:
    """The images with 3 channels, in the middle of a black [size, size]; around their masks nothing is known.

    Raises:
        MilliwiseError: they are larger, not square, or too many.
    """
    count, height, width, _channels = images.pixels.shape
    if height != width or height > size:
        raise MilliwiseError(
            f"{printable(source)} has images of {height} x {width}, the network takes squares of up to {size} x {size}"
            f": crop or shrink them" + (f", or choose a network for {height}" if height == width else "")
        )
    require_bytes(count * size * size * 3, source)
    before = (size - height) // 2
    around = (before, size - height - before)
    pixels = np.pad(np.broadcast_to(images.pixels, (count, height, width, 3)), ((0, 0), around, around, (0, 0)))
    if images.labels.ndim < 3:
        return Images(pixels, images.labels)
    return Images(pixels, np.pad(images.labels, ((0, 0), around, around), constant_values=IGNORED))
