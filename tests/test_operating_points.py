"""Operating points: the decider and the matching of `milliwise score` are the oracles, and small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kws_demo import score
from kws_demo.decide import Decider, Decision
from kws_demo.labels import Truth
from kws_demo.operating_points import (
    Sweep,
    at_false_alarms,
    cost_by_share,
    joined,
    missed_more,
    misses_and_alarms,
    own_fronts,
    pareto_front,
    pareto_point,
    spent_ms,
    tracked,
)
from kws_demo.track import Track
from toolkit.errors import MilliwiseError
from toolkit.strategies.sanas import hop_costs

LABELS = ["_silence_", "_unknown_", "yes", "no"]
RUNS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.26, 1.0), st.integers(1, 12)), min_size=1, max_size=20)
SETTINGS = st.builds(
    Decision,
    average_ms=st.sampled_from([160, 200, 400, 500, 1000]),
    threshold=st.floats(0.2, 0.9),
    suppression_ms=st.sampled_from([0, 400, 1500]),
    minimum_count=st.integers(1, 2),
)
TRUTHS = st.lists(st.tuples(st.sampled_from(LABELS[1:]), st.integers(0, 20_000), st.booleans()), max_size=8)


def scored(runs: list[tuple[int, float, int]], seed: int = 0) -> np.ndarray:
    """Scores float32 [hops, 4]: for so many hops a label has about this score, and the others share the rest."""
    rows = [np.where(np.arange(4) == label, share, (1 - share) / 3) for label, share, hops in runs for _ in range(hops)]
    noisy = np.array(rows) * np.random.default_rng(seed).uniform(0.7, 1, (len(rows), 4))
    return np.asarray(noisy / noisy.sum(1, keepdims=True), np.float32)


def sweep(missed: list[list[int]], alarms: list[int], hours: float = 1.0) -> Sweep:
    late_ms = np.where(np.array(missed, bool), np.inf, 100.0).reshape(len(alarms), -1)
    return Sweep(np.linspace(0.5, 1, len(alarms)), late_ms, np.array(alarms), hours)


@settings(max_examples=100, deadline=None)
@given(RUNS, st.sampled_from([20, 40, 100.5, 200]), SETTINGS, TRUTHS, st.lists(st.floats(0.2, 1), min_size=1))
def test_every_threshold_gives_what_a_decider_and_the_scores_of_it_give(
    runs: list[tuple[int, float, int]],
    hop_ms: float,
    decision: Decision,
    words: list[tuple[str, int, bool]],
    thresholds: list[float],
) -> None:
    assume(hop_ms <= decision.average_ms)
    scores = scored(runs)
    truths = sorted((Truth(word, start, start + 600 if ends else None) for word, start, ends in words), key=_start)
    found = misses_and_alarms(scores, truths, LABELS, hop_ms, decision, thresholds, 750, 1000)
    said = score.keyword_truths(truths)
    assert found.hours == score.free_ms(said, 750, len(scores) * hop_ms) / 3_600_000
    for row, threshold in enumerate(thresholds):
        decider = Decider(LABELS, hop_ms, decision, {"yes": threshold, "no": threshold})
        starts_ms = [(hop + 1) * hop_ms - 1000 for hop in range(len(scores))]
        told = [decider.push(start, each) for start, each in zip(starts_ms, scores, strict=True)]
        heard = [score.Found(each.keyword, start) for start, each in zip(starts_ms, told, strict=True) if each]
        pairs = score.nearest_pairs(heard, said, 750)
        assert np.flatnonzero(~found.missed[row]).tolist() == sorted(pairs.values())
        assert found.alarms[row] == len(score.false_alarms(heard, said, 750))
        late_ms = found.late_ms[row][np.isfinite(found.late_ms[row])]
        expected, count = score.delay_ms(heard, said, pairs, 1000)
        assert len(late_ms) == count and (not count or np.median(late_ms) == pytest.approx(expected))


@settings(max_examples=100, deadline=None)
@given(RUNS, st.sampled_from([20, 40, 100.5, 200]), SETTINGS)
def test_all_hops_at_once_are_decided_as_one_after_the_other(
    runs: list[tuple[int, float, int]], hop_ms: float, decision: Decision
) -> None:
    assume(hop_ms <= decision.average_ms)  # else nothing is ever found
    scores, thresholds = scored(runs), np.linspace(0.5, 0.9, 9)[:, None].repeat(2, 1)
    decider, track = Decider(LABELS, hop_ms, decision), Track(LABELS, decision, 0.5)
    for hop, each in enumerate(scores):
        track.add((hop + 1) * hop_ms - 1000, decider.update((hop + 1) * hop_ms - 1000, each))
    found = tracked(scores, LABELS, hop_ms, decision, 0.5, 1000)
    one, other = ([(*told[:2], told[2].tolist()) for told in each.announcements(thresholds)] for each in (found, track))
    assert one == other


def _start(truth: Truth) -> float:
    return truth.start_ms


def test_a_word_a_miss_and_a_false_alarm_by_hand() -> None:
    scores = scored([(0, 0.99, 20), (2, 0.9, 6), (0, 0.99, 30), (3, 0.6, 6), (0, 0.99, 20)])
    truths = [Truth("yes", 3400, 4000), Truth("no", 15_000)]  # hop 20 ends at 4.2 s: its window begins at 3.2 s
    found = misses_and_alarms(scores, truths, LABELS, 200, Decision(), [0.4, 0.7, 0.95])
    assert found.missed.tolist() == [[False, True], [False, True], [True, True]]
    assert found.alarms.tolist() == [1, 0, 0]  # "no" is likelier than 0.4, and was not said there
    assert found.late_ms[1, 0] in (600, 800)  # after two or three hops of "yes"
    assert found.hours == pytest.approx((82 * 200 - 1500 - 1500) / 3_600_000)


def test_settings_and_thresholds_that_find_nothing_are_refused() -> None:
    scores = scored([(0, 0.9, 10)])
    with pytest.raises(MilliwiseError, match="minimum_count"):
        misses_and_alarms(scores, [], LABELS, 200, Decision(minimum_count=9), [0.5])
    for thresholds in ([], [1.1], [float("nan")]):
        with pytest.raises(MilliwiseError, match="from 0 to 1"):
            misses_and_alarms(scores, [], LABELS, 200, Decision(), thresholds)
    nothing = misses_and_alarms(scores[:0], [], LABELS, 200, Decision(), [0.5])
    assert nothing.hours == 0 and nothing.alarms.tolist() == [0]


def test_a_hop_costs_what_its_mode_does_after_the_one_before() -> None:
    costs_ms = np.array([[1.0, 5.0], [1.0, 3.0]])
    modes = np.array([1, 1, 0, 1])
    assert spent_ms(modes, costs_ms).tolist() == [5, 3, 1, 5]
    assert spent_ms(modes, costs_ms, 0.5).sum() == 16 and spent_ms(modes[:0], costs_ms).sum() == 0
    assert spent_ms(modes, costs_ms, np.arange(4)).tolist() == [5, 4, 3, 8]
    drawn = np.random.default_rng(0).integers(0, 2, 100)
    trained = hop_costs(torch.from_numpy(costs_ms), torch.from_numpy(drawn)[None])[0]
    assert spent_ms(drawn, costs_ms).tolist() == trained.tolist()


def test_the_threshold_is_the_best_of_those_with_few_enough_false_alarms() -> None:
    tried = sweep([[0, 0], [0, 1], [0, 1], [1, 1]], [9, 3, 2, 0], hours=2)
    assert [at_false_alarms(tried, rate) for rate in (5, 4.4, 1.5, 1.0, 0.5)] == [0, 1, 1, 2, 3]
    assert at_false_alarms(sweep([[0], [1]], [0, 0]), 0.5) == 0
    with pytest.raises(MilliwiseError, match="3 false alarms or more in 2 h"):
        at_false_alarms(sweep([[0], [0]], [4, 3], hours=2), 0.5)
    with pytest.raises(MilliwiseError, match="longer streams"):
        at_false_alarms(sweep([[0]], [0], hours=0), 0.5)


def test_streams_are_joined_word_by_word_and_hour_by_hour() -> None:
    both = joined([sweep([[0], [1]], [3, 1]), sweep([[], []], [2, 0], hours=0.5), sweep([[1, 0], [1, 1]], [0, 0])])
    assert both.missed.tolist() == [[False, True, False], [True, True, True]]
    assert both.alarms.tolist() == [5, 1] and both.hours == 2.5
    with pytest.raises(MilliwiseError, match="same thresholds"):
        joined([sweep([[0], [1]], [3, 1]), sweep([[0]], [3])])
    with pytest.raises(MilliwiseError, match="0 sweeps"):
        joined([])


def test_a_point_has_its_costs_misses_alarms_modes_and_delay() -> None:
    tried = sweep([[0, 0, 0, 1], [1, 0, 1, 1]], [4, 1], hours=2)
    tried.late_ms[0, 0], tried.late_ms[0, 1] = np.nan, 300
    speakers, rng = ["a", "a", "b", "b"], np.random.default_rng(0)
    told = pareto_point(
        "ours", 0.5, tried, 0, ["off", "deep", "off", "off"], np.array([1, 4, 1, 1]), 200, speakers, rng
    )
    assert (told.misses, told.ms_per_second, told.false_alarms_per_hour) == (0.25, 8.75, 2.0)
    assert told.misses_low == 0 and told.misses_high == 0.5  # one speaker or the other, twice
    assert told.modes == {"off": 0.75, "deep": 0.25} and told.threshold == 0.5
    assert told.delay_ms == 200  # of the two whose end is known: 300 and 100
    assert told.false_alarms_low < 2 < told.false_alarms_high and told.facts()["name"] == "ours"
    with pytest.raises(MilliwiseError, match="speaker of each"):
        pareto_point("ours", 0.5, tried, 0, ["off"], np.ones(1), 200, ["a"], rng)


def test_the_difference_to_a_reference_is_of_the_same_words() -> None:
    rng = np.random.default_rng(0)
    speakers = [str(number // 10) for number in range(200)]
    hard = rng.random(200) < 0.3  # missed by both: does not widen the interval
    ours = hard.copy()
    ours[np.flatnonzero(~hard)[:2]] = True
    difference, low, high = missed_more(ours, hard, speakers, rng)
    assert difference == pytest.approx(0.01) and 0 <= low < 0.01 < high < 0.04
    assert missed_more(hard, hard, speakers, rng) == (0, 0, 0)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=12))
def test_the_front_are_the_points_that_no_other_beats(places: list[tuple[int, int]]) -> None:
    def of(each: tuple[int, int]) -> tuple[float, float]:
        return each

    def beaten(ms: int, misses: int) -> bool:
        return any(a <= ms and b <= misses and (a, b) != (ms, misses) for a, b in places)

    assert pareto_front(places, of) == sorted({each for each in places if not beaten(*each)})


def test_a_policy_has_a_front_of_its_own() -> None:
    points = [("ours", 3, 0.1), ("gate", 5, 0.2), ("gate", 2, 0.4), ("ours", 4, 0.1), ("gate", 6, 0.3)]
    rows = [{"name": name, "ms_per_second": ms, "misses": misses} for name, ms, misses in points]
    assert own_fronts(rows) == [rows[0], rows[2], rows[1]]


def test_cost_by_share_is_the_mean_of_each_bin() -> None:
    share, ms = np.array([0, 0.04, 0.55, 0.99, 1.0]), np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    rows = cost_by_share(share, ms, ["a", "b", "a", "a", "b"], np.random.default_rng(0))
    assert [(row["from"], row["to"], row["hops"], row["ms"]) for row in rows] == [
        (0, 0.1, 2, 2),
        (0.5, 0.6, 1, 5),
        (0.9, 1, 2, 8),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (1, 3) and rows[1]["low"] is None
