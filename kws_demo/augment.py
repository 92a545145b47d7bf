"""Make every training clip sound different each time: place, speed, room, noise and level, and what was said before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exporters.metadata import RATE_HZ
from kws_demo.noises import CLIP_SAMPLES, COLOURS, coloured, machine

SPEECH_FREE_SAMPLES = 3200  # at least, at the start of the context: there a stream has heard no word yet
FRAME = 100  # samples in a frame of the energy that tells where a word is
ROOMS, ROOM_SAMPLES = 64, 4800
GENERATED_SECONDS = 20  # of each colour
MACHINES, MACHINE_SECONDS = 8, 5
SPEECH_RMS = 0.05  # of words as they are usually recorded: what the level of noise without a word refers to


@dataclass(frozen=True)
class Strengths:
    """How much is changed, and how often: probabilities are per clip, ranges are uniform."""

    shift_ms: float = 300.0  # with 150 a stream's scores fell off before three hops had agreed
    rate: tuple[float, float] = (0.9, 1.1)
    rate_probability: float = 0.5
    room_probability: float = 0.3
    room_rt60_s: tuple[float, float] = (0.1, 0.6)
    tilt: tuple[float, float] = (-0.3, 0.5)  # the share of the last sample that is subtracted: negative is duller
    noise_probability: float = 0.8
    recorded_noise: float = 0.6  # of the clips with noise, where there are recordings; the others get generated noise
    gain_db: tuple[float, float] = (-20.0, 6.0)
    neighbour_probability: float = 0.35
    gap_ms: tuple[float, float] = (100.0, 300.0)


class Augmenter:
    """Turns clips [B, 16000] into what a stream would have heard: `context_samples` before the clip, then the clip.

    Everything random comes from one `generator`, which may be seeded again at any time.
    """

    def __init__(
        self,
        noise: Sequence[np.ndarray],
        seed: int,
        context_samples: int = 9600,
        snr_db: tuple[float, float] = (0.0, 30.0),
        strengths: Strengths | None = None,
        speech_free_samples: int = SPEECH_FREE_SAMPLES,
    ) -> None:
        """`noise` are background recordings, float32 at 16 kHz, possibly none.

        No speech is heard in the first `speech_free_samples` of the context, or in all of it if it is shorter.
        """
        if context_samples < 0 or speech_free_samples < 0:
            raise ValueError(f"context_samples {context_samples}, speech_free_samples {speech_free_samples}: 0 or more")
        self.context_samples = context_samples
        self.speech_free_samples = min(speech_free_samples, context_samples)
        self.snr_db = snr_db
        self.strengths = strengths or Strengths()
        self.generator = torch.Generator().manual_seed(seed)
        length = context_samples + CLIP_SAMPLES
        rng = np.random.default_rng(seed)
        generated = [coloured(colour, max(length, GENERATED_SECONDS * RATE_HZ), rng) for colour in COLOURS]
        generated += [machine(max(length, MACHINE_SECONDS * RATE_HZ), rng) for _ in range(MACHINES)]
        self._generated = torch.from_numpy(np.concatenate(generated))
        heard = [np.resize(recording, max(length, len(recording))) for recording in noise if len(recording)]
        self._recorded = torch.from_numpy(np.concatenate(heard).astype(np.float32)) if heard else None
        self._rooms = _rooms(self.strengths.room_rt60_s, rng)

    def __call__(self, audio: Tensor, label: Tensor) -> Tensor:
        """Clips float32 [B, 16000] with labels int64 [B] (0: silence) to float32 [B, context_samples + 16000] in -1..1.

        No word is cut: its place moves within the last 16000 samples. The context holds the noise behind the word, or
        nothing; for some also the end of another clip's word, but never in its first `speech_free_samples`.
        """
        speech = label != 0
        voices = self._in_rooms(audio, speech)
        voices = self._tilted(voices)
        starts, ends = word_bounds(voices)
        canvas = self._placed(voices, starts, ends, speech)
        level = torch.where(speech, _word_rms(voices, starts, ends), SPEECH_RMS)
        self._add_neighbours(canvas, voices, ends, speech)
        self._add_noise(canvas, level, speech)
        gain_db = self._uniform(len(audio), *self.strengths.gain_db)
        return canvas.mul_(10 ** (gain_db / 20)[:, None]).clamp_(-1, 1)

    def excerpts(self, talk: Tensor, count: int) -> Tensor:
        """`count` random excerpts of talk, float32 [samples], as long as what a call makes of a clip; with noise."""
        length = self.context_samples + CLIP_SAMPLES
        starts = torch.randint(len(talk) - length + 1, (count,), generator=self.generator)
        canvas = self._tilted(talk.unfold(0, length, 1)[starts])
        self._add_noise(canvas, _rms(canvas).clamp_min(SPEECH_RMS / 4), torch.ones(count, dtype=torch.bool))
        gain_db = self._uniform(count, *self.strengths.gain_db)
        return canvas.mul_(10 ** (gain_db / 20)[:, None]).clamp_(-1, 1)

    def _uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(count, generator=self.generator) * (high - low) + low

    def _in_rooms(self, audio: Tensor, speech: Tensor) -> Tensor:
        """Some clips as heard in a room: convolved with an exponentially decaying response, at their own level."""
        chosen = torch.nonzero((self._uniform(len(audio)) < self.strengths.room_probability) & speech).flatten()
        if not len(chosen):
            return audio
        room = torch.randint(ROOMS, (len(chosen),), generator=self.generator)
        size = 2 * (self._rooms.shape[1] - 1)
        wet = torch.fft.irfft(torch.fft.rfft(audio[chosen], size) * self._rooms[room], size)[:, :CLIP_SAMPLES]
        scale = _rms(audio[chosen]) / _rms(wet).clamp_min(1e-6)
        return audio.index_copy(0, chosen, wet * scale[:, None])

    def _tilted(self, audio: Tensor) -> Tensor:
        """Another balance of highs and lows, as another microphone has it, at the same level."""
        share = self._uniform(len(audio), *self.strengths.tilt)
        scale = 1 / torch.sqrt(1 + share**2 - 1.8 * share)  # for a signal whose neighbouring samples correlate by 0.9
        tilted = audio * scale[:, None]
        tilted[:, 1:] -= (share * scale)[:, None] * audio[:, :-1]
        return tilted

    def _placed(self, audio: Tensor, starts: Tensor, ends: Tensor, speech: Tensor) -> Tensor:
        """The clips at random speed and place behind an empty context; silence goes on into its context, mirrored."""
        many = self.strengths
        count, context = len(audio), self.context_samples
        changed = (self._uniform(count) < many.rate_probability) & speech
        rate = torch.where(changed, self._uniform(count, *many.rate), 1.0)
        rate = torch.maximum(rate, (ends - starts) / CLIP_SAMPLES)  # slowed down, the word still fits into the window
        middle = (starts + ends) / 2
        half = (ends - starts) / 2 / rate
        limit = many.shift_ms / 1000 * RATE_HZ
        earliest = torch.maximum(torch.full_like(half, -limit), half - middle)
        latest = torch.minimum(torch.full_like(half, limit), CLIP_SAMPLES - half - middle)
        shift = earliest + self._uniform(count) * (latest - earliest).clamp_min(0)
        shift = torch.where(speech, shift, 0.0).round()
        canvas = torch.zeros(count, context + CLIP_SAMPLES)
        _lay(canvas, _resampled(audio, rate, middle), context + shift.long())
        still = torch.nonzero(~speech & (self._uniform(count) < 0.5)).flatten()
        canvas[still, :context] = audio[still][:, _mirrored(context)]
        spoken = torch.nonzero(speech).flatten()
        canvas[spoken, : self.speech_free_samples] = 0
        return canvas

    def _add_neighbours(self, canvas: Tensor, audio: Tensor, ends: Tensor, speech: Tensor) -> None:
        """Into some contexts, the end of another clip's word, 100 to 300 ms before the window begins."""
        free = self.speech_free_samples
        room = self.context_samples - free
        speakers = torch.nonzero(speech).flatten()
        wanted = (self._uniform(len(canvas)) < self.strengths.neighbour_probability) & speech
        rows = torch.nonzero(wanted).flatten()
        gap = self._uniform(len(rows), *self.strengths.gap_ms) * RATE_HZ / 1000
        if not len(rows) or not room:
            return
        other = speakers[torch.randint(len(speakers), (len(rows),), generator=self.generator)]
        before_end = room - gap[:, None].long() - torch.arange(room)  # [rows, room]: samples until the other word ends
        tail = audio[other].gather(1, (ends[other].long()[:, None] - before_end).clamp(0, CLIP_SAMPLES - 1))
        fade = (before_end / 80).clamp(0, 1) * (torch.arange(room) / 80).clamp(0, 1)  # 5 ms, so that no cut is heard
        inside = before_end <= ends[other].long()[:, None]
        canvas[rows, free : self.context_samples] += tail * fade * inside

    def _add_noise(self, canvas: Tensor, level: Tensor, speech: Tensor) -> None:
        """Noise over context and clip, `snr_db` under the RMS `level` [B] of the word; half as often without one."""
        chance = torch.where(speech, self.strengths.noise_probability, self.strengths.noise_probability / 2)
        noisy = self._uniform(len(canvas)) < chance
        snr_db = self._uniform(len(canvas), *self.snr_db)
        recorded = self._uniform(len(canvas)) < (self.strengths.recorded_noise if self._recorded is not None else 0)
        for source, mask in ((self._generated, noisy & ~recorded), (self._recorded, noisy & recorded)):
            rows = torch.nonzero(mask).flatten()
            if source is None or not len(rows):
                continue
            starts = torch.randint(len(source) - canvas.shape[1] + 1, (len(rows),), generator=self.generator)
            excerpt = source.unfold(0, canvas.shape[1], 1)[starts]
            scale = level[rows] * 10 ** (-snr_db[rows] / 20) / _rms(excerpt).clamp_min(1e-5)
            canvas.index_add_(0, rows, excerpt.mul_(scale[:, None]))


