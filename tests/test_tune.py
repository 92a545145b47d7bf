"""Thresholds for a rate of false alarms: chosen as defined, honest about short tests, and right in the stream."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import of_class, words
from test_track import LABELS, RUNS, Run, announced, scored, tracked
from tiny_listener import tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.decide import Decider, Decision, Detection
from kws_demo.drawings.tradeoff import tradeoff
from kws_demo.stream import listen
from kws_demo.thresholds import load_thresholds
from kws_demo.tune import GRID, choose, thresholds_for
from kws_demo.tune_audio import Heard, Piece, Stream, hear, negatives, positives
from kws_demo.tune_cli import _text, tune
from toolkit.cli import Commands
from toolkit.errors import MilliwiseError


class Tuning(Commands):
    """The command group with this command alone, wherever it is registered."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return tune if name == "tune" else None


def milliwise(*arguments: object) -> Result:
    return CliRunner().invoke(Tuning(), [str(each) for each in arguments])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


def folder(path: Path, **files: np.ndarray) -> Path:
    for name, audio in files.items():
        place = path / f"{name.replace('__', '/')}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, audio, 16000)
    return path


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """Two minutes in which a "keyword" is heard faintly once, clearly once, and as if it were one, for long, once."""
    files = {
        "a": tone(60, [(10, 11)], amplitude=0.22),
        "b__c": tone(60, [(20, 21)], amplitude=0.24) + tone(60, [(40, 42)]),
    }
    return folder(tmp_path / "negatives", **files)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    files = {f"LOUD__{index}": tone(1, [(0.2, 0.8)], amplitude=0.3) for index in range(6)}
    return folder(tmp_path / "clips", **files, LOUD__faint=tone(1, [], amplitude=0), house__1=tone(1, [(0, 1)]))


def of_runs(runs: list[Run], hours: float) -> Heard:
    return Heard(tracked(scored(runs), 200, Decision(), lowest=float(GRID[0])), hours, [])


def test_the_grid_is_what_thresholds_may_be() -> None:
    assert GRID[0] == 0.3 and GRID[-1] == 1 and (np.diff(GRID) > 0).all() and len(GRID) < 200


def test_shares_are_equal_and_what_is_left_goes_to_the_highest() -> None:
    counts = np.array([[4, 2, 0], [3, 2, 1], [1, 2, 0], [0, 1, 0], [0, 0, 0]])
    assert choose(counts, 0).tolist() == [3, 4, 2]  # from there on none, though the third was at 0 once before
    assert choose(counts, 3).tolist() == [2, 3, 0]
    assert choose(counts, 1).tolist() == [3, 3, 2]  # the one goes to the second, whose threshold is highest
    assert choose(counts, 5).tolist() == [2, 0, 0]
    assert choose(np.array([[9], [9]]), 0).tolist() == [1]  # none is high enough: the last


@settings(max_examples=40)
@given(RUNS, st.integers(1, 5))
def test_a_decider_with_the_thresholds_announces_what_is_said_and_no_more_than_allowed(
    runs: list[Run], allowed: int
) -> None:
    tuned = thresholds_for(of_runs(runs, hours=2.0), allowed / 2)
    found = announced(scored(runs), 200, Decision(), [tuned.thresholds[word] for word in LABELS[2:]])
    counts = {word: sum(label == word for _, label in found) for word in LABELS[2:]}
    assert counts == tuned.false_alarms and tuned.total <= tuned.allowed == allowed
    for row in tuned.curve[::20]:
        assert len(announced(scored(runs), 200, Decision(), [row["threshold"]] * 2)) == round(row["fa_per_hour"] * 2)


def test_the_threshold_is_the_lowest_of_the_grid() -> None:
    runs: list[Run] = [(0, 0.9, 20), (2, 0.615, 8), (0, 0.9, 20), (2, 0.805, 8), (0, 0.9, 20)]
    assert thresholds_for(of_runs(runs, 6.0), 0.5).thresholds == {"yes": 0.3, "no": 0.3}
    assert thresholds_for(of_runs(runs, 6.0), 0.2).thresholds == {"yes": 0.62, "no": 0.3}
    assert thresholds_for(of_runs(runs, 6.0), 0.1).thresholds == {"yes": 0.81, "no": 0.3}


