"""Generated talk: without the keywords, the same for the same seed, a minute at a time, and never silent for long."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_demo import talk
from kws_demo.espeak import pronunciations
from kws_demo.synth import split_voices
from kws_demo.talk import SAMPLES, Talk
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")
pytest.importorskip("wordfreq")
VOICES = ("en-us+f3", "en-us+m1")


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(talk, "VOCABULARY", 500)
    monkeypatch.setattr(talk, "SENTENCES", 8)
    monkeypatch.setattr(talk, "TALKING", 1.0)
    yield


def made(*keywords: str, seed: int = 0, noise: tuple[Path, ...] = ()) -> Talk:
    return Talk(keywords, VOICES, "en-us", seed, noise)


def test_no_sentence_holds_a_keyword_or_a_word_that_sounds_like_one() -> None:
    sentences = made("no", "right", "by").sentences(400, np.random.default_rng(0))
    said = {word for sentence in sentences for word in sentence.split()}
    assert len(sentences) == 400 and len(said) > 200
    assert not said & {"no", "know", "right", "write", "by", "buy"}
    words = sorted(word.strip(",") for word in said)
    assert not set(pronunciations(words, "en-us")) & set(pronunciations(["no", "right", "by"], "en-us"))


def test_a_keyword_of_two_words_is_left_out_and_its_words_are_not() -> None:
    sentences = made("of_the", "in a").sentences(600, np.random.default_rng(0))
    assert all(" of the " not in f" {sentence} " and " in a " not in f" {sentence} " for sentence in sentences)
    assert {"of", "the", "in"} <= {word for sentence in sentences for word in sentence.split()}


def test_some_are_single_words_and_most_are_sentences() -> None:
    lengths = [len(sentence.split()) for sentence in made("yes").sentences(500, np.random.default_rng(1))]
    assert 0.1 < np.mean(np.array(lengths) == 1) < 0.3 and np.mean(np.array(lengths) > 3) > 0.6


def test_a_minute_is_the_same_whenever_it_is_made() -> None:
    minutes = list(made("yes", seed=3).minutes(90))
    assert [len(minute) for minute in minutes] == [SAMPLES, SAMPLES // 2]
    assert np.array_equal(made("yes", seed=3).minute(1)[: SAMPLES // 2], minutes[1])
    assert not np.array_equal(made("yes", seed=4).minute(1)[: SAMPLES // 2], minutes[1])
    for minute in minutes:
        assert minute.dtype == np.float32 and np.abs(minute).max() <= 1
    frames = np.sqrt(np.mean(minutes[0].reshape(-1, 1600) ** 2, axis=1))
    assert np.quantile(frames, 0.9) > 3 * np.quantile(frames, 0.02)  # speech comes and goes


def test_recordings_are_heard_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "RECORDED", 1.0)
    monkeypatch.setattr(talk, "TALKING", 0.0)
    time_s = np.arange(3 * 8000) / 8000
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(2 * np.pi * 1000 * time_s), 8000)
    minute = made("yes", noise=(tmp_path / "hum.wav",)).minute(0)
    spectrum = np.abs(np.fft.rfft(minute))
    assert np.argmax(spectrum) * 16000 / SAMPLES == pytest.approx(1000, abs=2)
    assert np.abs(minute[[0, -1]]).max() < 1e-4 and np.abs(minute[-SAMPLES // 4 :]).max() > 1e-5  # repeated


def test_other_languages_and_none() -> None:
    german = Talk(["halt"], split_voices("de", 0)["test"], "de", 0)
    sentences = german.sentences(50, np.random.default_rng(0))
    assert not any(re.search(r"\b(the|they|halt)\b", sentence) for sentence in sentences)
    assert any(word in sentence.split() for sentence in sentences for word in ("und", "die", "der"))
    with pytest.raises(MilliwiseError, match="no language 'xx'"):
        Talk(["halt"], VOICES, "xx", 0)