def evaluation_batch(audio: Tensor, context_samples: int) -> Tensor:
    """Clips [B, 16000] after a silent context: [B, context_samples + 16000], nothing random."""
    return torch.nn.functional.pad(audio, (context_samples, 0))


def spec_augment(
    features: Tensor,
    generator: torch.Generator,
    time_masks: int = 2,
    time_frames: int = 20,
    frequency_masks: int = 2,
    frequency_mels: int = 7,
) -> Tensor:
    """Features [B, 1, mels, frames] with random bands and spans set to 0, the value of silence (SpecAugment, 2019).

    At most so many masks of each kind, each at most so wide, other ones for every clip.
    """
    count, _, mels, frames = features.shape
    keep = torch.ones(count, 1, mels, frames, dtype=torch.bool)
    for masks, widest, size, shape in (
        (time_masks, time_frames, frames, (count, 1, 1, frames)),
        (frequency_masks, frequency_mels, mels, (count, 1, mels, 1)),
    ):
        for _ in range(masks):
            width = torch.rand(count, generator=generator) * (min(widest, size) + 1)
            start = torch.rand(count, generator=generator) * (size - width.floor() + 1)
            place = torch.arange(size)
            masked = (place >= start.floor()[:, None]) & (place < (start.floor() + width.floor())[:, None])
            keep &= ~masked.reshape(shape)
    return features * keep


