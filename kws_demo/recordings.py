"""Find recordings in a folder of word folders, tell speakers apart, and split them so that none is in two parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporters.metadata import UNKNOWN
from kws_demo.audio import read_wav
from kws_demo.noises import CLIP_SAMPLES
from toolkit.errors import MilliwiseError, printable
from toolkit.progress import say

ENDINGS = (".wav", ".flac", ".ogg")
BACKGROUND = "_background_noise_"
HELD_OUT = {"val": "test", "validation": "test", "test": "test"}  # sibling folders of `train`
MAX_WORD_CHARACTERS = 40
MAX_CLIP_S = 30


@dataclass(frozen=True)
class Recording:
    """One file: its label, who speaks, and the part of the data it belongs to ("" while undecided)."""

    path: Path
    label: str
    speaker: str
    part: str = ""


def check_words(words: Collection[str], where: str) -> None:
    """Refuse words that cannot be labels.

    Raises:
        MilliwiseError: no word, one twice, or one that is empty, too long, reserved, or holds a path
            separator or control character.
    """
    seen: dict[str, str] = {}
    for word in words:
        shown = printable(word)[: MAX_WORD_CHARACTERS + 8]
        if not word.strip() or word != word.strip() or len(word) > MAX_WORD_CHARACTERS:
            raise MilliwiseError(f"the word '{shown}' in {where} is empty, padded or too long: use 1 to 40 letters")
        if "/" in word or "\\" in word or not word.isprintable() or word.startswith("."):
            raise MilliwiseError(
                f"the word '{shown}' in {where} has a path separator or control character: use letters"
            )
        if word.startswith("_"):
            raise MilliwiseError(f"the word '{shown}' in {where} is reserved (it begins with _): rename it")
        if word.casefold() in seen:
            raise MilliwiseError(f"the word '{shown}' is twice in {where} ('{seen[word.casefold()]}'): remove one")
        seen[word.casefold()] = shown
    if not seen:
        raise MilliwiseError(f"{where} has no word: give at least one to listen for")


def word_recordings(folder: Path) -> list[Recording]:
    """All recordings of `folder/WORD/*`, or of `folder/train` with its held-out sibling `val`, `validation` or `test`.

    The siblings' recordings get the part "test"; if there is a `test`, those of `val` or `validation` get "validation".
    `_background_noise_` folders are left out (see `noise_files`).

    Raises:
        MilliwiseError: no such folder, a word folder without recordings, or a held-out word that is not trained.
    """
    if not _has_folders(folder / "train") or not any(_has_folders(folder / name) for name in HELD_OUT):
        return _words_of(folder, "")
    found = _words_of(folder / "train", "")
    trained = {recording.label for recording in found}
    for name in HELD_OUT:
        if _has_folders(folder / name):
            part = "validation" if name != "test" and _has_folders(folder / "test") else "test"
            found += _words_of(folder / name, part)
    for extra in sorted(
        {printable(recording.label) for recording in found if recording.label not in trained | {UNKNOWN}}
    ):
        raise MilliwiseError(f"{printable(folder)} tests '{extra}' but has no train/{extra}: add or remove it")
    return found


def untrained_recordings(folder: Path) -> list[Recording]:
    """Those of `word_recordings` that are held out for a test, where any are: the others may have been trained."""
    found = word_recordings(folder)
    return [recording for recording in found if recording.part == "test"] or found


def unknown_recordings(folder: Path, keywords: Collection[str]) -> list[Recording]:
    """Recordings of other words, as `_unknown_`: a folder of files, of word folders, or with `train` and a sibling.

    Words equal to one of the keywords are left out, and said to be: folders in another language may be called so.
    """
    taken = {word.casefold() for word in keywords}
    found = _files(folder, UNKNOWN, "")
    if not found or _has_folders(folder):
        found += word_recordings(folder)
    kept = [replace(recording, label=UNKNOWN) for recording in found if recording.label.casefold() not in taken]
    if left := sorted({printable(recording.label) for recording in found if recording.label.casefold() in taken}):
        say(f"{printable(folder)}: left out of the unknown words, for they are called like keywords: {', '.join(left)}")
    if not kept:
        raise MilliwiseError(f"{printable(folder)} has no recordings of words that are no keywords: give another")
    return kept


def noise_files(folder: Path) -> list[Path]:
    """All recordings anywhere below a folder, sorted."""
    _check_folder(folder)
    files = sorted(path for path in folder.rglob("*") if _is_recording(path))
    if not files:
        raise MilliwiseError(f"{printable(folder)} holds no background recordings (.wav .flac .ogg): give another")
    return files


def noise_parts(folder: Path) -> list[tuple[Path, str]]:
    """Background recordings with their part: "test" below a folder `val`, `validation` or `test`."""
    files = noise_files(folder)
    held = {path for path in files if set(path.relative_to(folder).parts[:-1]) & set(HELD_OUT)}
    return [(path, "test" if path in held and len(held) < len(files) else "") for path in files]


def read_noise(files: list[tuple[Path, str]], seed: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Background recordings for training and for the test: other files, or of few files the last fifth of each."""
    audio = [read_wav(path)[0] for path, _ in files]
    order = np.random.default_rng([seed, 3]).permutation(len(files)).tolist()
    if any(part for _, part in files):
        held = {index for index, (_, part) in enumerate(files) if part}
    else:
        held = set(order[: len(files) // 5])
    if not held:
        return tuple(a[: len(a) * 4 // 5] for a in audio), tuple(a[len(a) * 4 // 5 :] for a in audio)
    return tuple(a for i, a in enumerate(audio) if i not in held), tuple(audio[i] for i in sorted(held))


def split_speakers(words_of: Mapping[str, set[str]], parts: Mapping[str, float], seed: int) -> dict[str, str]:
    """The part of every speaker: "train", or one of `parts` (name → share of the speakers), by a seeded hash.

    Parts that lack a word take one more speaker of it, so that few speakers can be split too; the only speaker of a
    word stays in training.
    """
    order = sorted(words_of, key=lambda speaker: hashlib.sha256(f"{seed} {speaker}".encode()).digest())
    part_of = dict.fromkeys(order, "train")
    trained = Counter(word for words in words_of.values() for word in words)

    def hold_out(speakers: list[str], part: str, count: int) -> None:
        for speaker in speakers:
            if count > 0 and part_of[speaker] == "train" and min(trained[word] for word in words_of[speaker]) > 1:
                part_of[speaker] = part
                trained.subtract(words_of[speaker])
                count -= 1

    for part, share in parts.items():
        hold_out(order, part, round(share * len(order)))
    for word in sorted(trained):
        speakers = [name for name in order if word in words_of[name]]
        for part in parts:
            if all(part_of[name] != part for name in speakers):
                hold_out(speakers, part, 1)
    return part_of


def read_clip(path: Path) -> np.ndarray:
    """A word as float32 [16000] at 16 kHz: centred between zeros if it is shorter, its loudest second if it is longer.

    Raises:
        MilliwiseError: unreadable, not audio, empty, or longer than 30 s; names the file.
    """
    audio, _ = read_wav(path)
    if len(audio) > MAX_CLIP_S * CLIP_SAMPLES:
        raise MilliwiseError(f"{printable(path)} is longer than {MAX_CLIP_S} s: cut it to one word a file")
    if len(audio) > CLIP_SAMPLES:
        energy = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
        start = int(np.argmax(energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]))
        return audio[start : start + CLIP_SAMPLES]
    return centred(audio)


def centred(audio: np.ndarray) -> np.ndarray:
    """A clip float32 [16000] with `audio` in its middle and zeros around."""
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    start = (CLIP_SAMPLES - len(audio)) // 2
    clip[start : start + len(audio)] = audio
    return clip


def _words_of(folder: Path, part: str) -> list[Recording]:
    _check_folder(folder)
    words = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    words = [path for path in words if path.name != BACKGROUND]
    if not words:
        raise MilliwiseError(
            f"{printable(folder)} has no folders: put the recordings of each word into a folder of its name"
        )
    found: list[Recording] = []
    for path in words:
        files = _files(path, path.name, part)
        if not files:
            raise MilliwiseError(
                f"{printable(path)} holds no recordings (.wav .flac .ogg): add some or remove the folder"
            )
        found += files
    return found


def _files(folder: Path, label: str, part: str) -> list[Recording]:
    _check_folder(folder)
    files = [path for path in sorted(folder.iterdir()) if _is_recording(path)]
    return [Recording(path, label, speaker_of(path, folder.name), part) for path in files]


def _is_recording(path: Path) -> bool:
    hidden = path.name.startswith(".")  # such as the notes that some machines leave beside a file
    return not hidden and path.suffix.lower() in ENDINGS and path.is_file()


def speaker_of(path: Path, word: str) -> str:
    """Who speaks: the file name up to its first `_`, after the word itself if the name begins with it.

    "ann_3.wav" and "yes_ann_3.wav" in `yes` are both by "ann"; a name without `_` is a speaker of its own.
    """
    name = path.stem.removeprefix(f"{word}_")
    return name.split("_")[0] if "_" in name.strip("_") else f"{word}/{path.stem}"


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def _check_folder(folder: Path) -> None:
    try:
        next(folder.iterdir(), None)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not the name of a folder"
        raise MilliwiseError(f"cannot read the folder {printable(folder)} ({why}): give an existing one") from None


def by_label(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """The recordings of every label, in their order."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(recording.label, []).append(recording)
    return groups
