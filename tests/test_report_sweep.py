"""`milliwise report` of a sweep: its page says who is the best; a damaged table is a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sweeping
from click.testing import CliRunner, Result
from markup import Reader

from kws_demo import search
from toolkit.cli import main

HOSTILE = "<script>alert(1)</script>\"'>"


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished sweep of two strategies, two budgets and two seeds."""
    monkeypatch.setattr(search, "run_search", sweeping.FakeSearch())
    sweeping.pictures(tmp_path)
    sweeping.profile().save(tmp_path / "profile.json")
    given = ["--profile", tmp_path / "profile.json", "--data", tmp_path / "colours.npz", "--seeds", "2"]
    asked = ["--budget", "20 kFLOPs,60 kFLOPs", "--strategy", "bsn,uniform", "-o", tmp_path / "sweep"]
    result = CliRunner().invoke(main, ["sweep", sweeping.SPACE, *map(str, [*given, *asked])])
    assert result.exit_code == 0, result.output
    return tmp_path / "sweep"


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def change(folder: Path, **changed: Any) -> None:
    """Another first point in the table."""
    table = json.loads((folder / "table.json").read_text())
    table["points"][0] |= changed
    (folder / "table.json").write_text(json.dumps(table))


def test_the_page_tells_who_is_the_best_and_what_was_found(swept: Path, tmp_path: Path) -> None:
    result = report(swept, "-o", tmp_path / "page.html", "--pictures", tmp_path / "drawn", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["not_drawn"] == [] and [Path(path).name for path in told["pictures"]] == ["front.svg", "front.png"]
    reader = Reader((tmp_path / "page.html").read_text())
    reader.assert_harmless()
    text = reader.all_text()
    assert "Best: bsn, though intervals do not tell them apart" in text and "a sweep of 8 searches" in text
    assert "20 kFLOPs" in text and "9.984 kFLOPs" in text and "82.5 (" in text, "means over seeds, in percent"
    assert "not measured" not in text and "What failed" not in text
    (best,) = [each for each in json.loads((swept / "table.json").read_text())["strategies"] if each["name"] == "bsn"]
    assert f"{best['hypervolume']:.4f}" in text
    run = swept / f"{sweeping.SPACE.replace(':', '-').replace(',', '-')}_bsn_60-kFLOPs_seed-1"
    assert f"milliwise export {run} -o network.onnx" in text, "the seed that validates best"


def test_what_failed_is_told_and_nothing_hostile_runs(swept: Path, tmp_path: Path) -> None:
    change(swept, failed=f"out of memory {HOSTILE}", strategy=HOSTILE)
    assert report(swept, "-o", tmp_path / "page.html").exit_code == 0
    reader = Reader((tmp_path / "page.html").read_text())
    reader.assert_harmless()
    assert "What failed" in reader.all_text() and "out of memory <script>" in reader.all_text()


def test_what_exceeds_its_budget_is_not_said_to_be_within(swept: Path, tmp_path: Path) -> None:
    table = json.loads((swept / "table.json").read_text())
    for row in table["points"]:
        row["budget_kept"] = row["seed"] == 0  # which validates worse
    (swept / "table.json").write_text(json.dumps(table))
    assert report(swept, "-o", tmp_path / "page.html").exit_code == 0
    text = Reader((tmp_path / "page.html").read_text()).all_text()
    assert "Within 60 kFLOPs: right for" in text and "_bsn_60-kFLOPs_seed-0 -o network.onnx" in text
    for row in table["points"]:
        row["budget_kept"] = False
    (swept / "table.json").write_text(json.dumps(table))
    assert report(swept, "-o", tmp_path / "page.html").exit_code == 0
    text = Reader((tmp_path / "page.html").read_text()).all_text()
    assert "Within" not in text and "Asked for 60 kFLOPs, which it exceeds: right for" in text


def test_a_sweep_of_which_nothing_is_done_has_a_page(swept: Path, tmp_path: Path) -> None:
    table = json.loads((swept / "table.json").read_text())
    for row in table["points"]:
        row["failed"] = "no memory"
    (swept / "table.json").write_text(json.dumps(table))
    result = report(swept, "-o", tmp_path / "page.html", "--pictures", tmp_path / "drawn")
    assert result.exit_code == 0 and "Not drawn: the fronts: nothing was finished" in result.stdout
    assert "0 of 8 searches are done" in Reader((tmp_path / "page.html").read_text()).all_text()


@pytest.mark.parametrize(
    "changed",
    [
        {"test": None},
        {"test": 1.5},
        {"test": "0.5"},
        {"cost": -1},
        {"cost": True},
        {"labels": 0},
        {"budget_kept": "no"},
        {"seed": 0.5},
        {"point": 3},
        {"penalty": []},
        {"seconds": 1e300},
        {"surprise": 1},
    ],
)
def test_a_damaged_table_is_a_line(swept: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    change(swept, **changed)
    result = report(swept, "-o", tmp_path / "page.html")
    assert result.exit_code == 2 and "is damaged" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "page.html").exists()


def test_an_unfinished_sweep_is_a_line(swept: Path, tmp_path: Path) -> None:
    content = json.loads((swept / "sweep.json").read_text())
    content["points"]["one-more"] = {}
    (swept / "sweep.json").write_text(json.dumps(content))
    assert "is not finished: go on with it by --resume" in report(swept, "-o", tmp_path / "page.html").stderr
    assert "leave it out" in report(swept, "-o", tmp_path / "page.html", "--space", "mine.py").stderr
    (swept / "table.json").write_text('{"points": []}')
    assert "no points" in report(swept, "-o", tmp_path / "page.html").stderr
    (swept / "table.json").unlink()
    result = report(swept, "-o", tmp_path / "page.html")
    assert result.exit_code == 2 and "go on with it by --resume" in result.stderr
