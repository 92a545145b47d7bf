"""A session of own recordings: the word is found in what was heard, judged, cut out, and saved beside earlier takes."""

from __future__ import annotations

import getpass
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from exporters.metadata import RATE_HZ, UNKNOWN
from kws_demo.audio import read_wav
from kws_demo.clip_check import Finding, findings, measure
from kws_demo.outliers import FEWEST, MANY_SPEAKERS, ONE_SPEAKER, outliers
from kws_demo.recordings import MAX_CLIP_S, Recording, by_label, word_recordings
from kws_demo.trim import strongest, surroundings, with_margin, words_in
from toolkit.errors import MilliwiseError, printable
from toolkit.files import write_bytes

HOP = RATE_HZ // 20
TRIES = 3  # of one take
COUNTDOWN_S = 1.0
MAX_SPEAKER_CHARACTERS = 40

OnBlock = Callable[[int, bool, float, np.ndarray], None]  # the take, whether to speak now, the seconds left, the block


@dataclass(frozen=True)
class Take:
    """What was heard when the word was to be said."""

    number: int
    clip: np.ndarray  # float32 [samples]: the word with its margins, or all of it where there is no word
    level_db: float
    findings: list[Finding]
    kept: bool  # it is good enough to be saved

    @property
    def seconds(self) -> float:
        """The length of the clip."""
        return len(self.clip) / RATE_HZ

    def advice(self) -> list[str]:
        """What is wrong, a sentence for each."""
        return [finding.about(f"take {self.number}") for finding in self.findings]


def take_of(heard: np.ndarray, number: int, last_try: bool = True, gaps: int = 0) -> Take:
    """Find and judge the word in float32 [samples]; what is poor, but does not spoil it, is kept at the last try."""
    found = findings(heard)
    if gaps:
        found.append(Finding("gap", "lost some audio", "close what keeps this machine busy"))
    words = words_in(heard)
    span = with_margin(strongest(heard, words), words, len(heard)) if words else (0, len(heard))
    kept = not any(finding.spoils for finding in found) if last_try else not found
    return Take(number, heard[slice(*span)], measure(heard).level_db, found, kept)


def takes_from(
    blocks: Iterator[np.ndarray], wanted: int, seconds: float, on_block: OnBlock, gaps: Callable[[], int] = lambda: 0
) -> Iterator[Take]:
    """Takes from endless blocks float32 [800]: after a countdown, `seconds` each; a bad one is said again.

    Ends when `wanted` takes were kept, or none of three tries of one was: saying it once more would not cure that. Time
    is what the blocks say: nothing is heard late. `gaps` counts the gaps in the audio so far.
    """
    for number in range(1, wanted + 1):
        for attempt in range(1, TRIES + 1):
            _heard(blocks, COUNTDOWN_S, partial(on_block, number, False))
            before = gaps()
            heard = _heard(blocks, seconds, partial(on_block, number, True))
            take = take_of(heard, number, attempt == TRIES, gaps() - before)
            yield take
            if take.kept:
                break
        else:
            return


def takes_in(audio: np.ndarray) -> Iterator[Take]:
    """The takes of one long recording float32 [samples], in which the word is said several times."""
    words = words_in(audio)
    for number, around in enumerate(surroundings(words, len(audio), RATE_HZ), 1):
        yield take_of(audio[around.start : around.end], number)


def save_take(take: Take, folder: Path, speaker: str) -> Path:
    """Write a take as `folder/SPEAKER_N.wav`, 16 kHz mono 16-bit; N is the number after that of the last earlier take.

    Raises:
        MilliwiseError: the folder cannot be written, or the disk is full.
    """
    path = folder / f"{speaker}_{max(takes_by(speaker, folder), default=0) + 1}.wav"
    content = io.BytesIO()
    soundfile.write(content, take.clip, RATE_HZ, format="WAV", subtype="PCM_16")
    write_bytes(path, content.getvalue())
    return path


