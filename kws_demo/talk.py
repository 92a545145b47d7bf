"""Hours of made-up talk without a single keyword, minute by minute: what a listener must not answer to.

Nine minutes in ten hold speech by espeak-ng: sentences (of templates in English, of frequent words in any order
otherwise), words on their own, pauses, sometimes other people behind; all of them hold noise. It is synthetic, and
every figure that rests on it has to say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from exporters.metadata import RATE_HZ
from kws_demo.audio import wav_blocks_of
from kws_demo.espeak import base_voices, pronunciations
from kws_demo.lexicon import words as frequent_words
from kws_demo.noises import COLOURS, coloured
from kws_demo.synth import speak_sentences
from toolkit.errors import MilliwiseError

SECONDS = 60  # of a part, which depends on the seed and its place alone
SAMPLES = SECONDS * RATE_HZ
VOCABULARY = 4000  # most frequent words
SENTENCES = 24  # written for a minute; what does not fit in is left out
LONGEST_S = 12.0
TRIES = 200  # to write one without a keyword
TALKING, BEHIND = 0.9, 0.25  # shares of the minutes: with speech, with other people behind it
SINGLE_WORDS = 0.2  # of the utterances
PAUSE_S = 0.15, 2.0
VOICE_DB, BEHIND_DB = (-22.0, 0.0), -14.0  # relative to the usual loudness of speech
NOISE_DB = -75.0, -22.0  # RMS relative to full scale, then up to 8 dB more or less within a minute
SWELL_DB, SWELLS = 8.0, 12
RECORDED = 0.6  # of the minutes, where there are recordings of noise
NOISE_SECONDS = 600  # of a recording that are used, so that memory stays flat
TEMPLATES = (
    "I think the {} and the {} are {} {}",
    "did you {} the {} before the {} came",
    "we were {} about {} when the {} started to {}",
    "there is a {} {} behind the {}",
    "she said that {} would never {} without a {}",
    "they have been {} since {} and nobody {} it",
    "what do you {} about {}, {} or {}",
    "because of the {} it was too {} to {}",
    "my {} has a {} which I {} every {}",
    "please {} me how {} your {} is",
    "after the {} we {}, and then he {} for a {}",
    "it is not the {} but the {} that makes them {}",
)


class Talk:
    """Synthetic talk in one language; the same arguments give the same sound."""

    def __init__(
        self, keywords: Sequence[str], voices: Sequence[str], language: str, seed: int, noise: Sequence[Path] = ()
    ) -> None:
        """Without `keywords` and all that sounds like them; `noise` are recordings of what else is heard.

        Raises:
            MilliwiseError: espeak-ng does not know the language, or nothing is left to say.
        """
        self.voices, self.language, self.seed, self.noise = voices, language, seed, noise
        frequent = frequent_words(language, VOCABULARY)
        spoken = _plain(" ".join([*frequent, *TEMPLATES]))
        self._forbidden = _Forbidden(keywords, list(dict.fromkeys(spoken)), language)
        self._words = [word for word in frequent if self._forbidden.allows(word)]
        if not self._words:
            raise MilliwiseError(f"there is nothing to say in {language!r} but the keywords: choose another language")
        # The hundredth word is about a hundred times rarer than the first (Zipf); a little flatter, all are heard.
        frequency = 1 / (np.arange(len(self._words)) + 30)
        self._chances = frequency / frequency.sum()

    def minutes(self, seconds: float) -> Iterator[np.ndarray]:
        """The first `seconds` of the talk, float32 within -1..1 at 16 kHz, a minute or less at a time."""
        samples = round(seconds * RATE_HZ)
        for index in range(-(-samples // SAMPLES)):
            yield self.minute(index)[: samples - index * SAMPLES]

    def minute(self, index: int) -> np.ndarray:
        """One of its minutes, float32 [960000], which can be made without those before."""
        rng = np.random.default_rng([self.seed, 7, index])
        audio = _noise(self.noise, rng)
        if rng.random() < TALKING:
            audio += self._speech(rng)
            if rng.random() < BEHIND:
                audio += 10 ** (BEHIND_DB / 20) * self._speech(rng)
        return np.clip(audio, -1, 1)

    def sentences(self, count: int, rng: np.random.Generator) -> list[str]:
        """`count` texts to say; none holds a keyword, or words that together sound like one."""
        drafts = (self._draft(rng) for _ in range(TRIES * count))
        return list(islice(filter(self._forbidden.allows, drafts), count))

    def _draft(self, rng: np.random.Generator) -> str:
        kind = rng.random()
        if kind > SINGLE_WORDS and self.language.split("-")[0] == "en" and rng.random() < 0.5:
            template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
            return template.format(*self._drawn(template.count("{}"), rng))
        return " ".join(self._drawn(1 if kind < SINGLE_WORDS else int(rng.integers(3, 13)), rng))

    def _drawn(self, count: int, rng: np.random.Generator) -> list[str]:
        return [self._words[place] for place in rng.choice(len(self._words), count, p=self._chances)]

    def _speech(self, rng: np.random.Generator) -> np.ndarray:
        """A minute of utterances, each whole and at a level of its own, with pauses between them."""
        audio = np.zeros(SAMPLES, np.float32)
        texts, seed = self.sentences(SENTENCES, rng), int(rng.integers(2**31))
        spoken = speak_sentences(texts, seed, self.voices, self.language, longest_s=LONGEST_S, cached=False)
        place = 0
        for index in rng.permutation(len(spoken)):
            place += round(rng.uniform(*PAUSE_S) * RATE_HZ)
            said = spoken[index].audio
            if place + len(said) <= SAMPLES:
                audio[place : place + len(said)] = 10 ** (rng.uniform(*VOICE_DB) / 20) * said
                place += len(said)
        return audio


class _Forbidden:
    """What no sentence may hold: the keywords as they are written, and as any accent of the language says them."""

    def __init__(self, keywords: Sequence[str], vocabulary: Sequence[str], language: str) -> None:
        self._written = [_between(keyword.replace("_", " ")) for keyword in keywords]
        names = [key if key.startswith("[[") else key.casefold().replace("_", " ") for key in keywords]
        self._accents: list[tuple[dict[str, str], list[str]]] = []
        for voice in base_voices(language):
            sounds = pronunciations([*names, *vocabulary], voice)
            said = [f" {sound.strip()} " for sound in sounds[: len(names)] if sound.strip()]
            self._accents.append((dict(zip(vocabulary, sounds[len(names) :], strict=True)), said))

    def allows(self, sentence: str) -> bool:
        """Whether a sentence of words of the vocabulary can be said, and without a keyword in it."""
        written = _between(sentence)
        if any(keyword in written for keyword in self._written):
            return False
        words = _plain(sentence)
        for sound_of, keywords in self._accents:
            sounds = [sound_of[word].strip() for word in words]
            if not all(sounds) or any(keyword in f" {' '.join(sounds)} " for keyword in keywords):
                return False
        return True


def _plain(text: str) -> list[str]:
    """The words of a text without commas and the braces of templates; the mnemonics in "[[h|'E]]" are one word."""
    return [plain for word in re.findall(r"\[\[.*?\]\]|\S+", text) if (plain := word.strip(",{}"))]


def _between(text: str) -> str:
    """A text in small letters with every word between spaces."""
    letters = "".join(letter if letter.isalnum() or letter in "'’" else " " for letter in text.casefold())
    return f" {' '.join(letters.split())} "


def _noise(recordings: Sequence[Path], rng: np.random.Generator) -> np.ndarray:
    """A minute of noise, float32 [960000], at a level that swells and falls; silent at its ends, where minutes meet."""
    if recordings and rng.random() < RECORDED:
        noise = _excerpt(recordings[int(rng.integers(len(recordings)))], rng)
    else:
        noise = coloured(str(rng.choice(COLOURS)), SAMPLES, rng)
    level_db = rng.uniform(*NOISE_DB) + rng.uniform(-SWELL_DB, SWELL_DB, SWELLS)
    level = 10 ** (np.interp(np.arange(SAMPLES), np.linspace(0, SAMPLES, SWELLS), level_db) / 20)
    fade = np.minimum(np.arange(SAMPLES), np.arange(SAMPLES)[::-1]) / (RATE_HZ / 4)
    return np.asarray(noise * level * np.minimum(fade, 1), np.float32)


def _excerpt(path: Path, rng: np.random.Generator) -> np.ndarray:
    """A minute of a recording, repeated where it is shorter, at an RMS of 1; of silence, silence."""
    blocks, _ = wav_blocks_of(path, RATE_HZ)
    audio = np.concatenate(list(islice(blocks, NOISE_SECONDS)))
    start = int(rng.integers(max(1, len(audio) - SAMPLES + 1)))
    excerpt = np.resize(audio[start : start + SAMPLES], SAMPLES)
    rms = float(np.sqrt(np.mean(excerpt**2)))
    return excerpt / rms if rms > 1e-5 else excerpt
