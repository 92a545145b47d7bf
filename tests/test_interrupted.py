"""Long work survives: a profile that is killed goes on where it was, and one whose disk is full leaves the old one.

As a program (`python test_interrupted.py FOLDER LINES...`) it profiles the toy on this machine, killed again and again.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import abacus
import pytest
from click.testing import CliRunner, Result

from profilers import partial as journal
from profilers import profile as profile_module
from profilers import target as target_module
from profilers.plan import EMPTY, Effort
from profilers.profile import profile_device
from profilers.runner import MAX_EXTENSION
from profilers.target import LocalTarget
from toolkit.cli import main
from toolkit.profile import DeviceProfile

TINY = Effort(fitted=14, calibrating=0, held_out=8, paced=2, short_calls=4, hop_calls=2, rounds=3, weighed=1)
SPACE_FILE = '"""The toy, as a space of the user\'s own."""\nfrom toy import FEATURES as INPUT_SHAPE, build\n'


def profile_here(folder: Path) -> None:
    """The toy's profile, which goes on where it was."""
    made = profile_device(abacus.SPACE, LocalTarget(), hop_ms=2, effort=TINY, partial=folder / "partial")
    made.save(folder / "profile.json")


def killed_after(folder: Path, lines: int, chance: random.Random) -> bytes:
    """Begin or go on, until so many more lines are written and a moment passed; what they are after a kill -9."""
    path = folder / "partial"
    lines += written(path)
    child = os.fork()
    if not child:
        try:
            profile_here(folder)
        finally:
            os._exit(0)  # whatever happened: it must not go on as the parent does
    while written(path) < lines and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return path.read_bytes()


def written(path: Path) -> int:
    """Lines that are complete."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def profile_killed_after(folder: Path, *growth: int) -> None:
    chance = random.Random(0)
    for index, lines in enumerate(growth):
        (folder / f"after kill {index}").write_bytes(killed_after(folder, lines, chance))
    profile_here(folder)


def test_killed_at_any_moment_it_loses_a_moment_and_goes_on(tmp_path: Path) -> None:
    growth = [1, 3, 2, 1, 1]  # lines come in bursts: it is killed in each part of the work but the last
    words = [sys.executable, __file__, str(tmp_path), *map(str, growth)]
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    settings = {"PYTHONPATH": path, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr[-2000:]
    complete = (tmp_path / "partial").read_bytes().splitlines(keepends=True)
    sizes = [0]
    for index, lines in enumerate(growth):
        before = (tmp_path / f"after kill {index}").read_bytes().splitlines(keepends=True)
        whole = [line for line in before if line.endswith(b"\n")]
        assert complete[: len(whole)] == whole and len(complete) > len(whole) >= sizes[-1] + lines
        sizes.append(len(whole))
    require_whole_and_once([json.loads(line.partition(b" ")[2]) for line in complete[1:]])
    profile = DeviceProfile.load(tmp_path / "profile.json")
    assert set(profile.edges) == {edge.name for edge in abacus.toy.EDGES}
    assert all(row.latency_ms is not None and row.failed is None for row in profile.edges.values())
    assert profile.held_out.nets == TINY.held_out and profile.seconds > 0


def require_whole_and_once(rows: list[dict[str, Any]]) -> None:
    """Every model has its blocks, and no more of them than an undisturbed run may measure; all else is there once."""
    blocks: Counter[tuple[str, str]] = Counter()
    others: Counter[str] = Counter()
    for row in rows:
        event = row["value"] if isinstance(row["value"], dict) else {}
        if event.get("event") == "blocks":
            blocks[row["part"], event["model"]] += len(event["blocks_ms"])
        elif event.get("event") != "load":
            others[row["part"]] += 1
    assert blocks and all(TINY.rounds <= count <= MAX_EXTENSION * TINY.rounds for count in blocks.values())
    timed = Counter(part.removesuffix(" again, for the device was slow") for part, _model in blocks)
    assert {"edges in context", "whole files", "networks of the table", "networks to judge it by"} == set(timed)
    assert ("edges in context", EMPTY) in blocks
    assert set(others.values()) == {1} and {part for part, _model in blocks} < set(others)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`milliwise profile` of the toy, on an abacus that is given back, too."""
    (tmp_path / "space.py").write_text(SPACE_FILE)
    devices: list[abacus.Abacus] = []

    def measure(_text: str) -> abacus.Abacus:
        devices.append(abacus.Abacus())
        return devices[-1]

    monkeypatch.setattr(target_module, "parse_target", measure)
    monkeypatch.setattr(profile_module, "profile_device", partial(profile_device, effort=TINY))

    def asked(*options: str) -> tuple[Result, abacus.Abacus]:
        words = ["profile", str(tmp_path / "space.py"), "-o", str(tmp_path / "p.json"), "--hop-ms", "10", *options]
        return CliRunner().invoke(main, words), devices[-1]

    return asked


@pytest.mark.parametrize("room", [0, 500, 2000, 9000])
def test_a_full_disk_is_one_line_and_the_old_profile_stands(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    result, whole = ask()
    assert result.exit_code == 0, result.output
    old = (tmp_path / "p.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(journal.Path, "open", opened_on_a_disk_with(room))
        result, _device = ask()
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 2 and len(lines) == 1 and "Traceback" not in result.output, result.output
    assert "No space left on device; free some space, then continue with --resume" in lines[0]
    assert (tmp_path / "p.json").read_bytes() == old and DeviceProfile.load(tmp_path / "p.json")
    result, device = ask("--resume")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "p.json.partial").exists()
    assert len(device.jobs) <= len(whole.jobs) and (room < 9000 or len(device.jobs) < len(whole.jobs))


def opened_on_a_disk_with(room: int) -> Any:
    """As Path.open for journals: together they take so many bytes."""
    left, real = [room], Path.open

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            took = super().write(content[: left[0]])
            left[0] -= took
            return took

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return Full(path, "a") if mode == "ab" else real(path, mode, *arguments, **options)

    return opened


if __name__ == "__main__":
    profile_killed_after(Path(sys.argv[1]), *map(int, sys.argv[2:]))
