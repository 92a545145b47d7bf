"""`bench search`: what is judged against which target, and that its toys are searched as they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dense_space
import numpy as np
import pytest
import torch

from kws_demo.bench import find_bench
from kws_demo.bench import search as bench
from kws_demo.bench import search_images as pictures
from kws_demo.bench import search_toys as toys
from kws_demo.bench.rows import Results, table
from toolkit.spaces import find_space
from toolkit.strategies import STRATEGIES

GOLDEN = {"name": "ResNet-20, MFLOPs", "published": 40.899, "found": 40.899}
TOYS = [{"ratio": 1.0, "entropy_bits": 0.02}] * 18 + [{"ratio": 1.3, "entropy_bits": 0.09}] * 2
SIZES = {"train": 90, "test": 30}
CLOUDS = [{"depth": 1, "links": 1}, {"depth": 2, "links": 1}]


def found(limit: float) -> dict[str, float]:
    """A search that keeps its budget."""
    return {"limit": limit, "cost": 0.9 * limit, "test": 0.5}


def judged(folder: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    """The rows by name, of results that are on file."""
    values = {"golden figures": [GOLDEN], "clouds: bsn, seed 0": CLOUDS, "toy fabrics: bsn, seed 0": TOYS}
    values |= {f"toy fabrics: {name}, seed 0": TOYS for name in ("bsn-greedy", "bsn-published")}
    values |= {f"toy trades: {name}, seed 0": [{"regret": 0.02}] for name in ("bsn", "bsn-greedy", "bsn-published")}
    values["image budgets, 20"] = [1.0, 2.0]
    for seed in range(3):
        values |= {f"images within {limit} MFLOPs, seed {seed}": found(limit) for limit in (1, 2)}
        values |= {f"chain, seed {seed}": {"cost": 1.5, "test": 0.5}}
        values |= {f"images within the chain's cost, seed {seed}": {**found(1.5), "test": 0.51}}
    values |= {key.replace("_", " "): value for key, value in changes.items()}
    lines = [json.dumps({"key": key, "value": value}) + "\n" for key, value in values.items()]
    (folder / "search.jsonl").write_text("".join(lines))
    (folder / bench.DATA).parent.mkdir(exist_ok=True)
    (folder / bench.DATA).touch()
    outcome = find_bench("search")(Results(folder / "search.jsonl", True), quick=False, recordings=folder, seed=0)
    assert table(outcome["rows"]) and outcome["machine"]["cores"] > 0
    return {row["name"]: row for row in outcome["rows"]}


def test_what_meets_every_target_is_met(tmp_path: Path) -> None:
    rows = judged(tmp_path)
    met = {name: row["met"] for name, row in rows.items() if row["met"] is not None}
    assert list(met.values()) == [True] * 6
    assert rows["budgets kept on images"]["reason"] == "6 searches, counted"
    assert rows["right at the chain ResNet's cost, less the chain's"]["measured"] == pytest.approx(0.01)
    own = rows["of 20 random costs, within 5 % of the cheapest path: bsn"]
    assert own["measured"] == 18 and own["target"] == ">= 18" and "18 exact, the worst 1.3 times" in own["reason"]
    published = rows["of 20 random costs, within 5 % of the cheapest path: bsn-published"]
    assert published["measured"] == 18 and published["met"] is None
    assert [name for name, row in rows.items() if row["reason"] == "not built yet"] == [name for name, _ in bench.LATER]


def test_what_misses_is_told(tmp_path: Path) -> None:
    rows = judged(tmp_path, golden_figures=[GOLDEN, {**GOLDEN, "found": 41.0}])
    assert rows["published figures that differ"]["met"] is False
    assert rows["published figures that differ"]["reason"] == "ResNet-20, MFLOPs 41.0, not 40.899"
    (tmp_path / "search.jsonl").unlink()
    values = {"toy fabrics: bsn, seed 0": [*TOYS[1:], {"ratio": 1.06, "entropy_bits": 0.2}]}
    values["clouds: bsn, seed 0"] = [{"depth": 1, "links": 2}]
    values["images within 2 MFLOPs, seed 1"] = {**found(2), "cost": 2.01}
    values["images within the chain's cost, seed 2"] = {**found(1.5), "test": 0.4}
    rows = judged(tmp_path, **values)
    missed = [name for name, row in rows.items() if row["met"] is False]
    assert missed == [
        "of 20 random costs, within 5 % of the cheapest path: bsn",
        "entropy over reachable edges, the most, in bit",
        "clouds that are reached by no or several links",
        "budgets kept on images",
        "right at the chain ResNet's cost, less the chain's",
    ]


@pytest.mark.parametrize("name", ["bsn", "bsn-greedy", "bsn-published"])
def test_toys_are_searched_by_every_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("STEPS", "PUBLISHED_STEPS"):
        monkeypatch.setattr(toys, setting, 3)
    for setting in ("TOYS", "TRADES", "CLIMBS"):
        monkeypatch.setattr(toys, setting, 2)
    assert name in STRATEGIES
    found = toys.toy_rows(name, 1)
    assert len(found) == 2 and all(row["ratio"] >= 1 and 0 <= row["entropy_bits"] <= 1 for row in found)
    assert found == toys.toy_rows(name, 1)
    traded = toys.trade_rows(name, 1)
    assert len(traded) == 2 and all(-0.1 < row["regret"] < 0.5 for row in traded)


def test_a_short_search_finds_one_link_to_the_cloud() -> None:
    graph, sums = toys._toy(4, 4)
    costs = toys.cloud_costs(graph, 3, sums)
    likely = toys._searched("bsn", toys.table_price(graph, costs), 0).likely
    assert sum(costs[name] == toys.LINK for name in likely) == 1


def test_without_images_it_says_so(tmp_path: Path) -> None:
    results = Results(tmp_path / "search.jsonl", False)
    rows = list(bench._pictures(results, tmp_path, [0], quick=True))
    assert len(rows) == 2 and all(row["met"] is None and "no images in" in row["reason"] for row in rows)


def test_a_fabric_is_searched_on_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    space = find_space(pictures.SPACE)
    (tmp_path / "runs").mkdir()
    dense_space.counted_profile(space).save(tmp_path / "runs" / "resnet-fabric.profile.json")
    chance = np.random.default_rng(0)
    arrays = {f"x_{part}": chance.integers(0, 256, (count, 32, 32, 3), np.uint8) for part, count in SIZES.items()}
    arrays |= {f"y_{part}": np.arange(count) % 3 for part, count in SIZES.items()}
    (tmp_path / pictures.DATA).parent.mkdir()
    np.savez(tmp_path / pictures.DATA, **arrays)
    monkeypatch.setattr(pictures, "MINUTES", 0.02)
    searches = pictures.ImageSearches(tmp_path, tmp_path / "runs")
    limits = searches.limits(3)
    assert limits == sorted(limits) and searches.price(searches.price.cheapest()) / 1e6 < limits[0]
    own = searches.searched(limits[1], 0)
    assert own["cost"] <= limits[1] and 0 <= own["test"] <= 1
    chain = searches.chained(0)
    assert limits[0] < chain["cost"] < limits[2] and 0 <= chain["test"] <= 1


def test_the_published_figures_of_the_smaller_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for table_name, kept in (("RESNETS", (20,)), ("RESNET_FABRICS", (3,)), ("NEURAL_FABRICS", (1, 2))):
        monkeypatch.setattr(bench, table_name, {key: getattr(bench, table_name)[key] for key in kept})
    rows = list(bench.golden_rows(quick=True))
    assert len(rows) == 5 + 4 + 5 + 5 and all(row["found"] == row["published"] for row in rows)
