"""The command `milliwise score`: what it prints and refuses, on a listener that hears loudness."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scoring import refusal, run
from tiny_listener import HOP, metadata, model, tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.score_report import false_alarm_line
from kws_demo.thresholds import save_thresholds
from kws_demo.transcript import Notes, Paced, transcribe

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "words.wav", tone(6, [(1, 2), (5.4, 6)]), 16000)  # found at 0.6 s and 5.0 s
    return tmp_path / "words.wav"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("loud, 1000, 2000\nother, 3500, 4000\nloud, 5400, 6000\n")
    return tmp_path / "labels.txt"


def test_the_figures_of_a_recording(tiny: Path, recording: Path, labels: Path) -> None:
    done = run(tiny, "--wav", recording, "--labels", labels, "--json")
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["matched"] == result["matched_set"] == result["correct"] == pytest.approx(2 / 3)
    assert (result["wrong"], result["false_alarm"], result["frr"], result["truths"]) == (0, 0, 0, 3)
    assert result["counts"] == {"truths": 3, "correct": 2, "wrong": 0, "false_alarm": 0, "distinct": 2}
    assert result["keywords_only"]["matched"] == 1 and result["keywords"]["loud"]["hits"] == 2
    # Far from the keywords: 6 s less 0.25-1.75 s and 4.65-6 s.
    assert result["hours"] == pytest.approx(6 / 3600)
    assert result["hours_without_keywords"] == pytest.approx(3.15 / 3600)
    assert result["fa_per_hour"] == 0 and result["fa_upper"] == pytest.approx(2.9957 * 3600 / 3.15, rel=1e-4)
    assert (result["delay_ms"], result["delays"]) == (-200, 2)  # announced at 1.6 s and 6.0 s
    assert [(each["word"], each["start_s"], each["verdict"]) for each in result["found"]] == [
        ("loud", 0.6, "correct"),
        ("loud", 5.0, "correct"),
    ]
    counts = {"true_positives": 2, "false_negatives": 0, "false_positives": 0, "assumed_ends": 0}
    assert counts.items() <= result["mlperf"].items() and result["mlperf"]["period_variation"] is None
    assert result["ms_per_second"] > 0 and result["p99_ms"] > 0 and result["modes"] == {}
    assert result["mlperf"]["duty_cycle"] == pytest.approx(result["ms_per_second"] / 1000, abs=1e-7)
    assert result["decision"]["threshold"] == 0.7 and "other count as _unknown_" in done.stderr


def test_what_people_read(tiny: Path, recording: Path, labels: Path, tmp_path: Path) -> None:
    told = run(tiny, "--wav", recording, "--labels", labels).stdout
    assert "missed         0 of 2 keywords" in told and "-200 ms from the end of the word" in told
    assert "matched 66.7 %, correct 66.7 %" in told
    (tmp_path / "none.txt").write_text("")
    done = run(tiny, "--wav", recording, "--labels", tmp_path / "none.txt")
    assert "names no words" in done.stderr and "no keyword was said" in done.stdout
    assert "2 in 0.0017 h: 1200 an hour, at most 3777 an hour (95 %)" in done.stdout


def test_false_alarms_are_claimed_as_far_as_the_hours_support_it() -> None:
    assert false_alarm_line(0, 0.4) == "0 in 0.4 h: at most 7.5 an hour (95 %)"
    assert false_alarm_line(3, 6) == "3 in 6 h: 0.5 an hour, at most 1.3 an hour (95 %)"
    assert false_alarm_line(0, 0) == "0 in 0 h"


def test_the_options_stand_before_the_settings_of_the_listener(tiny: Path, recording: Path, labels: Path) -> None:
    common = (tiny, "--wav", recording, "--labels", labels, "--json")
    strict = json.loads(run(*common, "--threshold", "1").stdout)
    assert strict["found"] == [] and strict["frr"] == 1 and strict["delay_ms"] is None
    near = json.loads(run(*common, "--tolerance-ms", "399").stdout)
    assert (near["correct"], near["frr"], near["false_alarms"], near["tolerance_ms"]) == (0, 1, 2, 399)
    other = ("--average-ms", "700", "--suppression-ms", "100", "--minimum-count", "4")
    assert json.loads(run(*common, *other).stdout)["decision"] == {
        "average_ms": 700,
        "threshold": 0.7,
        "suppression_ms": 100,
        "minimum_count": 4,
    }


def test_a_file_of_thresholds_sets_those_of_single_words(
    tiny: Path, recording: Path, labels: Path, tmp_path: Path
) -> None:
    save_thresholds(tmp_path / "tuned.json", Listener.open(tiny), {"loud": 1.0}, {})
    done = run(tiny, "--wav", recording, "--labels", labels, "--thresholds", tmp_path / "tuned.json", "--json")
    result = json.loads(done.stdout)
    assert result["found"] == [] and result["thresholds"]["loud"] == 1
    other = write(tmp_path / "other.onnx", model(metadata(seed=1).to_properties()))
    assert "another listener" in refusal(
        other, "--wav", recording, "--labels", labels, "--thresholds", tmp_path / "tuned.json"
    )


def test_settings_that_find_nothing_at_the_hop_are_refused(tiny: Path, recording: Path, labels: Path) -> None:
    published = ("--average-ms", 500, "--minimum-count", 4, "--tolerance-ms", 1500)  # at a hop of 200 ms
    error = refusal(tiny, "--wav", recording, "--labels", labels, *published)
    assert "minimum_count 4 finds nothing" in error and "choose minimum_count <= 3" in error


def test_an_unknown_word_that_is_found_counts_in_warden_only(tmp_path: Path, recording: Path) -> None:
    names = metadata(labels=["_silence_", "_unknown_", "loud"]).to_properties()
    heard = write(tmp_path / "unknown.onnx", swapped(model(names)))
    (tmp_path / "labels.txt").write_text("noise, 1000\nloud, 5400\n")
    result = json.loads(run(heard, "--wav", recording, "--labels", tmp_path / "labels.txt", "--json").stdout)
    assert [each["word"] for each in result["found"]] == ["_unknown_", "_unknown_"]
    assert (result["correct"], result["wrong"], result["frr"], result["false_alarms"]) == (0.5, 0.5, 1, 0)


def swapped(made: Any) -> Any:
    """The tiny listener, which takes loudness for an unknown word."""
    for tensor in made.graph.initializer:
        if tensor.name in ("gain", "bias"):
            values = np.frombuffer(tensor.raw_data, np.float32)[[0, 2, 1]]
            tensor.raw_data = values.tobytes()
    return made


def test_the_modes_that_ran_are_counted(tmp_path: Path, recording: Path, labels: Path) -> None:
    modes = [{"name": "idle", "predicted_ms": 0.1}, {"name": "full", "predicted_ms": None}]
    adaptive = write(tmp_path / "modes.onnx", model(metadata(modes=modes).to_properties(), mode=True))
    done = run(adaptive, "--wav", recording, "--labels", labels, "--json")
    result = json.loads(done.stdout)
    assert result["modes"]["full"] >= 7 and sum(result["modes"].values()) == 30
    assert "modes          idle" in done.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("loud, 2000\nloud, 1000\n", "line 2: out of order"),
        ("loud, 1000\nloud, 7000\n", "past the end of the recording (6000 ms)"),
        ("loud, 5400, 6200\n", "past the end of the recording"),
        ("loud, nan\n", "is not a time"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tiny: Path, recording: Path, tmp_path: Path, content: str, why: str
) -> None:
    (tmp_path / "bad.txt").write_text(content)
    assert why in refusal(tiny, "--wav", recording, "--labels", tmp_path / "bad.txt")


def test_other_bad_input(tiny: Path, recording: Path, labels: Path, tmp_path: Path) -> None:
    assert "cannot read the labels" in refusal(tiny, "--wav", recording, "--labels", tmp_path / "absent")
    assert "cannot read" in refusal(tiny, "--wav", tmp_path / "absent", "--labels", labels)
    assert "not audio" in refusal(tiny, "--wav", labels, "--labels", labels)
    both = ("--threshold", "0.5", "--thresholds", labels)
    assert "exclude each other" in refusal(tiny, "--wav", recording, "--labels", labels, *both)
    assert "nan is not a finite number" in refusal(tiny, "--wav", recording, "--labels", labels, "--threshold", "nan")


def test_playing_at_the_speed_of_life_measures_the_periods(tiny: Path) -> None:
    listener = Listener.open(tiny)
    blocks = list(wav_blocks(tone(0.8, []), HOP))
    heard = transcribe(listener, iter(blocks), Notes(listener.labels, 200), paced=True)
    assert heard.summary.hops == 4 and heard.period_variation is not None and heard.period_variation >= 0
    assert [block is given_ for block, given_ in zip(Paced(blocks, 1), blocks, strict=True)] == [True] * 4
    assert transcribe(listener, iter(blocks), Notes(listener.labels, 200)).period_variation is None


def test_ctrl_c_scores_nothing(tiny: Path) -> None:
    def interrupted() -> Any:
        yield from wav_blocks(tone(1, []), HOP)
        raise KeyboardInterrupt

    listener = Listener.open(tiny)
    with pytest.raises(KeyboardInterrupt):
        transcribe(listener, interrupted(), Notes(listener.labels, 200))


WITHOUT = """
import sys
for name in ("torch", "torchaudio", "onnx"):
    sys.modules[name] = None
import kws_demo.score_cli
kws_demo.score_cli.score.main(sys.argv[1:])
"""


def test_it_scores_where_torch_and_onnx_are_not_installed(tiny: Path, recording: Path, labels: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tiny), "--wav", str(recording), "--labels", str(labels), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["correct"] == pytest.approx(2 / 3)
