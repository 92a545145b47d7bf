"""An architecture on its way to being chosen, and the file that remembers how far it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_json


@dataclass
class Candidate:
    """Costs are of the whole exported file called once per hop; accuracies are shares of the validation clips.

    Attributes:
        kept: live edges.
        predicted_ms, predicted_upper_ms: of the profile: the p95, and where its upper confidence bound will likely lie.
        accuracy: with the shared weights of the super-network.
        measured_p95_ms, measured_upper_ms: on the target; None until it was measured, or for budgets of another kind.
        fits: whether it keeps the budget, once that is known.
        fine_tuned_accuracy, fine_tuned_error: after training alone, with its standard error.
        check: the whole measurement.
    """

    kept: list[str]
    predicted_ms: float
    predicted_upper_ms: float
    accuracy: float
    measured_p95_ms: float | None = None
    measured_upper_ms: float | None = None
    fits: bool | None = None
    fine_tuned_accuracy: float | None = None
    fine_tuned_error: float | None = None
    chosen: bool = False
    check: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON, without the whole measurement."""
        return {name: value for name, value in asdict(self).items() if name != "check"}

    def merit(self) -> tuple[float, float]:
        """Higher is better: accuracy after fine-tuning, then speed."""
        return self.fine_tuned_accuracy or 0.0, -(self.measured_upper_ms or self.predicted_ms)


def save_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Write them all, aside and renamed."""
    write_json(path, {"candidates": [asdict(candidate) for candidate in candidates]})


def load_candidates(path: Path) -> list[Candidate]:
    """Read what `save_candidates` wrote.

    Raises:
        MilliwiseError: it is damaged.
    """
    try:
        return [Candidate(**row) for row in read_json(path, "candidates")["candidates"]]
    except (KeyError, TypeError) as error:
        raise MilliwiseError(f"candidates {path} are not as milliwise wrote them ({error}): start over") from None
