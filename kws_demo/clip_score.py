"""How many recordings of words a listener hears, and how many more than another: the gain of one's own takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporters.listener import Listener
from kws_demo.decide import Decision, is_keyword
from kws_demo.evaluate import score_clips
from kws_demo.intervals import CONFIDENCE, mean_interval
from kws_demo.recordings import Recording, read_clip, untrained_recordings
from toolkit.errors import MilliwiseError, printable
from toolkit.progress import Advance, progress

GAIN = ("gain", "gain_low", "gain_high", "compared", "only_model", "only_baseline")
ROUNDING = 1e-9
Figures = dict[str, Any]


class Heard(NamedTuple):
    """A recording, and the keyword that a listener took it for; None if it heard none."""

    recording: Recording
    taken_for: str | None

    @property
    def right(self) -> bool:
        """Whether it was taken for what it is."""
        return self.taken_for is not None and self.taken_for.casefold() == self.recording.label.casefold()


def folder_figures(
    listener: Listener,
    folder: Path,
    baseline: Listener | None = None,
    threshold: float | None = None,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Figures:
    """What a listener hears of `folder/WORD/*`, and its gain over a baseline on the words that both know; JSON values.

    Args:
        listener: the one in question; folders that are none of its keywords are other words.
        folder: as `untrained_recordings` takes it; of a longer recording the loudest second is heard, as in training.
        baseline: another one, which hears the same clips; of the other words, those count that neither knows.
        threshold: of all keywords of both (a score, 0-1), instead of their own.
        thresholds: of single keywords of `listener`, which stand before that.
        seed: of the places of the clips between the hops, and of the bootstrap.

    Raises:
        MilliwiseError: there are no recordings of a keyword, one cannot be read, or no keyword is of both listeners.
    """
    known = {word.casefold(): word for word in _keywords(listener)}
    found = [replace(each, label=known.get(each.label.casefold(), each.label)) for each in untrained_recordings(folder)]
    _require(found, known.values(), folder, "of the listener")
    shared = _shared(listener, baseline) if baseline else []
    if baseline:
        _require(found, shared, folder, "that both listeners know")
    clips = [read_clip(each.path) for each in found]
    words = _words(listener, clips, _limits(listener, threshold, thresholds), "listening", seed)
    heard = list(map(Heard, found, words))
    result: Figures = {**_figures(heard, known.values(), seed), "baseline": None, **dict.fromkeys(GAIN)}
    if baseline:
        words = _words(baseline, clips, _limits(baseline, threshold), "listening with the baseline", seed)
        before = list(map(Heard, found, words))
        either = {*known, *(word.casefold() for word in _keywords(baseline))}
        judged = [e for e in before if e.recording.label in shared or e.recording.label.casefold() not in either]
        pairs = [pair for pair in zip(heard, before, strict=True) if pair[0].recording.label in shared]
        result |= {"baseline": _figures(judged, shared, seed), **gain(pairs, seed)}
    return result


def gain(pairs: Sequence[tuple[Heard, Heard]], seed: int = 0) -> Figures:
    """How much more of the same recordings is heard now (first) than before: a share, with its paired 95 % interval."""
    difference = np.array([float(now.right) - float(before.right) for now, before in pairs])
    low, high = interval(difference, [now.recording.speaker for now, _ in pairs], -1.0, seed)
    ours, theirs = int((difference > 0).sum()), int((difference < 0).sum())
    return dict(zip(GAIN, (float(difference.mean()), low, high, len(pairs), ours, theirs), strict=True))


def interval(values: np.ndarray, speakers: Sequence[str], lowest: float = 0.0, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of values [clips] from `lowest` to 1, by bootstrap over speakers.

    Of one speaker the clips are drawn instead: it holds for that voice alone. Where all that is drawn has one mean,
    drawing shows no spread: n of a kind show, with 95 %, that others are rarer than 1 − 0.05^(1/n).
    """
    drawn = speakers if len(set(speakers)) > 1 else [str(place) for place in range(len(values))]
    groups: dict[str, list[float]] = {}
    for value, group in zip(values.tolist(), drawn, strict=True):
        groups.setdefault(group, []).append(value)
    means = np.array([np.mean(group) for group in groups.values()])
    if np.ptp(means) > ROUNDING:
        return mean_interval(list(groups.values()), np.random.default_rng(seed))
    mean, rarer = float(means[0]), 1 - (1 - CONFIDENCE) ** (1 / len(means))
    return mean - rarer * (mean - lowest), mean + rarer * (1 - mean)


