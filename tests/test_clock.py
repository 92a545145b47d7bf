"""Times from events: which number is which, what is noisy, what is kept, and the exact bound of a percentile."""

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

from profilers import target
from profilers.clock import (
    CannotTime,
    Tight,
    Timing,
    measure_tight,
    time_paced,
    time_paces,
    time_tight,
    upper_quantile_rank,
)
from profilers.target import LocalTarget
from toolkit.errors import MilliwiseError

CALM = {"event": "load", "foreign": [0.01, 0.02, 0.3, 0.0], "probes_ms": [1.0, 1.1, 1.0, 1.2]}
BUSY = {"event": "load", "foreign": [0.01, 0.2, 0.3, 0.0], "probes_ms": [1.0, 1.1, 1.0, 1.2]}
SLOW = {"event": "load", "foreign": [0.0], "probes_ms": [1.0, 1.2, 1.0, 1.2]}


class Recorded:
    """A target that answers each job with events prepared for its models, and remembers what it was asked."""

    name = "recorded"

    def __init__(self, *answers: Callable[[list[str]], list[dict[str, Any]]]) -> None:
        self.answers, self.jobs, self.files = list(answers), [], []

    def run(self, job: dict, files: Mapping[str, bytes | Path], on_event: Callable[[dict], object]) -> list[dict]:
        self.jobs.append(job)
        self.files.append(dict(files))
        events = []
        for event in self.answers.pop(0)(job["tasks"][0]["models"]):
            events.append(event)
            on_event(event)
        return events


def blocks(model: str, *blocks_ms: float) -> dict[str, Any]:
    return {"event": "blocks", "model": model, "blocks_ms": list(blocks_ms), "rejected_ms": [], "calls_per_block": 9}


def tight(*blocks_ms: float, load: dict = CALM) -> Recorded:
    """A device that tells the blocks of all its models one by one, in turn."""
    progress = {"event": "progress", "done": 0.5, "total": 1}
    return Recorded(lambda names: [progress, *(blocks(name, ms) for ms in blocks_ms for name in names), load])


def paced(
    values_ms: list[float], load: dict = CALM, gap_ms: float = 50.0
) -> Callable[[list[str]], list[dict[str, Any]]]:
    row = {"event": "paced", "gap_ms": gap_ms, "values_ms": values_ms, "warm_up_ms": [9.0]}
    return lambda names: [*({**row, "model": name} for name in names), load]


def test_a_timing_keeps_raw_blocks_and_derives_the_rest():
    found = time_tight({"conv 3x3": b"1", "skip/a": b"2"}, tight(1.04, 1.02, 1.00, 1.10, 1.20), title="")
    assert list(found) == ["conv 3x3", "skip/a"]
    timing = found["skip/a"]
    assert timing.blocks_ms == (1.04, 1.02, 1.00, 1.10, 1.20)
    assert timing.best_ms == 1.00
    assert timing.spread == pytest.approx((1.10 - 1.02) / 1.04)
    assert (timing.calls_per_block, timing.noisy) == (9, False)
    assert Timing((2.0,), 3).spread == 0 and not Timing((2.0,), 3).noisy


def test_the_job_asks_for_what_the_caller_said():
    target = tight(1.0)
    time_tight({"a": b"one", "b": Path("two")}, target, threads=2, rounds=5, block_ms=1.5, seed=7)
    (job,), (files,) = target.jobs, target.files
    (task,) = job["tasks"]
    assert (job["threads"], job["seed"], job["format"]) == (2, 7, 1)
    assert (task["task"], task["rounds"], task["block_ms"], task["known"]) == ("tight", 5, 1.5, {})
    assert [files[name] for name in task["models"]] == [b"one", Path("two")]
    assert time_tight({}, target) == {}


@pytest.mark.parametrize(
    ("blocks_ms", "noisy"),
    [
        ([1.0, 1.02, 1.1, 1.1], False),
        ([1.0, 1.03, 1.0999, 1.1], True),  # the second lowest does not agree with the lowest
        ([1.0, 1.01, 1.02, 1.05, 1.1, 1.1, 1.1, 1.1], False),  # of eight, the lowest three have to
        ([1.0, 1.01, 1.021, 1.05, 1.1, 1.1, 1.1, 1.1], True),
        ([1.0, 1.0, 1.0, 1.1, 1.3, 1.3, 1.3], True),  # half of the blocks span more than 15 % of their median
        ([1.0], False),
    ],
)
def test_a_timing_is_noisy_by_the_stated_rule(blocks_ms: list[float], noisy: bool):
    assert Timing(tuple(blocks_ms), 3).noisy is noisy


@pytest.mark.parametrize(
    ("loads", "told"),
    [
        ([CALM], []),
        ([], []),
        ([BUSY], ["others used 25 % of the machine for 50 % of the time"]),
        (
            [BUSY, CALM],
            ["others used 30 % of the machine for 38 % of the time"],
        ),  # 3 of 8 readings, 30 % the middle one
        ([BUSY, {"event": "load", "foreign": [0.1] * 4, "probes_ms": []}], []),  # 2 of 8 are not more than a quarter
        ([SLOW], ["the same work took over 1.15 times as long for 50 % of the time"]),
        ([CALM, SLOW], ["the same work took over 1.15 times as long for 38 % of the time"]),
        ([{"event": "load", "foreign": [0.5]}], ["others used 50 % of the machine for 100 % of the time"]),
    ],
)
def test_disturbances_are_said_in_words(loads: list[dict], told: list[str]):
    found = Tight()
    for load in loads:
        found.add(load)
    assert list(found.disturbances()) == told


