"""What a listener's choices cost and bring: from modes and scores of hops to ms, misses and false alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

from kws_demo.decide import Decider, Decision, Result, is_keyword
from kws_demo.intervals import mean_interval, rate_interval
from kws_demo.labels import Truth
from kws_demo.score import Found, false_alarms, free_ms, keyword_truths, nearest_pairs
from kws_demo.track import Track
from toolkit.errors import MilliwiseError

MS_PER_HOUR = 3_600_000
TOLERANCE_MS, WINDOW_MS = 750.0, 1000.0
ROUNDING = 1e-9
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sweep:
    """What deciders made of streams, each with one of T thresholds for all keywords.

    Attributes:
        thresholds: [T].
        late_ms: [T, words] from the end of each keyword that was said to its announcement, infinite if that never came;
            NaN if it came and the end is not known.
        alarms: int [T], announcements with no keyword near.
        hours: farther than the tolerance from every keyword.
    """

    thresholds: np.ndarray
    late_ms: np.ndarray
    alarms: np.ndarray
    hours: float

    @property
    def missed(self) -> np.ndarray:
        """Which words were, bool [T, words]."""
        return np.isinf(self.late_ms)


@dataclass(frozen=True)
class ParetoPoint:
    """A policy at one of its parameters, with the threshold that keeps its false alarms below a rate.

    Attributes:
        misses: share of the keywords said, with its interval of 95 % over speakers.
        modes: shares of the hops by name.
        delay_ms: mean time from the end of a word to its announcement; None where no end is known.
    """

    name: str
    parameter: float | str
    threshold: float
    ms_per_second: float
    misses: float
    misses_low: float
    misses_high: float
    false_alarms_per_hour: float
    false_alarms_low: float
    false_alarms_high: float
    modes: dict[str, float]
    delay_ms: float | None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def spent_ms(modes: np.ndarray, costs_ms: np.ndarray, extra_ms: float | np.ndarray = 0.0) -> np.ndarray:
    """ms of every hop, [hops], of the modes int [hops] that ran; before the first hop the first mode did.

    Args:
        costs_ms: [modes, modes], of a mode (second) after a mode (first).
        extra_ms: of every hop, or [hops]: what the policy itself costs.
    """
    before = np.concatenate([[0], modes[:-1]]) if len(modes) else modes
    return np.asarray(costs_ms[before, modes] + extra_ms)


def misses_and_alarms(
    scores: np.ndarray,
    truths: Sequence[Truth],
    labels: Sequence[str],
    hop_ms: float,
    settings: Decision,
    thresholds: Sequence[float] | np.ndarray,
    tolerance_ms: float = TOLERANCE_MS,
    window_ms: float = WINDOW_MS,
) -> Sweep:
    """Decide on scores float32 [hops, labels] at every threshold, and match with the words that were said, in order.

    Keywords alone, each joined to the nearest announcement of it (`kws_demo.score`). The other labels keep the
    threshold of the settings. The score of a hop judges the `window_ms` that end with it.

    Raises:
        MilliwiseError: the settings find nothing at this hop, or a threshold is not within 0 to 1.
    """
    tried = np.asarray(thresholds, np.float64)
    if not len(tried) or not ((tried >= 0) & (tried <= 1)).all():
        raise MilliwiseError(f"thresholds of {tried.tolist()!s:.60}: give one or more, from 0 to 1")
    said = keyword_truths(truths)
    found: list[list[Found]] = [[] for _ in tried]
    track = tracked(scores, labels, hop_ms, settings, float(tried.min()), window_ms)
    rows = np.repeat(tried[:, None], sum(map(is_keyword, labels)), axis=1)
    for start_ms, label, told in track.announcements(rows):
        for row in np.flatnonzero(told).tolist():
            found[row].append(Found(labels[label], start_ms))
    late_ms, alarms = np.full((len(tried), len(said)), np.inf), np.zeros(len(tried), np.int64)
    for row, words in enumerate(found):
        alarms[row] = len(false_alarms(words, said, tolerance_ms))
        for place, target in nearest_pairs(words, said, tolerance_ms).items():
            end_ms = said[target].end_ms
            late_ms[row, target] = np.nan if end_ms is None else words[place].start_ms + window_ms - end_ms
    return Sweep(tried, late_ms, alarms, free_ms(said, tolerance_ms, len(scores) * hop_ms) / MS_PER_HOUR)


def tracked(
    scores: np.ndarray, labels: Sequence[str], hop_ms: float, settings: Decision, lowest: float, window_ms: float
) -> Track:
    """The results of a `Decider` that may be new at thresholds >= `lowest`, to the last bit, all hops at once.

    Raises:
        MilliwiseError: the settings find nothing at this hop.
    """
    Decider(labels, hop_ms, settings)  # refuses such settings
    scores = np.asarray(scores, np.float32)
    starts_ms = np.arange(1, len(scores) + 1) * hop_ms - window_ms
    first = np.searchsorted(starts_ms, starts_ms - settings.average_ms)
    counts = np.arange(1, len(scores) + 1) - first
    total = np.zeros_like(scores)
    for step in range(int(counts.max(initial=0))):  # oldest first, as the decider adds them
        holding = counts > step
        total[holding] += scores[first[holding] + step]
    average = total / counts[:, None].astype(np.float32)
    enough = (counts >= settings.minimum_count) & (starts_ms - starts_ms[first] >= settings.average_ms / 4)
    tops, best = average.argmax(1), average.max(1, initial=0)
    track = Track(labels, settings, lowest)
    for hop in np.flatnonzero(enough & (best > min(lowest, settings.threshold))).tolist():
        track.add(float(starts_ms[hop]), Result(labels[tops[hop]], float(best[hop]), False))
    return track


def joined(sweeps: Sequence[Sweep]) -> Sweep:
    """That of several streams together; each begins with nothing remembered.

    Raises:
        MilliwiseError: there are none, or their thresholds differ.
    """
    if not sweeps or any(not np.array_equal(each.thresholds, sweeps[0].thresholds) for each in sweeps):
        raise MilliwiseError(f"{len(sweeps)} sweeps: give one or more, of the same thresholds")
    return Sweep(
        sweeps[0].thresholds,
        np.concatenate([each.late_ms for each in sweeps], 1),
        np.sum([each.alarms for each in sweeps], 0),
        sum(each.hours for each in sweeps),
    )


def at_false_alarms(sweep: Sweep, per_hour: float) -> int:
    """The place of the threshold that misses least among those with at most so many false alarms; the first of equals.

    Raises:
        MilliwiseError: every threshold has more, or no hour is without keywords.
    """
    allowed = sweep.alarms <= per_hour * sweep.hours + ROUNDING
    if sweep.hours <= 0 or not allowed.any():
        fewest = int(sweep.alarms.min())
        raise MilliwiseError(
            f"{fewest} false alarms or more in {sweep.hours:.3g} h without keywords, {per_hour:g} an hour asked for:"
            " try thresholds up to 1, on longer streams"
        )
    misses = np.where(allowed, sweep.missed.sum(1), sweep.missed.shape[1] + 1)
    return int(misses.argmin())


def pareto_point(
    name: str,
    parameter: float | str,
    sweep: Sweep,
    place: int,
    modes: Sequence[str],
    ms: np.ndarray,
    hop_ms: float,
    speakers: Sequence[str],
    rng: np.random.Generator,
) -> ParetoPoint:
    """A policy with the threshold at that place of a sweep.

    Args:
        modes: names, of every hop.
        ms: [hops], as `spent_ms` tells.
        speakers: of the sweep's words, which belong together in the interval.

    Raises:
        MilliwiseError: the words are of fewer than two speakers, or there are no hours without keywords.
    """
    if sweep.hours <= 0:
        raise MilliwiseError("no hour is without keywords: false alarms an hour cannot be told; give longer streams")
    missed, alarms = sweep.missed[place], int(sweep.alarms[place])
    low, high = mean_interval(_grouped(missed, speakers), rng)
    rate_low, rate_high = rate_interval(alarms, sweep.hours)
    late_ms = sweep.late_ms[place][np.isfinite(sweep.late_ms[place])]
    return ParetoPoint(
        name=name,
        parameter=parameter,
        threshold=float(sweep.thresholds[place]),
        ms_per_second=float(np.mean(ms)) * 1000 / hop_ms,
        misses=float(missed.mean()),
        misses_low=low,
        misses_high=high,
        false_alarms_per_hour=alarms / sweep.hours,
        false_alarms_low=rate_low,
        false_alarms_high=rate_high,
        modes={mode: count / len(modes) for mode, count in sorted(Counter(modes).items())},
        delay_ms=float(late_ms.mean()) if len(late_ms) else None,
    )


def missed_more(
    missed: np.ndarray, reference: np.ndarray, speakers: Sequence[str], rng: np.random.Generator
) -> tuple[float, float, float]:
    """The share of the same words that were missed, bool [words], less that of a reference, and its interval.

    Raises:
        MilliwiseError: the words are of fewer than two speakers.
    """
    more = missed.astype(np.float64) - reference
    return float(more.mean()), *mean_interval(_grouped(more, speakers), rng)


def pareto_front(
    points: Iterable[T], of: Callable[[T], tuple[float, float]] = attrgetter("ms_per_second", "misses")
) -> list[T]:
    """The points, cheapest first, that miss less than every one that is as cheap; `of` a point: its cost and misses."""
    front: list[T] = []
    for point in sorted(points, key=of):
        if not front or of(point)[1] < of(front[-1])[1]:
            front.append(point)
    return front


def own_fronts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the points of many policies, as JSON, those on the front of their own policy; policy after policy."""
    names = dict.fromkeys(row["name"] for row in rows)
    fronts = (pareto_front([row for row in rows if row["name"] == name], _cost_and_misses) for name in names)
    return [row for front in fronts for row in front]


