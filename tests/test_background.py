"""Background noise: always at the same level, recorded where there is some, and without a seam."""

import numpy as np
from word_clips import power_db

from kws_demo.background import BLOCK_SAMPLES, Background

RNG = np.random.default_rng


def sine(hz: float, seconds: float = 3.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.float32)


def loudest_hz(audio: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(audio))[1:].argmax() + 1) * 16_000 / len(audio)


def test_every_excerpt_is_equally_loud_and_as_long_as_asked_for() -> None:
    background = Background((sine(440), sine(1000, 0.1)), 0)
    for number in range(30):
        piece = background.excerpt(20_000, RNG(number))
        assert piece.shape == (20_000,) and piece.dtype == np.float32 and abs(power_db(piece)) < 0.01


def test_recordings_are_heard_for_the_stated_share() -> None:
    background = Background((sine(440),), 0, recorded_share=0.6)
    tones = sum(abs(loudest_hz(background.excerpt(16_000, RNG(number))) - 440) < 2 for number in range(200))
    assert 100 <= tones <= 140
    only = Background((sine(440),), 0, recorded_share=1)
    assert all(abs(loudest_hz(only.excerpt(16_000, RNG(number))) - 440) < 2 for number in range(20))


def test_digital_silence_is_no_background() -> None:
    background = Background((np.zeros(50_000, np.float32), np.zeros(0, np.float32)), 0, recorded_share=1)
    assert abs(power_db(background.excerpt(16_000, RNG(0)))) < 0.01


def test_blocks_have_no_seam_and_a_longer_stream_begins_like_a_shorter_one() -> None:
    background = Background((), 0)
    noise = np.concatenate(list(background.blocks(35 * 16_000 + 7, 3)))
    assert noise.shape == (35 * 16_000 + 7,) and noise.dtype == np.float32
    shorter = np.concatenate(list(background.blocks(25 * 16_000, 3)))
    assert np.array_equal(noise[: len(shorter)], shorter)
    assert not np.array_equal(shorter, np.concatenate(list(background.blocks(25 * 16_000, 4))))
    white = Background((RNG(0).standard_normal(60 * 16_000).astype(np.float32),), 0, recorded_share=1)
    noise = np.concatenate(list(white.blocks(30 * 16_000, 0)))
    for seam in (BLOCK_SAMPLES, 2 * BLOCK_SAMPLES):
        assert abs(power_db(noise[seam : seam + 8000])) < 0.5  # the power stays the same while one fades into the other
        assert np.abs(np.corrcoef(noise[seam - 4000 : seam], noise[seam : seam + 4000])[0, 1]) < 0.1
    # What follows a seam at once goes on with the block before: its samples are those of one recording.
    tone = np.concatenate(list(Background((sine(50, 60),), 0, recorded_share=1).blocks(20 * 16_000, 1)))
    assert np.abs(np.diff(tone[BLOCK_SAMPLES - 100 : BLOCK_SAMPLES + 100])).max() < 0.05
