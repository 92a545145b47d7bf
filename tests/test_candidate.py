"""Which candidate is measured next, in view of how the predictions came true, and which one is best."""

from dataclasses import replace
from pathlib import Path

import pytest
import toy

from kws_demo.candidate import Candidate, load_candidates, next_to_measure, prediction_error, save_candidates
from kws_demo.measure import measure_candidate
from profilers import export, measured_file
from profilers.bundle import BundleTarget
from profilers.check import Check
from toolkit.budget import Budget
from toolkit.strategies import find_strategy


def candidate(accuracy: float, upper_ms: float, measured_ms: float | None = None, parameters: int = 1000) -> Candidate:
    fits = None if measured_ms is None else measured_ms <= 1.0
    return Candidate(["a"], upper_ms * 0.9, upper_ms, accuracy, parameters, measured_upper_ms=measured_ms, fits=fits)


def test_the_most_accurate_is_measured_first() -> None:
    worse, better = candidate(0.7, 0.5), candidate(0.8, 0.9)
    assert next_to_measure([worse, better], 1.0) is better


def test_of_those_about_as_accurate_the_one_of_most_parameters_is_measured_first() -> None:
    best, slow = candidate(0.80, 0.5, parameters=1000), candidate(0.79, 0.9, parameters=1000)
    rich, worse = candidate(0.785, 0.4, parameters=3000), candidate(0.77, 0.4, parameters=9000)
    assert next_to_measure([best, slow, rich, worse], 1.0) is rich


def test_what_is_clearly_better_is_measured_first_though_it_has_fewer_parameters() -> None:
    best, rich = candidate(0.80, 0.5, parameters=1000), candidate(0.79, 0.4, parameters=3000)
    best.accuracy_error = 0.005  # of some six thousand images: 0.01 is more than the error of the difference, 0.007
    assert next_to_measure([best, rich], 1.0) is best
    best.accuracy_error = 0.008
    assert next_to_measure([best, rich], 1.0) is rich


def test_a_miss_lowers_what_is_expected_to_fit() -> None:
    missed = candidate(0.9, 0.9, 1.08)  # 1.2 times its prediction
    near, far = candidate(0.8, 0.9), candidate(0.7, 0.8)
    assert prediction_error([missed, near, far]) == pytest.approx(1.2)
    assert next_to_measure([missed, near, far], 1.0) is far
    assert next_to_measure([missed, near], 1.0) is None


def test_predictions_that_were_too_high_are_not_held_against_anyone() -> None:
    held = candidate(0.9, 0.9, 0.6)
    assert prediction_error([held]) == 1.0 == prediction_error([])
    assert next_to_measure([held, waiting := candidate(0.8, 0.95)], 1.0) is waiting


def test_silence_counts_before_accuracy_and_accuracy_before_speed() -> None:
    base = replace(candidate(0.5, 0.9, 0.8), fine_tuned_accuracy=0.9, silence_heard=True)
    deaf = replace(base, fine_tuned_accuracy=0.95, silence_heard=False)
    faster, sharper = replace(base, measured_upper_ms=0.7), replace(base, fine_tuned_accuracy=0.91)
    order = sorted([sharper, deaf, base, faster], key=lambda each: each.merit())
    assert order == [deaf, base, faster, sharper]


def test_candidates_survive_their_file(tmp_path: Path) -> None:
    known = [candidate(0.9, 0.9, 1.08), candidate(0.8, 0.7)]
    kept, again = (find_strategy("evolution")(toy.pricing(), 1.5, seed) for seed in (0, 1))
    kept.candidates(3)
    save_candidates(tmp_path / "candidates.json", known, kept, measured=True)
    assert load_candidates(tmp_path / "candidates.json", again) == (known, True)
    assert again.candidates(3) == kept.candidates(3), "who proposed them goes on from there"


@pytest.mark.parametrize(
    ("searched", "first", "second", "kept", "attempts"),
    [(True, 1.2, 0.8, True, 2), (True, 1.2, 1.1, False, 2), (True, 0.9, None, True, 1), (None, 1.2, None, False, 1)],
)
def test_a_third_measurement_decides_between_search_and_export(
    monkeypatch: pytest.MonkeyPatch,
    searched: bool | None,
    first: float,
    second: float | None,
    kept: bool,
    attempts: int,
) -> None:
    from toy import network, profile

    from toolkit.budget import Budget
    from toolkit.run import Selected

    uppers = iter([first, second])

    def measured(*_arguments: object, **_options: object) -> Check:
        upper = next(uppers)
        assert upper is not None, "measured once too often"
        return Check(0.5, 0.6, upper, 0.9, upper, 400, 200, "1 ms", upper <= 1.0, False)

    monkeypatch.setattr(measured_file, "check_budget", measured)
    facts = {} if searched is None else {"measured": {"kept": searched}}
    selected = Selected(network(), frozenset(), ("_silence_", "_unknown_", "a"), 200, facts)
    found = export._measured(b"", Budget.parse("1 ms"), selected, profile(), None, 400)
    assert found is not None and (found.kept, found.attempts) == (kept, attempts)
    assert found.first_upper_ms == (first if attempts == 2 else None)


@pytest.mark.parametrize(("upper_ms", "fits"), [(0.9, True), (1.1, False)])
def test_where_a_folder_is_carried_by_hand_the_prediction_decides(tmp_path: Path, upper_ms: float, fits: bool) -> None:
    found, target = candidate(0.8, upper_ms), BundleTarget(tmp_path / "bundle")
    network = toy.network()
    budget, profile = Budget.parse("1 ms"), toy.profile()
    measure_candidate(found, network, (1, 20), budget, toy.pricing(), profile, target, 59, "measuring")
    assert found.fits is fits and found.measured_upper_ms is None and not found.check
