"""Choose a threshold for every keyword, so that false alarms stay below a rate, and say what that costs in misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws_demo.decide import is_keyword
from kws_demo.intervals import rate_interval, rate_upper, share_interval
from kws_demo.tune_audio import Heard, Said
from toolkit.errors import MilliwiseError

# Fine where listeners that are sure of themselves differ. Under 0.3 something else is nearly always likelier.
GRID = np.concatenate([np.linspace(0.3, 0.89, 60), np.linspace(0.9, 0.9875, 36), np.linspace(0.99, 1, 21)]).round(4)
ROUNDING = 1e-9


@dataclass(frozen=True)
class Tuning:
    """Thresholds, and what was measured with them: all false alarms are those a decider announces."""

    thresholds: dict[str, float]
    target_fa_per_hour: float
    hours: float
    synthetic: bool
    false_alarms: dict[str, int]
    missed: dict[str, tuple[int, int]] | None  # keyword -> misses, clips; None without clips
    curve: list[dict[str, Any]]  # one threshold for all keywords, from low to high

    @property
    def total(self) -> int:
        """False alarms of all keywords."""
        return sum(self.false_alarms.values())

    @property
    def supported(self) -> bool:
        """Whether so many hours can show the rate that was asked for: none heard in T hours shows only < 3 / T."""
        return rate_upper(0, self.hours) <= self.target_fa_per_hour and self.total <= self.allowed

    @property
    def fa_upper(self) -> float:
        """With 95 % confidence there are fewer an hour, on audio that chose no threshold.

        A threshold is chosen where the next false alarm would be one too many. For one keyword the exact bound of a
        rate holds all the same; of several, each further one may be that close to a false alarm more, which is counted.
        """
        chosen = sum(threshold > GRID[0] for threshold in self.thresholds.values())
        return rate_upper(self.total + max(0, chosen - 1), self.hours)

    @property
    def never(self) -> list[str]:
        """The keywords that have too many false alarms at every threshold that a score can exceed."""
        return [word for word, threshold in self.thresholds.items() if threshold >= 1]

    @property
    def allowed(self) -> int:
        """As many false alarms as the rate allows in the hours tested."""
        return _allowed(self.target_fa_per_hour, self.hours)

    @property
    def hours_needed(self) -> float:
        """The least hours that can show the rate, were nothing heard in them."""
        return 3 / self.target_fa_per_hour

    def summary(self) -> dict[str, Any]:
        """All of it as JSON: rates per hour, shares 0-1, bounds at 95 %."""
        low, high = rate_interval(self.total, self.hours)
        total = _shares(*map(sum, zip(*self.missed.values(), strict=True))) if self.missed else _shares(0, 0)
        return {
            "thresholds": self.thresholds,
            "fa_per_hour": self.total / self.hours,
            "fa_low": low,
            "fa_high": high,
            "fa_upper": self.fa_upper,
            **total,
            "false_alarms": self.total,
            "target_fa_per_hour": self.target_fa_per_hour,
            "hours": self.hours,
            "synthetic": self.synthetic,
            "supported": self.supported,
            "words": {word: self._word(word) for word in self.thresholds},
            "curve": self.curve,
        }

    def _word(self, word: str) -> dict[str, Any]:
        misses, clips = (self.missed or {}).get(word, (0, 0))
        return {"false_alarms": self.false_alarms[word], "clips": clips, **_shares(misses, clips)}


@dataclass(frozen=True)
class Clips:
    """Clips of keywords as a listener heard them."""

    heard: Heard
    said: Said
    window_ms: float

    def hits(self, thresholds: np.ndarray) -> np.ndarray:
        """Which clips are announced as what they are at the thresholds [rows, keywords]: bool [rows, clips].

        An announcement belongs to the clip that was the last to begin before it.
        """
        found = np.zeros((len(thresholds), len(self.said.labels)), bool)
        labels = self.heard.track.labels
        for start_ms, label, told in self.heard.track.announcements(thresholds):
            clip = int(np.searchsorted(self.said.begins_ms, start_ms + self.window_ms)) - 1
            if clip >= 0 and labels[label] == self.said.labels[clip]:
                found[:, clip] |= told
        return found


def thresholds_for(negatives: Heard, fa_per_hour: float, synthetic: bool = False, clips: Clips | None = None) -> Tuning:
    """The lowest thresholds with which a decider announces at most `fa_per_hour` on the negatives.

    Every keyword may have an equal share of the false alarms. They are counted with one threshold for all keywords;
    since announcements suppress each other, the chosen ones are then counted together, and raised together if need be.

    Raises:
        MilliwiseError: the rate is not above 0, or nothing was heard.
    """
    if not fa_per_hour > 0:
        raise MilliwiseError(f"{fa_per_hour:g} false alarms an hour cannot be shown: give a rate above 0, such as 0.5")
    if negatives.hours <= 0:
        raise MilliwiseError("the negatives hold no audio: give hours of it")
    track = negatives.track
    keywords = [label for label in track.labels if is_keyword(label)]
    common = np.repeat(GRID[:, None], len(keywords), axis=1)
    counts = track.counts(common)
    allowed = _allowed(fa_per_hour, negatives.hours)
    steps = choose(counts, allowed)
    raised = np.minimum(steps + np.arange(len(GRID))[:, None], len(GRID) - 1)  # [raised by, keywords]
    together = track.counts(GRID[raised])
    best = int(np.argmax(together.sum(1) <= allowed)) if (together.sum(1) <= allowed).any() else len(GRID) - 1
    chosen = GRID[raised[best]]
    return Tuning(
        thresholds=dict(zip(keywords, chosen.tolist(), strict=True)),
        target_fa_per_hour=fa_per_hour,
        hours=negatives.hours,
        synthetic=synthetic,
        false_alarms=dict(zip(keywords, together[best].tolist(), strict=True)),
        missed=_missed(clips, chosen, keywords) if clips else None,
        curve=_curve(counts.sum(1), negatives.hours, clips.hits(common) if clips else None),
    )


def choose(counts: np.ndarray, allowed: int) -> np.ndarray:
    """The step of the grid for each keyword, int [keywords], of the counts int [steps, keywords] of false alarms.

    It is the lowest from which on a keyword has no more than its share; false alarms that cannot be shared equally go
    to the keywords with the highest thresholds, one each.
    """
    share, rest = divmod(allowed, counts.shape[1])
    steps, relaxed = _lowest(counts, share), _lowest(counts, share + 1)
    for word in np.argsort(-steps, kind="stable")[:rest]:
        steps[word] = relaxed[word]
    return steps


def _lowest(counts: np.ndarray, most: int) -> np.ndarray:
    exceeds = counts > most
    above = len(counts) - np.argmax(exceeds[::-1], axis=0)  # the step after the last that exceeds
    return np.minimum(np.where(exceeds.any(0), above, 0), len(counts) - 1)


def _allowed(fa_per_hour: float, hours: float) -> int:
    return int(min(fa_per_hour * hours + ROUNDING, 2**53))


def _missed(clips: Clips, thresholds: np.ndarray, keywords: Sequence[str]) -> dict[str, tuple[int, int]]:
    (hits,) = clips.hits(thresholds[None])
    labels = np.array(clips.said.labels)
    return {word: (int((~hits[labels == word]).sum()), int((labels == word).sum())) for word in keywords}


def _curve(alarms: np.ndarray, hours: float, hits: np.ndarray | None) -> list[dict[str, Any]]:
    rows = []
    for step, threshold in enumerate(GRID.tolist()):
        low, high = rate_interval(int(alarms[step]), hours)
        clips = (0, 0) if hits is None else (int((~hits[step]).sum()), hits.shape[1])
        rates = {"fa_per_hour": int(alarms[step]) / hours, "fa_low": low, "fa_high": high}
        rows.append({"threshold": threshold, **rates, **_shares(*clips)})
    return rows


def _shares(misses: int, clips: int) -> dict[str, float | None]:
    if not clips:
        return {"frr": None, "frr_low": None, "frr_high": None}
    low, high = share_interval(misses, clips)
    return {"frr": misses / clips, "frr_low": low, "frr_high": high}
