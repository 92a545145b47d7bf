"""Speak words with espeak-ng in a process of its own: a JSON job on standard input, an .npz of raw sound as the result.

espeak-ng is GPL, so its library is loaded here and nowhere else, and this file imports nothing of ours. A fresh process
also makes the sound reproducible: seeded, espeak-ng repeats a whole sequence of calls, but no single call.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SYNCHRONOUS, UTF8, PHONEMES = 2, 1, 0x100  # espeak_AUDIO_OUTPUT; text in UTF-8, in which [[ ]] holds mnemonics
TIED_IPA = 0x82 | ord("͡") << 8  # phoneme modes of speak_lib.h: one letter a phoneme, or several that are tied
MNEMONICS = ord("·") << 8  # espeak-ng's own names, a dot between two
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # espeak_PARAMETER
VOLUME_PERCENT = 60  # at 100 some variants reach full scale
FASTEST_WORDS_PER_MINUTE = 450
MOVED = ((0.9, 0.6, 0.7), (1.1, 1.4, 1.8))  # from, to: the frequency, strength and width of a formant
FLUTTER = (0, 9)  # how much the pitch wavers
OWN = "milliwise"  # the voice variant that is written anew for each utterance
SAY_EVERY = 100  # utterances between two lines of progress on standard output
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """One espeak-ng library, initialised; it collects the samples of what it says."""

    def __init__(self, library: str, data: str) -> None:
        """`data` has room for voice variants of our own."""
        self._espeak = ctypes.CDLL(library)
        self._variants = Path(data, "espeak-ng-data", "voices", "!v")
        self._espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.rate_hz = self._espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0)
        if self.rate_hz <= 0:
            raise OSError(f"espeak-ng does not start with the data in {data}")
        self._chunks: list[np.ndarray] = []
        self._callback = CALLBACK(self._collect)  # kept: ctypes would free it under espeak's feet
        self._espeak.espeak_SetSynthCallback(self._callback)
        self._espeak.espeak_SetParameter(VOLUME, VOLUME_PERCENT, 0)
        self._espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # or espeak-ng takes the second of the day
        self._voice = ""

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def use(self, voice: str, timbre: int | None = None) -> None:
        """Change to a voice, "en-us+f3", with the formants of its variant moved at random; an unknown is an OSError."""
        name = voice
        if timbre is not None:
            base, variant = voice.split("+", 1)
            text = (self._variants / variant).read_text(errors="replace")
            (self._variants / OWN).write_text(other_timbre(text, np.random.default_rng(timbre)))
            name = f"{base}+{OWN}"
        if (timbre is not None or voice != self._voice) and self._espeak.espeak_SetVoiceByName(name.encode()) != 0:
            raise OSError(f"espeak-ng has no voice {voice}")
        self._voice = voice if timbre is None else ""

    def say(self, text: str, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """The sound of `text`, int16 [samples]: words per minute, then pitch and its range in 0 to 99."""
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._espeak.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        content = text.encode()
        length = ctypes.c_size_t(len(content) + 1)
        self._espeak.espeak_Synth(content, length, 0, 1, 0, UTF8 | PHONEMES, None, None)
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)

    def phonemes(self, text: str, mode: int) -> str:
        """How the voice says `text`; other languages' names stand in parentheses. `[[ ]]` needs a `say` before."""
        pointer = ctypes.c_void_p(ctypes.cast(ctypes.create_string_buffer(text.encode()), ctypes.c_void_p).value)
        spoken = []
        while pointer.value:
            spoken.append((self._espeak.espeak_TextToPhonemes(ctypes.byref(pointer), UTF8, mode) or b"").decode())
        return " ".join(spoken)


def other_timbre(variant: str, rng: np.random.Generator) -> str:
    """The text of a voice variant with its formants (0 to 8: frequency, strength and width in percent) moved."""
    lines = [line.split() for line in variant.splitlines()]
    given = {line[1]: line for line in lines if line[:1] == ["formant"] and len(line) > 2}
    kept = [line for line in lines if line[:1] not in (["formant"], ["flutter"])]
    for number in map(str, range(9)):
        numbers = [word for word in given.get(number, [])[2:] if word.lstrip("-").isdigit()]
        values = [int(word) for word in numbers] + [100] * (3 - len(numbers))
        moved = [round(value * factor) for value, factor in zip(values, rng.uniform(*MOVED), strict=False)]
        kept.append(["formant", number, *map(str, [*moved, *values[3:]])])
    kept.append(["flutter", str(rng.integers(*FLUTTER))])
    return "\n".join(map(" ".join, kept)) + "\n"


def linked(data: Path, folder: Path) -> Path:
    """A copy of espeak-ng's data folder in `folder`, made of links, in which voice variants can be added."""
    copy = folder / "espeak-ng-data"
    (copy / "voices" / "!v").mkdir(parents=True, exist_ok=True)
    for kind in (Path(), Path("voices"), Path("voices", "!v")):
        for path in (data / kind).iterdir():
            if not (copy / kind / path.name).exists():
                (copy / kind / path.name).symlink_to(path)
    return folder


def active(sound: np.ndarray, quiet: int = 150) -> np.ndarray:
    """`sound` without what is quieter than `quiet` (of 32767) at both ends."""
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > quiet)
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]


def speak(speaker: Speaker, utterance: list[Any] | None) -> np.ndarray:
    """One utterance of a job, trimmed; spoken once more, faster, when it lasts longer than it may."""
    if utterance is None:
        return np.zeros(0, np.int16)
    voice, text, rate, pitch, pitch_range, timbre, longest_s = utterance
    speaker.use(voice, timbre)
    sound = active(speaker.say(text, rate, pitch, pitch_range))
    longest = int(longest_s * speaker.rate_hz)
    if len(sound) > longest and rate < FASTEST_WORDS_PER_MINUTE:
        faster = min(FASTEST_WORDS_PER_MINUTE, 1 + int(1.15 * rate * len(sound) / longest))
        sound = active(speaker.say(text, faster, pitch, pitch_range))
    return sound


def run(job: dict[str, Any], output: str, advance: Callable[[int], object]) -> None:
    """Do a job: `utterances` in their order, and the phonemes of `texts`, each with a voice; null is nothing."""
    speaker = Speaker(job["library"], str(linked(Path(job["data"]), Path(output).parent)))
    speaker.use(job["voice"])
    if job["texts"]:
        speaker.say("", 200, 50, 50)  # from here on [[ ]] holds mnemonics
    said: list[list[str]] = [[], []]
    for voice, text in (item or (job["voice"], "") for item in job["texts"]):
        speaker.use(voice)
        for lines, mode in zip(said, (TIED_IPA, MNEMONICS), strict=True):
            lines.append(speaker.phonemes(text, mode))
    sounds = [np.zeros(0, np.int16)]
    for index, utterance in enumerate(job["utterances"], start=1):
        sounds.append(speak(speaker, utterance))
        if index % SAY_EVERY == 0:
            advance(SAY_EVERY)
    lengths = np.array([len(sound) for sound in sounds[1:]], np.int64)
    rate_hz = np.array([speaker.rate_hz])
    ipa, mnemonics = (np.array(lines, np.str_) for lines in said)
    np.savez(output, samples=np.concatenate(sounds), lengths=lengths, rate_hz=rate_hz, ipa=ipa, mnemonics=mnemonics)


def main() -> None:
    """`espeak_worker.py OUTPUT.npz < job.json`; a number per line on standard output: utterances done."""

    def advance(count: int) -> None:
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()

    run(json.load(sys.stdin), sys.argv[1], advance)


if __name__ == "__main__":
    main()
