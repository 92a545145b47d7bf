"""Words said by other speech synthesisers that are installed: flite and SVOX Pico, whose voices are recorded people."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import soundfile

from exporters.metadata import RATE_HZ
from kws_demo.synth import LONGEST_S, STRETCH, Spoken, finished
from kws_demo.trim import words_in
from toolkit.errors import MilliwiseError, printable

SPEED, PITCH = (0.7, 1.45), (0.88, 1.14)  # times the voice's own
COPIES = 4  # of what was said once, at other lengths of the vocal tract
SHORTEST_S = 0.12
LIMIT_S = 30.0  # for one word
Command = Callable[[str, str, float, float, str], list[str]]


@dataclass(frozen=True)
class Synthesiser:
    """A program that says a word.

    Attributes:
        program: its name.
        voices: of each language, by its first letters.
        command: (voice, text, speed, pitch, WAV file) to a command line.
    """

    program: str
    voices: dict[str, tuple[str, ...]]
    command: Command


def _flite(voice: str, text: str, speed: float, pitch: float, path: str) -> list[str]:
    settings = ["--setf", f"duration_stretch={1 / speed:.3f}", "--setf", f"f0_shift={pitch:.3f}"]
    return ["flite", "-voice", voice, *settings, "-t", text, "-o", path]


def _pico(voice: str, text: str, speed: float, pitch: float, path: str) -> list[str]:
    inner = f"<pitch level='{round(100 * pitch)}'>{escape(text)}.</pitch>"
    return ["pico2wave", "-l", voice, "-w", path, f"<speed level='{round(100 * speed)}'>{inner}</speed>"]


SYNTHESISERS = {
    "flite": Synthesiser("flite", {"en": ("awb", "kal16", "rms", "slt")}, _flite),
    "pico": Synthesiser(
        "pico2wave",
        {"en": ("en-US", "en-GB"), "de": ("de-DE",), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)},
        _pico,
    ),
}
INSTALL = "apt install flite, and libttspico-utils from Debian's non-free part"


def installed_voices(language: str) -> list[tuple[str, str]]:
    """(synthesiser, voice) of every voice of a language that is installed here.

    Raises:
        MilliwiseError: there is none.
    """
    spoken = {name: each.voices.get(language.split("-")[0], ()) for name, each in SYNTHESISERS.items()}
    if not any(spoken.values()):
        known = sorted({code for each in SYNTHESISERS.values() for code in each.voices})
        raise MilliwiseError(f"{', '.join(spoken)} do not speak {printable(language)!r}: choose of {', '.join(known)}")
    found = {name: voices for name, voices in spoken.items() if shutil.which(SYNTHESISERS[name].program)}
    if not any(found.values()):
        missing = " or ".join(SYNTHESISERS[name].program for name, voices in spoken.items() if voices)
        raise MilliwiseError(f"no {missing} is installed here: {INSTALL}")
    return [(name, voice) for name, voices in found.items() for voice in voices]


def say_often(words: Sequence[str], takes: int, voices: Sequence[tuple[str, str]], seed: int) -> Iterator[list[Spoken]]:
    """Word by word, `takes` clips by every voice, each at a speed, pitch and length of the vocal tract of its own.

    Clips of less than 0.12 s and of more than 0.95 s are left out. The same arguments give the same sound.

    Raises:
        MilliwiseError: a synthesiser fails.
    """
    for number, word in enumerate(words):
        rng = np.random.default_rng([seed, 11, number])
        yield [clip for voice in voices for clip in _takes(word, takes, voice, rng)]


def say_once(words: Sequence[str], voices: Sequence[tuple[str, str]], seed: int) -> list[Spoken]:
    """Every word by one voice, drawn at random as all else is."""
    rng = np.random.default_rng([seed, 12])
    return [clip for word in words for clip in _takes(word, 1, voices[int(rng.integers(len(voices)))], rng)]


def _takes(word: str, count: int, voice: tuple[str, str], rng: np.random.Generator) -> list[Spoken]:
    """Clips of a word by one voice: at a few speeds and pitches, each as vocal tracts of several lengths say it."""
    settings = [(rng.uniform(*SPEED), rng.uniform(*PITCH)) for _ in range(-(-count // COPIES))]
    sounds = [_said(*voice, word, speed, pitch) for speed, pitch in settings]
    name = "-".join(voice)
    clips = [_clip(sounds[take // COPIES], word, name, float(rng.uniform(*STRETCH))) for take in range(count)]
    return [clip for clip in clips if SHORTEST_S * RATE_HZ < len(clip.audio) <= LONGEST_S * RATE_HZ]


def _said(synthesiser: str, voice: str, word: str, speed: float, pitch: float) -> tuple[np.ndarray, int]:
    """What the program made of a word, trimmed, float32 [samples], and its rate in Hz."""
    known = SYNTHESISERS[synthesiser]
    with tempfile.TemporaryDirectory(prefix="milliwise-") as folder:
        path = Path(folder) / "said.wav"
        command = known.command(voice, word.replace("_", " "), speed, pitch, str(path))
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
            audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, subprocess.SubprocessError, soundfile.LibsndfileError) as error:
            reason = printable(" ".join(str(error).split()))[:120]
            raise MilliwiseError(
                f"{known.program} cannot say '{printable(word)}' ({reason}): leave it out, or install it anew"
            ) from None
    mono = audio.mean(1)
    found = words_in(mono)
    return (mono[found[0].start : found[-1].end] if found else mono[:0]), int(rate_hz)


def _clip(said: tuple[np.ndarray, int], word: str, voice: str, stretch: float) -> Spoken:
    sound, rate_hz = said
    samples = finished(np.round(sound * 32767).astype(np.int16), rate_hz, stretch)
    return Spoken(samples.astype(np.float32) / 32768, word, voice)
