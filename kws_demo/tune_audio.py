"""The audio that thresholds are chosen on: hours without keywords, clips of keywords, and the listener over both."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from exporters.listener import Listener
from exporters.metadata import RATE_HZ
from kws_demo.audio import reblock, wav_blocks_of
from kws_demo.decide import Decider, Decision, is_keyword
from kws_demo.dial import Dial, start_anew, turn
from kws_demo.noises import CLIP_SAMPLES, coloured
from kws_demo.recordings import Recording, noise_files, read_clip, untrained_recordings
from kws_demo.track import Track
from toolkit.errors import MilliwiseError, printable
from toolkit.progress import progress

MOST_HOURS = 1000
SPEC = "synth:LANGUAGE:HOURS, for example synth:en:6"
QUIET = 10 ** (-60 / 20)  # RMS of the noise around clips of keywords
MORE_GAP_MS = 1000.0  # between them, at most, beyond what lets the decider forget the one before
SURE, LONG_MS, MOST_SUSPECTS = 0.95, 400.0, 20


class Piece(NamedTuple):
    """A part of a stream: what to call it, and its blocks float32 [hop_samples]."""

    name: str
    blocks: Iterable[np.ndarray]


class Suspect(NamedTuple):
    """A place in the negatives where the listener is as sure of a keyword, for as long, as if it had been said."""

    keyword: str
    name: str
    start_s: float


@dataclass(frozen=True)
class Stream:
    """Audio to be heard piece by piece as one stream; it lasts about so many `seconds`."""

    pieces: Iterable[Piece]
    seconds: float
    synthetic: bool = False


@dataclass(frozen=True)
class Said:
    """Keywords in a stream: the label of each clip, and when it begins."""

    labels: Sequence[str]
    begins_ms: np.ndarray


@dataclass(frozen=True)
class Heard:
    """What a listener made of a stream."""

    track: Track
    hours: float
    suspects: Sequence[Suspect]  # the first twenty


def negatives(
    spec: str, listener: Listener, seed: int, noise: Path | None = None, spoken: Sequence[str] = ()
) -> Stream:
    """A folder of recordings of any length, or "synth:LANGUAGE:HOURS" with `noise` recordings, as one stream.

    Args:
        spoken: the keywords as that language writes them, in their order, where the listener's labels differ.

    Raises:
        MilliwiseError: no such folder, nothing in it, a recording that cannot be read or is named like a keyword; or no
            such language or number of hours, or a keyword that is not of the language, so that talk may hold it.
    """
    keywords = [label for label in listener.labels if is_keyword(label)]
    if spec.startswith("synth:") or spec == "synth":
        return _talk(spec, keywords, list(spoken), listener, seed, noise)
    for option, given in (("--noise", noise), ("--spoken", spoken)):
        if given:
            raise MilliwiseError(f"{option} is for generated talk alone: leave it out, or use --negatives {SPEC}")
    files = noise_files(Path(spec))
    _check_names(Path(spec), files, keywords)
    seconds = sum(_checked_seconds(path) for path in files)
    pieces = (Piece(printable(path), wav_blocks_of(path, listener.hop_samples)[0]) for path in files)
    return Stream(pieces, seconds)


def positives(folder: Path, listener: Listener, seed: int) -> tuple[Stream, Said]:
    """Clips of the keywords from word folders, one by one in random order on quiet noise; other words are left out.

    Of a folder that holds some out for a test, those. Between two of them the decider has time to forget the first.

    Raises:
        MilliwiseError: no such folder, or no recordings of a keyword in it.
    """
    of_label = {label.casefold(): label for label in listener.labels if is_keyword(label)}
    found = [each for each in untrained_recordings(folder) if each.label.casefold() in of_label]
    if not found:
        words = ", ".join(of_label.values())
        raise MilliwiseError(f"{printable(folder)} has no folder of a keyword of the listener ({words}): add one")
    rng = np.random.default_rng([seed, 8])
    clips = [found[index] for index in rng.permutation(len(found))]
    decision = Decision(**listener.metadata.decision)
    gap_ms = decision.suppression_ms + decision.average_ms + listener.metadata.window_ms
    gaps = np.round((gap_ms + rng.uniform(0, MORE_GAP_MS, len(clips) + 1)) * RATE_HZ / 1000).astype(int)
    begins = np.cumsum(gaps[:-1] + CLIP_SAMPLES) - CLIP_SAMPLES
    blocks = reblock(_laid(clips, gaps, rng), listener.hop_samples)
    seconds = (gaps.sum() + CLIP_SAMPLES * len(clips)) / RATE_HZ
    said = Said([of_label[clip.label.casefold()] for clip in clips], begins * 1000 / RATE_HZ)
    return Stream([Piece(printable(folder), blocks)], float(seconds)), said


def hear(listener: Listener, stream: Stream, title: str, lowest: float = 0.0, budget_ms: float | None = None) -> Heard:
    """Push a whole stream through a listener whose states are never reset; no threshold will be below `lowest`.

    Of an adaptive listener no mode runs that would not in `milliwise stream`, with the same budget.

    Raises:
        MilliwiseError: a recording is damaged, or the listener fails.
    """
    settings, window_ms = Decision(**listener.metadata.decision), listener.metadata.window_ms
    hop_ms = 1000 * listener.hop_samples / listener.rate
    decider, track = Decider(listener.labels, hop_ms, settings), Track(listener.labels, settings, lowest)
    watch = _Watch(listener.labels, hop_ms, window_ms)
    dial = Dial.of(listener, budget_ms)
    start_anew(listener, dial)
    hops = 0
    with progress(title, stream.seconds) as advance:
        for piece in stream.pieces:
            for index, block in enumerate(piece.blocks, 1):
                hops += 1
                scores = listener.push(block)
                probabilities = scores.probabilities
                turn(listener, dial, scores)
                start_ms = hops * hop_ms - window_ms
                track.add(start_ms, decider.update(start_ms, probabilities))
                watch.see(probabilities, piece.name, index)
                advance(hop_ms / 1000)
    return Heard(track, hops * hop_ms / 3_600_000, [] if stream.synthetic else watch.suspects)


class _Watch:
    """Notices keywords of which a listener is sure for long: recordings of other words rarely do that."""

    def __init__(self, labels: Sequence[str], hop_ms: float, window_ms: float) -> None:
        self.suspects: list[Suspect] = []
        self._labels, self._hop_ms, self._window_ms = labels, hop_ms, window_ms
        self._hops = max(2, math.ceil(LONG_MS / hop_ms))
        self._top, self._run = -1, 0

    def see(self, probabilities: np.ndarray, name: str, index: int) -> None:
        """The scores [labels] of one hop, the `index`-th (from 1) of a piece."""
        top = int(probabilities.argmax())
        sure = probabilities[top] > SURE and is_keyword(self._labels[top])
        self._run = (self._run + 1 if top == self._top else 1) if sure else 0
        self._top = top
        if self._run == self._hops and len(self.suspects) < MOST_SUSPECTS:
            start_ms = max(0.0, (index - self._hops + 1) * self._hop_ms - self._window_ms)
            self.suspects.append(Suspect(self._labels[top], name, start_ms / 1000))


def _talk(
    spec: str, keywords: Sequence[str], spoken: list[str], listener: Listener, seed: int, noise: Path | None
) -> Stream:
    from kws_demo.synth import as_spoken, split_voices
    from kws_demo.talk import Talk

    kind, _, rest = spec.partition(":")
    language, _, hours = rest.rpartition(":")
    if kind != "synth" or not language or not re.fullmatch(r"\d{1,4}(\.\d{1,4})?", hours):
        raise MilliwiseError(f"the negatives {printable(spec)[:80]} are neither a folder nor {SPEC}")
    if not 0 < float(hours) <= MOST_HOURS:
        raise MilliwiseError(f"{hours} hours of talk are out of range: ask for more than 0 and at most {MOST_HOURS}")
    files = noise_files(noise) if noise else []
    for path in files:
        _checked_seconds(path)
    voices = split_voices(language, listener.metadata.seed)  # training heard those of "train" alone
    talk = Talk(as_spoken(keywords, spoken, language), voices["validation"] + voices["test"], language, seed, files)
    seconds = 3600 * float(hours)
    blocks = reblock(talk.minutes(seconds), listener.hop_samples)
    return Stream([Piece(spec, blocks)], seconds, synthetic=True)


def _laid(clips: Sequence[Recording], gaps: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for clip, gap in zip(clips, gaps, strict=False):  # one more gap than clips
        audio = QUIET * coloured("pink", int(gap) + CLIP_SAMPLES, rng)
        audio[gap:] += read_clip(clip.path)
        yield audio
    yield QUIET * coloured("pink", int(gaps[-1]), rng)


def _checked_seconds(path: Path) -> float:
    """How long a recording is; that it can be read is better known before hours are spent."""
    next(iter(wav_blocks_of(path, RATE_HZ)[0]))
    try:
        return float(soundfile.info(str(path)).duration)
    except soundfile.LibsndfileError:
        raise MilliwiseError(f"{printable(path)} cannot be read any more: leave it as it is meanwhile") from None


def _check_names(folder: Path, files: Sequence[Path], keywords: Sequence[str]) -> None:
    """Refuse recordings that say themselves that they are of a keyword: "yes/ann.wav", "yes_3.wav"."""
    names = {bare: keyword for keyword in keywords if (bare := _bare(keyword))}
    for path in files:
        for part in (folder.absolute().name, *path.relative_to(folder).parts[:-1], path.stem):
            if keyword := names.get(_bare(part)):
                raise MilliwiseError(
                    f"the negatives hold recordings of the keyword '{keyword}' by their name ({printable(path)}):"
                    " remove or rename them"
                )


def _bare(name: str) -> str:
    """A name in small letters, without the numbers at its end and with spaces for all other signs."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"[\W_\d]+$", "", name.casefold())).split())
