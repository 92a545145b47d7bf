"""Words of a language to speak: the most frequent ones by wordfreq, or words made up of the sounds espeak-ng has."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from kws_demo.espeak import pronounce
from kws_demo.phonemes import is_vowel, segments
from toolkit.errors import MissingExtra

# espeak-ng's name of a language → wordfreq's, where they differ by more than a region.
LISTS = {"cmn": "zh", "yue": "zh", "hr": "sh", "bs": "sh", "sr": "sh"}
FEWEST_SAID = 0.8  # of the English words: a language that reads fewer has letters of its own
COMMON_SOUNDS = [*"pbtdkgmnNszfvShlrjwaeiouEOI@"]  # espeak-ng's mnemonics
STRESS = "',%="


def words(language: str, count: int) -> list[str]:
    """At most `count` words of a language that espeak-ng can say, the most frequent first.

    They come from the lists of wordfreq (data CC BY-SA 4.0). Languages it lacks get English words read by their rules,
    or, where the script differs, words made up of the language's phonemes, "[[...]]".

    Raises:
        MilliwiseError: a language that espeak-ng lacks.
        MissingExtra: wordfreq is not installed.
    """
    return list(_words(language, count))


def made_up(like: Sequence[str], language: str, count: int, rng: np.random.Generator) -> list[str]:
    """At most `count` made-up words one phoneme away from one of the words `like`, each "[[...]]" for espeak-ng.

    A phoneme is exchanged for one of its kind, left out, or added; it is one that words of the language have.
    """
    said = [word.mnemonics for word in pronounce(like, language) if word.mnemonics]
    kinds = _inventory(language)
    found: dict[str, None] = {}
    for attempt in range(4 * count if said else 0):
        if len(found) == count:
            break
        found[_spelled(_vary(said[attempt % len(said)], kinds, rng))] = None
    return list(found)


def _vary(
    word: tuple[tuple[str, ...], ...], kinds: Mapping[bool, Sequence[str]], rng: np.random.Generator
) -> list[list[str]]:
    """A copy of a word's mnemonics with one change."""
    varied = [list(part) for part in word]
    part = varied[int(rng.integers(len(varied)))]
    known = {mnemonic: vowel for vowel, group in kinds.items() for mnemonic in group}
    places = [place for place, mnemonic in enumerate(part) if mnemonic.lstrip(STRESS) in known]
    vowels = [place for place in places if known[part[place].lstrip(STRESS)]]
    if not places:
        return varied
    place = int(rng.choice(places))
    bare = part[place].lstrip(STRESS)
    stress = part[place][: len(part[place]) - len(bare)]
    change = rng.choice(["exchange", "exchange", "drop", "add"])
    if change == "drop" and len(places) > 2 and [place] != vowels:
        del part[place]
    elif change == "add":
        part.insert(place + int(rng.integers(2)), str(rng.choice(kinds[not known[bare]])))
    else:
        part[place] = stress + str(rng.choice([other for other in kinds[known[bare]] if other != bare] or [bare]))
    return varied


def _spelled(word: Sequence[Sequence[str]]) -> str:
    return "[[" + " ".join("|".join(part) for part in word) + "]]"


@lru_cache(maxsize=16)
def _words(language: str, count: int) -> tuple[str, ...]:
    frequent, own = _frequent(language, 2 * count)
    said = pronounce(frequent, language)
    # Loans are left out: of what people write in German, say, "the" and "you" are English, and no German word.
    kept = [word for word, how in zip(frequent, said, strict=True) if segments(how.ipa) and how.mnemonics]
    if not own and len(kept) < FEWEST_SAID * len(frequent):
        return tuple(_invented(language, count))
    return tuple(kept[:count])


def _frequent(language: str, count: int) -> tuple[list[str], bool]:
    """Frequent words in the script of most of them, and whether they are of the language itself, or English."""
    try:
        from wordfreq import available_languages, top_n_list
    except ImportError:
        raise MissingExtra("wordfreq", "search") from None
    code = LISTS.get(language.split("-")[0], language.split("-")[0])
    own = code in available_languages() and "-latn" not in language
    listed = [word for word in top_n_list(code if own else "en", count) if _is_word(word) and _script(word)]
    scripts = Counter(_script(word) for word in listed[: len(listed) // 4])
    usual = {script for script, times in scripts.items() if times > 0.1 * sum(scripts.values())}
    return [word for word in listed if _script(word) in usual and (len(word) > 1 or _script(word) == "CJK")], own


def _is_word(text: str) -> bool:
    return all(unicodedata.category(letter)[0] in "LM" for letter in text)


def _script(word: str) -> str:
    """The script of a word by the Unicode names of its letters: "LATIN", "CYRILLIC", "CJK", "" if it mixes them."""
    names = {unicodedata.name(letter, "").split(" ")[0].split("-")[0] for letter in word}
    names.discard("COMBINING")
    return names.pop() if len(names) == 1 else ""


@lru_cache(maxsize=16)
def _inventory(language: str) -> dict[bool, list[str]]:
    """The mnemonics of a language's vowels (True) and consonants (False), from its frequent words if it has a list."""
    frequent, own = _frequent(language, 1000)
    said = pronounce(frequent, language) if own else []
    counts = Counter(bare for how in said for part in how.mnemonics for sound in part if (bare := sound.lstrip(STRESS)))
    usual = [sound for sound, times in counts.most_common() if times >= 3] or COMMON_SOUNDS
    heard = [segments(how.ipa) for how in pronounce([f"[[{sound}]]" for sound in usual], language)]
    pairs = [(sound, phonemes) for sound, phonemes in zip(usual, heard, strict=True) if len(phonemes) == 1]
    return {kind: [sound for sound, phonemes in pairs if is_vowel(phonemes[0]) == kind] for kind in (True, False)}


def _invented(language: str, count: int) -> list[str]:
    """Words of one to three syllables out of a language's sounds, the short ones first."""
    kinds, rng = _inventory(language), np.random.default_rng(7)
    found: dict[str, None] = {}
    for number in range(4 * count):
        word: list[str] = []
        for _ in range(1 + number * 3 // (4 * count)):
            ending = [str(rng.choice(kinds[False]))] if rng.random() < 0.3 else []
            word += [str(rng.choice(kinds[False])), str(rng.choice(kinds[True])), *ending]
        found[_spelled([["'" + word[0], *word[1:]]])] = None
    return list(found)[:: max(1, len(found) // count)][:count]
