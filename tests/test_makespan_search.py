"""Searching under a makespan: from a profile with a parallel model to a run folder that says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dense_space
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from toolkit.budget import Budget, show
from toolkit.cli import main
from toolkit.costs import ACCOUNTING, price
from toolkit.makespan import HEAD, OperationCost, ParallelModel
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE = "neural-fabric:columns=2,channels=4,size=8"
EDGE_MS = 20.0  # invented, and far more than any edge takes: every budget is kept


@pytest.fixture
def profile() -> DeviceProfile:
    space = find_space(SPACE)
    costs = {name: OperationCost(EDGE_MS, EDGE_MS, 0.0) for name in (*space.build().graph.full, HEAD)}
    return replace(dense_space.counted_profile(space), parallel=ParallelModel(2, 0.0, 0.0, costs))


def search(folder: Path, profile: DeviceProfile, budget: str) -> Any:
    chance, labels = np.random.default_rng(0), np.arange(150) % 3
    images = chance.integers(0, 60, (150, 8, 8, 3), np.uint8)
    images[np.arange(150), :, :, labels] += 150
    np.savez(folder / "colours.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    profile.save(folder / "profile.json")
    given = (
        "search", SPACE, "--profile", folder / "profile.json", "--budget", budget, "--data", folder / "colours.npz",
        "-o", folder / "run", "--minutes", "0.05", "--json",
    )  # fmt: skip
    return CliRunner().invoke(main, [*map(str, given)])


def test_a_search_under_a_makespan(tmp_path: Path, profile: DeviceProfile) -> None:
    torch.set_num_threads(1)
    graph = find_space(SPACE).build().graph
    asked = price(graph, profile, Budget.parse("1 s@2"))
    limit_ms = (asked(asked.cheapest()) + asked(graph.full)) / 2
    done = search(tmp_path, profile, f"{limit_ms:.0f} ms@2")
    assert done.exit_code == 0, done.output
    told, run = json.loads(done.stdout), json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["budget_kept"] is True and told["measured_p95_ms"] is None
    assert told["accounting"] == run["accounting"] == ACCOUNTING and ACCOUNTING in done.stderr
    measured = run["measured"]
    assert told["measured_makespan_ms"] == measured["makespan_ms"] > 0 and measured["workers"] == 2
    (chosen,) = (row for row in run["pareto"] if row["chosen"])
    assert chosen["predicted_makespan_ms"] == pytest.approx(asked(run["kept"])) and asked(run["kept"]) <= limit_ms
    assert f"kept (at most {show('latency_ms', measured['makespan_upper_ms'])} measured)" in done.stderr
    assert chosen["measured_makespan_upper_ms"] == measured["makespan_upper_ms"] <= limit_ms and chosen["fits"] is True
    assert measured["predicted_ms"] == pytest.approx(asked(run["kept"])) and measured["used"] in (1, 2)


@pytest.mark.parametrize(
    ("changes", "budget", "reason"),
    [({"parallel": None}, "900 ms@2", "--workers 2 again"), ({}, "1 ms@2", "the cheapest costs")],
)
def test_what_no_search_can_keep_is_refused_at_once(
    tmp_path: Path, profile: DeviceProfile, changes: dict[str, Any], budget: str, reason: str
) -> None:
    done = search(tmp_path, replace(profile, **changes), budget)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and reason in done.stderr, done.output
    assert not (tmp_path / "run").exists()
