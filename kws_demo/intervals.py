"""How far a measurement can be trusted: exact bounds of a rate, of a share, and of a mean over groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from toolkit.errors import MilliwiseError

CONFIDENCE = 0.95
HALVINGS = 100  # of an interval: more than a float has bits


def rate_upper(events: int, exposure: float, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound of a Poisson rate per unit of `exposure` (> 0); zero events show only < 3 / exposure.

    Exact (Garwood 1936): the rate at which so few events or fewer would be seen with the chance 1 − `confidence`.
    """
    return _mean_at(events, 1 - confidence) / exposure


def rate_lower(events: int, exposure: float, confidence: float = CONFIDENCE) -> float:
    """The one-sided lower bound of the same; 0 for no events."""
    return _mean_at(events - 1, confidence) / exposure if events else 0.0


def rate_interval(events: int, exposure: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided exact interval of a Poisson rate; of zero events, which have no lower side, the one-sided one."""
    if events == 0:
        return 0.0, rate_upper(0, exposure, confidence)
    each_side = (1 + confidence) / 2
    return rate_lower(events, exposure, each_side), rate_upper(events, exposure, each_side)


def share_interval(hits: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided interval of a share by Wilson (1927), which stays within 0-1; of nothing at all, (0, 1)."""
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low, high = (middle - half) / scale, (middle + half) / scale
    return 0.0 if hits == 0 else max(0.0, low), 1.0 if hits == total else min(1.0, high)


def mean_interval(
    groups: Sequence[Sequence[float]], rng: np.random.Generator, confidence: float = CONFIDENCE, draws: int = 2000
) -> tuple[float, float]:
    """The two-sided bootstrap interval of the mean of all values, where those of a group (a speaker) belong together.

    Whole groups are drawn with replacement, so that many clips of few speakers do not look like many speakers.

    Raises:
        MilliwiseError: fewer than two groups have values.
    """
    filled = [group for group in groups if len(group)]
    if len(filled) < 2:
        raise MilliwiseError(f"{len(filled)} group has values: an interval over groups (speakers) needs two or more")
    sums = np.array([np.sum(group) for group in filled], np.float64)
    sizes = np.array([len(group) for group in filled])
    drawn = rng.multinomial(len(filled), np.full(len(filled), 1 / len(filled)), size=draws)  # [draws, groups]
    low, high = np.quantile(drawn @ sums / (drawn @ sizes), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _mean_at(events: int, share: float) -> float:
    """The mean of the Poisson distribution that gives `events` or fewer with the chance `share` (0-1)."""
    counts = np.arange(events + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])

    def chance(mean: float) -> float:
        return float(np.exp(counts * math.log(mean) - mean - log_factorials).sum())

    low, high = 0.0, 1.0
    while chance(high) > share:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) > share else (low, middle)
    return high
