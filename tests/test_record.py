"""A session of recording, spoken into a fake microphone or cut out of a file, and what is said about a folder."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_sound import FakeSound, sound  # noqa: F401 (a fixture)
from hypothesis import given
from hypothesis import strategies as st
from spoken import recording, word

from kws_demo import record_cli
from kws_demo.cli import search
from kws_demo.record import TRIES, check_added, save_take, speaker_name, take_of, takes_by, takes_in
from kws_demo.record_cli import record
from kws_demo.recordings import read_clip, speaker_of
from toolkit.cli import Commands
from toolkit.errors import MilliwiseError

UP, DOWN = (400, 900, 2200), (2400, 1000, 500)
QUIET = recording(pause_s=2.0)


def take(seed: int = 0, gain: float = 1.0, formants_hz: tuple[float, ...] = UP) -> np.ndarray:
    """Two seconds with one word in them."""
    said = recording(word(0.4 + 0.02 * seed, formants_hz, seed), pause_s=0.75, seed=seed)
    return np.asarray(np.clip(gain * np.resize(said, 32000), -1, 1), np.float32)


def hears(sound: FakeSound, *heard: np.ndarray) -> None:  # noqa: F811
    """The microphone gives a second before each of these."""
    chunks = [chunk for each in heard for chunk in (QUIET[:16000], each)]
    sound.script = [(chunk[:, None], False) for chunk in chunks]


def run(*arguments: object) -> Result:
    group = Commands(name="milliwise")
    group.get_command = lambda context, name: record  # type: ignore[method-assign]
    return CliRunner().invoke(group, ["record", *map(str, arguments)])


def saved(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_takes_are_saved_as_16_bit_wav_with_the_word_and_its_margins(tmp_path: Path, sound: FakeSound) -> None:  # noqa: F811
    hears(sound, *(take(seed) for seed in range(5)))
    result = run("lumos", "-o", tmp_path / "my-words", "--speaker", "Ann", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    folder = tmp_path / "my-words" / "lumos"
    assert [clip["path"] for clip in answer["clips"]] == [str(folder / f"Ann_{n}.wav") for n in range(1, 6)]
    assert answer["outliers"] == answer["rejected"] == [] and answer["compared"] == 5
    assert "take 1 of 5: say 'lumos' now" in result.stderr
    assert f"5 takes of 'lumos' in {folder}; next: milliwise search … --add {tmp_path / 'my-words'}" in result.stderr
    for seed, clip in enumerate(answer["clips"]):
        info = soundfile.info(clip["path"])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert clip["seconds"] == pytest.approx(info.duration, abs=1e-3) and clip["findings"] == []
        assert 0.4 + 0.02 * seed < info.duration <= 1.0
        audio, _ = soundfile.read(clip["path"])
        place = int(np.argmax(np.correlate(take(seed), audio, "valid")))
        np.testing.assert_allclose(audio, take(seed)[place : place + len(audio)], atol=1e-4)
    assert check_added(tmp_path / "my-words") == []


def test_earlier_takes_stay_and_are_compared_with(tmp_path: Path, sound: FakeSound) -> None:  # noqa: F811
    folder = tmp_path / "up"
    for seed in range(3):
        save_take(take_of(take(seed), 1), folder, "ann")
    (folder / "ann_2.wav").rename(folder / "ann_7.flac")
    before = {name: (tmp_path / name).read_bytes() for name in saved(tmp_path)}
    hears(sound, take(3, formants_hz=DOWN))
    answer = json.loads(run("up", "-o", tmp_path, "--speaker", "ann", "--takes", 1, "--json").stdout)
    assert [Path(clip["path"]).name for clip in answer["clips"]] == ["ann_8.wav"]
    assert answer["compared"] == 4 and answer["outliers"] == [str(folder / "ann_8.wav")]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("bad", "advice"),
    [
        (take(gain=6), "clipped"),
        (take(gain=0.01), "raise its gain"),
        (QUIET[:32000], "no speech above the noise"),
        (np.roll(take(), -15000), "cut off at its beginning"),
        (recording(word(1.1), pause_s=0.45), "longer than a listener hears"),
    ],
)
def test_a_bad_take_is_said_again_with_advice(
    tmp_path: Path, sound: FakeSound, bad: np.ndarray, advice: str  # noqa: F811
) -> None:  # fmt: skip
    hears(sound, take(), np.resize(bad, 32000), take(1))
    result = run("up", "-o", tmp_path, "--speaker", "a", "--takes", 2, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and [len(answer["clips"]), len(answer["rejected"])] == [2, 1]
    (line,) = (line for line in result.stderr.splitlines() if advice in line)
    assert line.startswith("take 2 is ") or line.startswith("take 2 has ")
    assert "too few takes to tell" in result.stderr and saved(tmp_path) == ["up/a_1.wav", "up/a_2.wav"]


def test_what_saying_it_again_does_not_cure_ends_the_session(tmp_path: Path, sound: FakeSound) -> None:  # noqa: F811
    hears(sound, take(), *[np.zeros(32000, np.float32)] * TRIES)
    result = run("up", "-o", tmp_path, "--speaker", "a", "--json")
    assert result.exit_code == 1 and len(json.loads(result.stdout)["rejected"]) == TRIES
    assert "milliwise devices" in result.stderr and saved(tmp_path) == ["up/a_1.wav"]


def test_a_poor_take_is_kept_at_the_last_try(tmp_path: Path, sound: FakeSound) -> None:  # noqa: F811
    hears(sound, *[take(gain=0.05)] * TRIES)
    answer = json.loads(run("up", "-o", tmp_path, "--speaker", "a", "--takes", 1, "--json").stdout)
    assert [finding["kind"] for finding in answer["clips"][0]["findings"]] == ["quiet"]
    assert len(answer["rejected"]) == TRIES - 1


def test_lost_audio_is_a_finding() -> None:
    assert [finding.kind for finding in take_of(take(), 1, gaps=2).findings] == ["gap"]


def test_an_unplugged_microphone_keeps_what_was_saved(
    tmp_path: Path, sound: FakeSound, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(record_cli, "PATIENCE_S", 0.02)
    hears(sound, take())
    sound.on_restart = lambda: sound.names.clear()
    result = run("up", "-o", tmp_path, "--speaker", "a")
    assert result.exit_code == 2 and "was it unplugged? (1 take of 'up' in" in result.stderr
    assert saved(tmp_path) == ["up/a_1.wav"]


def test_a_take_in_which_the_microphone_was_away_is_said_again(tmp_path: Path, sound: FakeSound) -> None:  # noqa: F811
    hears(sound, take(), take(1)[:16000])
    sound.on_restart = lambda: hears(sound, np.concatenate([QUIET[:16000], take(2)]))  # first the rest of that take
    result = run("up", "-o", tmp_path, "--speaker", "a", "--takes", 2, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and "is back" in result.stderr and len(answer["clips"]) == 2
    assert "gap" in {finding["kind"] for row in answer["rejected"] for finding in row["findings"]}


def test_ctrl_c_keeps_what_was_saved(
    tmp_path: Path, sound: FakeSound, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    hears(sound, take(), take(1))

    def press(self: object, number: int, speak: bool, left_s: float, block: np.ndarray) -> None:
        if number == 2 and speak:
            raise KeyboardInterrupt

    monkeypatch.setattr(record_cli.Prompt, "__call__", press)
    result = run("up", "-o", tmp_path, "--speaker", "a", "--json")
    assert result.exit_code == 130 and len(json.loads(result.stdout)["clips"]) == 1
    assert saved(tmp_path) == ["up/a_1.wav"] and sound.closed == 1


def test_takes_are_cut_out_of_a_long_recording_of_any_kind(tmp_path: Path) -> None:
    words = [word(0.4 + 0.02 * seed, UP, seed) for seed in range(7)]
    audio = recording(*words[:3], word(1.7), *words[3:], pause_s=0.5)
    soundfile.write(tmp_path / "long.wav", np.stack([audio, audio], 1), 22050)
    audio_s = 22050 / 16000
    result = run("up", "-o", tmp_path / "out", "--speaker", "a", "--wav", tmp_path / "long.wav", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and len(answer["clips"]) == 7, result.output
    assert "22050 Hz" in result.stderr and "take 4 is longer" in result.stderr
    assert [row["take"] for row in answer["rejected"]] == [4]
    for clip, said in zip(answer["clips"], words, strict=True):
        assert 0 < clip["seconds"] - len(said) / 16000 / audio_s < 0.55
    few = run("up", "-o", tmp_path / "few", "--wav", tmp_path / "long.wav", "--takes", 2, "--json")
    assert few.exit_code == 0 and len(json.loads(few.stdout)["clips"]) == 2
    assert run("up", "-o", tmp_path / "many", "--wav", tmp_path / "long.wav", "--takes", 20).exit_code == 1


def test_a_recording_without_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "still.wav", QUIET, 16000)
    result = run("up", "-o", tmp_path / "out", "--wav", tmp_path / "still.wav", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["clips"] == []


def test_real_words_laid_in_a_row_are_cut_apart(shared_data: Path) -> None:
    files = sorted((shared_data / "keywords_ar" / "val" / "yes").glob("*.flac"))[:10]
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    found = list(takes_in(np.concatenate([np.pad(clip, 4000) for clip in clips])))
    assert len(found) == len(clips)
    for each, clip in zip(found, clips, strict=True):
        assert each.kept and np.square(each.clip).sum() == pytest.approx(np.square(clip).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["../up", "-o", "x"], "path separator"),
        (["_unknown_", "-o", "x"], "reserved"),
        ([" ", "-o", "x"], "empty, padded or too long"),
        (["y" * 41, "-o", "x"], "too long"),
        (["up", "-o", "x", "--wav", "a.wav", "--device", "1"], "exclude each other"),
        (["up", "-o", "x", "--wav", "missing.wav"], "cannot read missing.wav"),
        (["up", "-o", "x", "--speaker", "__"], "no letters"),
        (["up", "-o", "x", "--takes", "0"], "0 is not in the range"),
        (["up", "-o", "x", "--seconds", "nan"], "nan"),
        (["up", "-o", "x", "--device", "headset"], "no microphone matches"),
        (["up"], "Missing option '-o'"),
    ],
)
def test_bad_input(
    tmp_path: Path, sound: FakeSound, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert saved(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run("up", "-o", tmp_path / "file").exit_code == 2


@given(st.text(min_size=1), st.sampled_from(["up", "ann", "是"]), st.integers(1, 999))
def test_any_speaker_is_one_name_in_the_files(name: str, word: str, number: int) -> None:
    try:
        speaker = speaker_name(name, word)
    except MilliwiseError:
        assert not any(letter.isalnum() for letter in name)
        return
    assert speaker_of(Path(word) / f"{speaker}_{number}.wav", word) == speaker
    assert "/" not in speaker and speaker.isprintable() and len(speaker) <= 50


def test_the_speaker_is_the_user_or_me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "a.b_c")
    assert speaker_name(None, "up") == "a-b-c"

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert speaker_name(None, "up") == "me"
    assert speaker_name("Up", "up") == "speaker-Up"


def test_takes_of_one_speaker_are_told_from_those_of_another(tmp_path: Path) -> None:
    for name in ("ann_1.wav", "ann_10.wav", "ann_2.flac", "anna_3.wav", "ann_x.wav", "ann.wav"):
        (tmp_path / name).touch()
    assert [path.name for path in takes_by("ann", tmp_path).values()] == ["ann_1.wav", "ann_2.flac", "ann_10.wav"]
    assert takes_by("ann", tmp_path / "none") == {}


def test_what_is_wrong_with_a_folder_of_own_recordings(tmp_path: Path) -> None:
    for number in range(5):
        save_take(take_of(take(number), 1), tmp_path / "up", "ann")
        save_take(take_of(take(number, formants_hz=DOWN), 1), tmp_path / "down", "ann")
        save_take(take_of(take(number, formants_hz=(UP, DOWN)[number % 2]), 1), tmp_path / "_unknown_", "ann")
    assert check_added(tmp_path) == []
    (tmp_path / "down" / "ann_3.wav").rename(tmp_path / "up" / "ann_6.wav")
    soundfile.write(tmp_path / "up" / "ann_2.wav", take(1, gain=8), 16000)
    (tmp_path / "up" / "ann_9.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "up" / "still_1.wav", np.zeros(16000), 16000)
    lines = check_added(tmp_path)
    assert [line.split(" ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "up/ann_6.wav",  # first: a wrong word does the most harm
        "up/ann_2.wav",
        "up/still_1.wav",
    ]
    assert "sounds unlike the others" in lines[0] and "is clipped" in lines[1] and "is silent" in lines[2]
    with pytest.raises(MilliwiseError, match="cannot read the folder"):
        check_added(tmp_path / "missing")


def test_what_was_saved_is_what_training_reads(tmp_path: Path) -> None:
    path = save_take(take_of(take(), 1), tmp_path, "ann")
    clip = read_clip(path)
    assert np.square(clip).sum() == pytest.approx(np.square(take()).sum(), rel=0.01)


def test_on_a_terminal_the_level_is_drawn_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with record_cli.Prompt("up", 5) as prompt:
        prompt.live = True
        for speak in (False, True):
            prompt(2, speak, 1.5, np.full(800, 0.1, np.float32))
    drawn = capsys.readouterr().err
    assert "\n" not in drawn and drawn.endswith("\r")  # what clears the rest is only for terminals
    assert "-20 dB" in drawn and "take 2 of 5: get ready 1.5 s" in drawn and "say 'up' now 1.5 s" in drawn


def test_recording_and_its_help_do_not_wait_for_what_they_do_not_need() -> None:
    code = "import sys, kws_demo.record_cli; first = 'numpy' in sys.modules; import kws_demo.record; "
    result = subprocess.run(
        [sys.executable, "-c", code + "print(first, 'torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "False False\n"
    assert isinstance(record, click.Command) and "--takes" in run("--help").output


def test_search_tells_a_dozen_findings_and_counts_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kws_demo.record.check_added", lambda folder: [f"finding {number}" for number in range(40)])
    profile = tmp_path / "none.json"
    arguments = ["kws-ds", "--profile", str(profile), "--budget", "1 ms", "--data", "synth:yes", "--add", str(tmp_path)]
    result = CliRunner().invoke(search, [*arguments, "-o", str(tmp_path / "run")])
    lines = result.stderr.splitlines()
    assert lines[:12] == [f"finding {number}" for number in range(12)]
    assert lines[12] == f"28 findings more in {tmp_path}" and "finding 12" not in lines
