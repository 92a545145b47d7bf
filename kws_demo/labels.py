"""Read a labels file: which words a recording holds, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from exporters.metadata import UNKNOWN
from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular

MAX_BYTES = 16_000_000
MAX_MS = 1e9  # eleven days
MAX_WORD = 100
ROUNDING_MS = 1.0  # a label in whole milliseconds may end so much behind a recording
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
FORM = "write 'word, start_ms' or 'word, start_ms, end_ms'"


class Truth(NamedTuple):
    """A word that was said."""

    word: str
    start_ms: float
    end_ms: float | None = None  # where it is known


def load_labels(path: Path) -> list[Truth]:
    """Read lines `word, start_ms` or `word, start_ms, end_ms`, in order of time; blank and `#` lines are skipped.

    No lines at all are fine: a recording without words.

    Raises:
        MilliwiseError: it cannot be read, has more than 16 MB, is not UTF-8, or a line of it is not as above.
    """
    name = printable(path)
    truths: list[Truth] = []
    for number, line in enumerate(_text(path, name).split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            truth = _truth(line)
        except ValueError as error:
            raise MilliwiseError(f"{name}, line {number}: {error}") from None
        if truths and truth.start_ms < truths[-1].start_ms:
            times = f"{truth.start_ms:.12g} ms comes after {truths[-1].start_ms:.12g} ms"
            raise MilliwiseError(f"{name}, line {number}: out of order ({times}); sort the lines by time")
        truths.append(truth)
    return truths


def check_within(truths: Iterable[Truth], duration_ms: float, name: str) -> None:
    """Refuse words that begin at or after the end of the recording, or end after it; `name` is that of the labels.

    Raises:
        MilliwiseError: one does.
    """
    for word, start_ms, end_ms in truths:
        if start_ms >= duration_ms or (end_ms or 0) > duration_ms + ROUNDING_MS:
            place = start_ms if start_ms >= duration_ms else end_ms
            raise MilliwiseError(
                f"{printable(name)}: {word} at {place:.12g} ms is past the end of the recording"
                f" ({duration_ms:.0f} ms); give the labels of this recording, in milliseconds"
            )


def as_labels(truths: Iterable[Truth], labels: Sequence[str]) -> tuple[list[Truth], list[str]]:
    """The words as a listener with these labels can say them, the others as `_unknown_`; and which those others are."""
    known = set(labels)
    others = {truth.word: None for truth in truths if truth.word not in known}
    return [truth._replace(word=UNKNOWN) if truth.word in others else truth for truth in truths], list(others)


def _text(path: Path, name: str) -> str:
    try:
        require_regular(Path(path))
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MilliwiseError(f"cannot read the labels {name}: {error.strerror}; give a text file") from None
    except ValueError:  # a null character in the name
        raise MilliwiseError(f"{name} does not name a labels file: give a text file") from None
    if len(content) > MAX_BYTES:
        raise MilliwiseError(f"the labels {name} have more than {MAX_BYTES} bytes: give a text file, {FORM}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MilliwiseError(f"the labels {name} are not UTF-8 text: {FORM}") from None


def _truth(line: str) -> Truth:
    """A line, or ValueError with what is wrong with it."""
    word, *times = (part.strip(" \t\r") for part in line.split(","))
    if not 1 <= len(times) <= 2:
        raise ValueError(f"it has {1 + len(times)} columns; {FORM}")
    if not 0 < len(word) <= MAX_WORD or not word.isprintable():
        raise ValueError(f"{_shown(word)} is not a word of 1 to {MAX_WORD} printable letters; {FORM}")
    start_ms, *end_ms = map(_time_ms, times)
    if end_ms and end_ms[0] <= start_ms:
        raise ValueError(f"{printable(word)} ends at {times[1]} ms and begins at {times[0]} ms; exchange the two")
    return Truth(word, start_ms, *end_ms)


def _time_ms(text: str) -> float:
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not a time in milliseconds; {FORM}")
    if float(text) > MAX_MS:
        raise ValueError(f"{_shown(text)} ms is more than {MAX_MS:g} ms; times are milliseconds from the beginning")
    return float(text)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")
