"""What a listener hears of single clips, and its gain over another: counts by hand, intervals by brute force."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scoring import refusal, run
from tiny_listener import metadata, model, tone, write

from exporters.listener import Listener
from kws_demo import clip_score
from kws_demo.clip_score import Heard, folder_figures, gain, interval
from kws_demo.evaluate import ClipScores
from kws_demo.recordings import Recording
from kws_demo.thresholds import save_thresholds

REPOSITORY = Path(__file__).parents[1]
LOUD, SOFT, FAINT = 0.9, 0.5, 0.05  # heard by both tiny listeners, by the better one, by none


def say(folder: Path, *amplitudes: float, speakers: str = "ann") -> None:
    """Clips of a tone, one after the other by each of the speakers (names in one text)."""
    folder.mkdir(parents=True)
    for number, amplitude in enumerate(amplitudes):
        speaker = speakers.split()[number % len(speakers.split())]
        soundfile.write(folder / f"{speaker}_{number:02d}.wav", tone(0.8, [(0, 0.8)], amplitude), 16000)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


@pytest.fixture
def deaf(tmp_path: Path) -> Path:
    made = model()
    for tensor in made.graph.initializer:
        if tensor.name == "gain":
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) / 10).tobytes()
    return write(tmp_path / "deaf.onnx", made)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    say(tmp_path / "clips" / "Loud", LOUD, SOFT, SOFT, FAINT, speakers="ann bob cid dan")
    say(tmp_path / "clips" / "_unknown_", FAINT, FAINT, LOUD, speakers="ann bob cid")
    say(tmp_path / "clips" / "other", FAINT)
    return tmp_path / "clips"


def test_the_figures_and_the_gain(tiny: Path, deaf: Path, clips: Path) -> None:
    done = run(tiny, "--clips", clips, "--baseline", deaf, "--json")
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    assert [result[key] for key in ("clips", "detected", "missed", "wrong", "speakers")] == [4, 3, 1, 0, 4]
    assert (result["others"], result["others_accepted"], result["others_share"]) == (4, 1, 0.25)
    assert result["frr"] == 0.25 and result["words"].keys() == {"loud"}
    row = result["words"]["loud"]
    assert row == {key: result[key] for key in row}  # there is one word
    before = result["baseline"]
    assert [before[key] for key in ("clips", "detected", "missed", "others_accepted")] == [4, 1, 3, 1]
    assert before.keys() == result.keys() - {"baseline", *clip_score.GAIN}
    assert (result["gain"], result["compared"], result["only_model"], result["only_baseline"]) == (0.5, 4, 2, 0)
    assert (result["gain_low"], result["gain_high"]) == (0, 1)  # of four speakers two gain: none or all has 1/16
    assert "4 of your recordings" in done.stderr


def test_what_people_read(tiny: Path, deaf: Path, clips: Path) -> None:
    told = run(tiny, "--clips", clips, "--baseline", deaf).stdout
    assert (
        "3 of 4 of your recordings are heard, 1 by the baseline: gain 50 points (0 to 100); 2 are heard by this"
        " listener alone, 0 by the baseline alone" in told
    )
    header, row = told.splitlines()[:2]
    assert header.split() == ["clips", "heard", "missed", "another", "baseline", "word"]
    assert row.split()[:3] == ["4", "75.0", "%"] and row.split()[-1] == "loud" and "one voice" not in told
    assert "1 of 4 other words accepted: 25.0 %" in told and "accepted by the baseline: 25.0 %" in told
    alone = run(tiny, "--clips", clips)
    assert "3 of 4 of your recordings are heard: 75.0 %" in alone.stdout and "baseline" not in alone.stdout
    result = json.loads(run(tiny, "--clips", clips, "--json").stdout)
    assert result["baseline"] is result["gain"] is result["gain_low"] is result["gain_high"] is None


def test_takes_of_one_voice_are_drawn_themselves_and_it_is_said(tiny: Path, tmp_path: Path) -> None:
    say(tmp_path / "mine" / "loud", *[SOFT] * 10)
    done = run(tiny, "--clips", tmp_path / "mine")
    assert "10 of 10 of your recordings are heard: 100.0 % (74.1–100.0)" in done.stdout
    assert "of one voice" in done.stdout and "other words" not in done.stdout


def test_the_threshold_decides(tiny: Path, deaf: Path, clips: Path, tmp_path: Path) -> None:
    strict = json.loads(run(tiny, "--clips", clips, "--threshold", 1, "--baseline", deaf, "--json").stdout)
    assert (strict["detected"], strict["others_accepted"], strict["baseline"]["detected"]) == (0, 0, 0)
    save_thresholds(tmp_path / "tuned.json", Listener.open(tiny), {"loud": 1.0}, {})
    tuned = ("--thresholds", tmp_path / "tuned.json")
    own = json.loads(run(tiny, "--clips", clips, *tuned, "--baseline", deaf, "--json").stdout)
    assert (own["detected"], own["baseline"]["detected"]) == (0, 1) and own["only_baseline"] == 1
    assert "another listener" in refusal(deaf, "--clips", clips, *tuned)


def test_the_forms_exclude_each_other(tiny: Path, clips: Path) -> None:
    assert "both missing" in refusal(tiny)
    assert "belong together" in refusal(tiny, "--wav", clips)
    assert "belong together" in refusal(tiny, "--labels", clips)
    assert "exclude each other" in refusal(tiny, "--wav", clips, "--labels", clips, "--clips", clips)
    assert "exclude each other" in refusal(tiny, "--labels", clips, "--clips", clips)
    recording = (tiny, "--wav", clips, "--labels", clips)
    assert "--baseline is of --clips alone" in refusal(*recording, "--baseline", tiny)
    assert "--seed is of --clips alone" in refusal(*recording, "--seed", 1)
    for option in ("--average-ms", "--suppression-ms", "--minimum-count", "--tolerance-ms"):
        assert f"{option} is of --wav alone" in refusal(tiny, "--clips", clips, option, 500)
    assert "--paced is of --wav alone" in refusal(tiny, "--clips", clips, "--paced")


def test_folders_without_a_clip_to_score_are_refused(tiny: Path, clips: Path, tmp_path: Path) -> None:
    assert "cannot read the folder" in refusal(tiny, "--clips", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "has no folders: put the recordings of each word" in refusal(tiny, "--clips", tmp_path / "empty")
    say(tmp_path / "strange" / "quiet", FAINT)
    error = refusal(tiny, "--clips", tmp_path / "strange")
    assert "no folder of a keyword of the listener (loud): add one" in error
    (clips / "Loud" / "eve_01.wav").write_bytes(b"RIFF")
    assert "eve_01.wav" in refusal(tiny, "--clips", clips)
    (clips / "Loud" / "eve_01.wav").unlink()
    (clips / "none").mkdir()
    assert "holds no recordings" in refusal(tiny, "--clips", clips)


def test_a_baseline_that_knows_none_of_the_words_is_refused(tiny: Path, clips: Path, tmp_path: Path) -> None:
    named = model(metadata(labels=["_silence_", "_unknown_", "music"]).to_properties())
    error = refusal(tiny, "--clips", clips, "--baseline", write(tmp_path / "music.onnx", named))
    assert "the listener (loud) and the baseline (music) share no keyword" in error
    assert "cannot open the listener" in refusal(tiny, "--clips", clips, "--baseline", tmp_path / "absent.onnx")


def listening(keywords: str, threshold: float) -> Any:
    """A listener of these keywords, as far as decisions need one."""
    decision = {"threshold": threshold}
    return SimpleNamespace(
        labels=["_silence_", "_unknown_", *keywords.split()], metadata=SimpleNamespace(decision=decision)
    )


def test_confused_words_and_words_of_one_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = listening("go yes", 0.6), listening("STOP Yes", 0.5)
    for word in ("go", "noise", "stop", "yes"):  # two clips each, heard in this order
        say(tmp_path / word, SOFT, SOFT, speakers="ann bob")
    peaks = {
        id(ours): [[0.7, 0.1], [0.3, 0.7], [0.6, 0], [0.1, 0.2], [0, 0.9], [0, 0], [0.2, 0.61], [0.5, 0.6]],
        id(theirs): [[0, 0.6], [0, 0], [0.6, 0], [0, 0], [0.9, 0], [0.9, 0], [0.7, 0.6], [0, 0.7]],
    }

    def scored(listener: Any, heard: Any, seed: int) -> ClipScores:
        assert len(list(heard)) == 8
        return ClipScores(np.array(peaks[id(listener)]), np.zeros(8, np.int64))

    monkeypatch.setattr(clip_score, "score_clips", scored)
    result = folder_figures(ours, tmp_path, theirs)
    counts = ("clips", "detected", "missed", "wrong")
    assert [result["words"]["go"][key] for key in counts] == [2, 1, 0, 1]
    assert [result["words"]["yes"][key] for key in counts] == [2, 1, 1, 0]  # a score has to exceed its threshold
    assert [result[key] for key in counts] == [4, 2, 1, 1] and result["frr"] == 0.5
    assert (result["others"], result["others_accepted"]) == (4, 1)  # "stop" is another word to this listener
    before = result["baseline"]
    assert before["words"].keys() == {"yes"}
    assert [before[key] for key in counts] == [2, 1, 0, 1]
    assert (before["others"], before["others_accepted"]) == (2, 1)  # those that neither knows
    assert (result["gain"], result["compared"], result["only_model"], result["only_baseline"]) == (0, 2, 1, 1)
    apart = folder_figures(ours, tmp_path, thresholds={"go": 0.75})
    assert apart["words"]["go"]["detected"] == 0 and apart["words"]["yes"]["detected"] == 1


def pairs_of(clips: list[tuple[str, bool, bool]]) -> list[tuple[Heard, Heard]]:
    """Clips of (speaker, whether it is heard now, and was before)."""
    recordings = [Recording(Path(f"{number}.wav"), "yes", speaker) for number, (speaker, _, _) in enumerate(clips)]
    return [
        (Heard(each, "yes" if now else None), Heard(each, "Yes" if before else "no"))
        for each, (_, now, before) in zip(recordings, clips, strict=True)
    ]


def test_the_paired_interval_is_that_of_all_draws_of_speakers() -> None:
    rng = np.random.default_rng(3)
    clips = [(f"s{number % 6}", rng.random() < 0.9, rng.random() < 0.1 + number % 6 / 7) for number in range(33)]
    result = gain(pairs_of(clips), seed=1)
    of_speaker: dict[str, list[int]] = {}
    for speaker, now, before in clips:
        of_speaker.setdefault(speaker, []).append(int(now) - int(before))
    draws = [np.mean(np.concatenate(drawn)) for drawn in product(of_speaker.values(), repeat=6)]
    assert result["gain"] == pytest.approx(np.mean([int(now) - int(before) for _, now, before in clips]))
    assert (result["gain_low"], result["gain_high"]) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    assert result["only_model"] - result["only_baseline"] == round(33 * result["gain"])


def test_clips_are_compared_with_themselves() -> None:
    """Speakers are understood well or badly, each a little better than before: the gain is sure, the shares are not."""
    clips = [(f"s{speaker}", clip <= speaker, clip < speaker) for speaker in range(10) for clip in range(10)]
    clips += [("worse", False, clip == 0) for clip in range(10)]
    result = gain(pairs_of(clips))
    low, high = interval(np.array([float(now) for _, now, _ in clips]), [speaker for speaker, _, _ in clips])
    assert result["gain"] == pytest.approx(9 / 110)
    assert 0 < result["gain_low"] < 9 / 110 < result["gain_high"] <= 0.1 and high - low > 0.3


@pytest.mark.parametrize(("count", "lower"), [(1, 0.05), (10, 0.7411), (59, 0.9505)])
def test_n_of_n_show_no_more_than_the_exact_bound(count: int, lower: float) -> None:
    """Clopper and Pearson's one-sided 95 % limits, as in any table of them; 59 of 59 is the usual sample for 95 %."""
    assert interval(np.ones(count), ["ann"] * count) == pytest.approx((lower, 1), abs=1e-4)
    assert interval(np.zeros(count), [str(n) for n in range(count)]) == pytest.approx((0, 1 - lower), abs=1e-4)
    low, high = interval(np.zeros(count), ["ann"] * count, -1.0)  # no gain, which may be a loss as well
    assert (-low, high) == pytest.approx((1 - lower, 1 - lower), abs=1e-4)


def test_copies_of_a_speakers_clips_say_nothing_new() -> None:
    values, speakers = np.array([1.0, 0, 1, 1]), ["ann", "bob", "cid", "dan"]
    assert interval(np.repeat(values, 30), list(np.repeat(speakers, 30))) == pytest.approx(interval(values, speakers))


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_a_mean_is_within_its_interval(clips: list[tuple[float, str]]) -> None:
    values, speakers = np.array([value for value, _ in clips]), [speaker for _, speaker in clips]
    low, high = interval(values, speakers, -1.0)
    assert -1 <= low < high <= 1
    assert low - 1e-9 <= values.mean() <= high + 1e-9


WITHOUT = """
import sys
for name in ("torch", "torchaudio", "onnx"):
    sys.modules[name] = None
import kws_demo.score_cli
kws_demo.score_cli.score.main(sys.argv[1:])
"""


def test_it_scores_where_torch_and_onnx_are_not_installed(tiny: Path, deaf: Path, clips: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tiny), "--clips", str(clips), "--baseline", str(deaf), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["detected"] == 3
