"""Streaming metrics, as functions of what was found and what was said (definitions: docstrings of each).

All times are of the stream, in milliseconds. A found word has the time at which its window starts, which is what is
compared with the start of a word; it was announced one window later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from kws_demo.decide import is_keyword
from kws_demo.labels import Truth

GRACE_MS = 1000.0  # MLPerf: a detection counts until this long after the end of the word
DEBOUNCE_MS = 1000.0  # MLPerf: false detections within this of a counted one are the same one
CORRECT, WRONG, FALSE_ALARM = "correct", "wrong", "false_alarm"


class Found(NamedTuple):
    """A word that a listener found, `_unknown_` included, in the window that starts at `start_ms`."""

    word: str
    start_ms: float
    score: float = 1.0


class Verdict(NamedTuple):
    """What Warden's matching says about a found word."""

    kind: str  # CORRECT, WRONG or FALSE_ALARM
    truth: int | None  # the place of the word that decided


@dataclass(frozen=True)
class Warden:
    """The counts of Warden's matching."""

    truths: int
    correct: int
    wrong: int
    false_alarm: int
    distinct: int  # words that decided at least once: TensorFlow's C++ counts each once, however often it decided

    def shares(self) -> dict[str, float | None]:
        """All over the number of words; `matched` = correct + wrong (the thesis), `matched_set` counts distinct ones.

        None without words. All but `matched_set` may exceed 1: a word can decide about several found words.
        """
        counts = {
            "matched": self.correct + self.wrong,
            "matched_set": self.distinct,
            "correct": self.correct,
            "wrong": self.wrong,
            "false_alarm": self.false_alarm,
        }
        return {name: share(count, self.truths) for name, count in counts.items()}


class WakeWord(NamedTuple):
    """The counts of MLPerf Tiny's streaming wake word benchmark."""

    true_positives: int
    false_negatives: int
    false_positives: int


def share(count: int, total: int) -> float | None:
    """A fraction, None of nothing."""
    return count / total if total else None


def verdicts(found: Iterable[Found], truths: Sequence[Truth], tolerance_ms: float) -> list[Verdict]:
    """Warden's matching (https://arxiv.org/abs/1804.03209, TensorFlow's accuracy_utils): one verdict per found word.

    The first word within the tolerance decides, even if a later one is nearer or agrees: correct if the labels agree
    and nothing found before was decided by it, else wrong. Without one it is a false alarm. `truths` are in order.
    """
    starts = [truth.start_ms for truth in truths]
    decided: set[int] = set()
    result = []
    for word, start_ms, _ in found:
        first = bisect_left(starts, start_ms - tolerance_ms)
        if first == len(starts) or starts[first] > start_ms + tolerance_ms:
            result.append(Verdict(FALSE_ALARM, None))
            continue
        agrees = truths[first].word == word and first not in decided
        decided.add(first)
        result.append(Verdict(CORRECT if agrees else WRONG, first))
    return result


def count_verdicts(given: Sequence[Verdict], truths: Sequence[Truth]) -> Warden:
    """The counts of `verdicts`."""
    kinds = Counter(verdict.kind for verdict in given)
    distinct = {verdict.truth for verdict in given} - {None}
    return Warden(len(truths), kinds[CORRECT], kinds[WRONG], kinds[FALSE_ALARM], len(distinct))


def keyword_truths(truths: Iterable[Truth]) -> list[Truth]:
    """The words a user waits for: without `_unknown_`."""
    return [truth for truth in truths if is_keyword(truth.word)]


def keyword_found(found: Iterable[Found]) -> list[Found]:
    """What a user is told: without `_unknown_`."""
    return [each for each in found if is_keyword(each.word)]


def nearest_pairs(found: Sequence[Found], truths: Sequence[Truth], tolerance_ms: float) -> dict[int, int]:
    """One-to-one pairs (place in `found` → place in `truths`, in order) of equal words within the tolerance.

    The nearest pair is joined first, then the nearest of those that are left; between equals the earlier word.
    """
    starts = [truth.start_ms for truth in truths]
    candidates = []
    for place, (word, start_ms, _) in enumerate(found):
        target = bisect_left(starts, start_ms - tolerance_ms)
        while target < len(starts) and starts[target] <= start_ms + tolerance_ms:
            if truths[target].word == word:
                candidates.append((abs(starts[target] - start_ms), target, place))
            target += 1
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, target, place in sorted(candidates):
        if place not in pairs and target not in taken:
            pairs[place] = target
            taken.add(target)
    return pairs


def false_alarms(found: Iterable[Found], truths: Sequence[Truth], tolerance_ms: float) -> list[Found]:
    """The found words that have no word of `truths`, whichever it is, within the tolerance."""
    found = list(found)
    given = verdicts(found, truths, tolerance_ms)
    return [each for each, verdict in zip(found, given, strict=True) if verdict.kind == FALSE_ALARM]


def free_ms(truths: Iterable[Truth], tolerance_ms: float, duration_ms: float) -> float:
    """How much of a recording is farther than the tolerance from the start of every one of `truths`, in order."""
    covered = reached = 0.0
    for truth in truths:
        begin, end = max(reached, truth.start_ms - tolerance_ms), min(duration_ms, truth.start_ms + tolerance_ms)
        covered += max(0.0, end - begin)
        reached = max(reached, end)
    return max(0.0, duration_ms - covered)


def delay_ms(
    found: Sequence[Found], truths: Sequence[Truth], pairs: dict[int, int], window_ms: float
) -> tuple[float | None, int]:
    """The median time from the end of a word to its announcement, and of how many; None where no end is known.

    It is negative when the word was announced before it was over.
    """
    ends = {place: truths[target].end_ms for place, target in pairs.items()}
    delays = [found[place].start_ms + window_ms - end for place, end in ends.items() if end is not None]
    return (median(delays), len(delays)) if delays else (None, 0)


def wake_word(found: Iterable[Found], truths: Iterable[Truth], window_ms: float) -> WakeWord:
    """MLPerf Tiny's rule (mlcommons/tiny, benchmark/runner), each keyword as a wake word of its own, added up.

    A word is heard if it is announced between its start and 1 s after its end (unknown ends: start + window); all its
    announcements then are that one. What is left is false; false ones at most 1 s after a counted one are not counted.
    """
    announced: dict[str, list[float]] = {}
    for each in found:
        insort(announced.setdefault(each.word, []), each.start_ms + window_ms)
    hits = misses = 0
    for truth in truths:
        end_ms = truth.start_ms + window_ms if truth.end_ms is None else truth.end_ms
        times_ms = announced.get(truth.word, [])
        heard = slice(bisect_left(times_ms, truth.start_ms), bisect_right(times_ms, end_ms + GRACE_MS))
        hits, misses = (hits + 1, misses) if times_ms[heard] else (hits, misses + 1)
        del times_ms[heard]
    return WakeWord(hits, misses, sum(_debounced(times) for times in announced.values()))


def _debounced(times_ms: Iterable[float]) -> int:
    """How many of these, in order, are more than the debounce after the one counted before."""
    count, last_ms = 0, float("-inf")
    for time_ms in times_ms:
        if time_ms > last_ms + DEBOUNCE_MS:
            count, last_ms = count + 1, time_ms
    return count
