"""Deciding again what was scored once: the real decider is the oracle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.decide import Decider, Decision, detection
from kws_demo.track import Track

LABELS = ["_silence_", "_unknown_", "yes", "no"]
Run = tuple[int, float, int]
RUNS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.26, 1.0), st.integers(1, 12)), max_size=30)
SETTINGS = st.builds(
    Decision,
    average_ms=st.sampled_from([200, 400, 500, 1000]),
    threshold=st.floats(0.2, 0.9),
    suppression_ms=st.sampled_from([0, 400, 1500]),
    minimum_count=st.integers(1, 2),
)


def scored(runs: list[Run]) -> np.ndarray:
    """Scores float32 [hops, 4]: for so many hops a label has this score, and the others share the rest."""
    rows = [np.where(np.arange(4) == label, score, (1 - score) / 3) for label, score, hops in runs for _ in range(hops)]
    return np.array(rows, np.float32).reshape(-1, 4)


def tracked(scores: np.ndarray, hop_ms: float, decision: Decision, lowest: float = 0.0) -> Track:
    decider, track = Decider(LABELS, hop_ms, decision), Track(LABELS, decision, lowest)
    for hop, row in enumerate(scores):
        track.add(hop * hop_ms - 1000, decider.update(hop * hop_ms - 1000, row))
    return track


def announced(
    scores: np.ndarray, hop_ms: float, decision: Decision, thresholds: list[float]
) -> list[tuple[float, str]]:
    decider = Decider(LABELS, hop_ms, decision, dict(zip(LABELS[2:], thresholds, strict=True)))
    starts_ms = [hop * hop_ms - 1000 for hop in range(len(scores))]
    found = [detection(start, decider.update(start, row)) for start, row in zip(starts_ms, scores, strict=True)]
    return [(start, each.keyword) for start, each in zip(starts_ms, found, strict=True) if each]


@settings(max_examples=150)
@given(RUNS, st.sampled_from([20, 40, 100.5, 200]), SETTINGS, st.lists(st.tuples(*[st.floats(0.3, 1)] * 2), min_size=1))
def test_every_row_announces_what_a_decider_with_its_thresholds_does(
    runs: list[Run], hop_ms: float, decision: Decision, rows: list[tuple[float, float]]
) -> None:
    scores, thresholds = scored(runs), np.array(rows)
    track = tracked(scores, hop_ms, decision, lowest=0.3)
    told: list[list[tuple[float, str]]] = [[] for _ in rows]
    for start_ms, label, new in track.announcements(thresholds):
        for row in np.flatnonzero(new):
            told[row].append((start_ms, LABELS[label]))
    expected = [announced(scores, hop_ms, decision, list(row)) for row in rows]
    assert told == expected
    counts = [[sum(word == label for _, word in each) for label in LABELS[2:]] for each in expected]
    assert track.counts(thresholds).tolist() == counts


def test_the_oracle_hears_words_at_all_and_they_suppress_each_other() -> None:
    scores = scored([(0, 0.9, 20), (2, 0.95, 3), (3, 0.95, 3), (0, 0.95, 20), (3, 0.8, 8), (0, 0.9, 10)])
    track = tracked(scores, 200, Decision())
    # The first "no" comes within the suppression of "yes", unless nobody asks for "yes".
    assert track.counts(np.array([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [0.5, 0.9]])).tolist() == [
        [1, 1],
        [0, 2],
        [1, 0],
        [1, 0],
    ]


def test_only_what_may_be_new_is_kept() -> None:
    scores = scored([(2, 0.4, 500), (0, 0.6, 500), (0, 0.9, 10)])
    assert len(tracked(scores, 200, Decision(), lowest=0.5)) < 15
    assert len(tracked(scores, 200, Decision(), lowest=0.3)) > 490
