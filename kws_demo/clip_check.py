"""What is wrong with a recording of one word, and the cure: level, clipping, noise, length, and whether it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.meter import level_db
from kws_demo.noises import CLIP_SAMPLES
from kws_demo.trim import FRAME, Span, frame_levels_db, noise_level_db, strongest, words_in

MUTED_DB = -70.0
QUIET_DB, LOST_DB = -40.0, -50.0  # a word: its consonants, or all of it, vanish in the floor of the features
CLIPPED, RUINED = 0.0005, 0.01  # shares of the samples; recordings that are not clipped have none at all
LEAST_PEAK = 0.01  # under it, the steps of 16 bits look like the flat tops of clipping
NOISY_DB = 12.0
SHORTEST = RATE_HZ // 10
CUT_DB = 20.0  # what a word that is whole has lost, at least, where the recording begins or ends


class Finding(NamedTuple):
    """One thing that is wrong; "FILE `problem`: `cure`" is a sentence."""

    kind: str  # silent short quiet clipped noisy long cut_start cut_end, and of a microphone gap
    problem: str
    cure: str
    spoils: bool = True  # nothing can be learned from the recording; else it is worth saying the word again

    def about(self, name: str) -> str:
        """The sentence."""
        return f"{name} {self.problem}: {self.cure}"


@dataclass(frozen=True)
class Measured:
    """What a recording is judged by."""

    word: Span | None  # None: no speech stands out of the noise
    level_db: float  # root mean square of the word, or of all of it if there is none
    over_noise_db: float  # signal-to-noise ratio of the word, in the band of speech; 0 if there is none
    clipped: float  # share of the samples, see `clipped_share`
    edges_db: tuple[float, float]  # how far below the word the recording begins and ends


def measure(audio: np.ndarray) -> Measured:
    """Measure a recording float32 [samples] at 16 kHz in -1..1: of its strongest word, if there are several."""
    words = words_in(audio)
    if not words:
        return Measured(None, level_db(audio), 0.0, clipped_share(audio), (0.0, 0.0))
    word = strongest(audio, words)
    levels_db = frame_levels_db(audio)
    of_word = levels_db[word.start // FRAME : word.end // FRAME]
    speech_db = 10 * float(np.log10(np.mean(10 ** (of_word / 10))))
    loud_db = float(np.percentile(of_word, 90))
    edges_db = (loud_db - float(levels_db[:2].mean()), loud_db - float(levels_db[-2:].mean()))
    over_noise_db = speech_db - noise_level_db(levels_db)
    return Measured(word, level_db(audio[word.start : word.end]), over_noise_db, clipped_share(audio), edges_db)


def clipped_share(audio: np.ndarray) -> float:
    """How much is at full scale, or in flat tops: three or more samples in a row at the very extreme.

    A share (0-1) of the samples, or of one second of them, as long as a word's clip is, in longer recordings. Flat tops
    stay when a recording is made quieter after it was clipped.
    """
    if not len(audio) or float(np.abs(audio).max()) < LEAST_PEAK:
        return 0.0
    highest, lowest = float(audio.max()), float(audio.min())
    at_extreme = (audio >= highest - 1e-4 * abs(highest)) | (audio <= lowest + 1e-4 * abs(lowest))
    in_threes = np.convolve(at_extreme, np.ones(3), "same") >= 2.5
    flat = np.convolve(in_threes, np.ones(3), "same") >= 0.5
    count = np.count_nonzero((flat & at_extreme) | (np.abs(audio) >= 32767 / 32768))
    return min(1.0, count / min(len(audio), CLIP_SAMPLES))


def findings(audio: np.ndarray) -> list[Finding]:
    """All that is wrong with a recording of one word, float32 [samples] at 16 kHz in -1..1; nothing if it is fine.

    On real recordings that were spoiled on purpose: a word cut by a tenth or more is found in 7 to 10 of 10 (the others
    begin or end softly), clipping of 0.5 % of a word's samples in all, made quieter afterwards in 6 to 10 of 10. A word
    10 dB above the noise is found, one as loud as the noise is not. Of clean Arabic recordings 1 % have a finding, of
    Speech Commands, many of which are cut, quiet or clipped, 11 %.
    """
    if len(audio) < SHORTEST:
        return [_short(len(audio))]
    found = measure(audio)
    return [*_of_level(found), *(_of_word(found, found.word, len(audio)) if found.word else [])]


def _of_level(found: Measured) -> list[Finding]:
    result = []
    if found.word is None and found.level_db < MUTED_DB:
        cure = "choose another microphone (milliwise devices lists them), or switch it on"
        result.append(Finding("silent", "is silent", cure))
    elif found.word is None:
        cure = "come closer to the microphone, or record where it is quieter"
        result.append(Finding("silent", "has no speech above the noise", cure))
    elif found.level_db < QUIET_DB:
        problem = f"is too quiet (the word is at {found.level_db:.0f} dB)"
        cure = "come closer to the microphone or raise its gain"
        result.append(Finding("quiet", problem, cure, found.level_db < LOST_DB))
    if found.clipped > CLIPPED:
        problem = f"is clipped ({100 * found.clipped:.2g} % of its samples)"
        cure = "move away from the microphone or lower its gain"
        result.append(Finding("clipped", problem, cure, found.clipped > RUINED))
    if found.word is not None and found.over_noise_db < NOISY_DB:
        problem = f"is noisy (the word is {found.over_noise_db:.0f} dB above the noise)"
        cure = "record where it is quieter, or come closer to the microphone"
        result.append(Finding("noisy", problem, cure, False))
    return result


def _of_word(found: Measured, word: Span, samples: int) -> list[Finding]:
    result = []
    length = word.end - word.start
    if length < SHORTEST:
        result.append(_short(length))
    if length > CLIP_SAMPLES:
        problem = f"is longer than a listener hears at a time (the word {length / RATE_HZ:.2f} s, the window 1 s)"
        result.append(Finding("long", problem, "say it faster, or choose a shorter word"))
    if word.start <= 2 * FRAME and found.edges_db[0] < CUT_DB:
        result.append(Finding("cut_start", "is cut off at its beginning", "leave a little silence before the word"))
    if word.end >= samples - 3 * FRAME and found.edges_db[1] < CUT_DB:
        result.append(Finding("cut_end", "is cut off at its end", "leave a little silence after the word"))
    return result


def _short(samples: int) -> Finding:
    problem = f"is too short for a word ({samples / RATE_HZ:.2f} s)"
    return Finding("short", problem, "say all of it, and nothing that clicks")