def _cost_and_misses(row: dict[str, Any]) -> tuple[float, float]:
    return row["ms_per_second"], row["misses"]


def cost_by_share(
    share: np.ndarray, ms: np.ndarray, groups: Sequence[str], rng: np.random.Generator, bins: int = 10
) -> list[dict[str, Any]]:
    """Mean ms of the hops by how much of their window is word, 0-1, in equal bins: JSON rows (thesis, Fig. 4.11).

    Args:
        groups: of the hops; those of a stream or speaker belong together in the interval of 95 %, which is none for
            a bin of one group. Bins without hops are left out.
    """
    places = np.minimum((np.asarray(share) * bins).astype(int), bins - 1)
    rows = []
    for place in np.unique(places).tolist():
        inside = places == place
        chosen = _grouped(ms[inside], [group for group, is_in in zip(groups, inside, strict=True) if is_in])
        low, high = mean_interval(chosen, rng) if len(chosen) > 1 else (None, None)
        bounds = {"from": place / bins, "to": (place + 1) / bins}
        rows.append({**bounds, "hops": int(inside.sum()), "ms": float(ms[inside].mean()), "low": low, "high": high})
    return rows


def _grouped(values: np.ndarray, groups: Sequence[str]) -> list[list[float]]:
    names, places = np.unique(np.asarray(groups, str), return_inverse=True)
    if len(places) != len(values):
        raise MilliwiseError(f"{len(values)} values of {len(places)} speakers: give the speaker of each")
    return [values[places == place].tolist() for place in range(len(names))]
