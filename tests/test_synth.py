"""Synthetic speech: reproducible, cached, of voices that are apart, and clear about what espeak-ng cannot say."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo import synth
from kws_demo.espeak import base_voices
from kws_demo.espeak_worker import other_timbre
from kws_demo.synth import Spoken, excerpts, speak_sentences, split_voices, synthesise
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
        patched.setattr(synth, "run_worker", None)  # the cache alone has to do
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


def test_a_word_is_told_asked_and_called_by_other_throats() -> None:
    clips = synthesise(["seven"], 40, 0, VOICES[:1])
    lengths = {len(clip.audio) for clip in clips}
    centres = []
    for clip in clips:
        power = np.abs(np.fft.rfft(clip.audio)) ** 2
        centres.append(float((power * np.fft.rfftfreq(len(clip.audio), 1 / 16000)).sum() / power.sum()))
    assert len(lengths) > 20 and max(centres) > 1.3 * min(centres)
    assert {clip.word for clip in clips} == {"seven"}


def test_mnemonics_are_said() -> None:
    (word,), (same,) = (synthesise([text], 1, 0, VOICES[:1]) for text in ("stop", "[[st'0p]]"))
    assert same.word == "[[st'0p]]" and abs(len(same.audio) - len(word.audio)) < 0.1 * 16000


def test_sentences_are_long_and_repeatable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["we were at home all day.", "is it true?", "", "so " * 400]
    first = speak_sentences(texts, 1, VOICES)
    assert sorted(clip.word for clip in first) == sorted(texts[:2])  # silence and what is too long are left out
    assert max(len(clip.audio) for clip in first) > 1.2 * 16000
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "elsewhere"))
    assert same(first, speak_sentences(texts, 1, VOICES)) and speak_sentences([], 1, VOICES) == []
    assert not speak_sentences(texts, 1, VOICES, longest_s=0.1)


def test_excerpts_are_a_second_and_no_pause() -> None:
    quiet, tone = np.zeros(40_000, np.float32), np.full(40_000, 0.1, np.float32)
    spoken = [Spoken(np.concatenate([tone, quiet]), "a", "v"), Spoken(tone, "b", "v"), Spoken(tone[:8000], "c", "v")]
    pieces = excerpts(spoken, 20, np.random.default_rng(0))
    assert len(pieces) == 20 and {piece.word for piece in pieces} == {"a", "b"}
    assert all(len(piece.audio) == 16000 and (piece.audio > 0).mean() > 0.05 for piece in pieces)
    assert excerpts(spoken[2:], 5, np.random.default_rng(0)) == []


@pytest.mark.parametrize("variant", ["", "name x\nformant 1 120  75 150 -50\nformant 9\nflutter 3\nklatt 2\n"])
def test_another_timbre_keeps_what_is_no_formant(variant: str) -> None:
    lines = other_timbre(variant, np.random.default_rng(0)).splitlines()
    assert len([line for line in lines if line.startswith("formant")]) == 9
    assert "klatt 2" in lines or not variant
    first = next(line.split() for line in lines if line.startswith("formant 1 "))
    assert (108 <= int(first[2]) <= 132 and first[5] == "-50") if variant else 90 <= int(first[2]) <= 110
