"""Decide from the scores of a listener when a keyword was said (Warden 2018, https://arxiv.org/abs/1804.03209)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from exporters.metadata import DECISION_RANGES, SILENCE, UNKNOWN, check_decision
from toolkit.errors import MilliwiseError


@dataclass(frozen=True)
class Decision:
    """The settings of a decision.

    Raises:
        MilliwiseError: a value is out of range.
    """

    average_ms: float = 500  # scores of this long are averaged
    threshold: float = 0.7  # the averaged score a keyword has to exceed
    suppression_ms: float = 1500  # after a word, another one is heard only when more than this has passed
    minimum_count: int = 3  # fewer scores than this are not averaged

    def __post_init__(self) -> None:
        if not check_decision(asdict(self)):
            raise MilliwiseError(f"the decision settings are {asdict(self)}; they must be {DECISION_RANGES}")


class Result(NamedTuple):
    """The recogniser's answer to one hop; a new one whose label is not `_silence_` is a *found word* of the metrics."""

    top: str
    score: float
    is_new: bool


class Detection(NamedTuple):
    """A keyword was said: in the window that starts at `start_s`, with this averaged score."""

    keyword: str
    start_s: float
    score: float


def is_keyword(label: str) -> bool:
    """Whether a label is one of the user's words."""
    return label not in (SILENCE, UNKNOWN)


class Decider:
    """Averages scores over time and reports each word once; it knows nothing of audio or of a model."""

    def __init__(
        self,
        labels: Sequence[str],
        hop_ms: float,
        settings: Decision | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """For scores of `labels` that come every `hop_ms`.

        `thresholds` of single keywords (0-1) stand before the one of the settings, which every other label has.

        Raises:
            MilliwiseError: the average never holds `minimum_count` scores or a quarter of its time, so nothing would
                ever be found; or a threshold is out of range or of no keyword.
        """
        self.labels, self.settings = tuple(labels), settings or Decision()
        _check_hop(self.settings, hop_ms)
        check_thresholds(thresholds or {}, self.labels)
        self.thresholds = {label: self.settings.threshold for label in self.labels} | dict(thresholds or {})
        self.reset()

    def reset(self) -> None:
        """Forget all scores and the last word."""
        self.average = np.zeros(len(self.labels), np.float32)  # [labels], of the last hop that had enough scores
        self._queue: deque[tuple[float, np.ndarray]] = deque()
        self._last_top, self._last_ms = SILENCE, -math.inf

    def update(self, start_ms: float, probabilities: np.ndarray) -> Result:
        """Take the scores [labels] of the window that starts at `start_ms`; the times must not go back."""
        settings, queue = self.settings, self._queue
        queue.append((start_ms, probabilities))
        while queue[0][0] < start_ms - settings.average_ms:
            queue.popleft()
        if len(queue) < settings.minimum_count or start_ms - queue[0][0] < settings.average_ms / 4:
            return Result(self._last_top, 0.0, False)
        self.average = np.mean([scores for _, scores in queue], axis=0)
        index = int(self.average.argmax())
        top, score = self.labels[index], float(self.average[index])
        first = self._last_top == SILENCE or self._last_ms == -math.inf
        since_ms = math.inf if first else start_ms - self._last_ms
        is_new = score > self.thresholds[top] and top != self._last_top and since_ms > settings.suppression_ms
        if is_new:
            self._last_top, self._last_ms = top, start_ms
        return Result(top, score, is_new)

    def push(self, start_ms: float, probabilities: np.ndarray) -> Detection | None:
        """`update`, for those who only want to hear of keywords."""
        return detection(start_ms, self.update(start_ms, probabilities))


def check_thresholds(thresholds: Mapping[str, float], labels: Sequence[str]) -> None:
    """Refuse thresholds that no decider of `labels` can have.

    Raises:
        MilliwiseError: one is no number from 0 to 1, or of a word that is no keyword.
    """
    keywords = [label for label in labels if is_keyword(label)]
    for word, value in thresholds.items():
        if word not in keywords:
            raise MilliwiseError(
                f"there is a threshold of {str(word)[:60]!a}, which the listener does not know;"
                f" its keywords are {', '.join(keywords)}"
            )
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise MilliwiseError(f"the threshold of {word!a} is {value!a:.60}; it must be a number from 0 to 1")


def never_found(thresholds: Mapping[str, float]) -> list[str]:
    """The keywords of a decider's thresholds that nobody can say: no score exceeds 1.

    Raises:
        MilliwiseError: all of them.
    """
    keywords = [label for label in thresholds if is_keyword(label)]
    never = [word for word in keywords if thresholds[word] >= 1]
    if never == keywords:
        raise MilliwiseError(
            "no keyword would ever be found: a score has to exceed the threshold, which is 1, and none is above 1;"
            " choose a threshold below 1, such as 0.7"
        )
    return never


def _check_hop(settings: Decision, hop_ms: float) -> None:
    """Refuse settings with which `update` waits for ever."""
    average, hops = f"an average of {settings.average_ms:g} ms", math.floor(settings.average_ms / hop_ms)
    if hops * hop_ms < settings.average_ms / 4:  # only when no second score falls into the average
        raise MilliwiseError(
            f"{average} finds nothing: it holds one score at a hop of {hop_ms:g} ms; choose average_ms >= {hop_ms:g},"
            " or export the listener again"
        )
    if settings.minimum_count > hops + 1:
        raise MilliwiseError(
            f"minimum_count {settings.minimum_count} finds nothing: {average} holds {hops + 1} scores at a hop of"
            f" {hop_ms:g} ms; choose minimum_count <= {hops + 1}"
        )


def detection(start_ms: float, result: Result) -> Detection | None:
    """What a user is told of a result: a new keyword, neither silence nor an unknown word."""
    if not result.is_new or not is_keyword(result.top):
        return None
    return Detection(result.top, start_ms / 1000, result.score)
