"""The pictures of `milliwise bench adaptive`: files beside its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kws_demo.drawings import adaptive
from kws_demo.drawings.tradeoff import standalone
from kws_demo.operating_points import own_fronts
from toolkit.files import write_bytes
from toolkit.run import read_log

TAUGHT = "teaching the controller"


def draw(folder: Path, found: Mapping[str, Any], run: Path) -> list[Path]:
    """Write what can be drawn of one seed; the files.

    Args:
        found: its raw results: `rows`, `by_share`, and `line`, half a minute of its stream.
        run: folder of its search, whose log has the cost of every label over the training.
    """
    line = found["line"]
    taught = {row.get("epoch"): row for row in read_log(run) if row.get("stage") == TAUGHT}  # of the last training
    drawn = {
        "front": adaptive.pareto(own_fronts(found["rows"]), "learned"),
        "labels": adaptive.cost_by_label(list(taught.values()), line["labels"]),
        "share": adaptive.cost_by_share(found["by_share"]),
        "timeline": adaptive.timeline(line),
    }
    paths = []
    for name, markup in drawn.items():
        if markup is not None:
            paths.append(folder / f"adaptive-{name}.svg")
            write_bytes(paths[-1], standalone(markup).encode())
    return paths