class _Counted(list[np.ndarray]):
    """Clips that tell when they were heard."""

    def __init__(self, clips: Sequence[np.ndarray], advance: Advance) -> None:
        super().__init__(clips)
        self._advance = advance

    def __iter__(self) -> Iterator[np.ndarray]:
        for clip in super().__iter__():
            yield clip
            self._advance(1)


def _words(
    listener: Listener, clips: Sequence[np.ndarray], limits: np.ndarray, title: str, seed: int
) -> list[str | None]:
    """The keyword with the highest peak in each clip, where that is above its limit."""
    with progress(title, len(clips)) as advance:
        scores = score_clips(listener, _Counted(clips, advance), seed)
    above = scores.score > limits[scores.keyword]
    keywords = _keywords(listener)
    return [keywords[place] if heard else None for place, heard in zip(scores.keyword, above, strict=True)]


def _limits(
    listener: Listener, threshold: float | None, thresholds: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """The score [keywords] that each keyword has to exceed."""
    of_all = Decision(**listener.metadata.decision).threshold if threshold is None else threshold
    return np.array([(thresholds or {}).get(word, of_all) for word in _keywords(listener)])


def _figures(heard: Sequence[Heard], keywords: Collection[str], seed: int) -> Figures:
    """Of all recordings of the keywords, of each keyword's, and of the others."""
    said = [each for each in heard if each.recording.label in keywords]
    others = [each for each in heard if each.recording.label not in keywords]
    accepted = np.array([each.taken_for is not None for each in others], float)
    low, high = interval(accepted, _speakers(others), seed=seed) if others else (None, None)
    of_word = {word: [each for each in said if each.recording.label == word] for word in keywords}
    return {
        **_row(said, seed),
        "others": len(others),
        "others_accepted": int(accepted.sum()),
        "others_share": float(accepted.mean()) if others else None,
        "others_low": low,
        "others_high": high,
        "words": {word: _row(group, seed) for word, group in of_word.items() if group},
    }


def _row(said: Sequence[Heard], seed: int) -> Figures:
    right = np.array([each.right for each in said], float)
    low, high = interval(right, _speakers(said), seed=seed)
    detected, missed = int(right.sum()), sum(each.taken_for is None for each in said)
    return {
        "clips": len(said),
        "detected": detected,
        "missed": missed,
        "wrong": len(said) - detected - missed,
        "frr": 1 - detected / len(said),
        "frr_low": 1 - high,
        "frr_high": 1 - low,
        "speakers": len(set(_speakers(said))),
    }


def _speakers(heard: Sequence[Heard]) -> list[str]:
    return [each.recording.speaker for each in heard]


def _keywords(listener: Listener) -> list[str]:
    return [label for label in listener.labels if is_keyword(label)]


def _shared(listener: Listener, baseline: Listener) -> list[str]:
    """The keywords of both, as `listener` spells them."""
    ours, theirs = _keywords(listener), _keywords(baseline)
    shared = [word for word in ours if word.casefold() in {other.casefold() for other in theirs}]
    if not shared:
        raise MilliwiseError(
            f"the listener ({', '.join(ours)}) and the baseline ({', '.join(theirs)}) share no keyword:"
            " choose a baseline that knows one"
        )
    return shared


def _require(found: Sequence[Recording], words: Collection[str], folder: Path, which: str) -> None:
    if not any(each.label in words for each in found):
        raise MilliwiseError(f"{printable(folder)} has no folder of a keyword {which} ({', '.join(words)}): add one")
