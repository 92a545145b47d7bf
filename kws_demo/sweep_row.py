"""What came of a point of a sweep, read from its run folder."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kws_demo.sweep_point import Point
from toolkit.costs import Price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json
from toolkit.run import FORMAT

MEASURED = {"latency_ms": "upper_ms", "makespan_ms": "makespan_upper_ms"}  # what a budget was held against, in run.json


@dataclass(frozen=True)
class Row:
    """What came of a point; all that is not known of a failed one is None.

    Attributes:
        point: its name, and that of its run folder.
        cost: of the network found, in the unit of the budget's metric; where it was measured, the measured one.
        budget_kept: whether that is within the budget.
        validation, test: accuracies, fractions; of the network after fine-tuning.
        validation_error, test_error: their standard errors.
        clips: tested; of images, too.
        labels: how many there are to choose from.
        pixels: accuracies are shares of pixels, not of clips.
        seconds: that all its stages took.
        failed: why it did.
    """

    point: str
    space: str
    strategy: str
    budget: str
    penalty: float | None
    seed: int
    cost: float | None = None
    budget_kept: bool | None = None
    validation: float | None = None
    validation_error: float | None = None
    test: float | None = None
    test_error: float | None = None
    clips: int | None = None
    labels: int | None = None
    pixels: bool = False
    seconds: float | None = None
    failed: str | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def is_done(folder: Path) -> bool:
    """Whether a run folder is of a finished run."""
    return os.path.isfile(folder / "run.json")


def read_finished(folder: Path) -> dict[str, Any]:
    """The `run.json` of a finished run.

    Raises:
        MilliwiseError: it is damaged, or of another version.
    """
    content = read_json(folder / "run.json", "run")
    if content.get("format") != FORMAT:
        shown = printable(content.get("format"))[:40]
        raise MilliwiseError(f"run {folder} has format {shown}, this version reads {FORMAT}: remove that folder")
    return content


def read_row(point: Point, price: Price, folder: Path, failure: str | None = None) -> Row:
    """What came of a point: of its run folder, or why it failed."""
    given = point.settings
    row = Row(point.name, given.space, given.strategy, given.budget, given.penalty, given.seed)
    if failure is not None:
        return replace(row, failed=failure)
    try:
        return replace(row, **_told(read_finished(folder), price))
    except MilliwiseError as error:
        return replace(row, failed=str(error))
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        return replace(row, failed=f"{folder}/run.json is damaged ({printable(error)[:80]}): remove that folder")


def _told(run: dict[str, Any], price: Price) -> dict[str, Any]:
    """What a row has to say of a finished run; all of it is checked, for anybody may have written it."""
    right, measured = run["accuracy"], run["measured"].get(MEASURED.get(price.metric))
    numbers = {
        "cost": price(frozenset(run["kept"])) if measured is None else measured,
        **{name: right[name] for name in ("validation", "validation_error", "test", "test_error")},
        "clips": right["test_clips"],
        "seconds": sum(run["seconds"].values()),
    }
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}")
    if not (right["validation"] <= 1 and right["test"] <= 1 and type(right["test_clips"]) is int):
        raise ValueError("an accuracy above 1")
    kept = next(candidate for candidate in run["pareto"] if candidate["chosen"])["fits"]
    labels, pixels = len(run["labels"]), run.get("task") == "segment"
    return {**numbers, "budget_kept": kept is True, "labels": labels, "pixels": pixels}
