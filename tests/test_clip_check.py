"""What is wrong with a recording: found in real and made-up ones that were spoiled on purpose, and in no others."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from spoken import recording, word

from kws_demo.clip_check import clipped_share, findings, measure
from kws_demo.noises import COLOURS, coloured
from kws_demo.trim import MARGIN, Span, frame_levels_db, strongest, surroundings, with_margin, words_in

FINE = recording(word())


def kinds(audio: np.ndarray) -> set[str]:
    return {finding.kind for finding in findings(np.asarray(audio, np.float32))}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[np.ndarray]:
    """40 words of many people, which are whole, loud and not clipped: 32 of them clean Arabic, 8 English."""
    files = sorted((shared_data / "keywords_ar" / "val").glob("*/*.flac"))[::21][:32]
    files += sorted((shared_data / "wakewords").glob("*/*.flac"))[::25]
    return [soundfile.read(file, dtype="float32")[0] for file in files]


def share(clips: list[np.ndarray], kind: str) -> float:
    return float(np.mean([kind in kinds(clip) for clip in clips]))


def test_a_good_recording_has_no_findings() -> None:
    assert findings(FINE) == []


def test_real_recordings_are_fine(real: list[np.ndarray]) -> None:
    assert np.mean([findings(clip) == [] for clip in real]) >= 0.9


def test_too_quiet_is_worth_saying_again_and_far_too_quiet_spoils() -> None:
    (quiet,) = findings(FINE * 0.03)
    assert (quiet.kind, quiet.spoils) == ("quiet", False)
    expected_db = measure(FINE).level_db + 20 * np.log10(0.03)
    assert quiet.problem == f"is too quiet (the word is at {expected_db:.0f} dB)"
    assert [(each.kind, each.spoils) for each in findings(FINE * 0.005)] == [("quiet", True)]


def test_a_muted_microphone_is_told_from_noise() -> None:
    assert "milliwise devices" in findings(np.zeros(32000, np.float32))[0].cure
    (noise,) = findings(0.05 * coloured("pink", 32000, np.random.default_rng(0)))
    assert noise.kind == "silent" and noise.spoils and "quieter" in noise.cure


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_alone_is_no_word(colour: str) -> None:
    rng = np.random.default_rng(1)
    assert sum(bool(words_in(0.05 * coloured(colour, 32000, rng))) for _ in range(20)) == 0


def test_speech_in_noise_at_known_ratios(real: list[np.ndarray]) -> None:
    rng = np.random.default_rng(2)

    def at(snr_db: float, clip: np.ndarray) -> np.ndarray:
        word_at = strongest(clip, words_in(clip))
        noise = coloured("pink", len(clip) + 16000, rng)
        scale = clip[slice(*word_at)].std() / 10 ** (snr_db / 20)
        return np.asarray(np.pad(clip, 8000) + scale * noise, np.float32)

    assert share([at(30, clip) for clip in real], "noisy") == 0
    assert share([at(0, clip) for clip in real], "noisy") + share([at(0, clip) for clip in real], "silent") >= 0.95
    assert share([at(-10, clip) for clip in real], "silent") >= 0.95
    estimates = [measure(at(20, clip)).over_noise_db for clip in real]
    assert 17 <= np.median(estimates) <= 25


@pytest.mark.parametrize("attenuation", [1.0, 0.1])
@pytest.mark.parametrize(("clipped", "found"), [(0.005, 0.6), (0.02, 0.95), (0.1, 1.0)])
def test_clipping_is_found_also_when_it_was_made_quieter(
    real: list[np.ndarray], clipped: float, found: float, attenuation: float
) -> None:
    def clip_of(clip: np.ndarray) -> np.ndarray:
        loud = clip / np.quantile(np.abs(clip[slice(*strongest(clip, words_in(clip)))]), 1 - clipped)
        return np.asarray(np.round(np.clip(loud, -1, 32767 / 32768) * attenuation * 32768) / 32768, np.float32)

    assert share([clip_of(clip) for clip in real], "clipped") >= found


def test_a_pure_low_tone_at_half_scale_is_not_clipped() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
    assert clipped_share(np.round(tone * 32768) / 32768) == 0
    assert clipped_share(np.clip(4 * tone, -1, 1)) == pytest.approx(2 / 3, abs=0.02)  # |sin| > 1/2, by hand


def test_cut_words_are_found(real: list[np.ndarray]) -> None:
    begun, ended = [], []
    for clip in real:
        word_at = strongest(clip, words_in(clip))
        quarter = (word_at.end - word_at.start) // 4
        begun.append(clip[word_at.start + quarter :])
        ended.append(clip[: word_at.end - quarter])
    assert share(begun, "cut_start") >= 0.75 and share(begun, "cut_end") == 0
    assert share(ended, "cut_end") >= 0.75 and share(ended, "cut_start") == 0


def test_length() -> None:
    assert kinds(recording(word(1.2))) == {"long"}
    assert kinds(recording(word(0.9))) == set()
    assert kinds(np.zeros(0)) == kinds(FINE[:1500]) == {"short"}
    assert kinds(recording(word(0.07))) == {"short"}
    assert kinds(recording(word(0.02))) == {"silent"}  # a click is no word


def test_two_short_words_are_no_long_one() -> None:
    assert "long" not in kinds(recording(word(0.5), word(0.6, seed=1)))


@settings(max_examples=60)
@given(
    arrays(np.float32, st.integers(0, 20000), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([0, 1e-9, 1e-4, 1.0]),
)
def test_anything_can_be_judged(audio: np.ndarray, gain: float) -> None:
    for finding in findings(np.asarray(audio * gain, np.float32)):
        assert finding.about("x").startswith("x is ") or finding.about("x").startswith("x has ")
        assert finding.cure and finding.about("x").isprintable()


@given(st.floats(0.001, 30), st.floats(1, 5))
def test_louder_is_never_too_quiet_and_quieter_never_clipped(gain: float, more: float) -> None:
    low, high = (kinds(np.clip(FINE * each, -1, 1)) for each in (gain, gain * more))
    assert "clipped" in high or "clipped" not in low
    assert "quiet" in low or "quiet" not in high
    assert clipped_share(np.clip(FINE * gain, -1, 1)) <= clipped_share(np.clip(FINE * gain * more, -1, 1))


@settings(max_examples=25)
@given(st.lists(st.floats(0.2, 0.9), min_size=1, max_size=4), st.floats(0.35, 1.0), st.integers(0, 99))
def test_words_are_found_where_they_were_laid(lengths: list[float], pause_s: float, seed: int) -> None:
    audio = recording(*(word(length, seed=seed) for length in lengths), pause_s=pause_s, seed=seed)
    found = words_in(audio)
    assert len(found) == len(lengths)
    place = int(pause_s * 16000)
    for span, length in zip(found, lengths, strict=True):
        assert abs(span.start - place) <= 800 and abs(span.end - place - int(length * 16000)) <= 800
        place += int(length * 16000) + int(pause_s * 16000)
    for span, around in zip(found, surroundings(found, len(audio), MARGIN), strict=True):
        assert with_margin(span, found, len(audio)).start >= around.start
    edges = [edge for around in surroundings(found, len(audio), 16000) for edge in around]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= len(audio)


def test_a_tone_in_digital_silence_is_found_and_padding_is_not_taken_for_quiet() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    (span,) = words_in(np.pad(tone, 8000))
    assert abs(span.start - 8000) <= 320 and abs(span.end - 16000) <= 320
    noisy = np.pad(recording(word(), noise=0.02), 8000)
    assert words_in(noisy)[0].end - words_in(noisy)[0].start < 12000


def test_an_offset_or_hum_is_no_speech() -> None:
    hum = 0.2 + 0.1 * np.sin(2 * np.pi * 50 * np.arange(32000) / 16000)
    assert frame_levels_db(np.asarray(hum, np.float32)).max() < 20 * np.log10(0.1) - 20
    assert len(words_in(np.clip(np.resize(FINE, 32000) + hum, -1, 1))) == 1


def test_the_margin_shrinks_to_keep_within_a_second_and_to_50_ms() -> None:
    for length, margin in ((4000, 4000), (12000, 2000), (20000, 800)):
        word_at = Span(30000, 30000 + length)
        assert with_margin(word_at, [word_at], 80000) == (30000 - margin, 30000 + length + margin)
    assert with_margin(Span(100, 9000), [Span(100, 9000)], 9050) == (0, 9050)


def test_the_strongest_word_is_taken() -> None:
    audio = recording(word(0.3) * 0.2, word(0.5), word(0.2) * 0.3)
    found = words_in(audio)
    assert strongest(audio, found) == found[1]
