"""Speak words with espeak-ng in a process of its own: a JSON job on standard input, an .npz of raw sound as the result.

espeak-ng is GPL, so its library is loaded here and nowhere else, and this file imports nothing of ours. A fresh process
also makes the sound reproducible: seeded, espeak-ng repeats a whole sequence of calls, but no single call.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

SYNCHRONOUS, UTF8, IPA = 2, 1, 2  # espeak_AUDIO_OUTPUT, the text encoding, and the phoneme alphabet of speak_lib.h
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # espeak_PARAMETER
VOLUME_PERCENT = 60  # at 100 some variants reach full scale
FASTEST_WORDS_PER_MINUTE = 450
SAY_EVERY = 100  # utterances between two lines of progress on standard output
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """One espeak-ng library, initialised; it collects the samples of what it says."""

    def __init__(self, library: str, data: str) -> None:
        self._espeak = ctypes.CDLL(library)
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

    def use(self, voice: str) -> None:
        """Change to a voice, "en-us+f3"; an unknown one is an OSError."""
        if voice != self._voice and self._espeak.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OSError(f"espeak-ng has no voice {voice}")
        self._voice = voice

    def say(self, text: str, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """The sound of `text`, int16 [samples]: words per minute, then pitch and its range in 0 to 99."""
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._espeak.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        content = text.encode()
        self._espeak.espeak_Synth(content, ctypes.c_size_t(len(content) + 1), 0, 1, 0, UTF8, None, None)
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)

    def phonemes(self, text: str) -> str:
        """How the present voice pronounces `text`, in IPA; a change of language shows as its code in parentheses."""
        pointer = ctypes.c_void_p(ctypes.cast(ctypes.create_string_buffer(text.encode()), ctypes.c_void_p).value)
        spoken = []
        while pointer.value:
            spoken.append((self._espeak.espeak_TextToPhonemes(ctypes.byref(pointer), UTF8, IPA) or b"").decode())
        return " ".join(spoken)


def active(sound: np.ndarray, quiet: int = 150) -> np.ndarray:
    """`sound` without what is quieter than `quiet` (of 32767) at both ends."""
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > quiet)
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]


def speak(speaker: Speaker, utterance: list[Any], longest: int) -> np.ndarray:
    """One utterance of a job, trimmed; spoken once more, faster, when it is longer than `longest` samples."""
    voice, text, rate, pitch, pitch_range = utterance
    speaker.use(voice)
    sound = active(speaker.say(text, rate, pitch, pitch_range))
    if len(sound) > longest and rate < FASTEST_WORDS_PER_MINUTE:
        faster = min(FASTEST_WORDS_PER_MINUTE, 1 + int(1.15 * rate * len(sound) / longest))
        sound = active(speaker.say(text, faster, pitch, pitch_range))
    return sound


def run(job: dict[str, Any], output: str, advance: Callable[[int], object]) -> None:
    """Do a job: `utterances` in their order, and `phonemes` of the `texts` in the `voice` named."""
    speaker = Speaker(job["library"], job["data"])
    speaker.use(job["voice"])
    phonemes = [speaker.phonemes(text) for text in job["texts"]]
    longest = int(job["longest_s"] * speaker.rate_hz)
    sounds = [np.zeros(0, np.int16)]
    for index, utterance in enumerate(job["utterances"], start=1):
        sounds.append(speak(speaker, utterance, longest))
        if index % SAY_EVERY == 0:
            advance(SAY_EVERY)
    lengths = np.array([len(sound) for sound in sounds[1:]], np.int64)
    np.savez(output, samples=np.concatenate(sounds), lengths=lengths, rate_hz=speaker.rate_hz, phonemes=phonemes)


def main() -> None:
    """`espeak_worker.py OUTPUT.npz < job.json`; a number per line on standard output: utterances done."""

    def advance(count: int) -> None:
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()

    run(json.load(sys.stdin), sys.argv[1], advance)


if __name__ == "__main__":
    main()
