"""Every rule of the decision, worked by hand from Warden's definition."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.metadata import default_decision
from kws_demo.decide import Decider, Decision, Detection, Result, detection, is_keyword
from toolkit.errors import MilliwiseError

LABELS = ["_silence_", "_unknown_", "yes", "no"]


def scores(**chances: float) -> np.ndarray:
    """The chance of a keyword or of unknown; silence has the rest."""
    values = [chances.get("unknown", 0.0), chances.get("yes", 0.0), chances.get("no", 0.0)]
    return np.array([1 - sum(values), *values], np.float32)


def feed(decider: Decider, start_ms: float, hop_ms: float, *steps: np.ndarray) -> list[Result]:
    return [decider.update(start_ms + hop_ms * count, step) for count, step in enumerate(steps)]


def test_too_few_scores_say_the_last_label_and_zero() -> None:
    results = feed(Decider(LABELS, 200), 0, 200, *[scores(yes=1)] * 3)
    assert results == [("_silence_", 0.0, False), ("_silence_", 0.0, False), ("yes", 1.0, True)]


def test_a_quarter_of_the_average_must_have_passed() -> None:
    decider = Decider(LABELS, 25, Decision(minimum_count=3))
    results = feed(decider, 0, 25, *[scores(yes=1)] * 6)
    # 25, 50, 75, 100 ms are under 500 / 4; 125 ms is not.
    assert [result.is_new for result in results] == [False, False, False, False, False, True]


def test_scores_older_than_the_average_are_dropped_and_one_just_as_old_is_kept() -> None:
    decider = Decider(LABELS, 250)
    results = feed(decider, 0, 250, scores(yes=1), scores(), scores(), scores())
    assert results[2] == ("_silence_", pytest.approx(2 / 3), False)  # 0, 250 and 500: 0 is not before 500 - 500
    assert results[3].score == 1.0  # 250, 500 and 750


def test_the_mean_has_to_exceed_the_threshold() -> None:
    at = feed(Decider(LABELS, 200, Decision(threshold=0.75)), 0, 200, *[scores(yes=0.75)] * 3)
    above = feed(
        Decider(LABELS, 200, Decision(threshold=0.7)), 0, 200, scores(yes=0.3), scores(yes=0.95), scores(yes=0.95)
    )
    assert at[2] == ("yes", 0.75, False)
    assert above[2] == ("yes", pytest.approx(2.2 / 3), True)


def test_the_same_word_is_new_once_until_another_result_is() -> None:
    decider = Decider(LABELS, 200)
    assert [result.is_new for result in feed(decider, 0, 200, *[scores(yes=1)] * 20)] == [False, False, True] + [
        False
    ] * 17


def test_suppression_must_have_passed_entirely() -> None:
    decider = Decider(LABELS, 100, Decision(average_ms=200, minimum_count=1, suppression_ms=1000))
    assert feed(decider, 0, 100, scores(yes=1), scores(yes=1))[1].is_new  # remembered at 100 ms
    late = feed(decider, 900, 100, scores(no=1), scores(no=1), scores(no=1), scores(no=1))
    # The queue is alone at 900 ms (0 < 200 / 4); since: 1000 - 100 = 900, 1100 - 100 = 1000, which is not more.
    assert [result.is_new for result in late] == [False, False, False, True]


def test_after_silence_a_word_is_not_suppressed() -> None:
    decider = Decider(LABELS, 100, Decision(average_ms=200, minimum_count=1, suppression_ms=1000))
    feed(decider, 0, 100, scores(yes=1), scores(yes=1))  # yes, remembered at 100 ms
    quiet = feed(decider, 1100, 100, scores(), scores())
    assert quiet[1] == ("_silence_", 1.0, True)  # since 1100 ms
    assert feed(decider, 1500, 100, scores(yes=1), scores(yes=1))[1] == ("yes", 1.0, True)  # 400 ms after


def test_an_unknown_word_is_found_and_suppresses_but_is_not_told() -> None:
    decider = Decider(LABELS, 200)
    told = [decider.push(200.0 * count, scores(unknown=1)) for count in range(3)]
    told += [decider.push(600 + 200.0 * count, scores(yes=1)) for count in range(8)]
    # Unknown is remembered at 400 ms; yes is allowed when more than 1500 ms have passed, at 2000 ms.
    assert told[:10] == [None] * 10
    assert told[10] == Detection("yes", 2.0, 1.0)


def test_what_a_user_is_told() -> None:
    assert detection(-200, Result("yes", 0.9, True)) == Detection("yes", -0.2, 0.9)
    assert detection(0, Result("yes", 0.9, False)) is None
    assert detection(0, Result("_silence_", 0.9, True)) is None
    assert [is_keyword(label) for label in LABELS] == [False, False, True, True]


def test_settings_that_find_nothing_are_refused() -> None:
    with pytest.raises(MilliwiseError, match="choose minimum_count <= 3"):
        Decider(LABELS, 200, Decision(minimum_count=4))  # 4 > 500 / 200 + 1
    with pytest.raises(MilliwiseError, match=r"holds one score at a hop of 520 ms; choose average_ms >= 520"):
        Decider(LABELS, 520, Decision(minimum_count=1))
    assert feed(Decider(LABELS, 200, Decision(average_ms=600, minimum_count=4)), 0, 200, *[scores(yes=1)] * 4)[3].is_new


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"average_ms": 0}, {"suppression_ms": -1}, {"minimum_count": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(MilliwiseError, match="decision settings"):
        Decision(**wrong)


@given(st.integers(160, 32_000))
def test_the_default_settings_find_a_word_at_every_hop(hop_samples: int) -> None:
    hop_ms = hop_samples / 16
    decider = Decider(LABELS, hop_ms, Decision(**default_decision(hop_ms)))
    found = [decider.push(count * hop_ms - 1000, scores(yes=1)) for count in range(60)]
    assert [each.keyword for each in found if each] == ["yes"]


def test_reset_forgets_the_last_word() -> None:
    decider = Decider(LABELS, 200)
    first = feed(decider, 0, 200, *[scores(yes=1)] * 3)
    decider.reset()
    assert feed(decider, 0, 200, *[scores(yes=1)] * 3) == first


@given(st.lists(st.sampled_from(["yes", "no", "unknown", "silence"]), max_size=80))
def test_two_words_are_never_nearer_than_the_suppression_unless_silence_was_between(said: list[str]) -> None:
    decider = Decider(LABELS, 200)
    found = [
        (200 * count, result.top)
        for count, word in enumerate(said)
        if (result := decider.update(200 * count, scores(**{word: 1.0}))).is_new
    ]
    for (before_ms, before), (after_ms, after) in pairwise(found):
        assert before != after
        assert before == "_silence_" or after_ms - before_ms > 1500


def test_a_word_has_its_own_threshold_and_the_others_the_one_of_the_settings() -> None:
    def told(thresholds: dict[str, float] | None, **chances: float) -> list[str]:
        decider = Decider(LABELS, 200, Decision(threshold=0.7), thresholds)
        return [result.top for result in feed(decider, 0, 200, *[scores(**chances)] * 3) if result.is_new]

    assert told(None, yes=0.6) == [] and told({"yes": 0.5}, yes=0.6) == ["yes"]
    assert told(None, no=0.8) == ["no"] and told({"no": 0.9}, no=0.8) == []
    assert told({"yes": 0.9}, no=0.8) == ["no"] and told({"yes": 0.1, "no": 0.1}, unknown=0.6) == []


@pytest.mark.parametrize(
    "wrong",
    [{"maybe": 0.5}, {"_unknown_": 0.5}, {"yes": 1.5}, {"yes": float("nan")}, {"yes": True}, {"yes": "0.5"}],
)
def test_thresholds_of_no_keyword_or_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(MilliwiseError, match="threshold of") as error:
        Decider(LABELS, 200, thresholds=wrong)
    assert str(error.value).isprintable()


@given(st.lists(st.sampled_from(["yes", "no", "unknown", "silence"]), max_size=60), st.floats(0.3, 1))
def test_the_same_threshold_for_every_word_changes_nothing(said: list[str], chance: float) -> None:
    steps = [scores(**{word: chance}) for word in said]
    plain, listed = Decider(LABELS, 200), Decider(LABELS, 200, thresholds={"yes": 0.7, "no": 0.7})
    assert feed(plain, 0, 200, *steps) == feed(listed, 0, 200, *steps)
