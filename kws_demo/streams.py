"""Short streams of words on background noise, labelled hop by hop: what adaptive listeners are taught and tested on.

As in section 4.4 of Véniat's thesis: one to three seconds, one word at a random place, noise all through it at a stated
signal-to-noise ratio. A hop is labelled with a word if more than half of it lies in the second that ends with the hop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from exporters.metadata import RATE_HZ
from kws_demo.augment import SPEECH_RMS, Augmenter, Strengths
from kws_demo.background import RECORDED, Background
from kws_demo.data import Clips, SpeechData
from kws_demo.noises import CLIP_SAMPLES
from kws_demo.voices import QUIETEST, SILENCE_LABEL, UNKNOWN_LABEL, Voice, chances, voices_of
from toolkit.errors import MilliwiseError
from toolkit.strategies.sanas import IGNORED

WINDOW_SAMPLES = RATE_HZ  # the second that a hop is labelled by
FROZEN_SEED = 4
DRAWN, AUGMENTED, FROZEN = 21, 22, 24  # what a random number is for
TALK_SAMPLES = 2 * RATE_HZ // 5  # of talk are labelled together, like one short word


class Word(NamedTuple):
    """A word in a stream: its label, and the samples `start` to `stop`, past its last."""

    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class Mixture:
    """What streams are made of; ranges are uniform.

    Attributes:
        seconds: length of a stream; it is rounded up to whole hops.
        words: how many are in a stream that has any: fewer where no more clips of a second fit in one after the other.
        snr_db: level of a word above that of the noise.
        unknown_share, silence_share: of the streams that are drawn; keywords are all equally likely.
        talk_share: of the streams that are drawn, pieces of running speech without a keyword, unknown words all of it;
            of training streams only, where the data have talk.
        recorded_share: of the noise, where there are recordings of it.

    Raises:
        MilliwiseError: a value is out of range.
    """

    seconds: tuple[float, float] = (1.0, 3.0)
    words: tuple[int, int] = (1, 1)
    snr_db: tuple[float, float] = (5.0, 30.0)
    unknown_share: float = 0.1
    silence_share: float = 0.1
    talk_share: float = 0.0
    recorded_share: float = RECORDED

    def __post_init__(self) -> None:
        if not CLIP_SAMPLES / RATE_HZ <= self.seconds[0] <= self.seconds[1] < math.inf:
            raise MilliwiseError(f"streams of {self.seconds} s: give the shortest, 1 or more, then the longest")
        if not 1 <= self.words[0] <= self.words[1]:
            raise MilliwiseError(f"{self.words} words in a stream: give the fewest, 1 or more, then the most")
        if not -math.inf < self.snr_db[0] <= self.snr_db[1] < math.inf:
            raise MilliwiseError(f"signal-to-noise ratios of {self.snr_db} dB: give the lowest, then the highest")
        shares = (self.unknown_share, self.silence_share, self.talk_share)
        if not (min(shares) >= 0 and sum(shares) < 1 and 0 <= self.recorded_share <= 1):
            raise MilliwiseError(
                f"shares of unknown words, silence and talk of {shares}: give 0 or more, below 1 in all"
            )


@dataclass(frozen=True)
class StreamBatch:
    """B streams, padded at their ends to the longest.

    Attributes:
        audio: float32 [B, samples] within -1..1, zeros in the padding.
        labels: int64 [B, hops] of the second that ends with the hop, `IGNORED` in the padding.
        share: float32 [B, hops] of that second that is word, 0-1; 0 in the padding.
        words: of every stream; pieces of talk count as unknown words.
        speakers: of the first clip of every stream, "" where there is none.
    """

    audio: Tensor
    labels: Tensor
    share: Tensor
    words: tuple[tuple[Word, ...], ...]
    speakers: tuple[str, ...]


class _Script(NamedTuple):
    """What will be heard in a stream: the clips in order, or talk; and where all else that is random comes from."""

    rng: np.random.Generator
    hops: int
    clips: tuple[int, ...]
    talk: bool = False


class Streams:
    """Streams of one part of the data; a batch is the same whenever it is asked for again.

    Args:
        part: "train", "validation" or "test"; the test has noise of its own.
        hop_samples: of the listener.
        augmented: clips at another speed, in rooms, through other microphones, streams at another level; None: if they
            are to train on. Frozen streams never are.

    Raises:
        MilliwiseError: there is no such part, hop or seed.
    """

    def __init__(
        self,
        data: SpeechData,
        part: str,
        hop_samples: int,
        seed: int,
        mixture: Mixture | None = None,
        augmented: bool | None = None,
        batch_size: int = 64,
    ) -> None:
        noises = {"train": data.noise, "validation": data.noise, "test": data.test_noise}
        if part not in noises or hop_samples < 1 or seed < 0:
            raise MilliwiseError(
                f"streams of {part!r}, hops of {hop_samples} samples, seed {seed}: give a part of"
                f" {', '.join(noises)}, 1 sample or more, and a seed of 0 or more"
            )
        self.clips: Clips = getattr(data, part)
        self.hop_samples, self.seed, self.batch_size = hop_samples, seed, batch_size
        self.mixture = mixture or Mixture()
        self._noise = noises[part]
        self._talk = data.talk if part == "train" else data.talk[:0]
        # What an augmenter does beyond this, a stream has by itself: place, noise, and other words.
        self._strengths = replace(
            Strengths(), shift_ms=0.0, noise_probability=0.0, neighbour_probability=0.0, gain_db=(0.0, 0.0)
        )
        augmented = part == "train" if augmented is None else augmented
        self._augmenter = Augmenter((), seed, context_samples=0, strengths=self._strengths) if augmented else None
        self._background = Background(self._noise, seed, self.mixture.recorded_share)
        silence = self.mixture.silence_share / (1 - self.mixture.talk_share)
        unknown = self.mixture.unknown_share / (1 - self.mixture.talk_share)
        self._chances = chances(self.clips.label, unknown, silence)
        self._spoken_chances = chances(self.clips.label, unknown / (1 - silence), 0.0)

    @property
    def count(self) -> int:
        """Streams in an epoch: as many with a keyword as there are clips of keywords."""
        mixture = self.mixture
        others = mixture.unknown_share + mixture.silence_share + mixture.talk_share
        return max(1, round(int((self.clips.label > UNKNOWN_LABEL).sum()) / (1 - others)))

    def batches(self, epoch: int) -> Iterator[StreamBatch]:
        """The streams of an epoch, drawn anew for every epoch."""
        for begin in range(0, self.count, self.batch_size):
            numbers = range(begin, min(begin + self.batch_size, self.count))
            scripts = [self._drawn(np.random.default_rng([self.seed, DRAWN, epoch, number])) for number in numbers]
            if self._augmenter is not None:
                sown = np.random.default_rng([self.seed, AUGMENTED, epoch, begin]).integers(2**31)
                self._augmenter.generator.manual_seed(int(sown))
            yield self._batch(scripts, self._background, self._augmenter)

    def frozen(self, count: int | None = None) -> Iterator[StreamBatch]:
        """A stream of every clip of the part, in order, whatever the seed; of a clip of silence, one of noise alone.

        `count` of them if given: of fewer clips, chosen evenly over their order, or going round again.
        """
        background = Background(self._noise, FROZEN_SEED, self.mixture.recorded_share)
        total = len(self.clips.label)
        count = total if count is None else count
        chosen = np.arange(count) * total // count if count < total else np.arange(count) % total
        for begin in range(0, count, self.batch_size):
            numbers = range(begin, min(begin + self.batch_size, count))
            rngs = [np.random.default_rng([FROZEN_SEED, FROZEN, number]) for number in numbers]
            scripts = [self._script(rng, int(chosen[number])) for rng, number in zip(rngs, numbers, strict=True)]
            yield self._batch(scripts, background, None)

    def _drawn(self, rng: np.random.Generator) -> _Script:
        if rng.random() < self.mixture.talk_share and len(self._talk):
            return _Script(rng, self._hops(rng), (), talk=True)
        return self._script(rng, int(rng.choice(len(self._chances), p=self._chances)))

    def _script(self, rng: np.random.Generator, first: int) -> _Script:
        """A stream that begins with this clip; where there are to be more words, others follow."""
        hops = self._hops(rng)
        if self.clips.label[first] == SILENCE_LABEL:
            return _Script(rng, hops, ())
        fitting = hops * self.hop_samples // CLIP_SAMPLES
        words = min(fitting, int(rng.integers(self.mixture.words[0], self.mixture.words[1] + 1)))
        others = rng.choice(len(self._spoken_chances), words - 1, p=self._spoken_chances)
        return _Script(rng, hops, (first, *others.tolist()))

    def _hops(self, rng: np.random.Generator) -> int:
        return math.ceil(rng.uniform(*self.mixture.seconds) * RATE_HZ / self.hop_samples)

    def _batch(self, scripts: Sequence[_Script], background: Background, augmenter: Augmenter | None) -> StreamBatch:
        hops = max(script.hops for script in scripts)
        audio = np.zeros((len(scripts), hops * self.hop_samples), np.float32)
        labels = np.full((len(scripts), hops), IGNORED, np.int64)
        share = np.zeros(labels.shape, np.float32)
        voices = iter(voices_of(self.clips, [clip for script in scripts for clip in script.clips], augmenter))
        words: list[tuple[Word, ...]] = []
        for row, (rng, own_hops, clips, talk) in enumerate(scripts):
            canvas = audio[row, : own_hops * self.hop_samples]
            own = list(islice(voices, len(clips)))
            heard, rms = self._talked(canvas, rng) if talk else _laid(canvas, own, rng)
            snr_db = rng.uniform(*self.mixture.snr_db)
            canvas += np.float32(rms * 10 ** (-snr_db / 20)) * background.excerpt(len(canvas), rng)
            if augmenter is not None:
                canvas *= np.float32(10 ** (rng.uniform(*Strengths().gain_db) / 20))
            words.append(heard)
            labels[row, :own_hops], share[row, :own_hops] = hop_labels(heard, own_hops, self.hop_samples)
        speakers = tuple(self.clips.speaker[script.clips[0]] if script.clips else "" for script in scripts)
        heard_audio = torch.from_numpy(audio).clamp_(-1, 1)
        return StreamBatch(heard_audio, torch.from_numpy(labels), torch.from_numpy(share), tuple(words), speakers)

    def _talked(self, canvas: np.ndarray, rng: np.random.Generator) -> tuple[tuple[Word, ...], float]:
        """Lay a piece of the talk; its words, and what the noise refers to, an RMS."""
        start = int(rng.integers(max(1, len(self._talk) - len(canvas) + 1)))
        canvas += np.resize(self._talk[start : start + len(canvas)], len(canvas))
        starts = range(0, len(canvas), TALK_SAMPLES)
        power = np.array([np.mean(np.square(canvas[start : start + TALK_SAMPLES])) for start in starts])
        spoken = power >= max(power.max() / 100, QUIETEST**2)
        words = tuple(
            Word(UNKNOWN_LABEL, start, min(start + TALK_SAMPLES, len(canvas)))
            for start, is_spoken in zip(starts, spoken, strict=True)
            if is_spoken
        )
        return words, max(float(np.sqrt(power.mean())), SPEECH_RMS / 4)


def hop_labels(words: Iterable[Word], hops: int, hop_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The label of every hop, int64 [hops], and the share, float32 [hops], of its second that is word.

    It is labelled with a word of which more than half lies in the second that ends with the hop; if two do, with the
    later one; else as silence. A second that begins before the stream counts as if nothing had been said before.
    """
    stops = hop_samples * np.arange(1, hops + 1)
    labels, share = np.zeros(hops, np.int64), np.zeros(hops)
    for word in sorted(words, key=lambda word: word.start):
        inside = np.minimum(stops, word.stop) - np.maximum(stops - WINDOW_SAMPLES, word.start)
        inside = np.maximum(inside, 0)
        labels[2 * inside > word.stop - word.start] = word.label
        share += inside / WINDOW_SAMPLES
    return labels, np.minimum(share, 1).astype(np.float32)


def _laid(canvas: np.ndarray, voices: Sequence[Voice], rng: np.random.Generator) -> tuple[tuple[Word, ...], float]:
    """Lay clips at random places, one after the other, all as loud as the first; the words, and the RMS of each."""
    if not voices:
        return (), SPEECH_RMS
    free = len(canvas) - len(voices) * CLIP_SAMPLES
    places = np.sort(rng.integers(free + 1, size=len(voices))) + CLIP_SAMPLES * np.arange(len(voices))
    words = []
    for place, voice in zip(places.tolist(), voices, strict=True):
        canvas[place : place + CLIP_SAMPLES] += np.float32(voices[0].rms / voice.rms) * voice.audio
        words.append(Word(voice.label, place + voice.start, place + voice.stop))
    return tuple(words), voices[0].rms
