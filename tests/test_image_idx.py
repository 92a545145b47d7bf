"""idx files: what an independent writer wrote comes back, and damage gives one line or the right data."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from image_files import idx, pictures, write_idx

from toolkit.datasets import load_images
from toolkit.errors import MilliwiseError
from toolkit.image_sources.idx import read_idx

ARRAYS = arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9))
SHARED_FOLDER = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED_FOLDER
@given(array=ARRAYS, packed=st.booleans())
def test_a_round_trip(tmp_path: Path, array: np.ndarray, packed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = read_idx(path, array.ndim)
    assert found.dtype == np.uint8 and found.shape == array.shape and (found == array).all()


@settings(SHARED_FOLDER, max_examples=200)
@given(data=st.data(), packed=st.booleans())
def test_damage_gives_one_line_or_an_array_of_the_file(tmp_path: Path, data: st.DataObject, packed: bool) -> None:
    content = bytearray(gzip.compress(idx(pictures(5, 4, 4)), mtime=0) if packed else idx(pictures(5, 4, 4)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        found = read_idx(path, 3)
    except MilliwiseError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        plain = gzip.decompress(bytes(content)) if packed else bytes(content)
        assert idx(found) == plain


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 3), "bytes of images, more than"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 1000, 1000, 1000), "has fewer"),  # 1 GB that is not there
        (gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 1000, 1000, 1000), mtime=0), "has fewer"),
        (gzip.compress(idx(pictures(1, 4, 4)) + bytes(10**6), mtime=0), "has more"),
        (idx(np.zeros(5)), "3 dimensions"),
        (struct.pack(">BBBB3I", 0, 0, 13, 3, 1, 1, 1) + bytes(4), "3 dimensions of bytes"),  # floats
        (gzip.compress(idx(pictures(9, 9, 9)), mtime=0)[:-20], "end"),
    ],
)
def test_hostile_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(MilliwiseError, match=said):
        read_idx(path, 3)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.arange(19), "20 images and has 19 labels"),
        (np.array([0] * 10 + [9] * 10), "labels from 0 to 9"),
    ],
)
def test_labels_that_do_not_go_with_the_images(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    folder = write_idx(tmp_path / "digits", (pictures(20, 8, 8), labels), None)
    with pytest.raises(MilliwiseError, match=said) as caught:
        load_images(str(folder), size=8, seed=0)
    assert "train-labels-idx1-ubyte" in str(caught.value)


def test_test_labels_out_of_range_and_a_missing_file(tmp_path: Path) -> None:
    train = pictures(20, 8, 8), np.arange(20) % 2
    folder = write_idx(tmp_path / "digits", train, (pictures(2, 8, 8), np.array([0, 2])))
    with pytest.raises(MilliwiseError, match=r"t10k-labels-idx1-ubyte.gz has the label 2"):
        load_images(str(folder), size=8, seed=0)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MilliwiseError, match="no t10k-labels-idx1-ubyte"):
        load_images(str(folder), size=8, seed=0)