def word_bounds(audio: Tensor) -> tuple[Tensor, Tensor]:
    """First and past-the-last sample [B] of the words in clips [B, samples], from the energy of frames of 6 ms.

    A frame belongs to the word if it is within 26 dB of the loudest one and 6 dB above the quietest fifth of the clip.
    """
    energy = audio.reshape(len(audio), -1, FRAME).square().mean(2)
    loudest = energy.amax(1, keepdim=True)
    quiet = energy.kthvalue(max(1, energy.shape[1] // 5), 1, keepdim=True).values
    threshold = torch.minimum(torch.maximum(loudest / 400, 4 * quiet), loudest / 2)
    active = energy >= threshold
    first = active.int().argmax(1) * FRAME
    last = (energy.shape[1] - active.flip(1).int().argmax(1)) * FRAME
    return first.float(), last.float()


def _rms(audio: Tensor) -> Tensor:
    """Root mean square [B] of clips [B, samples]."""
    return torch.linalg.vector_norm(audio, dim=1) / math.sqrt(audio.shape[1])


def _word_rms(audio: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """RMS [B] of the words of clips [B, samples], between their bounds."""
    frame = torch.arange(0, audio.shape[1], FRAME)
    inside = (frame >= starts[:, None]) & (frame < ends[:, None])
    energy = audio.reshape(len(audio), -1, FRAME).square().sum(2) * inside
    return torch.sqrt(energy.sum(1) / (ends - starts))


def _resampled(audio: Tensor, rate: Tensor, middle: Tensor) -> Tensor:
    """Clips at `rate` times their speed, by linear interpolation around their `middle`; silence beyond their ends."""
    rows = torch.nonzero(rate != 1).flatten()
    if not len(rows):
        return audio
    place = (torch.arange(CLIP_SAMPLES) - middle[rows, None]) * rate[rows, None] + middle[rows, None]
    inside = (place >= 0) & (place <= CLIP_SAMPLES - 1)
    left = place.clamp(0, CLIP_SAMPLES - 2).long()
    source = audio[rows]
    low, high = source.gather(1, left), source.gather(1, left + 1)
    return audio.index_copy(0, rows, torch.lerp(low, high, place - left) * inside)


def _lay(canvas: Tensor, audio: Tensor, starts: Tensor) -> None:
    """Copy each clip to its start in the canvas; what lies beyond the canvas is cut. A row is one memory copy: fast."""
    total = canvas.shape[1]
    for row, start in enumerate(starts.tolist()):
        skipped = max(0, -start)
        stop = min(total, start + audio.shape[1])
        canvas[row, start + skipped : stop] = audio[row, skipped : stop - start]


def _mirrored(count: int) -> Tensor:
    """Indices [count] of the samples before a clip that is mirrored at its beginning, and at its end again."""
    place = torch.arange(count - 1, -1, -1) % (2 * CLIP_SAMPLES)
    return torch.minimum(place, 2 * CLIP_SAMPLES - 1 - place)


def _rooms(rt60_s: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Spectra complex64 [ROOMS, bins] of room responses: a direct sound, then noise that falls by 60 dB in `rt60_s`."""
    time_s = np.arange(ROOM_SAMPLES) / RATE_HZ
    decay = 10 ** (-3 * time_s / rng.uniform(*rt60_s, (ROOMS, 1)))
    response = decay * rng.standard_normal((ROOMS, ROOM_SAMPLES)) * rng.uniform(0.02, 0.12, (ROOMS, 1))
    response[:, 0] = 1.0
    size = 2 * math.ceil((CLIP_SAMPLES + ROOM_SAMPLES) / 2 / 1200) * 1200  # a product of 2, 3 and 5: a fast transform
    return torch.fft.rfft(torch.from_numpy(response.astype(np.float32)), size)
