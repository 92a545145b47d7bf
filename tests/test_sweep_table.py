"""The table of a sweep: intervals that are published elsewhere, means worked by hand, and who wins."""

from __future__ import annotations

import math

import pytest
from markup import drawing, of_class

from kws_demo.drawings.front import fronts
from kws_demo.drawings.picture import to_png
from kws_demo.sweep_row import Row
from kws_demo.sweep_table import seeds_interval, summarise, text

# Student's t, two-sided 95 %, by degrees of freedom, as printed in every book of statistics.
PUBLISHED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("freedom", "expected"), PUBLISHED.items())
def test_the_interval_is_students(freedom: int, expected: float) -> None:
    """Values 0 and 2 in turn, whose mean is 1 if their number is even, and their spread known."""
    count = freedom + 1
    values = [2.0 * (index % 2) for index in range(count)]
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / freedom / count)
    low, high = seeds_interval(values) or (0.0, 0.0)
    assert (mean - low) / spread == pytest.approx(expected, abs=5e-4) == (high - mean) / spread
    assert seeds_interval([1.0]) is None


def row(strategy: str, budget: str, seed: int, cost: float, validation: float, test: float, **changed: object) -> Row:
    known = {"space": "fabric", "penalty": None, "budget_kept": True, "validation_error": 0.02, "test_error": 0.02}
    known |= {"clips": 400, "labels": 10, "seconds": 60.0}
    given = {"point": f"{strategy}{budget}{seed}", "strategy": strategy, "budget": budget, "seed": seed}
    return Row(**{**known, **given, "cost": cost, "validation": validation, "test": test, **changed})  # type: ignore[arg-type]


def test_means_and_fronts_by_hand() -> None:
    rows = [
        *(row("a", "8 FLOPs", seed, cost, 0.6, test) for seed, cost, test in ((0, 6, 0.5), (1, 8, 0.7))),
        *(row("a", "16 FLOPs", seed, 16, 0.5, 0.9) for seed in (0, 1)),  # dearer, and validates worse
        *(row("b", "8 FLOPs", seed, 8, 0.7, 0.6) for seed in (0, 1)),
        *(row("b", "16 FLOPs", seed, 16, 0.9, 0.8) for seed in (0, 1)),
    ]
    found = summarise(rows)
    first = found["table"][0]
    assert (first["cost"], first["test"], first["seeds"], first["kept"]) == (7, pytest.approx(0.6), 2, 2)
    assert (first["test_low"], first["test_high"]) == (0, 1), "0.6 ± 12.7 × 0.1, of which shares are 0 to 1"
    assert [each["front"] for each in found["table"]] == [True, False, True, True]
    best, other = found["strategies"]
    assert (best["name"], other["name"], found["best"], found["clear"]) == ("b", "a", "b", False)
    assert best["hypervolume"] == pytest.approx(0.5 * math.log2(32 / 8) + 0.2 * math.log2(32 / 16))
    of_seeds = 0.4 * math.log2(32 / 6), 0.6 * math.log2(32 / 8)
    assert other["hypervolume"] == pytest.approx(sum(of_seeds) / 2), "what is tested well but validates worse is left"
    assert other["high"] - other["hypervolume"] == pytest.approx(12.706 * abs(of_seeds[1] - of_seeds[0]) / 2, rel=1e-4)
    assert other["seconds"] == 120 and found["reference"] == {"cost": 32, "accuracy": 0.1}


def test_one_seed_has_the_interval_of_what_was_tested() -> None:
    """Wilson's interval of 380 of 400, as its formula gives it: 0.924 to 0.967."""
    (found,) = summarise([row("a", "8 FLOPs", 0, 8, 0.9, 0.95)])["table"]
    assert found["interval"] == "one seed: of its 400 test examples"
    assert (found["test_low"], found["test_high"]) == (pytest.approx(0.9240, abs=1e-4), pytest.approx(0.9674, abs=1e-4))
    assert found["validation_low"] == pytest.approx(0.9 - 1.96 * 0.02, abs=1e-4)
    (pixels,) = summarise([row("a", "8 FLOPs", 0, 8, 0.9, 0.95, pixels=True)])["table"]
    assert pixels["test_low"] == pytest.approx(0.95 - 1.96 * 0.02, abs=1e-4), "pixels of an image are much alike"


