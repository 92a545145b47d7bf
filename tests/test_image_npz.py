""".npz files of images: other number types and shapes, and damage of every kind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import pictures

from toolkit.datasets import load_images
from toolkit.errors import MilliwiseError
from toolkit.image_sources.cifar import read_cifar
from toolkit.image_sources.npz import read_npz

LABELS = np.arange(20) % 2


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"x_train": pictures(20, 4, 4), "y_train": LABELS} | arrays)
    return path


def header(shape: str, dtype: str = "|u1", data: bytes = b"") -> bytes:
    """A .npy file whose header says what it likes."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def test_names_and_other_types_of_numbers(tmp_path: Path) -> None:
    colours = pictures(20, 4, 4, 3)
    path = saved(
        tmp_path / "a.npz",
        x_train=colours.astype(np.float64),
        y_train=LABELS[:, None].astype(np.int8),
        names=np.array(["cat", "dog", "bird"]),
    )
    found = read_npz(path)
    assert found.names == ("cat", "dog", "bird") and found.train.pixels.dtype == np.uint8
    assert (found.train.pixels == colours).all() and (found.train.labels == LABELS).all()


@pytest.mark.parametrize("name", ["mnist.npz", "fashion_mnist.npz", "cats.npz"])
def test_digits_are_not_mirrored(tmp_path: Path, name: str) -> None:
    assert load_images(str(saved(tmp_path / name)), size=4, seed=0).flip is (name != "mnist.npz")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": np.full((20, 4, 4), np.nan)}, "not in 0 to 255"),
        ({"x_train": np.full((20, 4, 4), 255.5)}, "not in 0 to 255"),
        ({"x_train": np.full((20, 4, 4), -1)}, "not in 0 to 255"),
        ({"x_train": np.full((20, 4, 4), 0.5)}, "times 255"),
        ({"x_train": np.full((20, 4, 4), "a")}, "not in 0 to 255"),
        ({"x_train": np.zeros((20, 3, 4, 4), np.uint8)}, r"\[20, 3, 4, 4\]: make it"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, r"\[0, 4, 4, 1\]"),
        ({"x_train": np.full((20, 4, 4), None)}, "pickled"),
        ({"y_train": np.eye(20)}, r"float64 \[20, 20\]: make it whole numbers"),
        ({"y_train": np.arange(19) % 2}, "20 images and has 19 labels"),
        ({"y_train": LABELS - 1}, "labels from -1 to 0"),
        ({"y_train": LABELS, "names": np.array(["only"])}, "label 1, which is none of its 1 classes"),
        ({"y_train": LABELS.astype(np.uint64) * 2**63, "names": np.array(["a", "b"])}, "label 9223372036854775808"),
        ({"y_train": LABELS * 2}, "2 classes with labels from 0 to 2"),
        ({"names": np.array([1, 2])}, "make them text"),
        ({"x_test": pictures(3, 4, 4)}, "no array y_test"),
        ({"x_test": pictures(3, 4, 4), "y_test": np.array([0, 1, 2])}, "label 2"),
    ],
)
def test_arrays_of_another_kind(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(MilliwiseError, match=said) as caught:
        load_images(str(path), size=4, seed=0)
    assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (header("(9000000, 32, 32)"), "bytes of images, more than"),
        (header("(10**30,)"), "cannot read"),
        (header("(1000, 1000, 1000)"), "does not fit its size"),
        (header("(20, 4, 5)", data=bytes(320)), "does not fit its size"),
        (header("(-20, -4, 4)", data=bytes(320)), "does not fit its size"),
        (header("(" * 4000 + ")" * 4000), "cannot read"),
        (header("(20,)", dtype="O"), "pickled"),
        (header("(20,)", dtype="nonsense"), "cannot read"),
        (b"\x93NUMPY\x09\x00", "unknown format"),
        (b"no array", "cannot read"),
        (b"", "cannot read"),
    ],
)
def test_headers_that_lie(tmp_path: Path, member: bytes, said: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y_train.npy", member)
        archive.writestr("x_train.npy", member)
    with pytest.raises(MilliwiseError, match=said):
        read_npz(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compressed=st.booleans())
def test_damage_gives_one_line_or_images(tmp_path: Path, data: st.DataObject, compressed: bool) -> None:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x_train=pictures(6, 2, 2), y_train=LABELS[:6])
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    try:
        found = read_npz(path)
    except MilliwiseError as error:
        assert "a.npz" in str(error) and "\n" not in str(error)
    else:
        assert found.train.pixels.dtype == np.uint8 and len(found.train.pixels) == len(found.train.labels)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("data_batch_1.bin", bytes(3073 * 2 - 1), "not a number of records of 3073"),
        ("data_batch_1.bin", b"", "not a number of records"),
        ("data_batch_1.bin", b"\x0a" + bytes(3072), "label 10, which is none of its 10 classes"),
        ("train.bin", b"\x00\x64" + bytes(3072), "label 100"),
        ("train.bin", bytes(3073), "records of 3074"),
    ],
)
def test_damaged_cifar_names_the_file(tmp_path: Path, file: str, content: bytes, said: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(MilliwiseError, match=said) as caught:
        read_cifar(tmp_path)
    assert file in str(caught.value)


def test_cifar_names_that_are_too_few_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073))
    for content, said in ((b"cat\ndog\n", "2 names, not 10"), (b"\xff\xfe", "cannot read")):
        (tmp_path / "batches.meta.txt").write_bytes(content)
        with pytest.raises(MilliwiseError, match=said):
            read_cifar(tmp_path)
