"""An unfinished profile on disk: cut anywhere it loses one line at most, damaged anywhere it is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers import partial
from profilers.partial import Partial, only_writer
from toolkit.errors import MilliwiseError

ME = {"seed": 0, "device": {"cpu": "abacus"}, "gap_ms": 1.5}
ADDED = [("edges", {"a": [1.5, 2.5]}), ("edges", {"b": "µ\u2028"}), ("calls", [0.1]), ("edges", None), ("seconds", 7)]


def written(path: Path, added: list[tuple[str, Any]] = ADDED) -> bytes:
    parts = Partial(path, ME)
    for name, value in added:
        parts.add(name, value)
    return path.read_bytes()


def by_name(added: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in added:
        found.setdefault(name, []).append(value)
    return found


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    content = written(tmp_path / "p")
    again = Partial(tmp_path / "p", ME)
    assert again.parts == by_name(ADDED) and (tmp_path / "p").read_bytes() == content
    again.add("more", 1)
    assert (tmp_path / "p").read_bytes().startswith(content)
    assert Partial(tmp_path / "p", ME).parts == by_name([*ADDED, ("more", 1)])


def test_cut_at_any_byte_what_was_written_before_is_there_and_the_work_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "p"
    content = written(path)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 1 + len(ADDED)
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        parts = Partial(path, ME)
        assert parts.parts == by_name(ADDED[: max(0, whole - 1)])
        if whole:
            assert path.read_bytes() == content[: ends[whole - 1]]
        for name, value in ADDED[max(0, whole - 1) :]:
            parts.add(name, value)
        assert Partial(path, ME).parts == by_name(ADDED)


def test_any_byte_that_differs_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "p"
    content = written(path)
    for place in range(len(content) - 1):  # without its last end of line, a line is one that was being written
        for other in {0, ord("\n"), ord("0"), 255, content[place] ^ 1} - {content[place]}:
            path.write_bytes(content[:place] + bytes([other]) + content[place + 1 :])
            with pytest.raises(MilliwiseError, match=r"not as milliwise wrote it: start over without --resume$"):
                Partial(path, ME)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        lambda lines: [*lines[:2], lines[2], lines[2], *lines[3:]],
    ],
)
def test_lines_lost_moved_or_doubled(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """A line says of itself that it is whole; that all are there no crash puts in doubt. Nothing else is changed."""
    path = tmp_path / "p"
    lines = change(written(path).splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    rows = [json.loads(line.partition(b" ")[2]) for line in lines[1:]]
    assert Partial(path, ME).parts == by_name([(row["part"], row["value"]) for row in rows])


@given(st.binary(max_size=200), st.booleans())
def test_any_content_is_refused_or_begun_anew(content: bytes, whole: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p")
        path.write_bytes(content + b"\n" * whole)
        try:
            parts = Partial(path, ME)
        except MilliwiseError as error:
            assert "\n" not in str(error) and "without --resume" in str(error)
        else:
            assert parts.parts == {} and path.read_bytes() == written(Path(folder, "new"), [])


def test_of_another_measurement_nothing_is_used(tmp_path: Path) -> None:
    path = tmp_path / "p"
    written(path)
    parts = Partial(path, {**ME, "seed": 1})
    assert parts.parts == {} and parts.keep("edges", lambda: 3) == 3
    assert Partial(path, {**ME, "seed": 1}).parts == {"edges": [3]}
    assert Partial(path, ME).parts == {}


def test_another_measurement_is_refused_with_what_differs_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "p"
    content = written(path)
    device = {"cpu": "slide rule"}
    for changes, told in (
        ({"seed": 1}, r"p was begun with other arguments \(seed: '0', not '1'\): repeat those, or leave out --resume$"),
        ({"device": device, "more": 2}, r"\(device\.cpu: 'abacus', not 'slide rule', more: 'None', not '2'\)"),
    ):
        with pytest.raises(MilliwiseError, match=told):
            Partial(path, {**ME, **changes}, refuse_others=True)
        assert path.read_bytes() == content
    assert Partial(path, ME, refuse_others=True).parts == by_name(ADDED)


def test_what_is_kept_is_measured_once(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure() -> int:
        measured.append(1)
        return 5

    first = Partial(tmp_path / "p", ME)
    assert [first.keep("a", measure), first.keep("a", measure), Partial(tmp_path / "p", ME).keep("a", measure)] == [
        5
    ] * 3
    assert len(measured) == 1
    nothing = Partial(None, ME)
    assert [nothing.keep("a", measure), nothing.keep("a", measure)] == [5, 5] and len(measured) == 2
    nothing.remove()
    first.remove()
    assert not list(tmp_path.iterdir())


def test_the_seconds_of_interrupted_runs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(partial.time, "monotonic", lambda: now[0])
    first = Partial(tmp_path / "p", ME)
    now[0] += 5
    first.add("a", 1)
    now[0] += 3  # lost
    second = Partial(tmp_path / "p", ME)
    now[0] += 2
    assert second.seconds == 7
    second.add("a", 2)
    assert Partial(tmp_path / "p", ME).seconds == 7


class Full(io.FileIO):
    """A file on a disk with some room left."""

    room = 0

    def write(self, content: Any) -> int:
        if not Full.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = super().write(content[: Full.room])
        Full.room -= took
        return took


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_is_an_error_with_the_cure_and_what_was_written_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = tmp_path / "p"
    parts = Partial(path, ME)
    for name, value in ADDED[:3]:
        parts.add(name, value)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda self, mode, buffering: Full(self, mode.replace("b", "")))
        patched.setattr(Full, "room", room)
        with pytest.raises(
            MilliwiseError, match="No space left on device; free some space, then continue with --resume"
        ):
            parts.add(*ADDED[3])
    assert Partial(path, ME).parts == by_name(ADDED[:3])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_the_kernel_says_that_a_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "p"
    parts = Partial(path, ME)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(MilliwiseError, match="No space left on device"):
        parts.add("a", 1)


def test_two_processes_never_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "out" / "p"
    program = (
        f"from pathlib import Path; from profilers.partial import only_writer\n"
        f"with only_writer(Path({str(path)!r}), resume=RESUME): print(Path({str(path)!r}).read_bytes())"
    )

    def other(resume: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program.replace("RESUME", str(resume))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    with only_writer(path, resume=False):
        content = written(path)
        for resume in (False, True):
            assert f"another profile is writing {path}: wait, or choose another -o" in other(resume).stderr
        assert path.read_bytes() == content
    assert other(resume=True).stdout.strip() == repr(content)
    assert other(resume=False).stdout.strip() == "b''" and not path.exists()
    with only_writer(path, resume=True):
        Partial(path, ME).remove()
    assert list(path.parent.iterdir()) == []


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MilliwiseError, match="not a file"), only_writer(tmp_path / "fifo", resume=True):
        pass
    written(tmp_path / "p")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(partial.os, "truncate", refuse)
    with pytest.raises(MilliwiseError, match="Permission denied; start over"):
        Partial(tmp_path / "p", ME)


def test_pipes_devices_folders_and_giants_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "zero", "folder"):
        with pytest.raises(MilliwiseError, match="not a file"):
            Partial(tmp_path / name, ME)
    written(tmp_path / "p")
    monkeypatch.setattr(partial, "MOST_BYTES", 100)
    with pytest.raises(MilliwiseError, match="more than 100 bytes"):
        Partial(tmp_path / "p", ME)
