"""Streaming an adaptive listener: which modes ran, and what a budget makes of it."""

import json
from pathlib import Path

import pytest
import soundfile
from fake_adaptive import MODES, adaptive
from test_stream import milliwise
from tiny_listener import HOP, tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.decide import Decider
from kws_demo.dial import Dial
from kws_demo.stream import Hop, listen


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


def test_the_meter_is_told_what_an_adaptive_listener_did(gated: Path) -> None:
    listener = Listener.open(gated)
    hops: list[Hop] = []
    blocks, dial = wav_blocks(tone(4, [(2, 4)]), HOP), Dial.of(listener, 0.5)
    listen(listener, blocks, Decider(listener.labels, 200), lambda found: None, hops.append, dial=dial)
    assert {hop.ran for hop in hops} == {("off", 0.5, 0.5, "budget")}
    blocks = wav_blocks(tone(0.4, [(0, 0.4)]), HOP)
    listen(listener, blocks, Decider(listener.labels, 200), lambda found: None, hops.append)
    assert hops[-1].ran is None and hops[-1].scores.mode == 0  # the listener's dial is as it was left
