"""A live meter in one line of the terminal: level, score with the threshold drawn in it, cost against the budget."""

from __future__ import annotations

import math
import os
import sys
import time
from types import TracebackType
from typing import NamedTuple, TextIO

import numpy as np
from rich.cells import cell_len, set_cell_size

SILENT_DB = -90.0
REDRAW_SECONDS = 0.08
CLEAR = "\r\x1b[2K"
SPARE_COLUMNS = 3  # for the ^C or ^Z that a terminal echoes behind the line, which must not wrap it


class Reading(NamedTuple):
    """What the meter shows of one hop."""

    level_db: float  # of the input against full scale
    keyword: str  # the likeliest one
    score: float  # its averaged score
    threshold: float  # the score it has to exceed
    hop_ms: float  # of the model's call
    budget_ms: float  # what the call may take
    late: int
    overflows: int
    mode: str | None = None  # which mode of an adaptive model ran
    why: str | None = None  # and why that one
    average_ms: float | None = None  # of the hops of the last minute: if there is a budget for that, not for each hop
    is_clipped: bool = False  # the input


def level_db(block: np.ndarray) -> float:
    """The root mean square of float samples in -1..1 as dB against full scale, at least -90."""
    power = float(np.mean(np.square(block, dtype=np.float64))) if len(block) else 0.0
    return max(SILENT_DB, 10 * math.log10(power)) if power > 0 else SILENT_DB


def bar(share: float, width: int, mark: float | None = None) -> str:
    """A bar of `width` cells filled up to `share` (0-1), with a line drawn at `mark`."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    cells = ["█"] * filled + ["·"] * (width - filled)
    if mark is not None:
        cells[min(max(int(mark * width), 0), width - 1)] = "│"
    return "".join(cells)


def render(reading: Reading, columns: int = 100) -> str:
    """One line of at most `columns` cells of a terminal; the score bar is what gives way on a narrow terminal."""
    clipped = "CLIPPED " if reading.is_clipped else ""
    level = f"{reading.level_db:4.0f} dB {bar(1 - reading.level_db / SILENT_DB, 8)} {clipped}"
    average = "" if reading.average_ms is None else f" ms, mean {reading.average_ms:.2f}"
    over = "!" if (reading.hop_ms if reading.average_ms is None else reading.average_ms) > reading.budget_ms else " "
    mode = f" {reading.mode}" + (f" ({reading.why})" if reading.why else "") if reading.mode else ""
    heard = "*" if reading.score > reading.threshold else " "
    name = f"{set_cell_size(reading.keyword, 12)} {reading.score:4.2f}{heard}"
    spent = f"{reading.hop_ms:6.2f}{average}/{reading.budget_ms:g} ms{over}"
    cost = f" {spent}{mode} late {reading.late} lost {reading.overflows}"
    width = min(40, columns - sum(map(cell_len, (level, name, cost))) - 2)
    score = f"[{bar(reading.score, width, reading.threshold)}]" if width >= 4 else ""
    line = f"{level}{name}{score}{cost}"
    return line if cell_len(line) <= columns else set_cell_size(line, columns)


class Meter:
    """Draws readings over each other on a terminal, some ten times a second; elsewhere it draws nothing."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """A meter on `stream` (standard error)."""
        self._stream = stream or sys.stderr
        self.live = self._stream.isatty()
        self._drawn = 0.0

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return self.live and time.monotonic() - self._drawn >= REDRAW_SECONDS

    def draw(self, reading: Reading) -> None:
        """Draw over the last reading."""
        if self.live:
            self._drawn = time.monotonic()
            self._write(CLEAR + render(reading, max(1, _columns(self._stream) - SPARE_COLUMNS)))

    def clear(self) -> None:
        """Take the line away, so that another one can be printed."""
        if self.live:
            self._write(CLEAR)

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except OSError:  # the terminal was closed: no reason to stop listening
            self.live = False


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
