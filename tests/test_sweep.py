"""Sweeps: what is searched, gone on with, refused, and what becomes of a point that fails."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sweeping
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kws_demo import search
from kws_demo.settings import Settings
from kws_demo.sweep import grid, run_sweep
from kws_demo.sweep_point import FILES, Point, keep_files, run_away
from kws_demo.workers import Here, Processes
from toolkit.cli import main
from toolkit.errors import BudgetTooSmall, MilliwiseError
from toolkit.profile import DeviceProfile

SPACE = sweeping.SPACE
SPACE_NAME = "neural-fabric-columns=2-channels=4-size=8"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> sweeping.FakeSearch:
    found = sweeping.FakeSearch()
    monkeypatch.setattr(search, "run_search", found)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DeviceProfile]:
    """A folder with images and the profile."""
    folder, profile = tmp_path_factory.mktemp("made"), sweeping.profile()
    sweeping.pictures(folder)
    profile.save(folder / "profile.json")
    return folder, profile


def sweep(
    made: tuple[Path, DeviceProfile], output: Path, *further: object, budget: str = "20 kFLOPs,60 kFLOPs"
) -> Result:
    folder, _profile = made
    given = ["sweep", SPACE, "--profile", folder / "profile.json", "--data", folder / "colours.npz", "--budget", budget]
    return CliRunner().invoke(main, [*map(str, given), "-o", str(output), *map(str, further)])


def told(result: Result, code: int = 0) -> dict[str, Any]:
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def refusal(result: Result) -> str:
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and len(lines) == 1, result.output
    return lines[0]


def test_the_grid_has_every_combination(made: tuple[Path, DeviceProfile]) -> None:
    points = grid({SPACE: made[1]}, ["bsn", "uniform"], ["1 MFLOPs", "2 MFLOPs"], [0.1, 10], [0, 7], data="x")
    found = [
        (each.settings.seed, each.settings.budget, each.settings.strategy, each.settings.penalty) for each in points
    ]
    assert len(found) == len(set(found)) == 2 * 2 * 3 and [each[0] for each in found] == [0] * 6 + [7] * 6
    assert {each[2:] for each in found} == {("bsn", 0.1), ("bsn", 10), ("uniform", None)}, "uniform takes no λ"
    assert points[1].name == f"{SPACE_NAME}_bsn_1-MFLOPs_penalty-10_seed-0"
    with pytest.raises(MilliwiseError, match="uniform take no λ"):
        grid({SPACE: made[1]}, ["uniform"], ["1 MFLOPs"], [0.1], [0], data="x")
    with pytest.raises(MilliwiseError, match="choose bsn"):
        grid({SPACE: made[1]}, ["none"], ["1 MFLOPs"], [], [0], data="x")


@given(space=st.text(min_size=1), budget=st.text(), seed=st.integers(0, 9))
def test_any_name_is_that_of_a_folder(space: str, budget: str, seed: int) -> None:
    name = Point(Settings(space, budget, "", seed=seed), None).name  # type: ignore[arg-type]
    assert name == os.path.basename(name) and name.isascii() and name.isprintable() and name not in (".", "..")
    assert len(name) < 200 + len(budget)


def test_a_sweep_from_end_to_end(made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path) -> None:
    result = told(sweep(made, tmp_path / "s", "--strategy", "bsn,uniform", "--seeds", "2", "--json"))
    assert len(result["points"]) == len(fake.asked) == 8 and result["failed"] == 0
    first = result["points"][0]
    assert first["point"] == f"{SPACE_NAME}_bsn_20-kFLOPs_seed-0" and first["seconds"] == 5 and first["budget_kept"]
    assert first["cost"] == 9984 and first["validation"] == pytest.approx(0.82)
    assert {row["seeds"] for row in result["table"]} == {2} and len(result["table"]) == 4
    expected = sum(right - 1 / 3 for right in (0.86, 0.87)) / 2 * math.log2(120_000 / 9984)  # of each seed, as dear
    assert [each["hypervolume"] for each in result["strategies"]] == [pytest.approx(expected)] * 2
    assert result["reference"] == {"cost": 120_000, "accuracy": pytest.approx(1 / 3)} and result["best"] == "bsn"
    assert (tmp_path / "s" / "front.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "s" / "front.svg").read_text()
    assert all(word in svg for word in ("bsn", "uniform", "multiply-adds", "10 kFLOPs", "test accuracy"))
    assert json.loads((tmp_path / "s" / "table.json").read_text()) == result


def test_a_strategy_that_does_not_go_with_the_budget_is_refused_before_any_search(
    made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path
) -> None:
    done = sweep(made, tmp_path / "s", "--strategy", "uniform,bsn-published-sampled", budget="8 steps,12 steps")
    assert "bsn-published-sampled_8-steps_seed-0: edges that lead nowhere have no share in steps" in refusal(done)
    assert fake.asked == [] and not (tmp_path / "s").exists()


def test_what_is_done_is_not_done_again_and_more_may_be_asked(
    made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path
) -> None:
    failing = f"{SPACE_NAME}_bsn_60-kFLOPs_seed-0"
    fake.failing = {failing}
    half = told(sweep(made, tmp_path / "s", "--seeds", "1", "--json"), code=1)
    (reason,) = [row["failed"] for row in half["points"] if row["failed"]]
    assert reason == "training diverged (loss nan): try another --seed" and half["failed"] == 1
    assert half["best"] is None, "of the only seed a point failed"
    fake.failing, fake.asked = set(), []
    whole = told(sweep(made, tmp_path / "s", "--seeds", "2", "--resume", "--json"))
    assert fake.asked[0] == failing and len(fake.asked) == 3 and whole["failed"] == 0 and whole["best"] == "bsn"
    fake.asked = []
    again = told(sweep(made, tmp_path / "s", "--seeds", "0,1", "--resume", "--json"))
    assert fake.asked == [] and again == whole


def test_another_sweep_is_refused(made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    told(sweep(made, folder, "--seeds", "1", "--json"))
    assert "go on with it by --resume" in refusal(sweep(made, folder, "--seeds", "1"))
    assert "left out now" in refusal(sweep(made, folder, "--resume", "--seeds", "1", budget="20 kFLOPs"))
    said = refusal(sweep(made, folder, "--resume", "--seeds", "1", "--minutes", "3"))
    assert "minutes 10.0, not 3.0" in said and "begin anew" in said
    run = next(folder.glob("*/run.json"))
    run.write_text(run.read_text().replace('"format": 1', '"format": 99'))
    assert "has format 99, this version reads 1" in refusal(sweep(made, folder, "--resume", "--seeds", "1"))
    run.write_text(
        run.read_text().replace('"format": 99', '"format": 1').replace('"test_clips": 100', '"test_clips": "x"')
    )
    odd = told(sweep(made, folder, "--resume", "--seeds", "1", "--json"), code=1)
    assert next(row["failed"] for row in odd["points"] if row["failed"]).endswith("remove that folder")
    arguments = run.with_name("arguments.json")
    arguments.write_text(arguments.read_text().replace('"cpu"', '"cuda"'))
    assert "begun with other arguments" in refusal(sweep(made, folder, "--resume", "--seeds", "1"))
    arguments.write_text(arguments.read_text().replace('"version": "', '"version": "9.'))
    assert "begun by another version of milliwise (9." in refusal(sweep(made, folder, "--resume", "--seeds", "1"))
    (folder / "sweep.json").write_text('{"format": 2}')
    assert "has format 2, this version reads 1" in refusal(sweep(made, folder, "--resume", "--seeds", "1"))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    assert "holds no sweep" in refusal(sweep(made, tmp_path / "letters"))


def test_a_kill_at_its_first_moment_leaves_a_folder_that_is_gone_on_with(
    made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path
) -> None:
    (tmp_path / ".sweep.json.a1b2c3_d").touch()
    told(sweep(made, tmp_path, "--json", budget="20 kFLOPs"))
    run = next(tmp_path.glob("*/run.json")).parent
    for path in run.iterdir():
        path.unlink()
    (run / ".arguments.json.a1b2c3_d").touch()
    told(sweep(made, tmp_path, "--resume", "--json", budget="20 kFLOPs"))


@pytest.mark.parametrize(
    ("further", "budget", "reason"),
    [
        ((), "60 kFLOPs,5 FLOPs", f"{SPACE_NAME}_bsn_5-FLOPs_seed-0: no network of this space fits 5 FLOPs"),
        (("--workers", "2"), "5 ms", "points beside each other would disturb"),
        (("--strategy", "fast"), "60 kFLOPs", "choose bsn"),
        (("--seeds", "x"), "60 kFLOPs", "--seeds 'x'"),
        (("--seeds", "0"), "60 kFLOPs", "write 0,"),
        (("--penalty", "0.1,nan"), "60 kFLOPs", "--penalty"),
        (("--penalty", "-1"), "60 kFLOPs", "--penalty"),
        ((), "60 kFLOPs,60kFLOPs,1 kparams", "sweep each kind alone"),
        (("--data", "nowhere"), "60 kFLOPs", "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_searched(
    made: tuple[Path, DeviceProfile],
    fake: sweeping.FakeSearch,
    tmp_path: Path,
    further: tuple[str, ...],
    budget: str,
    reason: str,
) -> None:
    assert reason in refusal(sweep(made, tmp_path / "s", *further, budget=budget))
    assert fake.asked == [] and not (tmp_path / "s").exists()


def test_the_profiles_are_those_of_the_spaces(made: tuple[Path, DeviceProfile], tmp_path: Path) -> None:
    profile = made[0] / "profile.json"
    given = ["sweep", SPACE, "--profile", profile, "--data", "x", "--budget", "1 MFLOPs", "-o", tmp_path / "s"]
    assert "2 profiles for 1 spaces" in refusal(CliRunner().invoke(main, [*map(str, given), "--profile", str(profile)]))
    others = [*map(str, given), "neural-fabric:columns=3,channels=4,size=8"]
    assert "no --profile is of neural-fabric:columns=3" in refusal(CliRunner().invoke(main, others))


def test_the_library_says_what_the_command_says(made: tuple[Path, DeviceProfile], tmp_path: Path) -> None:
    points = grid({SPACE: made[1]}, ["bsn"], ["5 FLOPs"], [], [0], data=str(made[0] / "colours.npz"))
    with pytest.raises(BudgetTooSmall):
        run_sweep(points, tmp_path / "s", Here())
    with pytest.raises(MilliwiseError, match="no points"):
        run_sweep([], tmp_path / "s", Here())
    with pytest.raises(MilliwiseError, match="name everything once"):
        run_sweep(grid({SPACE: made[1]}, ["bsn"], ["1 MFLOPs"], [], [0, 0], data="x"), tmp_path / "s", Here())


# In a worker it writes who that is, and for the first seed of a test ends itself as if out of memory.
OWN_SPACE = """
import multiprocessing, os, signal
from pathlib import Path
from toolkit.spaces.neural_fabric import build as fabric
INPUT_SHAPE = (1, 3, 8, 8)
def build(labels, hop_ms):
    if multiprocessing.parent_process() is not None:
        Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
        if Path(__file__).stem == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
    return fabric(labels, hop_ms, columns=2, channels=4, size=8)
