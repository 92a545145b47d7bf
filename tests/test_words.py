"""Words to ignore: none sounds like a keyword, no part hears another's, and look-alikes come in every script."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.espeak import pronounce, pronunciations
from kws_demo.phonemes import LEAST_DISTANCE, segments
from kws_demo.synth import PARTS
from kws_demo.words import Unknown, allowed, draw, look_alikes, sentences, unknown_texts, unknown_words

pytest.importorskip("espeakng_loader")
pytest.importorskip("wordfreq")


def sounds(texts: list[str], language: str = "en") -> set[tuple[str, ...]]:
    return {segments(said.ipa) for said in pronounce(texts, language)}


def test_unknown_words_never_sound_like_a_keyword() -> None:
    keywords = ["right", "no", "tree"]
    assert len(set(pronunciations(["right", "write"]))) == 1
    parts = unknown_words(keywords, "en", 0).values()
    common, near = ([word for part in parts for word in kind(part)] for kind in (lambda p: p.common, lambda p: p.near))
    assert not {"write", "know", *keywords} & {*common, *near} and {"yes", "house"} <= set(common)
    assert len(common) > 2500 and not sounds(keywords) & sounds([*common, *near])
    assert all(distance >= LEAST_DISTANCE for part in parts for distance in part.near.values())


def test_all_accents_of_a_keyword_count() -> None:
    assert allowed(["[[st'A:p]]", "[[st'e:p]]"], ["stop"], "en") == ["[[st'e:p]]"]  # the first is American
    assert allowed(["[[st'A:p]]"], ["stop"], "en-gb-scotland") == ["[[st'A:p]]"]


def test_no_part_hears_the_unknown_words_of_another() -> None:
    parts = unknown_words(["stop", "left"], "en", 1)
    heard = [sounds([*part.common, *part.near]) for part in parts.values()]
    assert tuple(parts) == PARTS and not heard[0] & heard[1] and not heard[0] & heard[2] and not heard[1] & heard[2]
    assert len(parts["train"].common) > 1800 and min(len(part.common) for part in parts.values()) > 300
    assert unknown_words(["stop", "left"], "en", 1) == parts != unknown_words(["stop", "left"], "en", 2)


@pytest.mark.parametrize(("language", "keyword"), [("en", "stop"), ("ru", "стоп"), ("cmn", "开灯"), ("th", "หยุด")])
def test_look_alikes_in_every_script(language: str, keyword: str) -> None:
    found = look_alikes([keyword], language, 10, 0)
    assert 15 <= len(found) <= 20 and keyword not in found and sum(word.startswith("[[") for word in found) >= 8
    assert min(found.values()) >= LEAST_DISTANCE and min(found.values()) < 1
    assert min(look_alikes([keyword], language, 10, 0, least=0.7).values()) >= 0.7


def test_a_quarter_of_the_unknown_texts_are_look_alikes_and_far_ones_come_oftener() -> None:
    unknown = Unknown(["house", "tree"], {"step": 0.4, "table": 1.2})
    texts = unknown_texts(unknown, 400, np.random.default_rng(0))
    assert len(texts) == 400 and texts.count("step") + texts.count("table") == 100
    assert 10 < texts.count("step") < 40 and texts.count("house") == texts.count("tree") == 150
    assert unknown_texts(Unknown(), 3, np.random.default_rng(0)) == []


def test_sentences_avoid_what_sounds_like_a_keyword() -> None:
    texts = sentences("en", 200, 0, avoid=["to", "know"])
    said = [word.strip(",.?!") for text in texts for word in text.split()]
    assert not {"to", "two", "too", "no", "know"} & set(said) and len(set(said)) > 300
    assert {len(text.split()) for text in texts} == set(range(4, 10)) and texts == sentences(
        "en", 200, 0, ["to", "know"]
    )
    assert said.count("the") > said.count("house")
    assert set(" ".join(sentences("en", 9, 0, [], ["tree", "house"])).replace(",", " ").split()) <= {
        word + end for word in ("tree", "house") for end in ("", ".", "?", "!")
    }
    assert sentences("en", 3, 0, ["tree"], ["tree"]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=5), st.integers(0, 20))
def test_draw_is_even(words: list[str], count: int) -> None:
    drawn = draw(words, count, np.random.default_rng(0))
    assert len(drawn) == (count if words else 0)
    times = [drawn.count(word) / words.count(word) for word in words]
    assert not words or max(times) - min(times) <= 1
