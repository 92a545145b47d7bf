"""Every source gives the images that were written, in parts that do not overlap and are frozen by the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import cifar, pictures, write_classes, write_idx

from toolkit.datasets import ImageData, Images, load_images
from toolkit.errors import MilliwiseError

COUNTS = (30, 20, 10)  # images of three classes, sorted by class


@pytest.fixture
def numbered_images(tmp_path: Path) -> str:
    """A .npz of 60 images of 4 x 4 whose pixels are the number of the image."""
    labels = np.repeat([0, 1, 2], COUNTS)
    pixels = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None], (60, 4, 4))
    path = tmp_path / "numbers.npz"
    np.savez(path, x_train=pixels, y_train=labels)
    return str(path)


def identities(images: Images) -> list[int]:
    return images.pixels[:, 2, 2, 0].tolist()


def as_set(pixels: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in pixels}


def everything(data: ImageData) -> np.ndarray:
    return np.concatenate([data.train.pixels, data.validation.pixels, data.test.pixels])


def test_parts_share_no_image_and_lose_none(numbered_images: str) -> None:
    data = load_images(numbered_images, size=4, seed=1)
    parts = [identities(part) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(number for part in parts for number in part) == list(range(60))
    expected = np.repeat([0, 1, 2], COUNTS)
    for part in (data.train, data.validation, data.test):
        assert part.labels.dtype == np.int64 and (part.labels == expected[identities(part)]).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_part_keeps_the_proportions_of_the_classes(numbered_images: str, seed: int) -> None:
    data = load_images(numbered_images, size=4, seed=seed, most=24)
    assert np.bincount(data.validation.labels).tolist() == np.bincount(data.test.labels).tolist() == [3, 2, 1]
    assert np.bincount(data.train.labels).tolist() == [12, 8, 4]


def test_a_seed_gives_its_split_again_and_most_takes_of_training_only(numbered_images: str) -> None:
    first, again = (load_images(numbered_images, size=4, seed=3) for _ in range(2))
    other, few = load_images(numbered_images, size=4, seed=4), load_images(numbered_images, size=4, seed=3, most=7)
    assert identities(first.train) == identities(again.train)
    assert identities(first.validation) == identities(again.validation) == identities(few.validation)
    assert sorted(identities(first.validation)) != sorted(identities(other.validation))
    assert len(few.train.labels) == 7 and set(identities(few.train)) <= set(identities(first.train))
    assert identities(few.test) == identities(first.test)


def test_a_larger_size_has_the_image_in_its_middle(tmp_path: Path) -> None:
    pixels = pictures(20, 28, 28)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=np.arange(20) % 2, x_test=pixels, y_test=np.arange(20) % 2)
    test = load_images(str(tmp_path / "a.npz"), size=32, seed=0).test.pixels
    assert test.shape == (20, 32, 32, 3) and test.dtype == np.uint8
    assert all((test[:, 2:30, 2:30, channel] == pixels).all() for channel in range(3))
    assert int(test.sum(dtype=int)) == 3 * int(pixels.sum(dtype=int))  # black around


def test_an_idx_folder_is_digits_or_clothes(tmp_path: Path) -> None:
    train, test = (pictures(40, 28, 28), np.arange(40) % 10), (pictures(10, 28, 28, seed=1), np.arange(10))
    digits = load_images(str(write_idx(tmp_path / "digits", train, test)), size=28, seed=0)
    clothes = load_images(str(write_idx(tmp_path / "FashionMNIST", train, test)), size=28, seed=0)
    raw = load_images(str(write_idx(tmp_path / "FashionMNIST" / "raw", train, test)), size=28, seed=0)
    assert raw.labels == clothes.labels and raw.flip, "as torchvision leaves them"
    assert (digits.test.pixels[..., 1] == test[0]).all() and (digits.test.labels == test[1]).all()
    assert digits.labels == tuple("0123456789") and not digits.flip
    assert clothes.labels[9] == "Ankle boot" and clothes.flip and clothes.task == "classify"
    alone = load_images(str(write_idx(tmp_path / "alone", train, None)), size=28, seed=0)
    assert as_set(everything(alone)[..., 0]) == as_set(train[0])


def test_cifar10_is_read_from_its_batches(tmp_path: Path) -> None:
    pixels, labels = pictures(30, 32, 32, 3), np.arange(30) % 10
    (tmp_path / "data_batch_1.bin").write_bytes(cifar(pixels[:12], labels[:12]))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar(pixels[12:20], labels[12:20]))
    (tmp_path / "test_batch.bin").write_bytes(cifar(pixels[20:], labels[20:]))
    (tmp_path / "batches.meta.txt").write_text("\n".join(f"class {number}" for number in range(10)) + "\n\n")
    data = load_images(str(tmp_path), size=32, seed=0)
    assert (data.test.pixels == pixels[20:]).all() and (data.test.labels == labels[20:]).all()
    assert as_set(np.concatenate([data.train.pixels, data.validation.pixels])) == as_set(pixels[:20])
    assert data.labels[3] == "class 3" and data.flip


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    pixels, labels = pictures(30, 32, 32, 3), np.arange(30) * 3
    (tmp_path / "train.bin").write_bytes(cifar(pixels[:20], labels[:20], coarse=True))
    (tmp_path / "test.bin").write_bytes(cifar(pixels[20:], labels[20:], coarse=True))
    data = load_images(str(tmp_path), size=32, seed=0)
    assert (data.test.pixels == pixels[20:]).all() and (data.test.labels == labels[20:]).all()
    assert len(data.labels) == 100


@pytest.mark.parametrize("folders", [("",), ("train", "test")])
def test_a_folder_a_class(tmp_path: Path, folders: tuple[str, ...]) -> None:
    written = [pictures(12, 8, 8, 3, seed=seed) for seed in range(2 * len(folders))]
    for folder in folders:
        index = 2 * folders.index(folder)
        write_classes(tmp_path / folder, {"10": written[index], "9": written[index + 1]})
    data = load_images(str(tmp_path), size=8, seed=0)
    assert data.labels == ("9", "10")  # names that are numbers count as numbers
    nines = np.concatenate([part.pixels[part.labels == 0] for part in (data.train, data.validation, data.test)])
    assert as_set(nines) == as_set(np.concatenate(written[1::2]))
    if len(folders) == 2:
        assert as_set(data.test.pixels) == as_set(np.concatenate(written[2:]))


def test_the_shared_images(shared_data: Path) -> None:
    for name, flip, first in (("mnist", False, "0"), ("cifar10", True, "airplane")):
        data = load_images(str(shared_data / "images" / f"{name}.npz"), size=32, seed=0, most=1000)
        assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [1000, 1000, 2000]
        assert (np.bincount(data.validation.labels) == 100).all() and (np.bincount(data.train.labels) == 100).all()
        assert (data.flip, data.labels[0], data.task) == (flip, first, "classify")
        assert f"{name}.npz" in data.description and "1000 + 1000 + 2000" in data.description


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 3}, "4 x 4.*3 x 3.*choose a network for 4"),
        ({"validation_share": 0.001}, "60 training images, too few"),
        ({"validation_share": float("nan")}, "between 0 and 0.5"),
        ({"validation_share": 0.5}, "between 0 and 0.5"),
        ({"most": 0}, "1 image or more"),
        ({"size": 100_000}, "bytes of images, more than"),
    ],
)
def test_what_cannot_be_split_or_padded(numbered_images: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(MilliwiseError, match=said):
        load_images(numbered_images, **{"size": 4, "seed": 0} | options)  # type: ignore[arg-type]


def test_one_class_and_other_test_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=pictures(20, 4, 4), y_train=np.zeros(20, int))
    with pytest.raises(MilliwiseError, match=r"a\.npz are of one class"):
        load_images(str(path), size=4, seed=0)
    labels = np.arange(20) % 2
    np.savez(path, x_train=pictures(20, 4, 4), y_train=labels, x_test=pictures(20, 5, 5), y_test=labels)
    with pytest.raises(MilliwiseError, match="4 x 4 and test images of 5 x 5"):
        load_images(str(path), size=8, seed=0)
    np.savez(path, x_train=pictures(20, 4, 6), y_train=labels)
    with pytest.raises(MilliwiseError, match="4 x 6, the network takes squares"):
        load_images(str(path), size=8, seed=0)


def test_an_unknown_source_says_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    for source in ("no-such-set", str(tmp_path / "images.txt"), str(tmp_path / "empty"), "x" * 5000, "a\0b", ""):
        with pytest.raises(MilliwiseError) as caught:
            load_images(source, size=32, seed=0)
        assert "\n" not in str(caught.value)
    with pytest.raises(MilliwiseError, match=r"nothing is there\): give .*idx3.*CIFAR.*PNGs.*masks.*npz.*cifar100"):
        load_images("no-such-set", size=32, seed=0)


def test_the_python_version_of_cifar_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(MilliwiseError, match=r"pickled.*binary version"):
        load_images(str(tmp_path), size=32, seed=0)
