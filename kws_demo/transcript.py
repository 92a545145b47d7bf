"""What a listener found in a recording: every word, `_unknown_` included, which modes ran, and what it cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from exporters.listener import Listener
from exporters.metadata import SILENCE
from kws_demo.decide import Decider, Result
from kws_demo.dial import Dial
from kws_demo.score import Found
from kws_demo.stream import Hop, Summary, listen


@dataclass(frozen=True)
class Transcript:
    """All a recording was heard as."""

    found: list[Found]
    modes: dict[str, int]  # mode → hops; empty of a model that has none
    summary: Summary
    period_variation: float | None  # of the hops, (longest − shortest) / mean as MLPerf has it; None where not paced


class Notes(Decider):
    """A decider that keeps every found word; `push` and `listen` tell of keywords only."""

    def reset(self) -> None:
        """Forget all scores and words."""
        super().reset()
        self.found: list[Found] = []

    def update(self, start_ms: float, probabilities: np.ndarray) -> Result:
        """As a decider does."""
        result = super().update(start_ms, probabilities)
        if result.is_new and result.top != SILENCE:
            self.found.append(Found(result.top, start_ms, result.score))
        return result


class Paced:
    """Hands out blocks when a microphone would, and measures how even their periods are."""

    def __init__(self, blocks: Iterable[np.ndarray], hop_ms: float) -> None:
        """For blocks of `hop_ms` each."""
        self._blocks, self._hop_ms = blocks, hop_ms
        self._shortest_ms, self._longest_ms = math.inf, 0.0
        self._begun_ms = self._last_ms = 0.0
        self._periods = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        self._begun_ms = self._last_ms = _now_ms()
        for count, block in enumerate(self._blocks):
            time.sleep(max(0.0, self._begun_ms + count * self._hop_ms - _now_ms()) / 1000)
            if count:
                self._measure(_now_ms())
            yield block

    def _measure(self, now_ms: float) -> None:
        period_ms, self._last_ms = now_ms - self._last_ms, now_ms
        self._shortest_ms, self._longest_ms = min(self._shortest_ms, period_ms), max(self._longest_ms, period_ms)
        self._periods += 1

    @property
    def variation(self) -> float | None:
        """(longest − shortest) / mean period; None before there were two periods."""
        if self._periods < 2:
            return None
        return (self._longest_ms - self._shortest_ms) / ((self._last_ms - self._begun_ms) / self._periods)


def transcribe(
    listener: Listener,
    blocks: Iterable[np.ndarray],
    notes: Notes,
    paced: bool = False,
    on_hop: Callable[[Hop], None] | None = None,
    budget_ms: float | None = None,
) -> Transcript:
    """Listen to blocks float32 [hop_samples] until they end; `paced` at the speed of life instead of at once.

    Of an adaptive listener no mode runs that would not in `milliwise stream`, with the same budget.

    Raises:
        MilliwiseError: the source or the listener fails.
        KeyboardInterrupt: on Ctrl-C.
    """
    source = Paced(blocks, 1000 * listener.hop_samples / listener.rate) if paced else blocks
    summary = listen(listener, source, notes, lambda found: None, on_hop, dial=Dial.of(listener, budget_ms))
    if summary.interrupted:  # a part of a recording cannot be scored against all of its words
        raise KeyboardInterrupt
    variation = source.variation if isinstance(source, Paced) else None
    return Transcript(notes.found, summary.modes or {}, summary, variation)


def _now_ms() -> float:
    return 1000 * time.perf_counter()
