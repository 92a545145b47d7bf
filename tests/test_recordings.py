"""Recordings of words: how a file becomes a clip, who speaks in it, and how speakers are split."""

from pathlib import Path

import numpy as np
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kws_demo.recordings import read_clip, speaker_of, split_speakers
from toolkit.errors import MilliwiseError

PARTS = ("train", "validation", "test")


def test_a_word_is_the_loudest_second_or_centred_at_16_khz(tmp_path: Path) -> None:
    long = np.random.default_rng(0).normal(0, 0.001, 48000)
    long[30000:34000] += 0.5 * np.sin(np.arange(4000))
    soundfile.write(tmp_path / "long.flac", long, 16000)
    assert np.abs(read_clip(tmp_path / "long.flac")).max() > 0.4
    soundfile.write(tmp_path / "short.wav", np.full((4000, 2), 0.25), 8000)
    short = read_clip(tmp_path / "short.wav")
    assert short.shape == (16000,) and (short[:3900] == 0).all() and (short[-3900:] == 0).all()
    assert np.allclose(short[5000:11000], 0.25, atol=0.01)


def test_speakers_come_from_the_file_name() -> None:
    names = {
        "ann_3.wav": "ann",
        "ja_ann_3.wav": "ann",
        "004ae714_nohash_0.flac": "004ae714",
        "x.wav": "ja/x",
        "ja_7.wav": "ja/ja_7",
    }
    assert {name: speaker_of(Path("ja") / name, "ja") for name in names} == names


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1), st.sets(st.sampled_from("xyz"), min_size=1)), st.integers(0, 5))
def test_split_keeps_every_word_in_training(words_of: dict[str, set[str]], seed: int) -> None:
    part_of = split_speakers(words_of, {"validation": 0.1, "test": 0.1}, seed)
    assert part_of == split_speakers(dict(reversed(words_of.items())), {"validation": 0.1, "test": 0.1}, seed)
    assert set(part_of) == set(words_of) and set(part_of.values()) <= set(PARTS)
    for word in "xyz":
        found = {part_of[speaker] for speaker, words in words_of.items() if word in words}
        assert "train" in found or not found
    alone = [speaker for speaker, words in words_of.items() if words == {"x"}]
    if len(alone) >= 3:
        assert {part_of[speaker] for speaker in words_of if "x" in words_of[speaker]} == set(PARTS)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.binary(max_size=100).map(b"RIFF\x24\x00\x00\x00WAVEfmt ".__add__))
def test_any_file_is_audio_or_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.wav"
    file.write_bytes(content)
    try:
        assert read_clip(file).shape == (16000,)
    except MilliwiseError as error:
        assert "some.wav" in str(error) and str(error).isprintable()
