"""What a listener scored over hours, in little memory, and what a decider announces of it at any thresholds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from exporters.metadata import SILENCE
from kws_demo.decide import Decision, Result, is_keyword
from toolkit.progress import progress

SHOW_FROM = 200_000  # results; fewer are replayed in less than two seconds


class Track:
    """The results of a stream that may be new at some threshold, 14 bytes each.

    Averages, and which label is on top, do not depend on thresholds: a stream scored once can be decided again for
    any of them, exactly as `Decider` does.
    """

    def __init__(self, labels: Sequence[str], settings: Decision, lowest: float = 0.0) -> None:
        """For the results of a decider with these labels and settings; no keyword will have a threshold < `lowest`."""
        self.labels, self.settings = tuple(labels), settings
        self._place = {label: place for place, label in enumerate(self.labels)}
        self._lowest = [lowest if is_keyword(label) else settings.threshold for label in self.labels]
        self._starts_ms, self._tops, self._scores = array("d"), array("h"), array("f")

    def __len__(self) -> int:
        return len(self._tops)

    def add(self, start_ms: float, result: Result) -> None:
        """Keep the result of the window that starts at `start_ms`, if a decider could ever call it new."""
        top = self._place[result.top]
        if result.score > self._lowest[top]:
            self._starts_ms.append(start_ms)
            self._tops.append(top)
            self._scores.append(result.score)

    def announcements(self, thresholds: np.ndarray) -> Iterator[tuple[float, int, np.ndarray]]:
        """What deciders with the thresholds [rows, keywords] would tell, all in one pass over the stream.

        Yields (start_ms, label, told): the keyword with this place among the labels is new at the rows where `told`
        (bool [rows]) is true. The other labels have the threshold of the settings.
        """
        rows = len(thresholds)
        limits = np.full((len(self.labels), rows), self.settings.threshold)
        keywords = [place for place, label in enumerate(self.labels) if is_keyword(label)]
        limits[keywords] = thresholds.T
        silence = self._place.get(SILENCE, -1)
        last_top, last_ms = np.full(rows, silence), np.full(rows, -np.inf)
        told_to = set(keywords)
        title = "counting what is announced" if len(self) >= SHOW_FROM else ""
        with progress(title, len(self)) as advance:
            for start_ms, top, score in zip(self._starts_ms, self._tops, self._scores, strict=True):
                free = (last_top == silence) | (start_ms - last_ms > self.settings.suppression_ms)
                new = (score > limits[top]) & (last_top != top) & free
                if new.any():
                    last_top[new], last_ms[new] = top, start_ms
                    if top in told_to:
                        yield start_ms, top, new
                if title:
                    advance(1)

    def counts(self, thresholds: np.ndarray) -> np.ndarray:
        """How often each keyword is announced at the thresholds [rows, keywords]: int [rows, keywords]."""
        found = np.zeros((len(thresholds), len(self.labels)), np.int64)
        for _, label, told in self.announcements(thresholds):
            found[:, label] += told
        return found[:, [is_keyword(label) for label in self.labels]]
