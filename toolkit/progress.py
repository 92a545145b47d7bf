"""Show how far a long step is and how much time is left, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Advance = Callable[[float], None]


@contextmanager
def progress(title: str, total: float) -> Iterator[Advance]:
    """A bar on a terminal, a line every five seconds elsewhere; the yielded function advances it by some of `total`.

    Without a title nothing is shown: the caller shows the progress of something larger.
    """
    if not title or sys.stderr is None:
        yield lambda amount: None
    elif sys.stderr.isatty():
        with _bar(title, total) as advance:
            yield advance
    else:
        with _lines(title, total) as advance:
            yield advance


@contextmanager
def countdown(title: str, seconds: float) -> Iterator[Callable[[], float]]:
    """As `progress`, of work that ends with its time: the yielded function says what share of that is over, up to 1."""
    begun, shown = time.monotonic(), 0.0
    with progress(title, 1.0) as advance:

        def over() -> float:
            nonlocal shown
            share = min(1.0, (time.monotonic() - begun) / seconds)
            advance(share - shown)
            shown = share
            return share

        yield over


@contextmanager
def _bar(title: str, total: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)


@contextmanager
def _lines(title: str, total: float, every_seconds: float = 5.0) -> Iterator[Advance]:
    begun = said = time.monotonic()
    done = 0.0

    def advance(amount: float) -> None:
        nonlocal said, done
        done += amount
        now = time.monotonic()
        if now - said >= every_seconds and 0 < done < total:
            said = now
            left = (now - begun) / done * (total - done)
            say(f"{title}: {100 * done / total:.0f} %, about {left:.0f} s left")

    yield advance
    say(f"{title}: done in {time.monotonic() - begun:.0f} s")


def say(line: str) -> None:
    """Write a line to standard error, in one piece."""
    with suppress(OSError):  # nobody reads it, or a log is on a full disk: no reason to lose the work
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
