"""Streaming metrics: worked by hand, against slow readings of the definitions, and as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_listener import HOP, metadata, model, tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.labels import Truth
from kws_demo.score import (
    Found,
    count_verdicts,
    delay_ms,
    false_alarms,
    free_ms,
    keyword_found,
    keyword_truths,
    nearest_pairs,
    verdicts,
    wake_word,
)
from kws_demo.score_cli import score
from kws_demo.score_report import false_alarm_line
from kws_demo.thresholds import save_thresholds
from kws_demo.transcript import Notes, Paced, transcribe
from toolkit.cli import Commands

REPOSITORY = Path(__file__).parents[1]
few = settings(max_examples=60)  # of small lists, where every case occurs


def kinds(found: list[Found], truths: list[Truth], tolerance_ms: float = 750) -> list[str]:
    return [verdict.kind for verdict in verdicts(found, truths, tolerance_ms)]


# Warden's matching


def test_the_example_of_tensorflow() -> None:
    truths = [Truth("a", 1000), Truth("b", 9000)]
    given_ = verdicts([Found("a", 1200), Found("b", 5000), Found("a", 8700)], truths, 500)
    assert [verdict.kind for verdict in given_] == ["correct", "false_alarm", "wrong"]
    counted = count_verdicts(given_, truths)
    assert (counted.truths, counted.distinct, counted.correct, counted.wrong, counted.false_alarm) == (2, 2, 1, 1, 1)
    assert counted.shares() == {"matched": 1, "matched_set": 1, "correct": 0.5, "wrong": 0.5, "false_alarm": 0.5}


def test_the_first_word_within_the_tolerance_decides_though_a_later_one_is_nearer_and_agrees() -> None:
    truths = [Truth("no", 1000), Truth("yes", 1700)]
    assert kinds([Found("yes", 1700)], truths) == ["wrong"]  # 700 ms after "no", which decides
    assert kinds([Found("yes", 1751)], truths) == ["correct"]  # 751 ms after it


def test_the_tolerance_itself_is_within() -> None:
    truths = [Truth("yes", 1000)]
    assert kinds([Found("yes", 250)], truths) == kinds([Found("yes", 1750)], truths) == ["correct"]
    assert kinds([Found("yes", 249)], truths) == kinds([Found("yes", 1751)], truths) == ["false_alarm"]


def test_a_word_is_found_correctly_once_and_a_wrong_one_uses_it_up() -> None:
    truths = [Truth("yes", 1000)]
    assert kinds([Found("yes", 900), Found("yes", 1100)], truths) == ["correct", "wrong"]
    assert kinds([Found("no", 900), Found("yes", 1100)], truths) == ["wrong", "wrong"]


def test_both_conventions_of_matched() -> None:
    truths = [Truth("yes", 1000), Truth("no", 5000), Truth("no", 9000)]
    shares = count_verdicts(verdicts([Found("yes", 900), Found("yes", 1100)], truths, 750), truths).shares()
    assert shares["matched"] == pytest.approx(2 / 3)  # correct + wrong
    assert shares["matched_set"] == pytest.approx(1 / 3)  # one word, however often it decided


def test_without_words_there_are_no_shares() -> None:
    shares = count_verdicts(verdicts([Found("yes", 900)], [], 750), []).shares()
    assert set(shares.values()) == {None}


FOUND = st.builds(Found, st.sampled_from(["yes", "no", "_unknown_"]), st.integers(-1000, 12_000))
TRUTH = st.builds(Truth, st.sampled_from(["yes", "no", "_unknown_"]), st.integers(0, 12_000))


def in_time(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, max_size=6).map(lambda each: sorted(each, key=lambda one: one.start_ms))


@few
@given(in_time(FOUND), in_time(TRUTH), st.integers(0, 4000))
def test_the_matching_is_the_definition_read_slowly(
    found: list[Found], truths: list[Truth], tolerance_ms: float
) -> None:
    matched: list[int] = []
    correct = wrong = alarms = 0
    for each in found:
        near = [place for place, truth in enumerate(truths) if abs(truth.start_ms - each.start_ms) <= tolerance_ms]
        if not near:
            alarms += 1
        elif truths[near[0]].word == each.word and near[0] not in matched:
            correct += 1
        else:
            wrong += 1
        matched += near[:1]
    counted = count_verdicts(verdicts(found, truths, tolerance_ms), truths)
    assert (counted.correct, counted.wrong, counted.false_alarm) == (correct, wrong, alarms)
    assert counted.correct + counted.wrong == len(matched) and counted.distinct == len(set(matched))
    assert len(false_alarms(found, truths, tolerance_ms)) == alarms


# What users feel


def test_each_word_has_the_nearest_detection() -> None:
    truths = [Truth("yes", 1000), Truth("yes", 2000), Truth("no", 2100)]
    found = [Found("yes", 1600), Found("yes", 1900), Found("no", 1500)]
    # 1900-2000 is nearest (100), then 1600-1000 and 1500-2100 (600 both).
    assert nearest_pairs(found, truths, 750) == {1: 1, 0: 0, 2: 2}
    assert nearest_pairs(found, truths, 599) == {1: 1}


@few
@given(in_time(FOUND), in_time(TRUTH), st.integers(0, 4000))
def test_pairs_are_joined_nearest_first(found: list[Found], truths: list[Truth], tolerance_ms: float) -> None:
    distance = np.full((len(found), len(truths)), np.inf)
    for place, each in enumerate(found):
        for target, truth in enumerate(truths):
            apart = abs(each.start_ms - truth.start_ms)
            if each.word == truth.word and apart <= tolerance_ms:
                distance[place, target] = apart
    expected = {}
    while distance.size and np.isfinite(distance.min()):
        target, place = np.unravel_index(distance.T.argmin(), distance.T.shape)  # of equals the earlier word
        expected[int(place)] = int(target)
        distance[place, :] = distance[:, target] = np.inf
    assert nearest_pairs(found, truths, tolerance_ms) == expected


def test_unknown_words_are_no_keywords() -> None:
    assert keyword_found([Found("_unknown_", 0), Found("yes", 1)]) == [Found("yes", 1)]
    assert keyword_truths([Truth("_unknown_", 0), Truth("_silence_", 1), Truth("yes", 1)]) == [Truth("yes", 1)]


@few
@given(in_time(TRUTH), st.integers(0, 4000), st.integers(1, 14_000))
def test_the_time_without_keywords_is_what_counting_milliseconds_gives(
    truths: list[Truth], tolerance_ms: int, duration_ms: int
) -> None:
    middles = np.arange(duration_ms) + 0.5
    free = np.ones(duration_ms, bool)
    for truth in truths:
        free &= abs(middles - truth.start_ms) > tolerance_ms
    assert free_ms(truths, tolerance_ms, duration_ms) == free.sum()


def test_the_delay_is_from_the_end_of_the_word_to_its_announcement() -> None:
    found = [Found("yes", 900), Found("yes", 5400), Found("no", 9000)]
    truths = [Truth("yes", 1000, 1600), Truth("yes", 5000, 5800), Truth("no", 9000)]
    assert delay_ms(found, truths, {0: 0, 1: 1, 2: 2}, 1000) == (450, 2)  # 1900 - 1600 and 6400 - 5800
    assert delay_ms(found, truths, {2: 2}, 1000) == (None, 0)


# MLPerf's streaming wake word


def announced(*times_ms: float, word: str = "yes") -> list[Found]:
    return [Found(word, time_ms - 1000) for time_ms in times_ms]


def test_a_word_is_heard_until_a_second_after_its_end() -> None:
    truths = [Truth("yes", 2000, 2500)]
    assert wake_word(announced(2000), truths, 1000) == wake_word(announced(3500), truths, 1000) == (1, 0, 0)
    assert wake_word(announced(1999), truths, 1000) == wake_word(announced(3501), truths, 1000) == (0, 1, 1)
    assert wake_word(announced(2100, 2900, 3400), truths, 1000) == (1, 0, 0)  # all of it is one word
    assert wake_word(announced(4000), [Truth("yes", 2000)], 1000) == (1, 0, 0)  # an unknown end: start + window


def test_false_ones_are_counted_once_a_second() -> None:
    assert wake_word(announced(5000, 5600, 6000, 6400, 7401), [], 1000) == (0, 0, 3)  # 5000, 6400 and 7401
    both = [*announced(5000), *announced(5100, word="no")]
    assert wake_word(both, [], 1000) == (0, 0, 2)  # two wake words


@few
@given(st.lists(st.integers(0, 9000), max_size=12), st.lists(st.integers(0, 9000), max_size=4, unique=True))
def test_the_rule_is_that_of_the_published_runner(times_ms: list[int], starts_ms: list[int]) -> None:
    windows = [(start_ms, start_ms + 600) for start_ms in sorted(starts_ms)]
    left, hits = np.array(sorted(times_ms), float), 0
    for start_ms, stop_ms in windows:
        inside = (left >= start_ms) & (left <= stop_ms + 1000)
        hits += bool(inside.any())
        left = left[~inside]
    place = 0
    while place < len(left):
        left = left[~((left > left[place]) & (left <= left[place] + 1000))]
        left = np.delete(left, np.flatnonzero(left == left[place])[1:])
        place += 1
    truths = [Truth("yes", *window) for window in windows]
    assert wake_word(announced(*times_ms), truths, 1000) == (hits, len(windows) - hits, len(left))


# The command


class Scoring(Commands):
    """The command group with this command alone, wherever it is registered."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return {"score": score}.get(name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(Scoring(), ["score", *(str(each) for each in arguments)])


def refusal(*arguments: object) -> str:
    done = run(*arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert done.exit_code == 2 and len(lines) == 1 and not done.stdout, done.output
    return lines[0]


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
