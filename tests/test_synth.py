"""Synthetic speech: reproducible, cached, of voices that are apart, and clear about what espeak-ng cannot say."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo import synth
from kws_demo.synth import PARTS, Spoken, base_voices, pronunciations, split_voices, synthesise
from kws_demo.words import COMMON_WORDS, draw, look_alikes, unknown_texts, unknown_words
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")
VOICES = ("en-us+f3", "en+m1", "en-gb-scotland+klatt2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "milliwise"


def same(one: list[Spoken], other: list[Spoken]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.voice == b.voice and a.word == b.word and np.array_equal(a.audio, b.audio) for a, b in pairs)


def test_clips_are_short_audible_and_never_clipped() -> None:
    clips = synthesise(["stop", "zoom in"], 30, 0, VOICES)
    assert [sum(clip.word == word for clip in clips) for word in ("stop", "zoom in")] == [30, 30]
    assert {clip.voice for clip in clips} == set(VOICES)
    for clip in clips:
        assert clip.audio.dtype == np.float32 and 0.08 * 16000 < len(clip.audio) <= 0.95 * 16000
        assert 0.05 < np.sqrt(np.mean(clip.audio**2)) < 0.12 and np.abs(clip.audio).max() < 0.97


def test_a_fresh_process_says_the_same_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = synthesise(["yes", "no"], 8, 3, VOICES)
    time.sleep(1.1)  # espeak-ng would take its random seed from the clock, in whole seconds
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "elsewhere"))
    assert same(first, synthesise(["yes", "no"], 8, 3, VOICES))
    assert not same(first, synthesise(["yes", "no"], 8, 4, VOICES))


@pytest.mark.parametrize("damage", [b"", b"not an archive", None], ids=["empty", "garbage", "truncated"])
def test_the_cache_is_used_and_a_damaged_one_made_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    first = synthesise(["yes", "no"], 4, 0, VOICES)
    (file,) = cache.glob("*.npz")
    whole = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(synth, "_run_worker", None)  # the cache alone has to do
        assert same(first, synthesise(["yes", "no"], 4, 0, VOICES))
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(first, synthesise(["yes", "no"], 4, 0, VOICES))
    assert len(file.read_bytes()) == len(whole)


def test_a_cache_that_cannot_be_written_does_not_stop_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(synthesise(["yes", "no"], 2, 0, VOICES)) == 4


def test_the_library_never_enters_this_process() -> None:
    synthesise(["yes", "no"], 2, 0, VOICES)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "espeak" not in maps.read_text()


def test_voices_of_the_parts_share_no_timbre() -> None:
    parts = split_voices("en", 0)
    timbres = [{voice.split("+")[1] for voice in parts[part]} for part in ("train", "validation", "test")]
    assert len(base_voices("en")) == 8 and sum(map(len, parts.values())) == 832
    assert sum(map(len, timbres)) == len(set().union(*timbres)) == 104
    assert split_voices("en", 0) == parts != split_voices("en", 1)


@pytest.mark.parametrize(("language", "word"), [("de", "halt"), ("ru", "привет"), ("cmn", "开灯"), ("fr", "arrête")])
def test_other_languages(language: str, word: str) -> None:
    assert len(synthesise([word], 6, 0, split_voices(language, 0)["test"], language)) == 6


@pytest.mark.parametrize(
    ("word", "said"),
    [("''", "no sound"), ("привет", "spells"), ("你好", "spells"), ("yes " * 12, "longer"), ("", "no sound")],
)
def test_a_word_espeak_cannot_say_is_named(word: str, said: str) -> None:
    with pytest.raises(MilliwiseError, match=said) as caught:
        synthesise(["yes", word], 3, 0, VOICES)
    assert repr(word) in str(caught.value)
    assert {clip.word for clip in synthesise(["yes", ""], 3, 0, VOICES, strict=False)} == {"yes"}


def test_an_unknown_language_lists_close_ones() -> None:
    with pytest.raises(MilliwiseError, match=r"'en-su'.*en-us"):
        base_voices("en-su")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12))
def test_any_language_is_known_or_an_error(language: str) -> None:
    try:
        assert base_voices(language)
    except MilliwiseError as error:
        assert "\n" not in str(error)


def test_unknown_words_never_sound_like_a_keyword() -> None:
    assert len(set(pronunciations(["right", "write"]))) == 1
    parts = unknown_words(["right", "no", "tree"], "en", 0).values()
    common, near = ([word for part in parts for word in part[kind]] for kind in (0, 1))
    assert "write" in COMMON_WORDS and not {"write", "right", "no", "tree"} & {*common, *near}
    assert {"yes", "house"} <= set(common) and len(common) > 300 and near
    assert not set(pronunciations([*common, *near])) & set(pronunciations(["right", "no", "tree"]))


def test_no_part_hears_the_unknown_words_of_another() -> None:
    parts = unknown_words(["stop", "left"], "en", 1)
    sounds = [set(pronunciations([*common, *near])) for common, near in parts.values()]
    assert (
        tuple(parts) == PARTS and not sounds[0] & sounds[1] and not sounds[0] & sounds[2] and not sounds[1] & sounds[2]
    )
    common, near = ([len(part[kind]) for part in parts.values()] for kind in (0, 1))
    assert common[0] > 250 and min(common[1:]) > 50 and min(near) >= 1
    assert sum(common) > len(COMMON_WORDS) - 10  # all are used
    assert unknown_words(["stop", "left"], "en", 1) == parts != unknown_words(["stop", "left"], "en", 2)


def test_at_most_a_seventh_of_the_unknown_texts_are_look_alikes() -> None:
    texts = unknown_texts(["house", "tree"], ["stip"], 100, np.random.default_rng(0))
    assert len(texts) == 100 and texts.count("stip") == 15 and texts.count("tree") in (42, 43)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=10), st.integers(0, 20))
def test_look_alikes_differ_from_the_word(word: str, count: int) -> None:
    found = look_alikes(word, count, np.random.default_rng(0))
    assert word not in found and len(found) == len(set(found)) <= count


def test_draw_is_even() -> None:
    drawn = draw(["a", "b", "c"], 8, np.random.default_rng(0))
    assert len(drawn) == 8 and sorted(map(drawn.count, "abc")) == [2, 3, 3]
    assert draw([], 3, np.random.default_rng(0)) == []