"""


def own(folder: Path, name: str) -> str:
    (folder / f"{name}.py").write_text(OWN_SPACE)
    return str(folder / f"{name}.py")


def test_a_worker_that_dies_takes_its_point_alone(made: tuple[Path, DeviceProfile], tmp_path: Path) -> None:
    spaces = {own(tmp_path, "deadly"): made[1], SPACE: made[1]}
    points = grid(spaces, ["uniform"], ["60 kFLOPs"], [], [0], data=str(made[0] / "colours.npz"), minutes=0.01)
    dead, done = run_sweep(points, tmp_path / "s", Processes(1))
    assert dead.failed is not None and "ended by signal 9" in dead.failed
    assert done.failed is None and done.test is not None and done.cost is not None and done.cost <= 60_000


DRIVER = """
import sys
from pathlib import Path
from kws_demo.sweep import grid, run_sweep
from kws_demo.workers import Processes
from toolkit.profile import DeviceProfile
if __name__ == "__main__":
    space, data, profile, output = sys.argv[1:]
    points = grid({space: DeviceProfile.load(Path(profile))}, ["uniform"], ["60 kFLOPs"], [], [0], data=data)
    run_sweep(points, Path(output), Processes(1))
"""


def test_a_worker_ends_with_a_killed_sweep(made: tuple[Path, DeviceProfile], tmp_path: Path) -> None:
    """Else it would go on in a folder that is being resumed."""
    space, noted = own(tmp_path, "alive"), tmp_path / "alive.pid"
    (tmp_path / "driver.py").write_text(DRIVER)
    given = [space, made[0] / "colours.npz", made[0] / "profile.json", tmp_path / "s"]
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), *map(str, given)], stderr=subprocess.DEVNULL
    )
    seen: list[str] = []  # the worker writes it several times

    def told() -> bool:
        seen.append(noted.read_text() if noted.exists() else "")
        return seen[-1] != ""

    wait_until(told)
    worker = int(seen[-1])
    assert running(worker)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until(lambda: not running(worker))


def wait_until(true: Any, seconds: float = 60.0) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)


def running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_files_come_back_whole(
    made: tuple[Path, DeviceProfile], fake: sweeping.FakeSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point(Settings(SPACE, "60 kFLOPs", "x"), made[1])
    assert keep_files(tmp_path / "run", run_away(point)) is None
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(FILES)
    fake.failing = {point.name}
    failure = run_away(point)
    assert isinstance(failure, str) and failure.endswith("training diverged (loss nan): try another --seed")
    monkeypatch.setattr(search, "run_search", lambda *_, **__: 1 / 0)
    failure = run_away(point)
    assert isinstance(failure, str) and "ZeroDivisionError: division by zero (test_sweep.py, line" in failure


@given(found=st.dictionaries(st.sampled_from(["../run.json", "/a", "a\0b", ".", "run.json"]) | st.text(), st.binary()))
def test_nothing_else_is_ever_written(found: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hostile") / "run"
    whole = {**dict.fromkeys(FILES, b""), **found}
    assert keep_files(folder, found) is not None and not folder.exists()
    if found.keys() - set(FILES):
        said = keep_files(folder, whole)
        assert said is not None and said.isprintable() and not folder.exists()


@pytest.mark.parametrize("found", [None, 3, [], b"", {}, {**dict.fromkeys(FILES, b""), "run.json": "text"}])
def test_what_is_no_run_is_a_failure(found: object, tmp_path: Path) -> None:
    assert "no finished run" in str(keep_files(tmp_path / "run", found)) and not (tmp_path / "run").exists()


def test_what_only_a_search_finds_is_not_swept(made: tuple[Path, DeviceProfile], tmp_path: Path) -> None:
    assert "sanas is of milliwise search alone" in refusal(sweep(made, tmp_path / "s", "--strategy", "bsn,sanas"))
    assert "no strategy 'sana': choose bsn or" in refusal(sweep(made, tmp_path / "s", "--strategy", "sana"))
