"""Words of a language: its own script, what espeak-ng can say, and made-up words where there is no list."""

import sys

import numpy as np
import pytest

from kws_demo.espeak import pronounce
from kws_demo.lexicon import made_up, words
from kws_demo.phonemes import segments
from toolkit.errors import MilliwiseError, MissingExtra

pytest.importorskip("espeakng_loader")
pytest.importorskip("wordfreq")


@pytest.mark.parametrize(
    ("language", "common", "letters"),
    [
        ("en", {"the", "house"}, "LATIN"),
        ("de", {"und", "über"}, "LATIN"),
        ("pt-br", {"não"}, "LATIN"),
        ("ru", {"привет"}, "CYRILLIC"),
        ("cmn", {"我们"}, "CJK"),
        ("hi", {"और"}, "DEVANAGARI"),
        ("sw", {"house"}, "LATIN"),  # no list: English words, read the Swahili way
    ],
)
def test_frequent_words_in_the_script_of_the_language(language: str, common: set[str], letters: str) -> None:
    import unicodedata

    found = words(language, 1500)
    assert common <= set(found) and len(found) == len(set(found)) == 1500
    assert all(unicodedata.name(word[0]).startswith(letters) for word in found)
    assert words(language, 20) == found[:20] and all(segments(said.ipa) for said in pronounce(found, language))


def test_a_language_without_a_list_and_with_other_letters_gets_made_up_words() -> None:
    found = words("th", 300)
    assert len(set(found)) == len(found) > 200 and all(word.startswith("[[") for word in found)
    assert all(segments(said.ipa) for said in pronounce(found, "th"))


@pytest.mark.parametrize(("language", "word"), [("en", "stop"), ("cmn", "开灯"), ("ar", "نعم"), ("th", "หยุด")])
def test_made_up_words_sound_different_and_are_the_same_each_time(language: str, word: str) -> None:
    found = made_up([word], language, 12, np.random.default_rng(0))
    sounds = [segments(said.ipa) for said in pronounce(found, language)]
    (sound,) = (segments(said.ipa) for said in pronounce([word], language))
    assert len(found) == 12 and all(sounds) and sum(other != sound for other in sounds) >= 10
    assert all(abs(len(other) - len(sound)) <= 2 for other in sounds)
    assert found == made_up([word], language, 12, np.random.default_rng(0))
    assert made_up([""], language, 5, np.random.default_rng(0)) == []


def test_an_unknown_language_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MilliwiseError, match="klingon"):
        words("klingon", 5)
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingExtra, match=r"wordfreq.*milliwise\[search\]"):
        words("de", 7)
