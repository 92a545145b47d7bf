"""A budget check: what it asks of the clock, how it judges, and when it measures again."""

from collections.abc import Iterator

import pytest
from toy import profile

from profilers import check as module
from profilers.check import check_budget
from profilers.clock import PacedTiming
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.errors import MilliwiseError


class Clock:
    """Stands in for the real one: gives prepared timings and remembers what was asked."""

    def __init__(self, *timings: PacedTiming) -> None:
        self.timings: Iterator[PacedTiming] = iter(timings)
        self.asked: list[dict] = []

    def __call__(self, _model: bytes, _target: LocalTarget, **options: object) -> PacedTiming:
        self.asked.append(options)
        return next(self.timings)


def ramp(top_ms: float, noisy: bool = False) -> PacedTiming:
    """400 calls that take top/400, 2·top/400 … top ms."""
    values = tuple(top_ms * (place + 1) / 400 for place in range(400))
    return PacedTiming((values[::2], values[1::2]), 50.0, noisy)


def ask(monkeypatch: pytest.MonkeyPatch, clock: Clock, budget: str, **options: object) -> module.Check:
    monkeypatch.setattr(module, "time_paced", clock)
    return check_budget(b"", Budget.parse(budget), LocalTarget(), hop_ms=200, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("budget", "upper"), [("9.7 ms", 9.7), ("9.7 ms p50", 5.42), ("9.7 ms p99", 9.975)])
def test_kept_is_the_upper_bound_of_the_statistic(monkeypatch: pytest.MonkeyPatch, budget: str, upper: float) -> None:
    """Ranks of 400 calls: 388 for the 95th percentile (the contract), 217 for the median, 399 or 400 for the 99th."""
    found = ask(monkeypatch, Clock(ramp(10.0)), budget)
    assert found.p50_ms == 5.0 and found.p95_ms == 9.5 and found.p99_ms == 9.9 and found.p95_upper_ms == 9.7
    assert found.upper_ms == pytest.approx(upper, abs=0.026) and found.kept == (found.upper_ms <= 9.7)


def test_just_below_the_bound_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ask(monkeypatch, Clock(ramp(10.0)), "9.69 ms").kept


def test_gaps_are_shortened_only_with_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(ramp(10.0))
    assert ask(monkeypatch, clock, "20 ms").p50_ms == 5.0 and clock.asked[0]["gap_ms"] == 200.0
    known, clock = profile(), Clock(ramp(10.0))
    found = ask(monkeypatch, clock, "20 ms", profile=known)
    assert clock.asked[0]["gap_ms"] == known.latency.shortened_gap_ms < 200
    assert found.p50_ms == pytest.approx(known.latency.shortened(5.0))


def test_too_slow_on_a_busy_machine_is_measured_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, Clock(ramp(10.0, noisy=True), ramp(5.0)), "8 ms").kept
    again = ask(monkeypatch, Clock(ramp(10.0, noisy=True), ramp(10.0, noisy=True)), "8 ms")
    assert not again.kept and again.noisy
    assert not ask(monkeypatch, Clock(ramp(10.0)), "8 ms").kept


def test_what_cannot_be_checked_is_refused_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    cases: list[tuple[str, dict[str, int], str]] = [("300 kparams", {}, "milliseconds"), ("2 ms", {"calls": 58}, "59")]
    for budget, options, told in [*cases, ("1 ms mean", {}, "depends on what is heard: check a p95")]:
        with pytest.raises(MilliwiseError, match=told):
            ask(monkeypatch, clock, budget, **options)
    assert clock.asked == []