def takes_by(speaker: str, folder: Path) -> dict[int, Path]:
    """The files `SPEAKER_N.*` of a folder, by N in its order; none where there is no folder.

    Raises:
        MilliwiseError: the folder cannot be read.
    """
    pattern = re.compile(re.escape(speaker) + r"_0*([0-9]{1,9})\..*", re.IGNORECASE)
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        why = error.strerror
        raise MilliwiseError(f"cannot read {printable(folder)} ({why}): choose a folder you may read") from None
    found = {int(match[1]): path for path in paths if (match := pattern.fullmatch(path.name))}
    return dict(sorted(found.items()))


def speaker_name(name: str | None, word: str) -> str:
    """The name as it may begin a file's: letters, digits and "-"; that of the user if there is none.

    A "_" would end it, and one that equals the word would be taken for it.

    Raises:
        MilliwiseError: a name was given that has neither letters nor digits.
    """
    given = _user() if name is None else name
    safe = re.sub(r"[\W_]+", "-", given).strip("-")[:MAX_SPEAKER_CHARACTERS]
    if not safe:
        if name is not None:
            raise MilliwiseError(f"the speaker '{printable(name)[:60]}' has no letters: give a name with some")
        safe = "me"
    return f"speaker-{safe}" if safe.casefold() == word.casefold() else safe


def strange_files(recordings: list[Recording]) -> tuple[list[Path], int]:
    """Files of one word that sound unlike the others, and how many were compared: the takes of each speaker.

    The takes of speakers with fewer than three are compared with each other. Files that cannot be read, and those that
    are spoiled anyway, are left out.
    """
    heard = {recording.path: audio for recording in recordings if (audio := _comparable(recording.path)) is not None}
    takes_of: dict[str, list[Path]] = {}
    for recording in recordings:
        if recording.path in heard:
            takes_of.setdefault(recording.speaker, []).append(recording.path)
    groups = [(paths, ONE_SPEAKER) for paths in takes_of.values() if len(paths) >= FEWEST]
    groups.append(([path for paths in takes_of.values() if len(paths) < FEWEST for path in paths], MANY_SPEAKERS))
    strange: list[Path] = []
    compared = 0
    for paths, threshold in groups:
        places = outliers([heard[path] for path in paths], threshold)
        if places is not None:
            compared += len(paths)
            strange += [paths[place] for place in places]
    return strange, compared


def check_added(folder: Path) -> list[str]:
    """A line for each of the recordings in `folder/WORD/*` that is of another word; then for all else that is wrong.

    What cannot be read is left out: that is an error where the recordings are used. Recordings labelled `_unknown_` are
    of many words, so none of them is strange.

    Raises:
        MilliwiseError: there is no such folder, or a word has no recordings.
    """
    strange: list[str] = []
    spoiled: list[str] = []
    for label, group in by_label(word_recordings(Path(folder))).items():
        for recording in group:
            if (audio := _readable(recording.path)) is not None:
                spoiled += [finding.about(printable(recording.path)) for finding in findings(audio)]
        if label != UNKNOWN:
            strange += [unlike(path) for path in strange_files(group)[0]]
    return strange + spoiled


def unlike(path: Path) -> str:
    """The line about a file that sounds unlike the others."""
    return f"{printable(path)} sounds unlike the others: listen to it, and remove it if it is another word"


def _heard(blocks: Iterator[np.ndarray], seconds: float, on_block: Callable[[float, np.ndarray], None]) -> np.ndarray:
    count = max(1, round(seconds * RATE_HZ / HOP))
    heard = []
    for index in range(count):
        block = next(blocks)
        on_block((count - index) * HOP / RATE_HZ, block)
        heard.append(block)
    return np.concatenate(heard)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without a user database
        return ""


def _readable(path: Path) -> np.ndarray | None:
    try:
        audio, _ = read_wav(path)
    except MilliwiseError:
        return None
    return audio if len(audio) <= MAX_CLIP_S * RATE_HZ else None


def _comparable(path: Path) -> np.ndarray | None:
    """A recording that still sounds like its word: files that were trimmed tightly are cut, but do."""
    audio = _readable(path)
    if audio is None:
        return None
    spoiled = {finding.kind for finding in findings(audio) if finding.spoils} - {"cut_start", "cut_end"}
    return None if spoiled else audio
