"""An architecture on its way to being chosen, and the file that remembers how far it came."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import read_json, write_json
from toolkit.strategies import Strategy

CANDIDATES_NAME = "candidates.json"
ABOUT_AS_ACCURATE = 0.02  # of the validation clips, at most: nobody waits for a worse one


@dataclass
class Candidate:
    """Costs are of the whole exported file called once per hop; accuracies are shares of the validation clips.

    Attributes:
        kept: live edges.
        predicted_ms, predicted_upper_ms: of the profile: the p95, and where its upper confidence bound will likely lie.
        accuracy, accuracy_error: with the shared weights of the super-network, and its standard error.
        parameters: of the whole network, with the head of the profile.
        measured_p95_ms, measured_upper_ms: on the target; None until it was measured, or for budgets of another kind.
        fits: whether it keeps the budget, once that is known.
        fine_tuned_accuracy, fine_tuned_error: after training alone, with its standard error.
        silence_heard: whether, after that, digital silence is `_silence_` from the first hop on.
        check: the whole measurement.
        predicted_makespan_ms, measured_makespan_ms, measured_makespan_upper_ms: for a budget of that, when workers
            share the edges; else None.
    """

    kept: list[str]
    predicted_ms: float
    predicted_upper_ms: float
    accuracy: float
    parameters: int
    measured_p95_ms: float | None = None
    measured_upper_ms: float | None = None
    fits: bool | None = None
    fine_tuned_accuracy: float | None = None
    fine_tuned_error: float | None = None
    silence_heard: bool | None = None
    chosen: bool = False
    check: dict[str, Any] = field(default_factory=dict)
    predicted_makespan_ms: float | None = None
    accuracy_error: float = ABOUT_AS_ACCURATE
    measured_makespan_ms: float | None = None
    measured_makespan_upper_ms: float | None = None

    @property
    def asked_ms(self) -> float:
        """What a budget of time is likely to be held against, as predicted."""
        return self.predicted_upper_ms if self.predicted_makespan_ms is None else self.predicted_makespan_ms

    @property
    def found_ms(self) -> float | None:
        """What a budget of time was held against, as measured; None until it was."""
        return self.measured_upper_ms if self.predicted_makespan_ms is None else self.measured_makespan_upper_ms

    def facts(self) -> dict[str, Any]:
        """As JSON, without the whole measurement."""
        return {name: value for name, value in asdict(self).items() if name != "check"}

    def merit(self) -> tuple[bool, float, float]:
        """Higher is better: silence heard as such, then accuracy after fine-tuning, then speed."""
        speed = -(self.found_ms or self.predicted_makespan_ms or self.predicted_ms)
        return bool(self.silence_heard), self.fine_tuned_accuracy or 0.0, speed


def prediction_error(candidates: Iterable[Candidate]) -> float:
    """By which factor measured candidates came out above their predictions (their median); 1 if they did not."""
    ratios = [each.found_ms / each.asked_ms for each in candidates if each.found_ms]
    return max(1.0, statistics.median(ratios)) if ratios else 1.0


def next_to_measure(candidates: Iterable[Candidate], limit: float) -> Candidate | None:
    """The most promising one that is not measured yet and may fit the limit, in the budget's unit; None if none may.

    That is the most accurate one or, of those about as accurate with shared weights (within the standard error of the
    difference of two), the one of most parameters: trained alone it has the most to gain. (Six searches of a ResNet
    fabric within 6.8 MFLOPs, then trained for 79 s: right for 64.2 % of CIFAR-10; with the slowest one instead, 61.3.)
    Predictions are trusted as far as those of the measured candidates came true.
    """
    candidates = list(candidates)
    error = prediction_error(candidates)
    waiting = [each for each in candidates if each.fits is None]
    hopeful = [each for each in waiting if error == 1.0 or each.asked_ms * error <= limit]
    if not hopeful:
        return None
    best = max(hopeful, key=lambda each: each.accuracy)
    least = best.accuracy - min(ABOUT_AS_ACCURATE, math.sqrt(2) * best.accuracy_error)
    return max((each for each in hopeful if each.accuracy >= least), key=lambda each: (each.parameters, each.accuracy))


def save_candidates(path: Path, candidates: Iterable[Candidate], strategy: Strategy, measured: bool) -> None:
    """Write them all, aside and renamed.

    Args:
        strategy: that proposed them, and may be asked for more.
        measured: whether all are that have to be.
    """
    rows = [asdict(candidate) for candidate in candidates]
    write_json(path, {"candidates": rows, "strategy": strategy.state_dict(), "measured": measured})


def load_candidates(path: Path, strategy: Strategy) -> tuple[list[Candidate], bool]:
    """Read what `save_candidates` wrote: the candidates, and whether all are measured that have to be.

    Args:
        strategy: goes on from where the one was that proposed them.

    Raises:
        MilliwiseError: it is damaged.
    """
    content = read_json(path, "candidates")
    try:
        found = [_checked(Candidate(**row)) for row in content["candidates"]]
        if not found:
            raise ValueError("there are none")
        strategy.load_state_dict(content["strategy"])
        return found, content["measured"] is True
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise MilliwiseError(f"candidates {path} are not as milliwise wrote them ({reason}): start over") from None


def _checked(candidate: Candidate) -> Candidate:
    """The candidate, if every value is of its kind.

    Raises:
        ValueError: one is not.
    """
    numbers = ["predicted_ms", "predicted_upper_ms", "accuracy", "accuracy_error", "parameters"]
    measured = ["measured_p95_ms", "measured_upper_ms", "fine_tuned_accuracy", "fine_tuned_error"]
    measured += [f"{name}_ms" for name in ("predicted_makespan", "measured_makespan", "measured_makespan_upper")]
    for name, kinds in (
        *((name, (int, float)) for name in numbers),
        *((name, (int, float, type(None))) for name in measured),
        ("kept", (list,)),
        ("fits", (bool, type(None))),
        ("chosen", (bool,)),
        ("check", (dict,)),
    ):
        if not isinstance(getattr(candidate, name), kinds):
            raise ValueError(f"{name} is {str(getattr(candidate, name))[:40]}")
    if not candidate.kept or not all(isinstance(name, str) for name in candidate.kept):
        raise ValueError("kept is no list of edges")
    return candidate