def test_what_an_interrupted_run_measured_is_not_measured_again():
    first = Recorded(lambda names: [blocks(names[0], 1.0), blocks(names[1], 2.0), blocks(names[0], 1.1), CALM])
    kept: list[dict] = []
    with pytest.raises(KeyboardInterrupt):
        measure_tight(
            {"a": b"1", "b": b"2"}, first, keep=lambda event: kept.append(event) if len(kept) < 2 else interrupt()
        )
    assert [(event["model"], event["blocks_ms"]) for event in kept] == [("a", [1.0]), ("b", [2.0])]
    known = Tight()
    for event in kept:
        known.add(event)
    second = Recorded(lambda names: [blocks(names[0], 1.2), SLOW])
    more: list[dict] = []
    found = measure_tight({"a": b"1", "b": b"2"}, second, known=known, keep=more.append)
    (names,) = (job["tasks"][0]["models"] for job in second.jobs)
    assert second.jobs[0]["tasks"][0]["known"] == {names[0]: (1.0,), names[1]: (2.0,)}
    assert found is known and found.finished
    assert {name: timing.blocks_ms for name, timing in found.timings.items()} == {"a": (1.0, 1.2), "b": (2.0,)}
    assert [event["event"] for event in more] == ["blocks", "load", "finished"]
    again = measure_tight({"a": b"1", "b": b"2"}, Recorded(), known=found, keep=more.append)  # nothing is asked for
    assert again is found and len(more) == 3


def interrupt() -> None:
    raise KeyboardInterrupt


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(0, 12))
def test_what_is_kept_tells_the_same_however_often_it_was_interrupted(turns: list[str], cut: int):
    events = [blocks(name, 1.0 + index) for index, name in enumerate(turns)]
    events += [CALM, {"event": "failed", "model": "c", "reason": "out of luck"}, {"event": "finished"}]
    whole, resumed = Tight(), Tight()
    for event in events:
        whole.add(event)
    for event in events[:cut]:
        resumed.add(dict(event))
    for event in events[cut:]:
        resumed.add(event)
    assert resumed == whole and whole.finished and whole.failures == {"c": "out of luck"}
    for name in "ab":
        told = tuple(ms for event in events[: len(turns)] if event["model"] == name for ms in event["blocks_ms"])
        assert told == (whole.timings[name].blocks_ms if name in whole.timings else ())


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


def test_several_paces_come_from_one_process_in_which_only_the_first_is_cold():
    both = Recorded(lambda names: [*paced([1.0] * 8)(names), *paced([2.0] * 3, BUSY, 200.0)(names)])
    short, hop = time_paces(b"model", both, [(50.0, 8), (200.0, 3)])
    (job,) = both.jobs
    first, second = job["tasks"]
    assert [(task["task"], task["gap_ms"], task["calls"]) for task in (first, second)] == [
        ("paced", 50.0, 8),
        ("paced", 200.0, 3),
    ]
    assert "cold_calls" not in first and second["cold_calls"] == 2
    assert (short.values_ms, hop.values_ms) == ((1.0,) * 8, (2.0,) * 3)
    assert short.noisy and hop.noisy  # 3 of the 8 readings of that process
    with pytest.raises(MilliwiseError, match="did not tell of every pace"):
        time_paces(b"model", Recorded(paced([1.0] * 8)), [(50.0, 8), (200.0, 3)])
    with pytest.raises(CannotTime, match="out of luck"):
        time_paces(
            b"", Recorded(lambda names: [{"event": "failed", "model": names[0], "reason": "out of luck"}]), [(5.0, 1)]
        )


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
    failure = {"event": "failed", "reason": "out of luck"}
    failed = Recorded(lambda names: [blocks(names[0], 1.0), {**failure, "model": names[1]}])
    with pytest.raises(CannotTime, match="cannot time conv b: out of luck"):
        time_tight({"conv a": b"", "conv b": b""}, failed)
    with pytest.raises(MilliwiseError, match="nothing about conv b"):
        time_tight({"conv a": b"", "conv b": b""}, Recorded(lambda names: [blocks(names[0], 1.0)]))
    with pytest.raises(MilliwiseError, match="nothing about the model"):
        time_paced(b"", Recorded(lambda names: [CALM]), calls=60, processes=1)


def test_real_models_are_timed_on_this_machine():
    local = LocalTarget()
    found = measure_tight({"a": counter(), "b": counter(16)}, local, rounds=3, block_ms=0.3)
    assert all(len(timing.blocks_ms) >= 3 and timing.best_ms > 0 for timing in found.timings.values())
    assert found.finished and not found.failures and len(found.foreign) == len(found.probes_ms)
    one = time_paced(counter(), local, hop_ms=2, calls=60)
    assert [len(process) for process in one.processes] == [30, 30]
    assert min(one.values_ms) > 0
    with pytest.raises(MilliwiseError, match=r"cannot time broken: .*fixed sizes"):
        time_tight({"fine": counter(), "broken": copying([1, "n"])}, local, rounds=2)


def test_a_clock_that_runs_backwards_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "runner.py"
    program.write_text(
        f"import runpy, sys, time\nreal, calls = time.perf_counter, [0]\nsys.argv[0] = {target.RUNNER.as_posix()!r}\n"
        "def perf_counter():\n    calls[0] += 1\n    return real() - (3600 if calls[0] > 40 else 0)\n"
        "time.perf_counter = perf_counter\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    monkeypatch.setattr(target, "RUNNER", program)
    for ask in (lambda: time_tight({"a": counter()}, LocalTarget()), lambda: time_paced(counter(), LocalTarget())):
        with pytest.raises(MilliwiseError, match=r"the clock of this device ran backwards by 3[56]\d\d") as error:
            ask()
        assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
