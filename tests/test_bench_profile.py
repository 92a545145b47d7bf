"""The verdicts of `milliwise bench profile` on raw results that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws_demo.bench import profile as bench
from kws_demo.bench.profile_methods import OURS, judged
from kws_demo.bench.rows import Results, table


def test_errors_by_hand() -> None:
    found = judged([1.0, 2.06, 3.6, 4.0], [1.0, 2.0, 3.0, 4.0])
    assert found.mape == pytest.approx((0 + 0.03 + 0.2 + 0) / 4)
    assert (found.within_5, found.within_10, found.spearman) == (0.75, 0.75, pytest.approx(1.0))


def accuracy(nets: int, error: float) -> dict[str, Any]:
    """Networks whose predictions are off by a normal error of that size."""
    rng = np.random.default_rng(0)
    measured = rng.uniform(0.1, 1.0, nets)
    predicted = measured * rng.normal(1, error, nets)
    ours = vars(judged(list(predicted), list(measured)))
    return {
        "methods": {OURS: ours, "sum of isolated edges": {**ours, "mape": 0.3}},
        "again": {**ours, "mape": 0.01},
        "measured_ms": list(measured),
        "predicted_ms": list(predicted),
        "calibrating": list(1 / rng.normal(1, error, 100)),
        "winners": [0.99, 1.3],
        "table_seconds": 40.0,
        "disturbed": [],
    }


def results(tmp_path: Path, **changes: Any) -> Results:
    """Raw results that meet every target, but for the changes."""
    shared = {"workers": 2, "predicted_ms": 1.0, "measured_ms": 1.1, "one_measured_ms": 1.5}
    profiles = {"median_drift": 0.02, "table_seconds": [50.0, 45.0], "p95_ms": [1.0, 2.0], "disturbed": [[], []]}
    values = {
        "kws-ds": accuracy(200, 0.015),
        "resnet-fabric": accuracy(200, 0.015),
        "kws-cnn": accuracy(16, 0.03),
        "profiles": profiles,
        "paced": [1.05, 1.9],
        **{f"busy {index}": {"flagged": True, "mape": 0.04} for index in range(3)},
        "memory": [{"measured_bytes": 30e6, "predicted_bytes": 31e6}, {"measured_bytes": 1e6, "predicted_bytes": 9e6}],
        "resnet-fabric on workers": {"rows": [shared, {**shared, "workers": 1}]},
        "kws-ds on workers": {"rows": [{**shared, "workers": 1}]},
        **changes,
    }
    kept = Results(tmp_path / "raw.jsonl", resume=False)
    for key, value in values.items():
        kept.keep(key, lambda value=value: value)  # type: ignore[misc]
    return kept


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows over ssh and those of the kills have tests of their own."""
    for name in ("ssh_rows", "kill_rows"):
        monkeypatch.setattr(bench, name, lambda *arguments: [])


def verdicts(kept: Results, quick: bool = False) -> dict[str, Any]:
    found = bench.run(kept, quick=quick, recordings=Path("."), seed=0)
    assert table(found["rows"]) and found["machine"]["cores"] > 0
    return {row["name"]: row for row in found["rows"]}


def test_what_meets_every_target_is_met(tmp_path: Path) -> None:
    rows = verdicts(results(tmp_path))
    assert not [name for name, row in rows.items() if row["met"] is False]
    assert rows["kws-ds: mean error of the prediction"]["target"] == "<= 0.020"
    assert rows["kws-ds: 95 % bound, coverage, mean of 200 splits"]["met"] is True
    assert rows["kws-ds: sum of isolated edges, mean error"]["met"] is None
    assert rows["kws-ds: of those that are split"]["measured"] is None
    assert rows["resnet-fabric: of those that are split"]["measured"] == 1.0
    assert rows["kws-cnn: memory increment of 20 MB or more, within 10 %"]["reason"].startswith("1 networks")


@pytest.mark.parametrize(
    ("key", "change", "missed"),
    [
        ("kws-ds", accuracy(200, 0.06), "kws-ds: within 5 %"),
        ("kws-cnn", accuracy(16, 0.12), "kws-cnn: within 10 %"),
        ("paced", [2.0, 4.0], "kws-ds: p95 of whole files at a hop of 200 ms, mean error"),
        ("busy 1", {"flagged": False, "mape": 0.04}, "one core busy: flagged, of 3"),
        ("busy 2", {"flagged": True, "mape": 0.2}, "one core busy: mean error of the table, the worst"),
        (
            "memory",
            [{"measured_bytes": 30e6, "predicted_bytes": 40e6}],
            "kws-cnn: memory increment of 20 MB or more, within 10 %",
        ),
    ],
)
def test_what_misses_a_target_is_said_to(tmp_path: Path, key: str, change: Any, missed: str) -> None:
    assert verdicts(results(tmp_path, **{key: change}))[missed]["met"] is False


def test_quick_leaves_out_what_takes_minutes_and_says_so(tmp_path: Path) -> None:
    rows = verdicts(results(tmp_path), quick=True)
    left = [row for row in rows.values() if row["reason"] == "left out by --quick"]
    assert len(left) == 4 and all(row["met"] is None for row in left)
