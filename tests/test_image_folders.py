"""Folders of PNGs: every kind that Pillow writes is read or refused with the cure, and masks stay with their images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import pictures, png, write_classes
from PIL import Image

from toolkit.datasets import load_images
from toolkit.errors import MilliwiseError
from toolkit.image_sources.png import read_image, read_mask
from toolkit.images import IGNORED


def write_masks(folder: Path, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Images of 6 x 6 with masks that are computed from them, of three classes."""
    pixels = pictures(count, 6, 6, 3)
    masks = (pixels[..., 0] // 86).astype(np.uint8)
    for kind, arrays in (("images", pixels), ("masks", masks)):
        (folder / kind).mkdir()
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(folder / kind / f"{index}.png")
    return pixels, masks


def test_masks_stay_with_their_images(tmp_path: Path) -> None:
    pixels, _ = write_masks(tmp_path)
    data = load_images(str(tmp_path), size=8, seed=0)
    assert data.task == "segment" and data.labels == ("0", "1", "2")
    seen = set()
    for part, count in ((data.train, 8), (data.validation, 1), (data.test, 1)):
        assert part.pixels.shape == (count, 8, 8, 3) and part.labels.dtype == np.int64
        inside = part.pixels[:, 1:7, 1:7]
        assert (part.labels[:, 1:7, 1:7] == inside[..., 0] // 86).all() and (part.labels[:, 0] == IGNORED).all()
        seen |= {image.tobytes() for image in inside}
    assert seen == {image.tobytes() for image in pixels}


def test_nobody_knows_what_is_where_a_mask_is_255(tmp_path: Path) -> None:
    _, masks = write_masks(tmp_path)
    masks[0, 2:4] = 255
    Image.fromarray(masks[0]).save(tmp_path / "masks" / "0.png")
    data = load_images(str(tmp_path), size=8, seed=0)
    assert data.labels == ("0", "1", "2")
    unknown = [(part.labels[:, 1:7, 1:7] == IGNORED).sum() for part in (data.train, data.validation, data.test)]
    assert sum(unknown) == 12


def test_kinds_of_png_that_are_converted(tmp_path: Path) -> None:
    colours = Image.fromarray(pictures(1, 5, 7, 3)[0])
    path = tmp_path / "image.png"
    for image in (colours, colours.convert("L"), colours.convert("P"), colours.convert("1"), colours.convert("RGBA")):
        image.save(path)
        found = read_image(path)
        assert found.shape == (5, 7, 3) and (found == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(np.full((4, 4), 40_000, np.uint16)), "16 bits a channel: convert it to 8"),
        (Image.new("RGBA", (4, 4), (1, 2, 3, 4)), "transparent pixels: lay it"),
        (Image.new("LA", (4, 4), (1, 2)), "transparent pixels: lay it"),
    ],
)
def test_kinds_of_png_that_would_lose_something(tmp_path: Path, image: Image.Image, said: str) -> None:
    image.save(tmp_path / "image.png")
    with pytest.raises(MilliwiseError, match=said):
        read_image(tmp_path / "image.png")


