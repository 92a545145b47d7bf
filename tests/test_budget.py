"""Budgets: the forms of the contract, their units, and junk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.budget import STATISTICS, Budget, show
from toolkit.errors import MilliwiseError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 ms", ("latency_ms", 2.0, "p95", 1)),
        ("2ms", ("latency_ms", 2.0, "p95", 1)),
        ("2 ms p50", ("latency_ms", 2.0, "p50", 1)),
        ("1.5 ms p99", ("latency_ms", 1.5, "p99", 1)),
        (".5 s", ("latency_ms", 500.0, "p95", 1)),
        ("250 us", ("latency_ms", 0.25, "p95", 1)),
        ("250 µs", ("latency_ms", 0.25, "p95", 1)),
        ("500 kB", ("memory_bytes", 500_000.0, "", 1)),
        ("2 MB", ("memory_bytes", 2_000_000.0, "", 1)),
        ("40 MFLOPs", ("multiply_adds", 40e6, "", 1)),
        ("1 ms mean", ("latency_ms", 1.0, "mean", 1)),
        ("40 MFLOPs mean", ("multiply_adds", 40e6, "mean", 1)),
        ("300 kparams", ("parameters", 300e3, "", 1)),
        ("8 steps", ("steps", 8.0, "", 1)),
        ("8 steps@4", ("steps", 8.0, "", 4)),
        ("5 ms@2", ("makespan_ms", 5.0, "", 2)),
        ("5ms@1", ("makespan_ms", 5.0, "", 1)),
        ("750 us@16", ("makespan_ms", 0.75, "", 16)),
    ],
)
def test_what_the_contract_lists(text: str, expected: tuple[str, float, str, int]) -> None:
    budget = Budget.parse(text)
    assert (budget.metric, budget.statistic, budget.workers) == (expected[0], *expected[2:])
    assert budget.limit == pytest.approx(expected[1])
    assert str(budget) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2", "no unit"),
        ("", "cannot read"),
        ("ms", "cannot read"),
        ("two ms", "cannot read"),
        ("-2 ms", "cannot read"),
        ("nan ms", "cannot read"),
        ("1e3 ms", "cannot read|unknown unit"),
        ("2 ms 3 kB", "cannot read"),
        ("0 ms", "not above zero"),
        ("0.0 kB", "not above zero"),
        ("9" * 400 + " ms", "not above zero"),
        ("2 hours", "'hours'"),
        ("2 ms p42", "p42"),
        ("500 kB p95", "only milliseconds"),
        ("500 kB mean", "only milliseconds"),
        ("40 MFLOPs p95", "only milliseconds take p50, p95 or p99, they and FLOPs mean"),
        ("1 ms average", "cannot read"),
        ("8 steps@0", "at least @1"),
        ("5 ms@0", "at least @1"),
        ("500 kB@2", "only steps and milliseconds"),
        ("5 ms@2 p95", "asks for p95, but networks on several workers are run back to back"),
        ("5 ms@2 mean", "asks for mean"),
        ("5 ms p95@2", "cannot read"),
        ("5 ms@17", "17 workers: at most 16"),
        ("0 ms@2", "not above zero"),
    ],
)
def test_what_is_refused_says_why_and_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(MilliwiseError, match=reason) as error:
        Budget.parse(text)
    assert "\n" not in str(error.value)


numbers = st.from_regex(r"[0-9]{1,6}(\.[0-9]{0,6})?|\.[0-9]{1,6}", fullmatch=True)
units = st.sampled_from(
    ["us", "µs", "ms", "s", "B", "kB", "MB", "FLOPs", "MFLOPs", "GFLOPs", "params", "kparams", "steps", "hours", "x"]
)
ends = st.sampled_from(["", " p50", " p95", " p99", " mean", " p1", "@1", "@12", "@0", "@2 p95", "@99", " "])
nearly = st.tuples(numbers, st.sampled_from(["", " ", "\t "]), units, ends).map("".join)


@given(st.text(max_size=40) | nearly)
def test_any_text_is_a_budget_or_bad_input(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except MilliwiseError as error:
        assert str(error)
    else:
        assert Budget.parse(str(budget)) == budget
        assert budget.limit > 0 and budget.workers >= 1
        allowed = {"latency_ms": (*STATISTICS, "mean"), "multiply_adds": ("", "mean")}
        assert budget.statistic in allowed.get(budget.metric, ("",))
        assert budget.workers == 1 or budget.metric in ("steps", "makespan_ms")
        assert budget.timed is budget.metric.endswith("_ms")


@given(numbers, st.sampled_from(["us", "ms", "s", "MS"]), st.integers(0, 999))
def test_time_on_workers_is_a_makespan_of_the_same_time(number: str, unit: str, workers: int) -> None:
    """Read twice, with workers and without: an oracle for both, whatever is wrong with the number."""

    def read(text: str) -> Budget | None:
        try:
            return Budget.parse(text)
        except MilliwiseError:
            return None

    alone, shared = read(f"{number} {unit}"), read(f"{number} {unit}@{workers}")
    if alone is None or not 1 <= workers <= 16:
        assert shared is None
    else:
        assert shared is not None and (shared.limit, shared.workers) == (alone.limit, workers)
        assert (shared.metric, shared.statistic) == ("makespan_ms", "")


@given(nearly)
def test_the_case_of_a_unit_does_not_matter(text: str) -> None:
    def limit(text: str) -> float | None:
        try:
            return Budget.parse(text).limit
        except MilliwiseError:
            return None

    number = "".join(letter for letter in text if not letter.isalpha())
    assert limit(text.replace("FLOPs", "flops").replace("kB", "KB")) == limit(text), number


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("latency_ms", 0.4123, "0.412 ms"),
        ("memory_bytes", 81_300, "81.3 kB"),
        ("memory_bytes", 12, "12 B"),
        ("multiply_adds", 40e6, "40 MFLOPs"),
        ("parameters", 0, "0 params"),
        ("steps", 8, "8 steps"),
        ("makespan_ms", 1.2345, "1.23 ms"),
    ],
)
def test_values_are_shown_with_their_unit(metric: str, value: float, text: str) -> None:
    assert show(metric, value) == text