def test_strategies_are_compared_over_the_same_seeds() -> None:
    failed = Row("a1", "fabric", "a", "8 FLOPs", None, 1, failed="diverged")
    rows = [row("a", "8 FLOPs", 0, 8, 0.5, 0.5), failed, *(row("b", "8 FLOPs", seed, 8, 0.9, 0.9) for seed in (0, 1))]
    found = summarise(rows)
    assert [(each["name"], each["seeds"]) for each in found["strategies"]] == [("b", 1), ("a", 1)]
    told = text(found)
    assert "1, 1 failed" in told and "best: b, though" in told and "t over 2 seeds" in told
    sure = [row(name, "8 FLOPs", seed, 8, right, right) for name, right in (("a", 0.5), ("b", 0.9)) for seed in (0, 1)]
    clear = summarise(sure)
    assert clear["clear"] and text(clear).endswith("best: b")
    more = summarise([*sure, row("a", "16 FLOPs", 0, 8, 0.5, 0.5), row("a", "16 FLOPs", 1, 8, 0.5, 0.5)])
    assert text(more).endswith("best: b; but some had more tries than others (points a seed: b 1, a 2)")
    nothing = summarise([failed])
    assert nothing["best"] is None and "unknown, for of every seed" in text(nothing)


def test_the_text_has_a_line_for_each_place_of_the_grid() -> None:
    rows = [row("a", "8 MFLOPs", seed, 7e6, 0.8, 0.75, penalty=0.1, budget_kept=seed == 0) for seed in (0, 1)]
    head, line, *_rest = text(summarise(rows)).splitlines()
    assert head.split() == [
        "space",
        "strategy",
        "budget",
        "λ",
        "cost",
        "validation",
        "%",
        "test",
        "%",
        "seconds",
        "seeds",
    ]
    assert "7 MFLOPs" in line and "75.0 (75.0 to 75.0)" in line and line.endswith("2, 1 over the budget")
    away = row("a", "8 ms", 0, 7.0, 0.8, 0.75, budget_kept=None)
    assert text(summarise([away])).splitlines()[1].endswith("1, 1 unmeasured")


def test_any_sweep_can_be_drawn() -> None:
    name = "$x^2 <b>" + "y" * 300
    rows = [row(name, "8 kparams", seed, 7000, 0.8, 0.7 + 0.1 * seed, space=f"s{seed}") for seed in (0, 1)]
    free = [row("a", "8 FLOPs", 0, 0.0, 0.0, 0.0)]
    tiny = [row("a", "8 cost", seed, 10.0 ** (-14 - seed), 0.5, 0.5) for seed in (0, 1)]
    for some in (rows, rows[:1], free, tiny):
        markup = fronts(summarise(some), [each.facts() for each in some])
        assert drawing(markup).tag == "svg" and to_png(str(markup)).startswith(b"\x89PNG")
    failed = [Row("a1", "fabric", "a", "8 FLOPs", None, 1, failed="x")]
    assert fronts(summarise(failed), [each.facts() for each in failed]) is None


def test_what_costs_nothing_has_no_halvings() -> None:
    rows = [row("a", "8 cost", 0, 0.0, 0.5, 0.5), row("a", "8 cost", 1, 4.0, 0.5, 0.5)]
    (found,) = summarise(rows)["strategies"]
    assert found["seeds"] == 1 and found["hypervolume"] == pytest.approx(0.4 * 2)
    summary = summarise(rows[:1])
    assert summary["best"] is None and "unknown, for of every seed a point failed, or costs nothing" in text(summary)


def test_marks_stand_where_their_figures_say() -> None:
    """Costs of 1, 10 and 100 are as far apart from each other; what is off the front is hollow, and no line's end."""
    right = {1: 0.5, 10: 0.9, 100: 0.7}
    rows = [row("a", f"{cost} FLOPs", seed, cost, right[cost], right[cost]) for cost in right for seed in (0, 1)]
    found = drawing(fronts(summarise(rows), [each.facts() for each in rows]))
    marks = [each for each in of_class(found, "series0") if each.tag == "circle" and each.get("r") == "5"]
    places = [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in marks if len(each)]
    (one, ten, hundred) = sorted(places)
    assert ten[0] - one[0] == pytest.approx(hundred[0] - ten[0], abs=0.2)
    assert (one[1] - hundred[1]) == pytest.approx(hundred[1] - ten[1], abs=0.2), "0.5, 0.7 and 0.9"
    (hollow,) = of_class(found, "inner")
    assert (float(hollow.get("cx", "")), float(hollow.get("cy", ""))) == hundred
    (line,) = (each for each in of_class(found, "score") if each.tag == "path")
    assert line.get("d") == f"M{one[0]:g} {one[1]:g}L{ten[0]:g} {ten[1]:g}"
