"""Files: nothing half-written is ever seen, and a full disk or a read-only folder is one line of error."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit import files
from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_bytes, write_file, write_json
from toolkit.weights import save_tensors


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with content that a failing write must leave."""
    path = tmp_path / "profile.json"
    path.write_text("old")
    return path


def untouched(path: Path) -> bool:
    return path.read_text() == "old" and os.listdir(path.parent) == [path.name]


def test_written_whole_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(path.parent) == ["file"]
    umask = os.umask(0o027)
    try:
        write_bytes(path, b"three")
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(umask)


def test_a_full_disk_leaves_the_old_file(old: Path) -> None:
    def half(aside: Path) -> None:
        aside.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(MilliwiseError, match=r"profile\.json: No space left on device; free some space"):
        write_file(old, half)
    assert untouched(old)


def test_a_disk_that_fills_up_only_when_flushed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MilliwiseError, match="No space left"):
        write_bytes(old, b"new")
    assert untouched(old)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel itself refuses to write more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_bytes_or_tensors(old: Path) -> None:
    with files_of_at_most(300_000):
        with pytest.raises(MilliwiseError, match=r"cannot write .*profile\.json"):
            write_bytes(old, bytes(2_000_000))
        with pytest.raises(MilliwiseError, match=r"cannot write .*profile\.json"):
            save_tensors(old, {"a": torch.zeros(500_000)})
    assert untouched(old)


def test_interrupted_it_leaves_the_old_file(old: Path) -> None:
    def interrupted(aside: Path) -> None:
        aside.write_bytes(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(old, interrupted)
    assert untouched(old)


def test_a_read_only_folder(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: these tests may run as root, who may write anywhere."""

    def refused(**_options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(MilliwiseError, match=r"Permission denied; choose a folder"):
        write_bytes(old, b"new")
    assert untouched(old)


def test_a_file_where_a_folder_should_be(old: Path) -> None:
    with pytest.raises(MilliwiseError, match="cannot write"):
        write_bytes(old / "inside", b"new")
    with pytest.raises(MilliwiseError, match="cannot write"):
        write_bytes(old.parent, b"new")
    assert untouched(old)


@pytest.mark.parametrize("content", [{"x": math.nan}, {"x": [1, math.inf]}])
def test_what_is_not_json_is_not_written(old: Path, content: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(old, content)
    assert untouched(old)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_one_folder
@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_json_round_trip(tmp_path: Path, content: dict) -> None:
    write_json(tmp_path / "any.json", content)
    assert read_json(tmp_path / "any.json", "thing") == content


@in_one_folder
@given(
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode()[:-1])
    | st.sampled_from([b"[" * 100_000, b"9" * 5000])
)
def test_junk_is_one_line_of_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "junk.json").write_bytes(content)
    try:
        found = read_json(tmp_path / "junk.json", "device profile")
    except MilliwiseError as error:
        assert "\n" not in str(error) and str(error).startswith("device profile ")
    else:
        assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("content", "reason"), [("[1]", "list"), ("null", "NoneType"), ("{", "truncated"), ("", "truncated")]
)
def test_what_is_no_object_says_so(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(MilliwiseError, match=f"{reason}.*again"):
        read_json(tmp_path / "x.json", "run")


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match=r"cannot read run .*No such file"):
        read_json(tmp_path / "x.json", "run")
    with pytest.raises(MilliwiseError, match=r"cannot read run .*it is not a file"):
        read_json(tmp_path, "run")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)
    with pytest.raises(MilliwiseError, match="more than 16000000"):
        read_json(path, "run")