@pytest.mark.parametrize(("hours", "supported"), [(6.0, True), (5.9, False), (0.1, False), (60.0, True)])
def test_a_rate_is_supported_by_three_over_the_rate_hours(hours: float, supported: bool) -> None:
    tuned = thresholds_for(of_runs([(0, 0.9, 20)], hours), 0.5)
    assert tuned.supported is supported and tuned.hours_needed == 6
    summary = tuned.summary()
    assert summary["fa_per_hour"] == 0 and summary["fa_upper"] == pytest.approx(3 / hours, rel=0.01)
    assert summary["frr"] is None


def test_every_further_keyword_that_chose_its_threshold_weakens_the_bound() -> None:
    alarm: list[Run] = [(0, 0.9, 20), (2, 0.615, 8), (0, 0.9, 20), (3, 0.615, 8), (0, 0.9, 20)]
    one, both = thresholds_for(of_runs(alarm[:3], 30.0), 0.01), thresholds_for(of_runs(alarm, 30.0), 0.01)
    assert (one.total, both.total) == (0, 0) and both.thresholds == {"yes": 0.62, "no": 0.62}
    assert one.fa_upper == pytest.approx(2.9957 / 30, rel=1e-4)
    assert both.fa_upper == pytest.approx(4.7439 / 30, rel=1e-4)  # as if there had been one


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(MilliwiseError, match="give a rate above 0"):
        thresholds_for(of_runs([], 1.0), rate)
    with pytest.raises(MilliwiseError, match="no audio"):
        thresholds_for(of_runs([], 0.0), 1.0)


def test_clips_are_laid_where_they_are_said_to_be(tiny: Path, clips: Path) -> None:
    stream, said = positives(clips, Listener.open(tiny), 0)
    audio = np.concatenate([block for piece in stream.pieces for block in piece.blocks])
    assert said.labels == ["loud"] * 7 and len(audio) / 16000 == pytest.approx(stream.seconds, abs=0.2)
    begins = (said.begins_ms * 16).round().astype(int)
    energy = [float(np.abs(audio[begin + 3300 : begin + 12700]).mean()) for begin in begins]
    assert sorted(np.array(energy) > 0.1).count(True) == 6
    assert np.diff(said.begins_ms).min() >= 1000 + 3000 and 0 < np.abs(audio[: begins[0]]).max() < 0.01


def test_tuned_thresholds_hold_in_the_stream(tiny: Path, noisy: Path, clips: Path, tmp_path: Path) -> None:
    written = tmp_path / "thresholds.json"
    done = milliwise(
        "tune", tiny, "--negatives", noisy, "--fa-per-hour", 100, "--positives", clips, "-o", written, "--json"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told) >= {"thresholds", "fa_per_hour", "fa_upper", "frr", "hours", "synthetic", "supported", "curve"}
    assert told["hours"] == pytest.approx(120 / 3600) and told["false_alarms"] == 3 and not told["synthetic"]
    assert told["words"]["loud"] == {"false_alarms": 3, "clips": 7, **{k: told[k] for k in told if "frr" in k}}
    assert told["frr"] == pytest.approx(1 / 7)
    strict = json.loads(milliwise("tune", tiny, "--negatives", noisy, "--fa-per-hour", 70, "--json").stdout)
    assert strict["false_alarms"] == 2 and strict["thresholds"]["loud"] > told["thresholds"]["loud"]
    listener = Listener.open(tiny)
    for thresholds, expected in ((load_thresholds(written, listener), 3), (strict["thresholds"], 2)):
        found: list[Detection] = []
        decider = Decider(listener.labels, 200, Decision(**listener.metadata.decision), thresholds)
        for name in ("a", "b/c"):
            listen(listener, wav_blocks(soundfile.read(noisy / f"{name}.wav", dtype="float32")[0], 3200), decider,
                   found.append)  # fmt: skip
        assert len(found) == expected


