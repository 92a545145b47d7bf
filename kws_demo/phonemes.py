"""How near two words sound: phonemes out of IPA, a weighted edit distance, and the nearest of many words."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Phonemes = tuple[str, ...]

TIE = "͡"
# Height (0 open to 3 close), backness (0 front to 2 back) and rounding of the vowels of the IPA chart.
VOWELS: dict[str, tuple[float, float, float]] = {
    **{"i": (3, 0, 0), "y": (3, 0, 1), "ɨ": (3, 1, 0), "ʉ": (3, 1, 1), "ɯ": (3, 2, 0), "u": (3, 2, 1)},
    **{"ɪ": (2.5, 0.3, 0), "ʏ": (2.5, 0.3, 1), "ʊ": (2.5, 1.7, 1), "ᵻ": (2.5, 0.8, 0)},
    **{"e": (2, 0, 0), "ø": (2, 0, 1), "ɘ": (2, 1, 0), "ɵ": (2, 1, 1), "ɤ": (2, 2, 0), "o": (2, 2, 1)},
    **{"ə": (1.5, 1, 0), "ɚ": (1.5, 1, 0), "ɛ": (1, 0, 0), "œ": (1, 0, 1), "ɜ": (1, 1, 0), "ɝ": (1, 1, 0)},
    **{"ɞ": (1, 1, 1), "ʌ": (1, 1.7, 0), "ɔ": (1, 2, 1), "æ": (0.5, 0, 0), "ɐ": (0.5, 1, 0)},
    **{"a": (0, 0.5, 0), "ɶ": (0, 0, 1), "ɑ": (0, 2, 0), "ɒ": (0, 2, 1)},
}
# The consonants by manner; then by place (bilabial, labiodental, dental, alveolar, postalveolar or retroflex, palatal,
# velar, uvular, throat), voiceless before voiced, "." where there is none.
_CHART = {
    "stop": "pb .. .. td ʈɖ cɟ kɡ qɢ ʔ.",
    "nasal": ".m .ɱ .. .n .ɳ .ɲ .ŋ .ɴ ..",
    "fricative": "ɸβ fv θð sz ʃʒ çʝ xɣ χʁ hɦ",
    "fricative 2": ".. .. .. ɬɮ ʂʐ ɕʑ .. ħʕ ʜʢ",
    "liquid": ".ʙ .. .. .r .ɽ .ʎ .ʟ .ʀ ..",
    "liquid 2": ".. .. .. .l .ɭ .. .ɫ .. ..",
    "liquid 3": ".. .. .. .ɹ .ɻ .. .. .. ..",
    "liquid 4": ".. .. .. .ɾ .ɺ .. .. .. ..",
    "glide": ".w .ʋ .. .. .. .j .ɰ .. ..",
    "glide 2": "ʍ. .. .. .. .. .ɥ .. .. ..",
}
CONSONANTS: dict[str, tuple[str, int, int]] = {
    letter: (manner.split()[0], place, voiced)
    for manner, row in _CHART.items()
    for place, pair in enumerate(row.split())
    for voiced, letter in enumerate(pair)
    if letter != "."
} | {"g": ("stop", 6, 1)}
GLIDE_OF = {"j": "i", "w": "u", "ɥ": "y", "ɰ": "ɯ", "ʋ": "u"}
WEAK = frozenset("ʔhɦəjwɐɥ")  # said or not: hardly heard
MARKS, VOICING, SAME_MANNER, SAME_PLACE, OTHER_CONSONANT, OTHER_KIND = 0.2, 0.4, 0.6, 0.6, 1.0, 1.2
WEAK_GAP, CONSONANT_GAP, VOWEL_GAP = 0.5, 0.8, 0.9
PART = 0.5  # added for a word that only has a part like the keyword
LEAST_DISTANCE = 0.35  # below it two words differ by marks or by a neighbouring vowel: espeak-ng says them nearly alike


@lru_cache(maxsize=100_000)
def segments(ipa: str) -> Phonemes:
    """The phonemes of a word in IPA, without stress, length and pauses: "tʃˈɜːtʃ" with ties is ("t͡ʃ", "ɜ", "t͡ʃ").

    Diacritics and tones stay with their letter; tied letters are one phoneme.
    """
    found: list[str] = []
    for letter in ipa:
        if letter in VOWELS or letter in CONSONANTS:
            if found and found[-1].endswith(TIE):
                found[-1] += letter
            else:
                found.append(letter)
        elif found and _is_mark(letter):
            found[-1] += letter
    return tuple(segment.strip(TIE) for segment in found)


def is_vowel(segment: str) -> bool:
    """Whether a phoneme begins with a vowel (a diphthong does)."""
    return segment[:1] in VOWELS


@lru_cache(maxsize=100_000)
def substitution(one: str, other: str) -> float:
    """How far a phoneme is from another: 0 for the same, about 0.4 for a voiced and its unvoiced, 1.2 at most."""
    if one == other:
        return 0.0
    left, right = ([letter for letter in segment if not _is_mark(letter)] for segment in (one, other))
    if left == right:
        return MARKS
    return max(MARKS, (_letters(left[0], right[0]) + _letters(left[-1], right[-1])) / 2)


def gap(segment: str) -> float:
    """What a phoneme costs that only one of the words has."""
    if segment[0] in WEAK:
        return WEAK_GAP
    return VOWEL_GAP if is_vowel(segment) else CONSONANT_GAP


def distances(keyword: Phonemes, words: Sequence[Phonemes]) -> np.ndarray:
    """How far words sound from a keyword, float64 [words]: substitutions, and phonemes more or less, summed up.

    A word of which only a part sounds like the keyword ("nobody" for "no") is as far as that part is, and 0.5.
    """
    if not words or not keyword:
        return np.full(len(words), np.inf)
    return np.minimum(_edits(keyword, words, anywhere=False), PART + _edits(keyword, words, anywhere=True))


def neighbours(
    keyword: Phonemes, lexicon: Sequence[tuple[str, Phonemes]], count: int, least: float = LEAST_DISTANCE
) -> list[tuple[str, float]]:
    """The words of a lexicon that sound nearest to a keyword, with their distances, nearest first; none below `least`.

    Half of them are near as a whole, the others contain the keyword or something like it.
    """
    words = [sequence for _, sequence in lexicon]
    near = distances(keyword, words)
    whole = _edits(keyword, words, anywhere=False) if words and keyword else near
    allowed = [index for index in range(len(lexicon)) if near[index] >= least and np.isfinite(near[index])]
    first = sorted(allowed, key=lambda index: (whole[index], index))[: (count + 1) // 2]
    taken = set(first)
    others = sorted((index for index in allowed if index not in taken), key=lambda index: (near[index], index))
    chosen = sorted([*first, *others[: count - len(first)]], key=lambda index: (near[index], index))
    return [(lexicon[index][0], float(near[index])) for index in chosen]


def _edits(keyword: Phonemes, words: Sequence[Phonemes], anywhere: bool) -> np.ndarray:
    """The weighted edit distance of a keyword to each word, or `anywhere` to the part of the word that is nearest."""
    index = {segment: number for number, segment in enumerate({segment: 0 for word in words for segment in word}, 1)}
    lengths = np.array([len(word) for word in words])
    numbers = np.zeros((len(words), max(int(lengths.max()), 1)), np.int64)
    for row, word in enumerate(words):
        numbers[row, : len(word)] = [index[segment] for segment in word]
    gaps = np.array([0.0, *map(gap, index)])[numbers]
    steps = np.zeros_like(gaps) if anywhere else gaps
    costs = np.concatenate([np.zeros((len(words), 1)), np.cumsum(steps, axis=1)], axis=1)
    for segment in keyword:
        exchange = np.array([0.0, *(substitution(segment, other) for other in index)])[numbers]
        new = costs + gap(segment)  # the word lacks this phoneme
        new[:, 1:] = np.minimum(new[:, 1:], costs[:, :-1] + exchange)
        for place in range(gaps.shape[1]):
            new[:, place + 1] = np.minimum(new[:, place + 1], new[:, place] + gaps[:, place])
        costs = new
    if not anywhere:
        return costs[np.arange(len(words)), lengths]
    beyond = np.arange(costs.shape[1]) > lengths[:, None]
    return np.where(beyond, np.inf, costs).min(axis=1)


def _letters(one: str, other: str) -> float:
    if one == other:
        return 0.0
    if GLIDE_OF.get(one) == other or GLIDE_OF.get(other) == one:
        return VOICING
    if one in VOWELS and other in VOWELS:
        (high, back, rounded), (high2, back2, rounded2) = VOWELS[one], VOWELS[other]
        apart = 0.2 * (abs(high - high2) + abs(back - back2)) + 0.1 * abs(rounded - rounded2)
        return min(0.9, max(MARKS, apart))
    if one in CONSONANTS and other in CONSONANTS:
        (manner, place, voiced), (manner2, place2, voiced2) = CONSONANTS[one], CONSONANTS[other]
        if manner == manner2:
            return VOICING if place == place2 else min(OTHER_CONSONANT, SAME_MANNER + 0.2 * (voiced != voiced2))
        return SAME_PLACE if place == place2 and voiced == voiced2 else OTHER_CONSONANT
    return OTHER_KIND


def _is_mark(letter: str) -> bool:
    """Whether a character modifies the letter before it: a diacritic, a small letter, a tone; length does not count."""
    return letter not in "ˈˌːˑ" and (unicodedata.category(letter) in ("Mn", "Lm", "Sk") or letter.isdigit())
