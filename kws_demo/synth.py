"""Spoken words from text: espeak-ng in a subprocess, many voices, cached on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from exporters.metadata import RATE_HZ
from kws_demo.espeak import base_voices, espeak_folder, pronounce, run_worker, unread
from kws_demo.phonemes import segments
from toolkit.errors import MilliwiseError, printable
from toolkit.files import cache_folder, write_file

LONGEST_S = 0.95
RATES, PITCHES = (110, 261), (10, 96)  # words per minute; espeak-ng's scale of 0 to 99
STRETCH = (0.82, 1.2)  # formants and pitch, by resampling: a longer or shorter vocal tract at the same rate
ENDINGS = ("", "", ",", "?", "!")  # a word is told, asked or called
PIECE_S, LEAST_LOUDNESS = 1.0, 0.4  # of excerpts; against the loudness of the whole
SPEECH_RMS, HIGHEST_PEAK = 0.1, 0.95
SHOW_FROM = 500  # utterances; fewer take less than a second
CACHE_FORMAT = 2  # raise it when the same job gives other sound
KANA = " (in kana)"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Spoken:
    """Something said: `audio` float32 [samples] at 16 kHz, trimmed; the `voice` is "base+variant"."""

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
    """Speak every word `count_per_word` times, each time with a voice, rate, pitch and intonation drawn at random.

    The same arguments give the same sound, bit for bit. Clips longer than 0.95 s are spoken again, faster, or left out.
    A word may be given by espeak-ng's mnemonics, "[[st'0p]]".

    Raises:
        MilliwiseError: a word that espeak-ng cannot say, unless not `strict`, which leaves the word out.
    """
    rng = np.random.default_rng([seed, 2])
    texts = [word for word in words for _ in range(count_per_word)]
    job = _job(texts, rng.choice(ENDINGS, len(texts)).tolist(), rng, voices, LONGEST_S)
    if strict:
        check_sayable(words, language)
    spoken = _say(job)
    if strict:
        _check_lengths(words, spoken)
    return [clip for clip in spoken if 0 < len(clip.audio) <= LONGEST_S * RATE_HZ]


def speak_sentences(
    texts: Sequence[str],
    seed: int,
    voices: Sequence[str],
    language: str = "en",
    longest_s: float = 12.0,
    cached: bool = True,
) -> list[Spoken]:
    """Speak every text once, each with a voice, rate, pitch and pitch range drawn at random, in random order.

    The same arguments give the same sound. Texts without sound are left out, as are those longer than `longest_s`.
    The voices decide the language; `language` is checked only. What is not `cached` leaves nothing on the disk.

    Raises:
        MilliwiseError: an unknown language.
    """
    base_voices(language)
    job = _job(texts, [""] * len(texts), np.random.default_rng([seed, 8]), voices, longest_s)
    return [clip for clip in _say(job, cached) if 0 < len(clip.audio) <= longest_s * RATE_HZ]


def excerpts(spoken: Sequence[Spoken], count: int, rng: np.random.Generator) -> list[Spoken]:
    """`count` pieces of a second from random places of what was spoken, none mostly a pause; evenly from all."""
    size = int(PIECE_S * RATE_HZ)
    long = [clip for clip in spoken if len(clip.audio) >= size]
    pieces: list[Spoken] = []
    for attempt in range(4 * count if long else 0):
        if len(pieces) == count:
            break
        clip = long[attempt % len(long)]
        start = int(rng.integers(len(clip.audio) - size + 1))
        piece = clip.audio[start : start + size]
        if np.sqrt(np.mean(piece**2)) >= LEAST_LOUDNESS * np.sqrt(np.mean(clip.audio**2)):
            pieces.append(Spoken(piece, clip.word, clip.voice))
    return pieces


def split_voices(language: str, seed: int) -> dict[str, tuple[str, ...]]:
    """The voices of a language as "train", "validation" and "test": 80, 10 and 10 % of espeak's voice variants.

    A variant is one timbre and is heard in one part only, with every base voice (accent): the test's voices are new.
    """
    folder = espeak_folder() / "espeak-ng-data" / "voices" / "!v"
    variants = [str(name) for name in np.random.default_rng([seed, 1]).permutation(sorted(os.listdir(folder)))]
    tenth = len(variants) // 10
    shares = dict(zip(PARTS, (variants[2 * tenth :], variants[:tenth], variants[tenth : 2 * tenth]), strict=True))
    return {part: tuple(f"{base}+{name}" for base in base_voices(language) for name in shares[part]) for part in PARTS}


def check_sayable(words: Sequence[str], language: str) -> None:
    """Refuse words that espeak-ng cannot say.

    Raises:
        MilliwiseError: a word without sound, or in letters that espeak-ng does not read in this language.
    """
    for word, said in zip(words, pronounce(words, language), strict=True):
        if said.spelled or unread(word, language):
            cure = f"write it as {language!r} does{KANA if language == 'ja' else ''}, or name its language"
            raise MilliwiseError(f"espeak-ng spells {word!r} in {language!r}: {cure}, synth:LANGUAGE:{word}")
        if not segments(said.ipa):
            raise MilliwiseError(f"espeak-ng makes no sound of {word!r} in {language!r}: choose a word it can say")


def as_spoken(words: Sequence[str], spoken: Sequence[str], language: str) -> list[str]:
    """Keywords as a language writes them, by whose sound all is known that must not hold them.

    Args:
        words: labels, in which "_" is a space.
        spoken: the words in their order, where labels are not in the language; else nothing.

    Raises:
        MilliwiseError: there are more or fewer, or espeak-ng cannot say one.
    """
    cure = f"give --spoken WORD,WORD,…, as {language!r} writes {printable(', '.join(words))}"
    if spoken and len(spoken) != len(words):
        raise MilliwiseError(f"--spoken has {len(spoken)} words for {len(words)} keywords: {cure}")
    texts = [word.strip() for word in spoken or words]
    for text, said in zip(texts, pronounce([text.replace("_", " ") for text in texts], language), strict=True):
        if said.spelled or unread(text, language) or not segments(said.ipa):
            raise MilliwiseError(
                f"espeak-ng cannot say '{printable(text)}' in {language!r}, so its talk may hold the keyword: {cure}"
            )
    return texts


def _job(
    texts: Sequence[str], endings: Sequence[str], rng: np.random.Generator, voices: Sequence[str], longest_s: float
) -> dict[str, Any]:
    """What the worker has to say, in the order in which it says it: by voice, since changing the voice is slow."""
    drawn: list[tuple[list[Any], str, float]] = []
    for text, ending in zip(texts, endings, strict=True):
        rate, pitch, pitch_range = (int(rng.integers(*bounds)) for bounds in (RATES, PITCHES, PITCHES))
        stretch, timbre = round(float(rng.uniform(*STRETCH)), 4), int(rng.integers(2**31))
        voice = voices[int(rng.integers(len(voices)))]
        longest = round(longest_s * stretch, 4)
        utterance = [voice, text + ending, round(rate / stretch), pitch, pitch_range, timbre, longest]
        drawn.append((utterance, text, stretch))
    drawn.sort(key=lambda one: one[0][0])
    utterances, said, stretches = ([one[kind] for one in drawn] for kind in range(3))
    voice = voices[0] if voices else "en"
    return {"texts": [], "voice": voice, "utterances": utterances, "said": said, "stretch": stretches}


def _say(job: dict[str, Any], cached: bool = True) -> list[Spoken]:
    """The sounds of a job, from the cache if they are there, in its order; empty ones where there was none."""
    if not job["utterances"]:
        return []
    path = cache_folder() / f"synth-{_digest(job)}.npz"
    sounds = _cached(path, len(job["utterances"])) if cached else None
    if sounds is None:
        raw, rate_hz = _spoken_raw(job)
        sounds = [finished(sound, rate_hz, stretch) for sound, stretch in zip(raw, job["stretch"], strict=True)]
        if cached:
            with contextlib.suppress(MilliwiseError):  # the cache saves time only: a full disk is no reason to stop
                write_file(path, lambda aside: _save(aside, sounds))
    pairs = zip(sounds, job["said"], job["utterances"], strict=True)
    return [Spoken(sound.astype(np.float32) / 32768, text, utterance[0]) for sound, text, utterance in pairs]


def _digest(job: dict[str, Any]) -> str:
    versions = [version("milliwise"), version("espeakng_loader"), CACHE_FORMAT]
    return hashlib.sha256(json.dumps([job, versions], sort_keys=True).encode()).hexdigest()[:32]


def _spoken_raw(job: dict[str, Any]) -> tuple[list[np.ndarray], int]:
    """The sounds of a job as espeak-ng made them, int16 each, and their rate."""
    count = len(job["utterances"])
    result = run_worker(job, f"speaking {count} words" if count >= SHOW_FROM else "")
    return np.split(result["samples"], np.cumsum(result["lengths"])[:-1]), int(result["rate_hz"][0])


def finished(sound: np.ndarray, rate_hz: int, stretch: float) -> np.ndarray:
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


def _check_lengths(words: Sequence[str], spoken: Sequence[Spoken]) -> None:
    lengths: dict[str, list[int]] = {word: [] for word in words}
    for clip in spoken:
        lengths[clip.word].append(len(clip.audio))
    for word, found in lengths.items():
        if not any(found):
            raise MilliwiseError(f"espeak-ng makes no sound of {word!r}: choose a word it can say")
        if sum(0 < length <= LONGEST_S * RATE_HZ for length in found) < len(found) / 2:
            raise MilliwiseError(f"{word!r} takes longer than the {LONGEST_S} s a word may last: choose a shorter one")
