"""Rows of searches for several workers: what is searched, what is really run, and how it is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dense_space
import pytest
import torch

from kws_demo.bench import search_workers as bench
from kws_demo.bench.rows import table
from toolkit.budget import Budget
from toolkit.makespan import HEAD, OperationCost, ParallelModel
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space, resnet_fabric

SMALL = "resnet-fabric:blocks=1,width=2,size=8"
SEARCH = {"ratio": 1.05, "kept": True, "noisy": False, "used": 2, "live_edges": 9, "one_live_edges": 6}
SEARCH |= {"alone": [0.98, 1.02], "tries": 3}


def toys(few: float = 9, many: float = 20) -> list[dict[str, Any]]:
    widths = {"1": {"live_edges": few, "nodes_per_step": 1.0}, "4": {"live_edges": many, "nodes_per_step": 2.0}}
    return [{"fabric": "a", "limit": 12.0, **widths}, {"fabric": "b", "limit": 12.0, **widths}]


def judged(found: list[dict[str, Any]], real: dict[str, Any] | None) -> list[dict[str, Any]]:
    rows = list(bench.judged_workers(found, real))
    assert table(rows)
    return rows


def test_what_is_wider_and_as_predicted_is_met() -> None:
    real = {"space": "resnet-fabric", "cores": 2, "searches": [SEARCH, {**SEARCH, "ratio": 0.9, "used": 1}]}
    wider, agrees = judged(toys(), real)
    assert (wider["measured"], wider["met"]) == (2, True) and "20 against 9 live edges" in wider["reason"]
    assert (agrees["measured"], agrees["met"]) == (0.9, True) and "1 of 2 are shared" in agrees["reason"]
    assert "4 workers on 2 cores" in agrees["reason"] and "busy" not in agrees["reason"]
    assert "on one worker meanwhile 0.98 to 1.02, in 6 tries" in agrees["reason"]


def test_what_misses_is_told() -> None:
    real = {"space": "resnet-fabric", "cores": 8, "searches": [SEARCH, {**SEARCH, "ratio": 0.8, "noisy": True}]}
    wider, agrees = judged([*toys(), *toys(9, 9)], real)
    assert (wider["measured"], wider["met"]) == (2, False)
    assert (agrees["measured"], agrees["met"]) == (0.8, False)
    assert "8 cores" not in agrees["reason"] and "others were busy" in agrees["reason"]
    left_out = judged(toys(), None)[1]
    assert left_out["met"] is None and "--quick" in left_out["reason"]


def test_steps_of_fabrics_are_the_published_ones() -> None:
    """Of the ResNet fabric of 3 blocks 50, 29 and 20 steps, the classifier's with them (thesis, table 3.3)."""
    network = resnet_fabric.fabric(3, 10, width=1)
    steps = [bench.steps_price(network, workers)(network.graph.full) + 1 for workers in (1, 2, 4)]
    assert steps == [50, 29, 20]


def test_short_searches_get_wider_graphs_for_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(bench, "STEPS", 10)
    monkeypatch.setattr(bench, "COLUMNS", (2,))
    monkeypatch.setattr(bench, "BLOCKS", 1)
    found = bench.worker_rows("bsn", 1)
    assert [row["fabric"] for row in found] == ["neural fabric 2", "ResNet fabric 1"]
    for row in found:
        assert row["1"]["steps"] <= row["limit"] and row["4"]["steps"] <= row["limit"]
        assert row["1"]["nodes_per_step"] < row["4"]["nodes_per_step"]
        assert row["1"]["live_edges"] < row["4"]["live_edges"]


def test_a_tiny_network_is_really_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By two threads; the profile is invented, so no time is asserted."""
    torch.set_num_threads(1)
    space = find_space(SMALL)
    graph = space.build().graph
    costs = {name: OperationCost(0.1, 0.1, 0.0) for name in (*graph.full, HEAD)}
    profile = replace(dense_space.counted_profile(space), parallel=ParallelModel(2, 0.0, 0.0, costs))
    made: list[Any] = []

    def profiled(chosen: Any, target: Any, *, workers: int) -> DeviceProfile:
        made.append((chosen.name, target.name, workers))
        return profile

    monkeypatch.setattr(bench, "profile_device", profiled)
    monkeypatch.setattr(bench, "STEPS", 4)
    monkeypatch.setattr(bench, "LIMITS", (0.5,))
    monkeypatch.setattr(bench, "TRIES", 1)
    monkeypatch.setattr(bench, "PAUSE_S", 0.0)
    found = bench.makespan_row(0, tmp_path, SMALL)
    assert bench._profiled(space, tmp_path / "makespan.profile.json").parallel == profile.parallel
    assert made == [(SMALL, "local", 2)], "it is profiled once"
    (only,) = found["searches"]
    assert only["predicted_ms"] <= only["limit_ms"] * 1.0001 and only["measured_ms"] > 0 and only["ratio"] > 0
    assert only["used"] == 2 and only["kept"] is (only["upper_ms"] <= only["limit_ms"])
    assert only["tries"] == 1 and len(only["alone"]) == 2 and min(only["alone"]) > 0
    assert only["one_live_edges"] <= only["live_edges"] <= len(graph.edges) and found["cores"] > 0


def test_a_makespan_counts_when_the_machine_is_as_it_was_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PAUSE_S", 0.0)
    alone = iter([0.6, 1.0, 1.0, 0.7, 1.05, 0.95, 1.0, 1.0])
    shared = iter([0.5, 0.8, 0.97, 1.2])

    def check(budget: Budget) -> SimpleNamespace:
        assert budget.metric == "makespan_ms" and budget.limit == 3.5
        return SimpleNamespace(ratio=next(alone if budget.workers == 1 else shared))

    told, level = bench._at_level(check, 3.5)  # type: ignore[arg-type]
    assert told.ratio == 0.97 and level == {"alone": [1.05, 0.95], "tries": 3}
    monkeypatch.setattr(bench, "TRIES", 2)
    slow = bench._at_level(lambda budget: SimpleNamespace(ratio=0.5), 3.5)  # type: ignore[arg-type, return-value]
    assert slow[0].ratio == 0.5 and slow[1] == {"alone": [0.5, 0.5], "tries": 2}
