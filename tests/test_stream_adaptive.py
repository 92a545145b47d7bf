"""Streaming an adaptive listener: which modes ran, and what a budget makes of it."""

import json
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner
from fake_adaptive import MODES, adaptive
from test_stream import milliwise
from tiny_listener import HOP, model, tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.decide import Decider
from kws_demo.dial import Dial
from kws_demo.score_cli import score
from kws_demo.stream import Hop, listen
from kws_demo.tune_audio import Piece, Stream, hear


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return write(tmp_path / "gated.onnx", adaptive())


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """15 s with 6 s of tone, in which both gates want to open."""
    soundfile.write(tmp_path / "long.wav", tone(15, [(4, 10)]), 16000)
    return tmp_path / "long.wav"


def test_an_adaptive_listener_says_which_modes_ran(gated: Path, long: Path) -> None:
    done = milliwise("stream", gated, "--wav", long, "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    expected = {mode["name"]: 0 for mode in MODES} | {"off": 45, "wide cold+deep cold": 1, "wide warm+deep warm": 29}
    assert summary["modes"] == expected and summary["hops"] == 75
    assert "modes: off 45, wide cold+deep cold 1, wide warm+deep warm 29" in done.stderr


def test_a_budget_holds_and_less_of_it_is_less(gated: Path, long: Path) -> None:
    spent = []
    for budget_ms in (0.1, 0.5, 0.7, 1.0, 1.4, 3.0):
        done = milliwise("stream", gated, "--wav", long, "--json", "--budget-ms", budget_ms)
        modes = json.loads(done.stdout.splitlines()[-1])["modes"]
        spent.append(sum(modes[mode["name"]] * mode["predicted_ms"] for mode in MODES) / 75)
        assert spent[-1] <= max(0.5, budget_ms) + 1e-9
        assert ("less than the cheapest mode" in done.stderr) == (budget_ms == 0.1)
    assert spent[0] == spent[1] == 0.5 and spent == sorted(spent) and spent[2] > 0.5
    assert spent[-1] == pytest.approx((45 * 0.5 + 10.5 + 29 * 2.5) / 75)  # as learned


def test_a_recording_is_scored_with_the_modes_that_stream_runs(gated: Path, long: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("loud, 4000\n")
    asked = ("--wav", long, "--labels", tmp_path / "long.txt", "--json")
    for budget in ((), ("--budget-ms", 0.7)):
        streamed = json.loads(milliwise("stream", gated, "--wav", long, "--json", *budget).stdout.splitlines()[-1])
        scored = json.loads(CliRunner().invoke(score, [str(each) for each in (gated, *asked, *budget)]).stdout)
        assert scored["modes"] == streamed["modes"]
    fixed = write(tmp_path / "fixed.onnx", model())
    refused = CliRunner().invoke(score, [str(each) for each in (fixed, *asked, "--budget-ms", 0.7)])
    assert "--budget-ms is of listeners that choose their network" in str(refused.exception)


def test_thresholds_are_tuned_for_the_modes_that_stream_runs(gated: Path, long: Path, tmp_path: Path) -> None:
    listener, pieces = Listener.open(gated), [*wav_blocks(soundfile.read(long, dtype="float32")[0], HOP)]
    ran: list[int | None] = []
    push = listener.push
    listener.push = lambda block: (scores := push(block), ran.append(scores.mode))[0]  # type: ignore[method-assign]
    hear(listener, Stream([Piece("long", pieces)], 15.0), "listening", budget_ms=0.5)
    assert ran == [0] * 75
    hear(listener, Stream([Piece("long", pieces)], 15.0), "listening")
    assert len(set(ran[75:])) == 3, "the dial of the time before is no more"


def test_the_meter_is_told_what_an_adaptive_listener_did(gated: Path) -> None:
    listener = Listener.open(gated)
    hops: list[Hop] = []
    blocks, dial = wav_blocks(tone(4, [(2, 4)]), HOP), Dial.of(listener, 0.5)
    listen(listener, blocks, Decider(listener.labels, 200), lambda found: None, hops.append, dial=dial)
    assert {hop.ran for hop in hops} == {("off", 0.5, 0.5, "budget")}
    blocks = wav_blocks(tone(0.4, [(0, 0.4)]), HOP)
    listen(listener, blocks, Decider(listener.labels, 200), lambda found: None, hops.append)
    assert hops[-1].ran is None and hops[-1].scores.mode == 0  # the listener's dial is as it was left
