"""Streaming metrics: worked by hand, against slow readings of the definitions, and as a user runs them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.labels import Truth
from kws_demo.score import (
    Found,
    count_verdicts,
    delay_ms,
    false_alarms,
    free_ms,
    keyword_found,
    keyword_truths,
    nearest_pairs,
    verdicts,
    wake_word,
)

few = settings(max_examples=60)  # of small lists, where every case occurs


def kinds(found: list[Found], truths: list[Truth], tolerance_ms: float = 750) -> list[str]:
    return [verdict.kind for verdict in verdicts(found, truths, tolerance_ms)]


# Warden's matching


def test_the_example_of_tensorflow() -> None:
    truths = [Truth("a", 1000), Truth("b", 9000)]
    given_ = verdicts([Found("a", 1200), Found("b", 5000), Found("a", 8700)], truths, 500)
    assert [verdict.kind for verdict in given_] == ["correct", "false_alarm", "wrong"]
    counted = count_verdicts(given_, truths)
    assert (counted.truths, counted.distinct, counted.correct, counted.wrong, counted.false_alarm) == (2, 2, 1, 1, 1)
    assert counted.shares() == {"matched": 1, "matched_set": 1, "correct": 0.5, "wrong": 0.5, "false_alarm": 0.5}


def test_the_first_word_within_the_tolerance_decides_though_a_later_one_is_nearer_and_agrees() -> None:
    truths = [Truth("no", 1000), Truth("yes", 1700)]
    assert kinds([Found("yes", 1700)], truths) == ["wrong"]  # 700 ms after "no", which decides
    assert kinds([Found("yes", 1751)], truths) == ["correct"]  # 751 ms after it


def test_the_tolerance_itself_is_within() -> None:
    truths = [Truth("yes", 1000)]
    assert kinds([Found("yes", 250)], truths) == kinds([Found("yes", 1750)], truths) == ["correct"]
    assert kinds([Found("yes", 249)], truths) == kinds([Found("yes", 1751)], truths) == ["false_alarm"]


def test_a_word_is_found_correctly_once_and_a_wrong_one_uses_it_up() -> None:
    truths = [Truth("yes", 1000)]
    assert kinds([Found("yes", 900), Found("yes", 1100)], truths) == ["correct", "wrong"]
    assert kinds([Found("no", 900), Found("yes", 1100)], truths) == ["wrong", "wrong"]


def test_both_conventions_of_matched() -> None:
    truths = [Truth("yes", 1000), Truth("no", 5000), Truth("no", 9000)]
    shares = count_verdicts(verdicts([Found("yes", 900), Found("yes", 1100)], truths, 750), truths).shares()
    assert shares["matched"] == pytest.approx(2 / 3)  # correct + wrong
    assert shares["matched_set"] == pytest.approx(1 / 3)  # one word, however often it decided


def test_without_words_there_are_no_shares() -> None:
    shares = count_verdicts(verdicts([Found("yes", 900)], [], 750), []).shares()
    assert set(shares.values()) == {None}


FOUND = st.builds(Found, st.sampled_from(["yes", "no", "_unknown_"]), st.integers(-1000, 12_000))
TRUTH = st.builds(Truth, st.sampled_from(["yes", "no", "_unknown_"]), st.integers(0, 12_000))


def in_time(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, max_size=6).map(lambda each: sorted(each, key=lambda one: one.start_ms))


@few
@given(in_time(FOUND), in_time(TRUTH), st.integers(0, 4000))
def test_the_matching_is_the_definition_read_slowly(
    found: list[Found], truths: list[Truth], tolerance_ms: float
) -> None:
    matched: list[int] = []
    correct = wrong = alarms = 0
    for each in found:
        near = [place for place, truth in enumerate(truths) if abs(truth.start_ms - each.start_ms) <= tolerance_ms]
        if not near:
            alarms += 1
        elif truths[near[0]].word == each.word and near[0] not in matched:
            correct += 1
        else:
            wrong += 1
        matched += near[:1]
    counted = count_verdicts(verdicts(found, truths, tolerance_ms), truths)
    assert (counted.correct, counted.wrong, counted.false_alarm) == (correct, wrong, alarms)
    assert counted.correct + counted.wrong == len(matched) and counted.distinct == len(set(matched))
    assert len(false_alarms(found, truths, tolerance_ms)) == alarms


# What users feel


def test_each_word_has_the_nearest_detection() -> None:
    truths = [Truth("yes", 1000), Truth("yes", 2000), Truth("no", 2100)]
    found = [Found("yes", 1600), Found("yes", 1900), Found("no", 1500)]
    # 1900-2000 is nearest (100), then 1600-1000 and 1500-2100 (600 both).
    assert nearest_pairs(found, truths, 750) == {1: 1, 0: 0, 2: 2}
    assert nearest_pairs(found, truths, 599) == {1: 1}


@few
@given(in_time(FOUND), in_time(TRUTH), st.integers(0, 4000))
def test_pairs_are_joined_nearest_first(found: list[Found], truths: list[Truth], tolerance_ms: float) -> None:
    distance = np.full((len(found), len(truths)), np.inf)
    for place, each in enumerate(found):
        for target, truth in enumerate(truths):
            apart = abs(each.start_ms - truth.start_ms)
            if each.word == truth.word and apart <= tolerance_ms:
                distance[place, target] = apart
    expected = {}
    while distance.size and np.isfinite(distance.min()):
        target, place = np.unravel_index(distance.T.argmin(), distance.T.shape)  # of equals the earlier word
        expected[int(place)] = int(target)
        distance[place, :] = distance[:, target] = np.inf
    assert nearest_pairs(found, truths, tolerance_ms) == expected


def test_unknown_words_are_no_keywords() -> None:
    assert keyword_found([Found("_unknown_", 0), Found("yes", 1)]) == [Found("yes", 1)]
    assert keyword_truths([Truth("_unknown_", 0), Truth("_silence_", 1), Truth("yes", 1)]) == [Truth("yes", 1)]


@few
@given(in_time(TRUTH), st.integers(0, 4000), st.integers(1, 14_000))
def test_the_time_without_keywords_is_what_counting_milliseconds_gives(
    truths: list[Truth], tolerance_ms: int, duration_ms: int
) -> None:
    middles = np.arange(duration_ms) + 0.5
    free = np.ones(duration_ms, bool)
    for truth in truths:
        free &= abs(middles - truth.start_ms) > tolerance_ms
    assert free_ms(truths, tolerance_ms, duration_ms) == free.sum()


def test_the_delay_is_from_the_end_of_the_word_to_its_announcement() -> None:
    found = [Found("yes", 900), Found("yes", 5400), Found("no", 9000)]
    truths = [Truth("yes", 1000, 1600), Truth("yes", 5000, 5800), Truth("no", 9000)]
    assert delay_ms(found, truths, {0: 0, 1: 1, 2: 2}, 1000) == (450, 2)  # 1900 - 1600 and 6400 - 5800
    assert delay_ms(found, truths, {2: 2}, 1000) == (None, 0)


# MLPerf's streaming wake word


def announced(*times_ms: float, word: str = "yes") -> list[Found]:
    return [Found(word, time_ms - 1000) for time_ms in times_ms]


def test_a_word_is_heard_until_a_second_after_its_end() -> None:
    truths = [Truth("yes", 2000, 2500)]
    assert wake_word(announced(2000), truths, 1000) == wake_word(announced(3500), truths, 1000) == (1, 0, 0)
    assert wake_word(announced(1999), truths, 1000) == wake_word(announced(3501), truths, 1000) == (0, 1, 1)
    assert wake_word(announced(2100, 2900, 3400), truths, 1000) == (1, 0, 0)  # all of it is one word
    assert wake_word(announced(4000), [Truth("yes", 2000)], 1000) == (1, 0, 0)  # an unknown end: start + window


def test_false_ones_are_counted_once_a_second() -> None:
    assert wake_word(announced(5000, 5600, 6000, 6400, 7401), [], 1000) == (0, 0, 3)  # 5000, 6400 and 7401
    both = [*announced(5000), *announced(5100, word="no")]
    assert wake_word(both, [], 1000) == (0, 0, 2)  # two wake words


@few
@given(st.lists(st.integers(0, 9000), max_size=12), st.lists(st.integers(0, 9000), max_size=4, unique=True))
def test_the_rule_is_that_of_the_published_runner(times_ms: list[int], starts_ms: list[int]) -> None:
    windows = [(start_ms, start_ms + 600) for start_ms in sorted(starts_ms)]
    left, hits = np.array(sorted(times_ms), float), 0
    for start_ms, stop_ms in windows:
        inside = (left >= start_ms) & (left <= stop_ms + 1000)
        hits += bool(inside.any())
        left = left[~inside]
    place = 0
    while place < len(left):
        left = left[~((left > left[place]) & (left <= left[place] + 1000))]
        left = np.delete(left, np.flatnonzero(left == left[place])[1:])
        place += 1
    truths = [Truth("yes", *window) for window in windows]
    assert wake_word(announced(*times_ms), truths, 1000) == (hits, len(windows) - hits, len(left))