def test_transparent_palettes_animations_and_coloured_masks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("P", (4, 4)).save(path, transparency=0)
    with pytest.raises(MilliwiseError, match="transparent"):
        read_image(path)
    Image.new("L", (4, 4)).save(path, save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    with pytest.raises(MilliwiseError, match="animated"):
        read_image(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(MilliwiseError, match=r"mask .* is RGB of 8 bits: write class numbers"):
        read_mask(path)
    numbers = pictures(1, 4, 4)[0] % 5
    palette = Image.fromarray(numbers)
    palette.putpalette([(7 * value) % 256 for value in range(768)])  # its numbers are asked for, not its colours
    palette.save(path)
    assert Image.open(path).mode == "P" and (read_mask(path) == numbers).all()
    path.write_bytes(png(4, 1, bits=2, data=b"\x00\x1b"))  # 0, 1, 2, 3
    with pytest.raises(MilliwiseError, match="is L of 2 bits"):
        read_mask(path)
    path.write_bytes(png(8, 1, bits=1, data=b"\x00\x55"))
    assert read_mask(path).tolist() == [[0, 1] * 4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is no PNG"),
        (b"GIF89a" + bytes(60), "it is no PNG"),
        (png(60_000, 60_000), "60000 x 60000, not of 1 to"),
        (png(4000, 4000), "cannot read"),  # a large promise and no data
        (png(0, 4), "0, not of 1 to|x 0"),
        (png(4, 4, bits=7), "cannot read"),
        (png(4, 4, data=bytes(20)).replace(b"IEND", b"IENX"), "cannot read"),
    ],
)
def test_hostile_pngs(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(MilliwiseError, match=said) as caught:
        read_image(tmp_path / "image.png")
    assert "image.png" in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_one_line_or_the_image(tmp_path: Path, data: st.DataObject) -> None:
    pixels = pictures(1, 6, 6, 3)[0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    (tmp_path / "image.png").write_bytes(content)
    try:
        found = read_image(tmp_path / "image.png")
    except MilliwiseError as error:
        assert "image.png" in str(error) and "\n" not in str(error)
    else:
        assert (found == pixels).all()  # check sums: nothing else passes


def rename_mask(folder: Path) -> None:
    (folder / "masks" / "3.png").rename(folder / "masks" / "x.png")


def remove_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()
    (folder / "images").rmdir()


def shrink_mask(folder: Path) -> None:
    Image.new("L", (5, 6)).save(folder / "masks" / "4.png")


def unknown_class(folder: Path) -> None:
    Image.new("L", (6, 6), 254).save(folder / "masks" / "4.png")


def nothing_known(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.new("L", (6, 6), 255).save(path)


def one_known(folder: Path) -> None:
    nothing_known(folder)
    mask = Image.new("L", (6, 6), 0)
    mask.putpixel((0, 0), 1)
    mask.save(folder / "masks" / "4.png")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (rename_mask, r"images/3\.png has no fellow in masks"),
        (remove_images, "has masks and no folder images"),
        (shrink_mask, r"masks/4\.png is 6 x 5, but the first image is 6 x 6"),
        (unknown_class, "masks has 4 classes with labels from 0 to 254"),
        (nothing_known, "masks knows no class anywhere: number them from 0"),
        (one_known, "masks of .* nothing is known: draw more of them"),
    ],
)
def test_masks_that_do_not_go_with_images(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    write_masks(tmp_path)
    damage(tmp_path)
    with pytest.raises(MilliwiseError, match=said):
        load_images(str(tmp_path), size=8, seed=0)


def empty_class(folder: Path) -> None:
    (folder / "cow").mkdir()


def larger_image(folder: Path) -> None:
    Image.new("RGB", (9, 8)).save(folder / "dog" / "9.png")


def photograph(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "dog" / "9.jpg")


def broken_image(folder: Path) -> None:
    path = folder / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty_class, "cow is empty: put PNG"),
        (larger_image, r"dog/9\.png is 8 x 9, but the first image is 8 x 8"),
        (photograph, r"dog/9\.jpg is no PNG file: convert"),
        (broken_image, r"cannot read .*dog/2\.png"),
    ],
)
def test_folders_with_a_fault(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    write_classes(tmp_path, {"cat": pictures(10, 8, 8, 3), "dog": pictures(10, 8, 8, 3)})
    damage(tmp_path)
    with pytest.raises(MilliwiseError, match=said):
        load_images(str(tmp_path), size=8, seed=0)


def test_a_mask_of_0_and_255_says_how_to_write_the_other_class(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(4):
        Image.fromarray(pictures(1, 8, 8, 3)[0]).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(np.full((8, 8), 255 * (number % 2), np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    with pytest.raises(MilliwiseError, match="nothing but 0 and 255, which means unknown: write the other class as 1"):
        load_images(str(tmp_path), size=8, seed=0)


@pytest.mark.parametrize("names", [("train", "val"), ("train", "test", "val"), ("training", "testing")])
def test_parts_that_are_called_otherwise_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_classes(tmp_path / name, {"cat": pictures(4, 8, 8), "dog": pictures(4, 8, 8)})
    with pytest.raises(MilliwiseError, match=f"has the parts {', '.join(sorted(names))}: call them train and test"):
        load_images(str(tmp_path), size=8, seed=0)


@pytest.mark.parametrize("part", ["train", "test"])
def test_masks_in_parts_are_not_taken_for_classes(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir()
    write_masks(tmp_path / part)
    with pytest.raises(MilliwiseError, match=f"{part} has images and masks, not classes: give that folder"):
        load_images(str(tmp_path), size=8, seed=0)


def test_test_classes_are_those_of_training(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": pictures(10, 8, 8), "dog": pictures(10, 8, 8)})
    write_classes(tmp_path / "test", {"cat": pictures(3, 8, 8), "cow": pictures(3, 8, 8)})
    with pytest.raises(MilliwiseError, match="class cow in train or in test only"):
        load_images(str(tmp_path), size=8, seed=0)


def test_too_many_images_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"cat": pictures(10, 8, 8), "dog": pictures(10, 8, 8)})
    monkeypatch.setattr("toolkit.images.MAX_BYTES", 20 * 8 * 8 * 3 - 1)
    with pytest.raises(MilliwiseError, match="3840 bytes of images, more than"):
        load_images(str(tmp_path), size=8, seed=0)
