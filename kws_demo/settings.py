"""The arguments of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from profilers.clock import CHECK_CALLS


@dataclass(frozen=True)
class Settings:
    """What `milliwise search` is asked; paths are kept as they were given.

    Attributes:
        space: name of the search space.
        budget: as written, such as `1 ms`.
        data: as `load_data` takes it; so are `add`, `unknown`, `noise` and `clips_per_word`.
        words: of a folder to listen for, as written: `yes,no`.
        strategy: name of the search strategy.
        minutes: training time; measuring comes on top.
        penalty: λ of the strategy, found by itself when None.
        device: where to train, `cpu` or `cuda`.
        bound: price networks by the upper bound of the profile's prediction instead of the prediction.
        on: target to measure on instead of the profile's.
        threads: refuse a profile made for another thread count.
        fine_tuned: how many candidates that keep the budget are fine-tuned.
        calls: in the measurement of a candidate.
    """

    space: str
    budget: str
    data: str
    strategy: str = "bsn"
    seed: int = 0
    minutes: float = 10.0
    penalty: float | None = None
    add: str | None = None
    unknown: list[str] = field(default_factory=list)
    noise: str | None = None
    words: str | None = None
    clips_per_word: int = 800
    device: str = "cpu"
    on: str | None = None
    bound: bool = False
    threads: int | None = None
    fine_tuned: int = 1
    calls: int = CHECK_CALLS

    @property
    def options(self) -> dict[str, Any]:
        """What the strategy takes beside price, limit and seed."""
        return {} if self.penalty is None else {"penalty": self.penalty}
