"""Spoken words from text: espeak-ng in a subprocess, many voices, cached on disk."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from exporters.metadata import RATE_HZ
from toolkit.errors import MilliwiseError, MissingExtra
from toolkit.files import write_file
from toolkit.progress import progress

LONGEST_S = 0.95
RATES, PITCHES = (110, 261), (10, 96)  # words per minute; espeak-ng's scale of 0 to 99
STRETCH = (0.85, 1.15)  # formants, pitch and rate together, by resampling: espeak's voices share one vocal tract
SPEECH_RMS, HIGHEST_PEAK = 0.1, 0.95
SHOW_FROM = 500  # utterances; fewer take less than a second
CACHE_FORMAT = 1  # raise it when the same job gives other sound
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Spoken:
    """One spoken word: `audio` float32 [samples] at 16 kHz, at most 0.95 s, trimmed; the `voice` is "base+variant"."""

    audio: np.ndarray
    word: str
    voice: str


def synthesise(
    words: Sequence[str],
    count_per_word: int,
    seed: int,
    voices: Sequence[str],
    language: str = "en",
    strict: bool = True,
) -> list[Spoken]:
    """Speak every word `count_per_word` times, each time with a voice, rate, pitch and range drawn at random.

    The same arguments give the same sound, bit for bit. Clips longer than 0.95 s are spoken again, faster, or left out.

    Raises:
        MilliwiseError: a word that espeak-ng cannot say, unless not `strict`, which leaves the word out.
    """
    job = _job(words, count_per_word, seed, voices)
    path = cache_folder() / f"synth-{_digest(job)}.npz"
    sounds = _cached(path, len(job["utterances"]))
    if sounds is None:
        raw, rate_hz = _spoken_raw(job)
        sounds = [_finish(sound, rate_hz, stretch) for sound, stretch in zip(raw, job["stretch"], strict=True)]
        with contextlib.suppress(MilliwiseError):  # the cache saves time only: a full disk is no reason to stop
            write_file(path, lambda aside: _save(aside, sounds))
    spoken = [
        Spoken(sound.astype(np.float32) / 32768, text, voice)
        for sound, (voice, text, *_) in zip(sounds, job["utterances"], strict=True)
        if 0 < len(sound) <= LONGEST_S * RATE_HZ
    ]
    if strict:
        _check_spoken(words, sounds, job, language)
    return spoken


def base_voices(language: str) -> tuple[str, ...]:
    """The espeak-ng voices of a language ("en" has eight, "en-us" two), found in its data without loading it.

    Raises:
        MilliwiseError: an unknown language; names the nearest ones.
    """
    data = _espeak_folder() / "espeak-ng-data"
    names = sorted(path.name.lower() for path in (data / "lang").rglob("*") if path.is_file())
    # Shavian and the other romanisations do not read ordinary script; three languages come without their dictionary.
    names = [name for name in names if name != "en-shaw" and (data / f"{name.split('-')[0]}_dict").exists()]
    if language in names and "-latn" in language:
        return (language,)
    found = [name for name in names if "-latn" not in name and (name == language or name.startswith(f"{language}-"))]
    if not found:
        close = difflib.get_close_matches(language, names, n=5, cutoff=0.3) or ["en", "de", "fr", "es"]
        raise MilliwiseError(f"espeak-ng has no language {language!r}: choose a code like {', '.join(close)}")
    return tuple(found)


def split_voices(language: str, seed: int) -> dict[str, tuple[str, ...]]:
    """The voices of a language as "train", "validation" and "test": 80, 10 and 10 % of espeak's voice variants.

    A variant is one timbre and is heard in one part only, with every base voice (accent): the test's voices are new.
    """
    folder = _espeak_folder() / "espeak-ng-data" / "voices" / "!v"
    variants = [str(name) for name in np.random.default_rng([seed, 1]).permutation(sorted(os.listdir(folder)))]
    tenth = len(variants) // 10
    shares = dict(zip(PARTS, (variants[2 * tenth :], variants[:tenth], variants[tenth : 2 * tenth]), strict=True))
    return {part: tuple(f"{base}+{name}" for base in base_voices(language) for name in shares[part]) for part in PARTS}


def pronunciations(words: Sequence[str], language: str = "en") -> list[str]:
    """How espeak-ng pronounces each word, in IPA without stress marks: equal ones sound the same ("right", "write").

    Raises:
        MilliwiseError: an unknown language.
    """
    if not words:
        return []
    voice = language if language in base_voices(language) else base_voices(language)[0]
    job = {"texts": list(words), "voice": voice, "longest_s": 1.0, "utterances": []}
    unstressed = {ord("ˈ"): None, ord("ˌ"): None}
    return [str(spoken).translate(unstressed) for spoken in _run_worker(job)["phonemes"]]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/milliwise`, or `~/.cache/milliwise`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "milliwise"


def _job(words: Sequence[str], count: int, seed: int, voices: Sequence[str]) -> dict[str, Any]:
    """What the worker has to say, in the order in which it says it: by voice, since changing the voice is slow."""
    rng = np.random.default_rng([seed, 2])
    utterances = []
    for word in words:
        for _ in range(count):
            rate, pitch, pitch_range = (int(rng.integers(*bounds)) for bounds in (RATES, PITCHES, PITCHES))
            utterances.append([voices[int(rng.integers(len(voices)))], word, rate, pitch, pitch_range])
    utterances.sort()
    stretch = [round(float(factor), 4) for factor in rng.uniform(*STRETCH, len(utterances))]
    return {
        "texts": [],
        "voice": voices[0],
        "longest_s": LONGEST_S * STRETCH[0],
        "utterances": utterances,
        "stretch": stretch,
    }


def _digest(job: dict[str, Any]) -> str:
    versions = [version("milliwise"), version("espeakng_loader"), CACHE_FORMAT]
    return hashlib.sha256(json.dumps([job, versions], sort_keys=True).encode()).hexdigest()[:32]


def _spoken_raw(job: dict[str, Any]) -> tuple[list[np.ndarray], int]:
    """The sounds of a job as espeak-ng made them, int16 each, and their rate."""
    count = len(job["utterances"])
    result = _run_worker(job, f"speaking {count} words" if count >= SHOW_FROM else "")
    return np.split(result["samples"], np.cumsum(result["lengths"])[:-1]), int(result["rate_hz"])


def _run_worker(job: dict[str, Any], title: str = "") -> dict[str, np.ndarray]:
    """Run espeak_worker.py on a job; its arrays. With a title, show how far it is."""
    espeak = _espeak_folder()
    library = next(iter(sorted(espeak.glob("*espeak-ng*.so*")) + sorted(espeak.glob("*espeak-ng*.d*l*"))), espeak)
    job = {**job, "library": str(library), "data": str(espeak / "espeak-ng-data")}
    bar = progress(title, len(job["utterances"])) if title else contextlib.nullcontext(lambda amount: None)
    try:
        with tempfile.TemporaryDirectory(prefix="milliwise-") as folder, bar as advance:
            return _run_in(Path(folder), job, advance)
    except OSError as error:
        raise MilliwiseError(
            f"cannot run espeak-ng in {tempfile.gettempdir()} ({error.strerror}): free some space there or set TMPDIR"
        ) from None


def _run_in(folder: Path, job: dict[str, Any], advance: Callable[[float], None]) -> dict[str, np.ndarray]:
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(Path(__file__).with_name("espeak_worker.py")), str(folder / "spoken.npz")]
    with (
        (folder / "job.json").open() as stdin,
        (folder / "errors.txt").open("w") as stderr,
        subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        _follow(process, advance)
    if process.returncode != 0:
        lines = (folder / "errors.txt").read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        said = f"code {process.returncode}, {lines[-1]}"
        raise MilliwiseError(f"espeak-ng stopped ({said}): install the package espeakng-loader again")
    with np.load(folder / "spoken.npz", allow_pickle=False) as result:
        return dict(result)


def _follow(process: subprocess.Popen[str], advance: Callable[[float], None]) -> None:
    """Hand on how far the worker is until it ends; it ends with us when we are interrupted."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            advance(float(line))
    except KeyboardInterrupt:
        process.kill()
        raise


