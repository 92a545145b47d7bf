"""The live meter: what is drawn, and where nothing is."""

import io
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws_demo.audio import is_clipped
from kws_demo.meter import Meter, Reading, bar, level_db, render

READING = Reading(-30.0, "happy", 0.5, 0.7, 0.42, 2.0, 1, 3)


def test_level() -> None:
    sine = np.sin(np.arange(16000) * 2 * math.pi * 100 / 16000).astype(np.float32)
    assert level_db(sine) == pytest.approx(-3.01, abs=0.01)
    assert level_db(sine / 10) == pytest.approx(-23.01, abs=0.01)
    assert level_db(np.zeros(10, np.float32)) == level_db(np.zeros(0, np.float32)) == -90


def test_a_terminal_that_was_closed_is_drawn_on_no_more() -> None:
    class Closed(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    meter = Meter(Closed())
    assert meter.live
    meter.draw(READING)
    meter.clear()
    assert not meter.live


def test_the_threshold_is_drawn_in_the_bar() -> None:
    assert bar(0.5, 10, 0.7) == "█████··│··"
    assert bar(0.9, 10, 0.7) == "███████│█·"
    assert bar(2.0, 4) == "████" and bar(-1.0, 4) == "····" and bar(0.0, 4, 1.0) == "···│"


def test_everything_is_in_the_line() -> None:
    line = render(READING, 120)
    for part in ("-30 dB", "happy", "0.50", "│", "0.42/2 ms", "late 1", "lost 3"):
        assert part in line
    assert "!" not in line and "*" not in line


def test_over_budget_over_threshold_and_the_mode_are_marked() -> None:
    line = render(READING._replace(hop_ms=2.5, score=0.71, mode="small"), 120)
    assert "2.50/2 ms!" in line and "0.71*" in line and "small" in line


def test_an_adaptive_listener_is_held_to_its_mean_and_says_why() -> None:
    reading = READING._replace(hop_ms=5.0, mode="deep warm", why="budget", average_ms=1.5)
    assert "5.00 ms, mean 1.50/2 ms  deep warm (budget)" in render(reading, 120)
    assert "mean 2.50/2 ms!" in render(reading._replace(average_ms=2.5), 120)


def test_clipping_is_shown() -> None:
    sine = 2 * np.sin(np.arange(3200) / 5).astype(np.float32)
    assert is_clipped(np.clip(sine, -1, 1)) and is_clipped(np.full(3, -1, np.float32))
    assert not is_clipped(sine / 4) and not is_clipped(np.array([1.0, 0.9, 1.0], np.float32))
    assert not is_clipped(np.zeros(0, np.float32))
    assert "CLIPPED" in render(READING._replace(is_clipped=True), 120) and "CLIPPED" not in render(READING, 120)


@given(
    st.integers(1, 300), st.floats(-90, 0), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e5), st.integers(0, 10**9)
)
def test_a_line_never_leaves_its_columns(
    columns: int, db: float, score: float, threshold: float, hop_ms: float, count: int
) -> None:
    line = render(Reading(db, "a word of some length", score, threshold, hop_ms, 1.5, count, count, "big"), columns)
    assert len(line) <= columns and "\n" not in line


def cells(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line)


@given(st.integers(1, 120), st.text(st.sampled_from("ab はい예是ｱＡ"), min_size=1, max_size=20))
def test_wide_labels_take_two_cells(columns: int, keyword: str) -> None:
    assert cells(render(READING._replace(keyword=keyword, mode=keyword), columns)) <= columns


def test_wide_labels_do_not_move_the_bar() -> None:
    lines = [render(READING._replace(keyword=word), 80) for word in ("yes", "はい", "네", "a" * 30, "是" * 30)]
    assert len({cells(line[: line.index("[")]) for line in lines}) == 1
    assert all(line.endswith("lost 3") for line in lines)


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_over_and_cleared_and_its_encoding_kept() -> None:
    terminal = Terminal()
    with Meter(terminal) as meter:
        assert meter.due()
        meter.draw(READING)
    drawn = terminal.getvalue()
    assert drawn.startswith("\r\x1b[2K") and drawn.endswith("\r\x1b[2K") and "happy" in drawn
    assert drawn.isascii() and "\n" not in drawn
    assert len(drawn.split("\x1b[2K")[1].rstrip("\r")) <= 80 - len("^C") - 1  # the echo must not wrap the line


def test_elsewhere_nothing_is_drawn() -> None:
    stream = io.StringIO()
    with Meter(stream) as meter:
        meter.draw(READING)
        assert not meter.due()
    assert stream.getvalue() == ""
