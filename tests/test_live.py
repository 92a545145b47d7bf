"""Live sources: gaps in time, microphones that return, and drivers that give no numbers."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_sound import FakeSound, sound  # noqa: F401 (a fixture)
from test_stream import milliwise
from tiny_listener import HOP, tone, write

from exporters.listener import Listener
from kws_demo import live
from kws_demo.decide import Decider
from kws_demo.live import Live
from kws_demo.microphone import Microphone
from kws_demo.stream import Hop, listen


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


class Clocks:
    """A world in which nothing takes time, but for what is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s = self.awake_s = 1000.0
        monkeypatch.setattr(live, "wall_s", lambda: self.wall_s)
        monkeypatch.setattr(live, "awake_s", lambda: self.awake_s)

    def sleep(self, seconds: float) -> None:
        """The machine sleeps."""
        self.wall_s += seconds

    def work(self, seconds: float) -> None:
        self.wall_s, self.awake_s = self.wall_s + seconds, self.awake_s + seconds


def test_what_was_heard_before_a_gap_is_forgotten(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, said = Clocks(monkeypatch), list[str]()
    loud, quiet = tone(0.2, [(0, 0.2)]), np.zeros(HOP, np.float32)

    def heard(gap_s: float, away: bool) -> list[Hop]:
        def blocks() -> Iterator[np.ndarray]:
            clocks.work(60)  # the first block is waited for
            for block in [quiet, loud, loud]:
                yield block
                clocks.work(0.2)
            clocks.work(gap_s) if away else clocks.sleep(gap_s)
            yield quiet
            yield quiet

        listener, hops = Listener.open(tiny), list[Hop]()
        source = Live(blocks(), 0.2, said.append)
        assert listen(listener, source, Decider(listener.labels, 200), lambda found: None, hops.append).hops == 5
        return hops

    plain = heard(0, away=True)
    assert said == [] and plain[3].scores.probabilities[2] > 0.9  # what was loud is remembered
    np.testing.assert_array_equal(heard(1.9, away=True)[3].scores.probabilities, plain[3].scores.probabilities)
    assert said == []
    for away in (True, False):
        after = heard(3600, away)
        np.testing.assert_array_equal(after[3].scores.probabilities, plain[0].scores.probabilities)
        assert after[3].result.top == "_silence_" and after[3].result.score == 0  # too few scores to say anything
    assert [line[:16] for line in said] == ["a gap of 3600 s "] * 2


def test_a_microphone_that_returns_has_said_so_itself(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clocks(monkeypatch)
    loud = tone(0.2, [(0, 0.2)])

    class Source:
        overflows, returns = 0, 5  # of earlier

        def __iter__(self) -> Iterator[np.ndarray]:
            yield loud
            self.returns += 1
            yield loud
            yield loud

    said, hops, listener = list[str](), list[Hop](), Listener.open(tiny)
    listen(listener, Live(Source(), 0.2, said.append), Decider(listener.labels, 200), print, hops.append)
    first, second, third = (hop.scores.probabilities[2] for hop in hops)
    assert said == [] and first == second != third  # however short it was away


def test_a_hop_that_takes_long_is_no_gap_but_sleep_in_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, said = Clocks(monkeypatch), list[str]()
    for number, _block in enumerate(Live([np.zeros(HOP)] * 4, 0.2, said.append)):
        clocks.work(30)
        assert len(said) == (number > 2)
        if number == 2:
            clocks.sleep(30)
    assert len(said) == 1


def test_nothing_of_a_pipe_is_lost_but_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, said = Clocks(monkeypatch), list[str]()

    def blocks() -> Iterator[np.ndarray]:
        for rest in (clocks.work, clocks.work, clocks.sleep, clocks.work):
            rest(30)
            yield np.zeros(HOP)

    source = Live(blocks(), 0.2, said.append, waits=True)
    assert [source.after_gap for _block in source] == [False, False, True, False]
    assert [line[:14] for line in said] == ["a gap of 30 s "]


def test_clocks_go_on() -> None:
    wall, awake = live.wall_s(), live.awake_s()
    time.sleep(0.01)
    assert live.wall_s() - wall >= 0.009 and live.awake_s() - awake >= 0.009


def test_a_driver_that_gives_no_numbers_is_said_once_and_listened_to(
    tiny: Path,
    sound: FakeSound,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunks = np.split(tone(3, [(1, 2)])[:, None].copy(), 60)
    for place in (3, 25):
        chunks[place][:10] = np.nan
        chunks[place][10:20] = np.inf
    sound.script = [(chunk, False) for chunk in chunks]

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Microphone, "_retry", lambda self: interrupt())
    done = milliwise("stream", tiny, "--device", "2", "--json")
    found, summary = map(json.loads, done.stdout.splitlines())
    assert found["keyword"] == "loud" and summary["invalid_samples"] == 40
    assert sum("not numbers: zeros" in line for line in done.stderr.splitlines()) == 1