def _finish(sound: np.ndarray, rate_hz: int, stretch: float) -> np.ndarray:
    """Resample to 16 kHz (faster and higher for a stretch over 1) and bring to one loudness; int16 [samples]."""
    audio = soxr.resample(sound.astype(np.float32) / 32768, rate_hz * stretch, RATE_HZ) if len(sound) else sound
    rms, peak = (float(np.sqrt(np.mean(audio**2))), float(np.abs(audio).max())) if len(audio) else (0.0, 0.0)
    if rms < 1e-4:
        return np.zeros(0, np.int16)
    gain = min(SPEECH_RMS / rms, HIGHEST_PEAK / peak)
    return np.asarray(np.round(audio * gain * 32767), np.int16)


def _save(path: Path, sounds: list[np.ndarray]) -> None:
    with path.open("wb") as file:  # a path would gain the ending .npz
        np.savez(
            file, samples=np.concatenate([np.zeros(0, np.int16), *sounds]), lengths=[len(sound) for sound in sounds]
        )


def _cached(path: Path, count: int) -> list[np.ndarray] | None:
    """The sounds in the cache; None where there are none, or where they are damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            samples, lengths = stored["samples"], stored["lengths"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole = samples.dtype == np.int16 and len(lengths) == count and int(lengths.sum()) == len(samples)
    return np.split(samples, np.cumsum(lengths)[:-1]) if whole else None


def _check_spoken(words: Sequence[str], sounds: list[np.ndarray], job: dict[str, Any], language: str) -> None:
    lengths: dict[str, list[int]] = {word: [] for word in words}
    for sound, (_, word, *_rest) in zip(sounds, job["utterances"], strict=True):
        lengths[word].append(len(sound))
    for word, found in lengths.items():
        if not any(found):
            raise MilliwiseError(f"espeak-ng makes no sound of {word!r} in {language!r}: choose a word it can say")
        if sum(0 < length <= LONGEST_S * RATE_HZ for length in found) < len(found) / 2:
            raise MilliwiseError(f"{word!r} takes longer than the {LONGEST_S} s a word may last: choose a shorter one")
    foreign = [word for word in words if not word.isascii() and language not in ("cmn", "yue", "hak")]
    for word, phonemes in zip(foreign, pronunciations(foreign, language), strict=True):
        if len(phonemes.split()) > len(word.split()):  # Chinese has a word a syllable; the others spell
            raise MilliwiseError(f"espeak-ng spells {word!r} in {language!r}: name its language, synth:LANGUAGE:{word}")


def _espeak_folder() -> Path:
    """Where the package espeakng_loader keeps the library and its data; the library itself is never loaded here."""
    spec = find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        raise MissingExtra("espeakng-loader", "search")
    return Path(spec.origin).parent
