"""How near words sound: phonemes out of IPA, and a distance that puts "bin" nearer to "pin" than "sun"."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.phonemes import (
    CONSONANTS,
    LEAST_DISTANCE,
    PART,
    VOWELS,
    Phonemes,
    distances,
    gap,
    neighbours,
    segments,
    substitution,
)

LETTERS = sorted({*VOWELS, *CONSONANTS})
WORDS = st.lists(st.sampled_from(["p", "b", "s", "t͡ʃ", "a", "ə", "i", "o͡ʊ", "k͡h", "ã", "a5"]), max_size=6).map(tuple)
PAIRS = [("pˈɪn", "bˈɪn", "sˈʌn"), ("nˈo͡ʊ", "nˈaʊ", "ɡɹˈiːn"), ("stˈɒp", "stˈɛp", "lˈɛft"), ("t͡ʃˈɪn", "d͡ʒˈɪn", "mˈɪn")]


@pytest.mark.parametrize(
    ("ipa", "found"),
    [
        ("t͡ʃˈɜːt͡ʃ", ("t͡ʃ", "ɜ", "t͡ʃ")),
        ("həlˈo͡ʊ wˈɜːld", ("h", "ə", "l", "o͡ʊ", "w", "ɜ", "l", "d")),
        ("prʲivʲˈet", ("p", "rʲ", "i", "vʲ", "e", "t")),
        ("k͡hˈa͡i5 tˈə5ŋ", ("k͡h", "a͡i5", "t", "ə5", "ŋ")),
        ("bɔ̃ʒˈuʁ", ("b", "ɔ̃", "ʒ", "u", "ʁ")),
        ("", ()),
        ("ˈ ː5", ()),
    ],
)
def test_segments(ipa: str, found: Phonemes) -> None:
    assert segments(ipa) == found


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters() | st.sampled_from([*LETTERS, "͡", "ː", "ˈ", "̃", "5"]), max_size=20))
def test_any_text_has_phonemes_that_can_be_compared(ipa: str) -> None:
    for segment in segments(ipa):
        assert segment[0] in LETTERS and gap(segment) > 0 and substitution(segment, "p") <= 1.2


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LETTERS), st.sampled_from(LETTERS))
def test_substitution_is_symmetric_and_zero_only_for_the_same(one: str, other: str) -> None:
    assert substitution(one, other) == substitution(other, one)
    assert (substitution(one, other) == 0) == (one == other)
    assert substitution(one, other) <= gap(one) + gap(other) or {one[0], other[0]} & set("ʔhɦəjwɐɥ")


@pytest.mark.parametrize(("word", "near", "far"), PAIRS)
def test_the_nearer_word_is_nearer(word: str, near: str, far: str) -> None:
    one, other = distances(segments(word), [segments(near), segments(far)])
    assert 0 < one < other


def slow(keyword: Phonemes, word: Phonemes) -> float:
    """The weighted edit distance as the definition has it."""

    @functools.cache
    def rest(i: int, j: int) -> float:
        if i == len(keyword) or j == len(word):
            return sum(map(gap, keyword[i:])) + sum(map(gap, word[j:]))
        exchange = substitution(keyword[i], word[j]) + rest(i + 1, j + 1)
        return min(exchange, gap(keyword[i]) + rest(i + 1, j), gap(word[j]) + rest(i, j + 1))

    return rest(0, 0)


@settings(max_examples=150, deadline=None)
@given(WORDS.filter(bool), st.lists(WORDS, min_size=1, max_size=5))
def test_distances_are_those_of_the_definition(keyword: Phonemes, words: list[Phonemes]) -> None:
    for found, word in zip(distances(keyword, words), words, strict=True):
        parts = {word[start:stop] for start in range(len(word) + 1) for stop in range(start, len(word) + 1)}
        assert found == pytest.approx(min(slow(keyword, word), PART + min(slow(keyword, part) for part in parts)))


def test_nothing_is_near_to_nothing() -> None:
    assert distances((), [("a",)]).tolist() == [np.inf] and distances(("a",), []).tolist() == []
    assert neighbours((), [("a", ("a",))], 3) == [] == neighbours(("a",), [], 3)


def test_neighbours_are_near_as_a_whole_or_in_part_and_never_too_near() -> None:
    lexicon = [(word, tuple(word)) for word in ("no", "na", "nobadi", "go", "stap", "lampa", "sekund")]
    found = neighbours(tuple("no"), lexicon, 3)
    assert {word for word, _ in found} >= {"go", "nobadi"} and "no" not in dict(found)
    assert [distance for _, distance in found] == sorted(distance for _, distance in found)
    assert min(distance for _, distance in neighbours(tuple("no"), lexicon, 9)) >= LEAST_DISTANCE
    assert "go" not in dict(neighbours(tuple("no"), lexicon, 9, least=1.01))
