"""Augmentation: seeded, at the stated noise ratio, never cutting a word, with a context that starts without speech."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kws_demo.augment import Augmenter, Strengths, evaluation_batch, spec_augment, word_bounds
from kws_demo.noises import BEFORE_KNOCK, COLOURS, coloured, machine, silence_clips

torch.set_num_threads(1)
OFF = Strengths(
    shift_ms=0,
    rate_probability=0,
    room_probability=0,
    tilt=(0, 0),
    noise_probability=0,
    gain_db=(0, 0),
    neighbour_probability=0,
)
CONTEXT = 9600


def words(count: int, seed: int = 0) -> Tensor:
    """Clips with a "word" (a decaying harmonic tone) of 0.25 to 0.5 s somewhere, and exact zeros around it."""
    rng = np.random.default_rng(seed)
    clips = np.zeros((count, 16000), np.float32)
    for clip in clips:
        length = int(rng.integers(4000, 8000))
        start = int(rng.integers(500, 15500 - length))
        tone = sum(np.sin(np.arange(length) * 0.05 * k * rng.uniform(0.8, 1.2)) / k for k in range(1, 6))
        clip[start : start + length] = 0.2 * tone * np.exp(-np.arange(length) / length)
    return torch.from_numpy(clips)


def labels(count: int) -> Tensor:
    return torch.arange(count) % 4  # a quarter is silence


def power(audio: Tensor) -> Tensor:
    return audio.square().sum(1)


def test_one_seed_gives_one_sound_and_seeding_again_repeats_it() -> None:
    clips, kinds = words(16), labels(16)
    noise = (silence_clips(1, (), np.random.default_rng(0))[0], coloured("pink", 40000, np.random.default_rng(1)))
    one, other = Augmenter(noise, 5), Augmenter(noise, 5)
    first = one(clips, kinds)
    assert torch.equal(first, other(clips, kinds))
    assert not torch.equal(first, Augmenter(noise, 6)(clips, kinds))
    assert not torch.equal(first, one(clips, kinds))
    one.generator.manual_seed(5)
    assert torch.equal(first, one(clips, kinds))


def test_shape_range_and_the_input_is_left_alone() -> None:
    clips = words(64)
    before = clips.clone()
    heard = Augmenter((), 0)(clips, labels(64))
    assert heard.shape == (64, CONTEXT + 16000) and heard.dtype == torch.float32
    assert heard.isfinite().all() and heard.abs().max() <= 1 and torch.equal(clips, before)


def test_nothing_switched_on_changes_nothing() -> None:
    clips = words(8)
    assert torch.allclose(Augmenter((), 0, strengths=OFF)(clips, labels(8) + 1), evaluation_batch(clips, CONTEXT))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_the_signal_to_noise_ratio_is_the_stated_one(snr_db: float) -> None:
    clips = words(32)
    noise = (coloured("brown", 60000, np.random.default_rng(0)),)
    always = replace(OFF, noise_probability=1)
    heard = Augmenter(noise, 0, snr_db=(snr_db, snr_db), strengths=always)(
        clips * 0.3, torch.ones(32, dtype=torch.long)
    )
    added = heard - evaluation_batch(clips * 0.3, CONTEXT)
    length = (clips != 0).sum(1)  # of the word, known because the rest is exactly zero
    ratio_db = 10 * torch.log10((power(clips * 0.3) / length) / (power(added) / added.shape[1]))
    assert (ratio_db - snr_db).abs().max() < 0.5
    assert (added[:, :CONTEXT].square().mean(1) > 0).all()  # the noise goes on to the left


def test_no_word_is_cut_however_it_is_moved_and_slowed() -> None:
    clips = words(200)
    moving = replace(OFF, shift_ms=400, rate_probability=0.5)
    heard = Augmenter((), 0, strengths=moving)(clips, torch.ones(200, dtype=torch.long))
    kept = power(heard[:, CONTEXT:]) / power(clips)
    assert kept.min() > 0.85  # a rate of 1.1 leaves 1 / 1.1 of the energy
    moved = word_bounds(heard[:, CONTEXT:])[0] - word_bounds(clips)[0]
    assert moved.min() < -3000 and moved.max() > 3000


def test_moved_clips_are_the_same_samples() -> None:
    clips = words(20)
    heard = Augmenter((), 0, strengths=replace(OFF, shift_ms=150))(clips, torch.ones(20, dtype=torch.long))
    for one, other in zip(clips, heard, strict=True):
        assert torch.equal(one[one != 0], other[other != 0])


@pytest.mark.parametrize(("context", "free"), [(CONTEXT, 3200), (20_480, 12_160), (CONTEXT, 8000), (3200, 9999)])
def test_the_beginning_of_a_context_holds_no_speech(context: int, free: int) -> None:
    clips, kinds = words(200), labels(200)
    loud = replace(OFF, shift_ms=400, rate_probability=1, neighbour_probability=1, gap_ms=(0.0, 50.0))
    heard = Augmenter((), 0, context, strengths=loud, speech_free_samples=free)(clips, kinds)
    assert (heard[:, : min(free, context)][kinds != 0] == 0).all()
    spoken = (heard[:, min(free, context) : context][kinds != 0] != 0).any(1)  # after it, neighbours are heard
    assert spoken.float().mean() > 0.9 or context <= free


def test_neighbours_that_do_not_fit_are_left_out() -> None:
    talking = replace(OFF, neighbour_probability=1)  # a gap of 100 to 300 ms, and only 50 ms left of the context
    heard = Augmenter((), 0, strengths=talking, speech_free_samples=CONTEXT - 800)(words(50), labels(50) * 0 + 1)
    assert torch.equal(heard, evaluation_batch(words(50), CONTEXT))


def test_neighbours_end_before_the_window_and_silence_has_none() -> None:
    clips, kinds = words(200), labels(200)
    clips[kinds == 0] = 0
    heard = Augmenter((), 0, strengths=replace(OFF, neighbour_probability=0.35))(clips, kinds)
    context = heard[:, :CONTEXT]
    talking = (context != 0).any(1)
    assert not talking[kinds == 0].any()
    assert 0.25 < talking[kinds != 0].float().mean() < 0.45
    ends = CONTEXT - context[talking].flip(1).ne(0).int().argmax(1)
    assert ends.max() <= CONTEXT - 1600 + 100 and ends.min() >= CONTEXT - 4800 - 500  # 100 to 300 ms, in frames of 6 ms
    assert torch.equal(heard[:, CONTEXT:], clips)


def test_digital_silence_stays_exact_for_some_and_silence_continues_to_the_left() -> None:
    quiet, kinds = torch.zeros(100, 16000), torch.zeros(100, dtype=torch.long)
    exact = (Augmenter((), 0)(quiet, kinds) == 0).all(1).float().mean()
    assert 0.3 < exact < 0.9
    hiss = torch.full((100, 16000), 0.01)
    filled = (Augmenter((), 0, strengths=OFF)(hiss, kinds)[:, :CONTEXT] == 0.01).all(1).float().mean()
    assert 0.3 < filled < 0.7


def test_a_room_spreads_a_click_and_keeps_its_level() -> None:
    clicks = torch.zeros(40, 16000)
    clicks[:, 4000:4100] = 0.5
    heard = Augmenter((), 0, strengths=replace(OFF, room_probability=1))(clicks, torch.ones(40, dtype=torch.long))
    window = heard[:, CONTEXT:]
    assert torch.allclose(power(window), power(clicks), rtol=0.01)
    assert (window[:, :4000].abs() < 1e-4).all()  # nothing sounds before the click
    late, early = power(window[:, 7000:8000]), power(window[:, 4200:5200])
    assert (power(window[:, 4200:]) > 0).all() and (late < early).all()


def test_gain_covers_its_range_and_clips_some() -> None:
    clips = words(300) / words(300).abs().amax(1, keepdim=True) * 0.9
    heard = Augmenter((), 0, strengths=replace(OFF, gain_db=(-20, 6)))(clips, torch.ones(300, dtype=torch.long))
    peaks = heard.abs().amax(1)
    assert peaks.min() < 0.12 and peaks.max() == 1 and 0.1 < (peaks == 1).float().mean() < 0.35


def test_a_context_of_any_size_works() -> None:
    for context in (0, 1000, 3200, 16_000, 17_280, 40_000, 400_000):
        heard = Augmenter((np.ones(10, np.float32),), 0, context)(words(8), labels(8))
        assert heard.shape == (8, context + 16000) and heard.isfinite().all()
    for context, free in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="-1"):
            Augmenter((), 0, context, speech_free_samples=free)


@pytest.mark.parametrize("context", [9600, 17_280, 40_000])
def test_silence_is_mirrored_into_its_context(context: int) -> None:
    hiss = 0.01 * torch.randn(20, 16000, generator=torch.Generator().manual_seed(0))
    heard = Augmenter((), 0, context, strengths=OFF)(hiss, torch.zeros(20, dtype=torch.long))
    mirrored = np.pad(hiss.numpy(), ((0, 0), (context, 0)), mode="symmetric")
    filled = (heard[:, :context] != 0).any(1)
    assert 0 < filled.sum() < 20 and np.array_equal(heard[filled].numpy(), mirrored[filled.numpy()])


def test_word_bounds_find_the_word_also_in_noise() -> None:
    clips = words(50)
    true_first = clips.ne(0).int().argmax(1)
    noisy = clips + 0.003 * torch.randn(50, 16000, generator=torch.Generator().manual_seed(0))
    for audio in (clips, noisy):
        first, last = word_bounds(audio)
        assert (first - true_first).abs().max() <= 300 and (last - first > 2000).all()
    assert [bound.tolist() for bound in word_bounds(torch.zeros(1, 16000))] == [[0.0], [16000.0]]


def test_spec_augment_masks_at_most_what_it_says() -> None:
    features = torch.rand(200, 1, 40, 100) + 1
    masked = spec_augment(features, torch.Generator().manual_seed(0))
    assert torch.equal(masked, spec_augment(features, torch.Generator().manual_seed(0)))
    gone = masked == 0
    assert torch.equal(masked[~gone], features[~gone])
    frames, mels = gone.all(2).sum((1, 2)), gone.all(3).sum((1, 2))
    assert frames.max() <= 40 and mels.max() <= 14 and frames.max() > 20 and mels.max() > 7
    assert 0.05 < gone.float().mean() < 0.4
    assert len({tuple(row.flatten().tolist()) for row in gone[:, 0, 0]}) > 100  # other masks for every clip


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_has_its_colour(colour: str) -> None:
    noise = coloured(colour, 160_000, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2  # 0.1 Hz a bin
    low, high = spectrum[1000:2000].mean(), spectrum[10_000:20_000].mean()  # 100 to 200 Hz against 1 to 2 kHz
    fall_db = 10 * np.log10(low / high)
    assert noise.dtype == np.float32 and abs(np.sqrt(np.mean(noise**2)) - 1) < 1e-3
    assert {
        "white": abs(fall_db) < 1,
        "pink": abs(fall_db - 10) < 1,
        "brown": abs(fall_db - 20) < 1,
        "hum": fall_db > 15,
    }[colour]


def test_silence_clips_hold_exact_zeros_near_silence_and_noise() -> None:
    clips = silence_clips(80, (coloured("pink", 5000, np.random.default_rng(0)),), np.random.default_rng(0))
    rms = np.sqrt(np.mean(clips**2, 1))
    assert clips.dtype == np.float32 and np.abs(clips).max() <= 1
    assert (clips == 0).all(1).sum() >= 10 and ((rms > 0) & (rms < 1e-3)).sum() >= 10 and (rms > 0.01).sum() >= 10


def test_some_silence_clips_are_one_sudden_sound() -> None:
    clips = silence_clips(80, (), np.random.default_rng(0))
    loudest = np.sqrt(np.mean(clips.reshape(80, 100, 160) ** 2, 2))  # RMS of 10 ms
    sudden = (loudest[:, 0] < 3 * BEFORE_KNOCK * loudest.max(1)) & (loudest.max(1) > 0)
    assert 5 <= sudden.sum() <= 30
    assert (loudest[sudden].argmax(1) < 70).all()  # it began in the first half, and faded


def test_every_machine_sounds_different_and_has_no_colour() -> None:
    bands = []
    for seed in range(20):
        noise = machine(32_000, np.random.default_rng(seed))
        assert noise.dtype == np.float32 and abs(np.sqrt(np.mean(noise**2)) - 1) < 1e-3
        power = np.abs(np.fft.rfft(noise)) ** 2  # 0.5 Hz a bin
        bands.append([10 * np.log10(power[start : 2 * start].mean()) for start in (200, 400, 800, 1600, 3200, 6400)])
    steps = np.diff(bands, axis=1)  # from octave to octave
    assert np.abs(steps).max() > 15 and steps.std(0).min() > 4  # colours fall by 0, 3 or 6 dB, all of them
    assert np.array_equal(noise, machine(32_000, np.random.default_rng(19)))


def test_excerpts_of_talk_are_pieces_of_it() -> None:
    talk = torch.linspace(-0.5, 0.5, 60_000)
    pieces = Augmenter((), 0, strengths=OFF).excerpts(talk, 40)
    assert pieces.shape == (40, CONTEXT + 16000)
    starts = ((pieces[:, 0] + 0.5) * 59_999).round().long()
    assert all(torch.allclose(piece, talk[at : at + piece.numel()]) for piece, at in zip(pieces, starts, strict=True))
    assert starts.unique().numel() > 30 and torch.equal(talk, torch.linspace(-0.5, 0.5, 60_000))


def test_noise_is_laid_over_talk() -> None:
    always = replace(OFF, noise_probability=1)
    talk = 0.3 * torch.sin(torch.arange(60_000) / 3)
    noisy = Augmenter((), 0, snr_db=(10.0, 10.0), strengths=always).excerpts(talk, 8)
    assert ((noisy.square().mean(1) / talk.square().mean()) > 1.05).all()
