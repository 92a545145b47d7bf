"""A device that tells odd things, each of them well-formed: one line, or a profile without what cannot be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from abacus import EFFORT, SPACE, Abacus

from profilers.profile import profile_device
from toolkit.errors import MilliwiseError

Change = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Odd(Abacus):
    """An abacus whose events of one kind are changed."""

    def __init__(self, kind: str, change: Change) -> None:
        super().__init__()
        self.kind, self.change = kind, change

    def _did(self, task: dict[str, Any], models: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
        for event in super()._did(task, models):
            yield from self.change(event) if event["event"] == self.kind else [event]


@pytest.mark.parametrize("clock", ["tight", "paced"])
@pytest.mark.parametrize(
    "change",
    [
        lambda event: [{**event, "values_ms": event["values_ms"][:1]}],
        lambda event: [{**event, "values_ms": [*event["values_ms"], 1.0]}],
        lambda event: [event, event],
        lambda event: [{**event, "gap_ms": 1.01 * event["gap_ms"]}],
    ],
    ids=["one value", "a value too many", "three events and more", "another gap"],
)
def test_other_paces_than_were_asked_for_are_one_line(clock: str, change: Change) -> None:
    with pytest.raises(MilliwiseError, match=r"^the measuring process did not tell of every pace as it was asked: mea"):
        profile_device(SPACE, Odd("paced", change), hop_ms=40, clock=clock, effort=EFFORT)


@pytest.mark.parametrize("peak_bytes", [10**7, 1])
def test_models_that_take_no_memory_have_none_that_could_be_fitted(peak_bytes: int) -> None:
    device = Odd("memory", lambda event: [{**event, "peak_bytes": peak_bytes}])
    profile = profile_device(SPACE, device, hop_ms=40, clock="tight", effort=replace(EFFORT, weighed=8))
    assert profile.memory is None and "cannot measure" in profile.measured["no_memory"]