def test_too_few_hours_are_said_plainly_and_exit_1(tiny: Path, noisy: Path, tmp_path: Path) -> None:
    faint = folder(tmp_path / "faint", a=tone(60, [(10, 11)], amplitude=0.24))
    done = milliwise("tune", tiny, "--negatives", faint, "--fa-per-hour", 0.5, "-o", tmp_path / "guess.json")
    assert done.exit_code == 1 and "best guess, which needs at least 6 h" in done.stdout
    assert 0.7 < load_thresholds(tmp_path / "guess.json", Listener.open(tiny))["loud"] < 1
    assert json.loads((tmp_path / "guess.json").read_text())["measured"]["supported"] is False


def test_a_keyword_that_no_threshold_tames_is_named() -> None:
    loud: list[Run] = [(0, 0.9, 20), (2, 1.0, 8), (0, 0.9, 20)]
    tuned = thresholds_for(of_runs(loud, 60.0), 0.01)
    assert tuned.never == ["yes"] and tuned.thresholds == {"yes": 1.0, "no": 0.3}
    assert "never found, for no threshold keeps them within their share: yes;" in _text(tuned, None)


def test_thresholds_with_which_nothing_is_heard_are_not_written(tiny: Path, noisy: Path, tmp_path: Path) -> None:
    done = milliwise("tune", tiny, "--negatives", noisy, "--fa-per-hour", 0.5, "-o", tmp_path / "guess.json")
    assert done.exit_code == 1 and "nothing is written: with these thresholds no keyword" in done.stdout
    assert not (tmp_path / "guess.json").exists()


def test_a_keyword_among_the_negatives_is_named_with_its_time(tiny: Path, noisy: Path) -> None:
    done = milliwise("tune", tiny, "--negatives", noisy, "--fa-per-hour", 100, "--json")
    (suspect,) = json.loads(done.stdout)["suspects"]
    assert suspect["keyword"] == "loud" and suspect["name"].endswith("b/c.wav")
    assert 39 <= suspect["start_s"] <= 40.5 and "check" in done.stderr and "is 'loud' said there?" in done.stderr


@pytest.mark.parametrize("name", ["loud__1", "x__Loud__2", "loud_3", "LOUD-7"])
def test_recordings_named_like_a_keyword_are_refused(name: str, tiny: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "negatives", **{name: tone(1, [])})
    with pytest.raises(MilliwiseError, match="the keyword 'loud' by their name"):
        negatives(str(place), Listener.open(tiny), 0)


def test_other_names_are_not(tiny: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "negatives", aloud__1=tone(1, []), loud_street_2=tone(2, []), loudly=tone(0.5, []))
    stream = negatives(str(place), Listener.open(tiny), 0)
    assert stream.seconds == 3.5
    heard = hear(Listener.open(tiny), stream, "")
    assert heard.hours == pytest.approx(3.6 / 3600) and len(heard.track) > 0  # each file ends with a whole hop


@pytest.mark.parametrize(
    ("spec", "spoken", "message"),
    [
        ("synth:ru:0.1", (), "cannot say 'loud' in 'ru', so its talk may hold the keyword: give --spoken"),
        ("synth:ru:0.1", ("громко", "тихо"), "--spoken has 2 words for 1 keywords"),
        ("synth:ru:0.1", ("",), "cannot say ''"),
        ("somewhere", ("громко",), "--spoken is for generated talk alone"),
    ],
)
def test_talk_is_known_to_be_without_keywords(spec: str, spoken: tuple[str, ...], message: str, tiny: Path) -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(MilliwiseError, match=re.escape(message)):
        negatives(spec, Listener.open(tiny), 0, spoken=spoken)
    assert negatives("synth:ru:0.1", Listener.open(tiny), 0, spoken=("громко",)).synthetic


