"""By which clock the table of a profile is timed where the device does not tell how large its cache is."""

from __future__ import annotations

from pathlib import Path

import pytest
from abacus import EFFORT, SPACE, Abacus
from test_bundle_failures import carried, write

from profilers import profile as profile_module
from profilers.profile import profile_device
from profilers.target import Target
from toolkit.profile import DeviceProfile


class Telling(Abacus):
    """An abacus that tells these sizes of its caches."""

    def __init__(self, cache_bytes: dict[str, int]) -> None:
        super().__init__()
        self.cache_bytes = cache_bytes

    def fingerprint(self) -> dict[str, object]:
        return {**super().fingerprint(), "cache_bytes": self.cache_bytes}


def profiled(target: Target, clock: str = "auto") -> DeviceProfile:
    return profile_device(SPACE, target, hop_ms=40, clock=clock, effort=EFFORT)


@pytest.mark.parametrize("told", [{}, {"L2": 0}], ids=str)
@pytest.mark.parametrize(("assumed_bytes", "clock"), [(None, "tight"), (4096, "paced")])
def test_a_cache_of_unknown_size_is_taken_for_that_of_a_small_board(
    told: dict[str, int], assumed_bytes: int | None, clock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy fits two megabytes; with an assumption that it does not fit, it is seen to decide."""
    if assumed_bytes is not None:
        monkeypatch.setattr(profile_module, "ASSUMED_CACHE_BYTES", assumed_bytes)
    made = profiled(Telling(told))
    assert (made.clock, made.measured["cache_assumed_bytes"]) == (clock, assumed_bytes or 2_000_000)
    made.save(tmp_path / "p.json")
    assert DeviceProfile.load(tmp_path / "p.json").measured == made.measured


def test_the_cache_of_a_bundle_is_assumed_before_and_after_it_is_carried(tmp_path: Path) -> None:
    write(tmp_path / "bundle", profiled)
    made = profiled(carried(tmp_path / "bundle", Abacus()))
    assert made.fingerprint["cache_bytes"] is not None
    assert (made.clock, made.measured["cache_assumed_bytes"]) == ("tight", 2_000_000)


@pytest.mark.parametrize(("told", "clock"), [({"L2": 1 << 20}, "auto"), ({}, "tight"), ({}, "paced")])
def test_what_is_told_or_not_asked_for_is_not_assumed(told: dict[str, int], clock: str) -> None:
    assert "cache_assumed_bytes" not in profiled(Telling(told), clock).measured
