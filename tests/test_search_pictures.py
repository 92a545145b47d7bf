"""The pictures of `bench search`: of rows as the toys give them, and none of rows from before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from markup import drawing, of_class, words

from kws_demo.bench import search_pictures, search_toys
from toolkit.infrastructure import cloud_costs, table_price

NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'


def test_what_was_found_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(search_toys, "TOYS", 1)
    monkeypatch.setattr(search_toys, "STEPS", 60)
    toys = {"bsn": search_toys.toy_rows("bsn", 0)}
    (row,) = toys["bsn"]
    assert [told["step"] for told in row["history"]] == list(range(1, 61))
    graph, sums = search_toys._toy(search_toys.COLUMNS, search_toys.SCALES)
    cheapest = table_price(graph, cloud_costs(graph, 3, sums)).cheapest()
    clouds = [{"depth": 3, "links": 1, "kept": sorted(cheapest)}]
    paths = search_pictures.draw(tmp_path, toys, clouds, 0, {})
    names = ["search-random-bsn", "search-random-bsn-learning", "search-cloud-3"]
    assert paths == [tmp_path / f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    assert all(path.stat().st_size > 1000 for path in paths)
    cloud, random = (drawing(paths[place].read_text().replace(NAMESPACE, "")) for place in (4, 0))
    assert "the link (100 each): 1" in words(cloud)
    live = {str(e.findtext("title")).split(":")[0] for e in of_class(cloud, "live") if e.findtext("title")}
    assert live == {name for name in cheapest if not name.startswith("relu")}
    live = {str(e.findtext("title")).split(":")[0] for e in of_class(random, "live") if e.findtext("title")}
    assert live == {name for name in row["kept"] if not name.startswith("relu")}


@pytest.mark.parametrize(
    "row",
    [{}, {"ratio": 1.0, "entropy_bits": 0.1}, {"ratio": 1.0, "kept": ["of", "another"], "history": [1, {"step": 1}]}],
)
def test_rows_that_lack_what_a_picture_needs_have_none(row: dict[str, Any], tmp_path: Path) -> None:
    assert search_pictures.draw(tmp_path, {"bsn": [row], "none": []}, [{"depth": 1, "links": 1}], 0, {}) == []
