"""Times from events: which number is which, when a result is noisy, and the exact bound of a percentile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_onnx import copying, counter

from profilers.clock import Timing, time_paced, time_tight, upper_quantile_rank
from profilers.target import LocalTarget
from toolkit.errors import MilliwiseError

CALM = {"event": "load", "foreign": [0.01, 0.02, 0.3, 0.0]}
BUSY = {"event": "load", "foreign": [0.01, 0.2, 0.3, 0.0]}


class Recorded:
    """A target that answers each job with events prepared for its models, and remembers what it was asked."""

    name = "recorded"

    def __init__(self, *answers: Callable[[list[str]], list[dict[str, Any]]]) -> None:
        self.answers, self.jobs, self.files = list(answers), [], []

    def run(self, job: dict, files: Mapping[str, bytes | Path], on_event: Callable[[dict], object]) -> list[dict]:
        self.jobs.append(job)
        self.files.append(dict(files))
        events = self.answers.pop(0)(job["tasks"][0]["models"])
        for event in events:
            on_event(event)
        return events


def tight(blocks_ms: list[float], load: dict = CALM, settled: bool = True) -> Recorded:
    row = {"event": "tight", "blocks_ms": blocks_ms, "calls_per_block": 9, "dirty": 1, "settled": settled}
    progress = {"event": "progress", "done": 0.5, "total": 1}
    return Recorded(lambda names: [progress, *({**row, "model": name} for name in names), load])


def paced(values_ms: list[float], load: dict = CALM) -> Callable[[list[str]], list[dict[str, Any]]]:
    row = {"event": "paced", "gap_ms": 50.0, "values_ms": values_ms, "warm_up_ms": [9.0]}
    return lambda names: [*({**row, "model": name} for name in names), load]


def test_a_timing_keeps_raw_blocks_and_derives_the_rest():
    found = time_tight({"conv 3x3": b"1", "skip/a": b"2"}, tight([1.00, 1.02, 1.04, 1.10, 1.20]), title="")
    assert list(found) == ["conv 3x3", "skip/a"]
    timing = found["skip/a"]
    assert timing.blocks_ms == (1.00, 1.02, 1.04, 1.10, 1.20)
    assert (timing.best_ms, timing.median_ms) == (1.00, 1.04)
    assert timing.spread == pytest.approx((1.10 - 1.02) / 1.04)
    assert (timing.calls_per_block, timing.dirty, timing.noisy) == (9, 1, False)
    assert Timing((2.0,), 3, 0, False).spread == 0


def test_the_job_asks_for_what_the_caller_said():
    target = tight([1.0, 1.0])
    time_tight({"a": b"one", "b": Path("two")}, target, threads=2, rounds=5, block_ms=1.5, seed=7)
    (job,), (files,) = target.jobs, target.files
    (task,) = job["tasks"]
    assert (job["threads"], job["seed"], job["format"]) == (2, 7, 1)
    assert (task["task"], task["rounds"], task["block_ms"]) == ("tight", 5, 1.5)
    assert [files[name] for name in task["models"]] == [b"one", Path("two")]
    assert time_tight({}, target) == {}


@pytest.mark.parametrize(
    ("target", "noisy"),
    [
        (tight([1.0, 1.0, 1.0, 1.0]), False),
        (tight([1.0, 1.0, 1.0, 1.0], BUSY), True),
        (tight([1.0, 1.0, 1.0, 1.0], settled=False), True),
        (tight([1.0, 1.0, 1.5, 1.5]), True),
        (tight([1.0, 1.0, 1.0, 1.0], {"event": "load", "foreign": []}), False),
    ],
)
def test_a_tight_timing_is_noisy_by_the_stated_rule(target, noisy):
    assert time_tight({"a": b""}, target)["a"].noisy is noisy


@pytest.mark.parametrize(
    ("first", "second", "noisy"),
    [
        (paced([1.0] * 30), paced([1.1] * 30), False),
        (paced([1.0] * 30), paced([1.2] * 30), True),
        (paced([1.0] * 30), paced([1.0] * 30, BUSY), True),
    ],
)
def test_a_paced_timing_keeps_processes_apart_and_says_when_it_is_noisy(first, second, noisy):
    target = Recorded(first, second)
    timing = time_paced(b"model", target, calls=61)
    assert [job["tasks"][0]["calls"] for job in target.jobs] == [31, 30]
    assert [job["tasks"][0]["gap_ms"] for job in target.jobs] == [50.0, 50.0]
    assert [len(process) for process in timing.processes] == [30, 30]
    assert timing.values_ms == timing.processes[0] + timing.processes[1]
    assert timing.noisy is noisy


def test_a_hop_shorter_than_the_gap_sets_the_pace():
    target = Recorded(paced([1.0]))
    time_paced(b"model", target, hop_ms=20, calls=1, processes=1)
    assert target.jobs[0]["tasks"][0]["gap_ms"] == 20


def test_too_few_calls_name_the_least():
    with pytest.raises(MilliwiseError, match=r"58 calls.*at least 59"):
        upper_quantile_rank(58)


@pytest.mark.parametrize(("n", "rank"), [(59, 59), (400, 388)])
def test_rank_of_known_sizes(n, rank):
    assert upper_quantile_rank(n) == rank


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 600), st.sampled_from([(95, 95), (50, 95), (95, 99), (90, 80)]))
def test_rank_is_the_least_that_bounds_in_exact_arithmetic(n, percents):
    quantile, confidence = (Fraction(percent, 100) for percent in percents)

    def covers(rank: int) -> bool:
        """P(the rank-th value >= the quantile) = P(fewer than `rank` of n values lie below it)."""
        below = range(rank)
        return sum(comb(n, k) * quantile**k * (1 - quantile) ** (n - k) for k in below) >= confidence

    if not covers(n):
        with pytest.raises(MilliwiseError, match=f"{n} calls"):
            upper_quantile_rank(n, float(quantile), float(confidence))
        return
    rank = upper_quantile_rank(n, float(quantile), float(confidence))
    assert covers(rank)
    assert not covers(rank - 1)


def test_a_failure_names_the_model():
    failed = Recorded(lambda names: [{"event": "failed", "model": names[1], "reason": "out of luck"}])
    with pytest.raises(MilliwiseError, match="cannot time conv b: out of luck"):
        time_tight({"conv a": b"", "conv b": b""}, failed)
    with pytest.raises(MilliwiseError, match="nothing about the model"):
        time_paced(b"", Recorded(lambda names: [CALM]), calls=60, processes=1)


def test_real_models_are_timed_on_this_machine():
    local = LocalTarget()
    found = time_tight({"a": counter(), "b": counter(16)}, local, rounds=3, block_ms=0.3)
    assert all(len(timing.blocks_ms) >= 3 and timing.best_ms > 0 for timing in found.values())
    one = time_paced(counter(), local, hop_ms=2, calls=60)
    assert [len(process) for process in one.processes] == [30, 30]
    assert min(one.values_ms) > 0
    with pytest.raises(MilliwiseError, match=r"cannot time broken: .*fixed sizes"):
        time_tight({"fine": counter(), "broken": copying([1, "n"])}, local, rounds=2)