def test_states_are_kept_between_files_and_synthetic_talk_holds_no_suspects(tiny: Path) -> None:
    listener = Listener.open(tiny)

    def heard(parts: Iterable[np.ndarray], synthetic: bool) -> Heard:
        pieces = [Piece(str(index), wav_blocks(part, 3200)) for index, part in enumerate(parts)]
        return hear(listener, Stream(pieces, 1.0, synthetic), "")

    audio = tone(12, [(4, 8)])
    cut, whole = heard(np.split(audio, 3), False), heard([audio], True)
    every = np.linspace(0.3, 1, 20)[:, None]
    assert (cut.track.counts(every) == whole.track.counts(every)).all() and cut.hours == whole.hours
    assert [each.name for each in cut.suspects] == ["1"] and whole.suspects == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--negatives", "{none}", "--fa-per-hour", "1"], "cannot read the folder"),
        (["--negatives", "{empty}", "--fa-per-hour", "1"], "holds no"),
        (["--negatives", "{broken}", "--fa-per-hour", "1"], "is not audio"),
        (["--negatives", "{noisy}", "--fa-per-hour", "0"], "not in the range"),
        (["--negatives", "{noisy}", "--fa-per-hour", "nan"], "not a finite number"),
        (["--negatives", "{noisy}", "--fa-per-hour", "1", "--noise", "{noisy}"], "generated talk alone"),
        (["--negatives", "{noisy}", "--fa-per-hour", "1", "--positives", "{noisy}"], "no folder of a keyword"),
        (["--negatives", "{noisy}", "--fa-per-hour", "1", "-o", "{noisy}"], "it is a folder"),
        (["--negatives", "synth", "--fa-per-hour", "1"], "synth:en:6"),
        (["--negatives", "synth:6", "--fa-per-hour", "1"], "synth:en:6"),
        (["--negatives", "synth:en:0", "--fa-per-hour", "1"], "out of range"),
        (["--negatives", "synth:en:nan", "--fa-per-hour", "1"], "synth:en:6"),
        (["--negatives", "synth:en:9999", "--fa-per-hour", "1"], "at most 1000"),
        (["--negatives", "synth:xx:1", "--fa-per-hour", "1"], "no language 'xx'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, tiny: Path, noisy: Path, tmp_path: Path
) -> None:
    names = {name: tmp_path / name for name in ("none", "empty", "broken")} | {"noisy": noisy}
    names["empty"].mkdir()
    names["broken"].mkdir()
    (names["broken"] / "x.wav").write_bytes(b"not audio")
    done = milliwise("tune", tiny, *[each.format(**names) for each in arguments])
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1


def test_talk_is_said_to_be_synthetic_wherever_it_is_shown(tiny: Path, clips: Path, tmp_path: Path, monkeypatch:
                                                          pytest.MonkeyPatch) -> None:  # fmt: skip
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("wordfreq")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("kws_demo.talk.VOCABULARY", 300)
    svg, written = tmp_path / "curve.svg", tmp_path / "thresholds.json"
    spec = ("--negatives", "synth:en-us:0.01", "--fa-per-hour", 500, "--positives", clips)
    done = milliwise("tune", tiny, *spec, "--drawing", svg, "-o", written)
    assert done.exit_code == 0, done.output
    assert "0.01 h of synthetic talk" in done.stdout and "0.01 h of synthetic talk" in svg.read_text()
    assert json.loads(written.read_text())["measured"]["synthetic"] is True
    assert ElementTree.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("with_clips", [True, False])
def test_the_drawing_shows_every_threshold_the_limit_and_the_choice(with_clips: bool) -> None:
    summary = thresholds_for(of_runs([(0, 0.9, 20), (2, 0.62, 8), (0, 0.9, 20)], 6.0), 0.5).summary()
    if with_clips:
        for row in [summary, *summary["curve"]]:
            row |= {"frr": 0.2, "frr_low": 0.1, "frr_high": 0.4}
    markup = tradeoff(summary)
    assert markup is not None
    root = ElementTree.fromstring(markup)
    tips = [element.findtext("title") for element in of_class(root, "net")]
    assert [tip.split(":")[0] for tip in tips if tip] == [f"threshold {value:g}" for value in GRID]
    assert all(("20.0 % missed" in str(tip)) is with_clips for tip in tips)
    assert "asked for: 0.5 an hour" in [element.findtext("title") for element in of_class(root, "limit")]
    assert len(of_class(root, "chosen")) == 2 * with_clips
    assert any("6 h of recordings" in text for text in words(root))
    assert tradeoff({}) is None and tradeoff({"curve": [], "hours": 1}) is None
