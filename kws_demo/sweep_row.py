"""What came of a point of a sweep, read from its run folder."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kws_demo.sweep_point import Point
from toolkit.budget import TIMED
from toolkit.costs import Price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json
from toolkit.run import FORMAT

TABLE_NAME, SWEEP_NAME = "table.json", "sweep.json"
SWEEP_FORMAT = 1
LARGEST, DEAREST = 1e15, 1e300  # of any figure, and of a cost or λ: beyond it is nonsense
MEASURED = {"latency_ms": "upper_ms", "makespan_ms": "makespan_upper_ms"}  # what a budget was held against, in run.json


@dataclass(frozen=True)
class Row:
    """What came of a point; all that is not known of a failed one is None.

    Attributes:
        point: its name, and that of its run folder.
        cost: of the network found, in the unit of the budget's metric; where it was measured, the measured one.
        budget_kept: whether that is within the budget; None where it is of time and was not measured.
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


def read_rows(folder: Path) -> list[Row]:
    """All that a finished sweep tells, of its `table.json`.

    Raises:
        MilliwiseError: it is not finished, or damaged.
    """
    path = folder / TABLE_NAME
    unfinished = f"the sweep {folder} is not finished: go on with it by --resume"
    if not os.path.lexists(path):
        raise MilliwiseError(unfinished)
    try:
        rows = [_checked(Row(**facts)) for facts in read_json(path, "table")["points"]]
    except (KeyError, TypeError, ValueError) as error:
        reason = printable(error)[:80]
        raise MilliwiseError(f"{path} is damaged ({reason}): repeat the sweep with --resume") from None
    if not rows:
        raise MilliwiseError(f"{path} has no points: repeat the sweep with --resume")
    if {row.point for row in rows} != set(points_of(folder)):  # it is of before there were more
        raise MilliwiseError(unfinished)
    return rows


def points_of(folder: Path) -> dict[str, Any]:
    """The arguments of a sweep's points by their names, of its `sweep.json`.

    Raises:
        MilliwiseError: it is of another version, or damaged.
    """
    path = folder / SWEEP_NAME
    content = read_json(path, "sweep")
    if content.get("format") != SWEEP_FORMAT or not isinstance(content.get("points"), dict):
        raise MilliwiseError(
            f"sweep {path} has format {printable(content.get('format'))[:40]}, this version reads {SWEEP_FORMAT}: "
            "begin it anew in another folder"
        )
    return dict(content["points"])


def _checked(row: Row) -> Row:
    """A row that anybody may have written; of a failed one only what is known of such."""
    texts = [row.point, row.space, row.strategy, row.budget]
    counts: list[Any] = [row.seed]
    costs: list[Any] = [] if row.penalty is None else [row.penalty]
    numbers: list[Any] = []
    shares: list[Any] = []
    if row.failed is None:
        counts += [row.clips, row.labels]
        costs.append(row.cost)
        numbers += [row.seconds, row.validation_error, row.test_error]
        shares = [row.validation, row.test]
    else:
        texts.append(row.failed)
        row = Row(row.point, row.space, row.strategy, row.budget, row.penalty, row.seed, failed=row.failed)
    for values, kind in ((texts, str), (counts, int), (costs + numbers + shares, int | float)):
        for value in values:
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{value!r} of {row.point!r}")
    for figures, most in ((counts + numbers, LARGEST), (costs, DEAREST), (shares, 1)):
        for figure in figures:
            if not 0 <= figure <= most:
                raise ValueError(f"{figure!r} of {row.point!r}")
    if row.labels == 0 or not isinstance(row.budget_kept, bool | None):
        raise ValueError(f"labels {row.labels!r} and budget kept {row.budget_kept!r} of {row.point!r}")
    return row


def _told(run: dict[str, Any], price: Price) -> dict[str, Any]:
    """What a row has to say of a finished run; all of it is checked, for anybody may have written it."""
    right, measured = run["accuracy"], run["measured"].get(MEASURED.get(price.metric))
    chosen = next(candidate for candidate in run["pareto"] if candidate["chosen"])
    numbers = {
        "cost": chosen["cost"] if measured is None else measured,
        **{name: right[name] for name in ("validation", "validation_error", "test", "test_error")},
        "clips": right["test_clips"],
        "seconds": sum(run["seconds"].values()),
    }
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}")
    if not (right["validation"] <= 1 and right["test"] <= 1 and type(right["test_clips"]) is int):
        raise ValueError("an accuracy above 1")
    labels, pixels = len(run["labels"]), run.get("task") == "segment"
    unknown = price.metric in TIMED and not run["measured"]  # to be measured by hand, on another device
    kept = None if unknown else chosen["fits"] is True
    return {**numbers, "budget_kept": kept, "labels": labels, "pixels": pixels}
