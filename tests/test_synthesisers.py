"""Words by other synthesisers: as many as asked for, in other voices, as `search --add` takes them."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from kws_demo import synthesisers
from kws_demo.outliers import cepstra, warped_distances
from kws_demo.recordings import word_recordings
from kws_demo.speak_cli import speak
from kws_demo.synthesisers import installed_voices, say_often, say_once
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed (apt install flite)")


@needs_flite
def test_a_word_sounds_like_itself_by_another_voice() -> None:
    """Dynamic time warping hears which word it is: right for nearly all of two voices."""
    words = ("left", "go", "seven", "happy")
    takes = [
        {clips[0].word: cepstra(clips[0].audio) for clips in say_often(words, 1, [("flite", voice)], 0)}
        for voice in ("awb", "rms")
    ]
    nearest = [min(words, key=lambda other: float(warped_distances([takes[0][word]], [takes[1][other]])[0]))
               for word in words]  # fmt: skip
    assert sum(word == found for word, found in zip(words, nearest, strict=True)) >= 3


@needs_flite
def test_takes_differ_and_come_again() -> None:
    one, again, other = (next(say_often(["left"], 6, [("flite", "awb")], seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(one, again, strict=True))
    assert len({clip.audio.tobytes() for clip in [*one, *other]}) == len(one) + len(other) >= 10
    assert all(clip.voice == "flite-awb" and clip.word == "left" for clip in one)
    assert all(0.12 * 16_000 < len(clip.audio) <= 0.95 * 16_000 for clip in one)


@needs_flite
def test_other_words_come_once_by_any_voice() -> None:
    voices = [("flite", "awb"), ("flite", "slt")]
    clips = say_once(["one", "two", "three", "four", "five", "six"], voices, 0)
    assert [clip.word for clip in clips] == ["one", "two", "three", "four", "five", "six"]
    assert {clip.voice for clip in clips} == {"flite-awb", "flite-slt"}
    same = say_once(["seven"] * 6, [("flite", "awb")], 0)
    assert len({clip.audio.tobytes() for clip in same}) == len(same)  # at speeds and pitches of their own


@needs_flite
def test_the_folder_is_one_that_search_can_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "voices"
    monkeypatch.setattr(synthesisers, "installed_voices", lambda language: [("flite", "awb"), ("flite", "slt")])
    arguments = ["left", "ice_cream", "-o", str(output), "--takes", "3", "--unknown", "8", "--json"]
    result = CliRunner().invoke(speak, arguments)
    assert result.exit_code == 0, result.output
    found = word_recordings(output)
    assert {each.label for each in found} == {"left", "ice_cream", "_unknown_"}
    assert {each.speaker for each in found} == {"flite-awb", "flite-slt"}
    assert json.loads(result.stdout)["clips"] == len(found) >= 12
    assert all(soundfile.info(each.path).samplerate == 16_000 for each in found)
    again = CliRunner().invoke(speak, ["other", "-o", str(output)])  # a keyword of one run may be unknown in another
    assert "is not empty" in str(again.exception) and len(word_recordings(output)) == len(found)


@needs_flite
def test_a_word_that_lasts_too_long_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesisers, "installed_voices", lambda language: [("flite", "slt")])
    output = tmp_path / "voices"
    words = ["left", "antidisestablishmentarianism_in_public"]
    result = CliRunner().invoke(speak, [*words, "-o", str(output), "--takes", "1", "--unknown", "0"])
    assert "no voice makes a clip of 'antidis" in str(result.exception) and not output.exists()


def fake_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod((folder / name).stat().st_mode | stat.S_IEXEC)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MilliwiseError, match=r"no flite or pico2wave is installed here: apt install"):
        installed_voices("en")
    with pytest.raises(MilliwiseError, match="no pico2wave is installed here"):
        installed_voices("de-AT")
    with pytest.raises(MilliwiseError, match="do not speak 'ar': choose of de, en"):
        installed_voices("ar")
    fake_program(tmp_path, "pico2wave", "exit 0")
    assert installed_voices("en-GB") == [("pico", "en-US"), ("pico", "en-GB")]


@pytest.mark.parametrize("script", ["exit 3", "exit 0", 'echo "no sound" > "$4"'])
def test_a_program_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake_program(tmp_path, "pico2wave", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MilliwiseError, match="pico2wave cannot say 'left'") as caught:
        list(say_often(["left"], 1, [("pico", "en-US")], 0))
    assert str(caught.value).isprintable()


def test_a_word_is_an_argument_and_never_markup_or_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path, "pico2wave", f'printf "%s\\n" "$@" > {tmp_path}/arguments; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MilliwiseError):
        list(say_often(["--lang=<b>&$(x)"], 1, [("pico", "en-US")], 0))
    given = (tmp_path / "arguments").read_text().splitlines()
    assert len(given) == 5 and given[4].startswith("<speed") and "--lang=&lt;b&gt;&amp;$(x)." in given[4]
