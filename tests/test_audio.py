"""Sources of audio: recordings of every kind, and standard input in any pieces."""

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kws_demo import audio as audio_module
from kws_demo.audio import read_wav, reblock, stdin_blocks, wav_blocks, wav_blocks_of
from toolkit.errors import MilliwiseError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
RIGHT_HERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def wav_bytes(audio: np.ndarray, rate_hz: int = 16000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def saved(folder: Path, content: bytes, name: str = "a.wav") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_a_recording_in_the_right_form_is_taken_as_it_is(tmp_path: Path) -> None:
    audio, notes = read_wav(saved(tmp_path, wav_bytes(NOISE)))
    assert audio.dtype == np.float32 and notes == []
    np.testing.assert_allclose(audio, NOISE, atol=1 / 32768)


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_U8", 1 / 64), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("DOUBLE", 1e-7)]
)
def test_every_width_is_converted_and_said(subtype: str, error: float, tmp_path: Path) -> None:
    audio, notes = read_wav(saved(tmp_path, wav_bytes(NOISE, subtype=subtype)))
    np.testing.assert_allclose(audio, NOISE, atol=error)
    assert len(notes) == 1 and "a.wav: 16000 Hz" in notes[0] and "converted to 16000 Hz mono" in notes[0]


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 192000])
def test_every_rate_is_resampled_as_soxr_does_it_in_one_piece(rate_hz: int, tmp_path: Path) -> None:
    audio, notes = read_wav(saved(tmp_path, wav_bytes(NOISE, rate_hz, "FLOAT")))
    np.testing.assert_allclose(audio, soxr.resample(NOISE, rate_hz, 16000), atol=1e-5)
    assert f"{rate_hz} Hz" in notes[0]


def test_channels_are_averaged(tmp_path: Path) -> None:
    audio, notes = read_wav(saved(tmp_path, wav_bytes(np.stack([NOISE, 0 * NOISE, 0.5 * NOISE], 1), subtype="FLOAT")))
    np.testing.assert_allclose(audio, 0.5 * NOISE, atol=1e-7)
    assert "3 channels" in notes[0]


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    audio, _ = read_wav(saved(tmp_path, wav_bytes(8 * NOISE, subtype="FLOAT")))
    np.testing.assert_allclose(audio, np.clip(8 * NOISE, -1, 1), atol=1e-6)


def test_flac_is_read_as_well(tmp_path: Path) -> None:
    audio, _ = read_wav(saved(tmp_path, wav_bytes(NOISE, kind="FLAC"), "a.flac"))
    np.testing.assert_allclose(audio, NOISE, atol=1 / 32768)


@given(st.data())
@RIGHT_HERE
def test_a_recording_cut_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    subtype = data.draw(st.sampled_from(["PCM_16", "PCM_24", "FLOAT", "ULAW"]))
    content = wav_bytes(NOISE[:200], subtype=subtype)
    cut = data.draw(st.integers(0, content.index(b"data") + 8 + 199))
    with pytest.raises(MilliwiseError) as error:
        read_wav(saved(tmp_path, content[:cut]))
    with pytest.raises(MilliwiseError):
        wav_blocks_of(tmp_path / "a.wav", 320)
    assert "a.wav" in str(error.value) and str(error.value).isprintable()


def test_a_header_from_a_pipe_does_not_know_its_length(tmp_path: Path) -> None:
    content = bytearray(wav_bytes(NOISE))
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert len(read_wav(saved(tmp_path, bytes(content)))[0]) == len(NOISE)


@given(st.binary(max_size=120) | st.binary(max_size=80).map(lambda rest: wav_bytes(NOISE[:20])[:40] + rest))
@RIGHT_HERE
def test_arbitrary_bytes_raise_only_our_error(tmp_path: Path, content: bytes) -> None:
    try:
        audio, _ = read_wav(saved(tmp_path, content))
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert np.isfinite(audio).all() and len(audio)


@pytest.mark.parametrize(("rate_hz", "error"), [(16000, 1e-6), (44100, 1e-5), (8000, 1e-5)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_is_heard_in_pieces_as_in_one(
    rate_hz: int, error: float, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, wav_bytes(np.stack([4 * NOISE, -NOISE][:channels], 1), rate_hz, "FLOAT"))
    whole, notes = read_wav(path)
    monkeypatch.setattr(audio_module, "CHUNK_SAMPLES", 777)
    blocks, streamed_notes = wav_blocks_of(path, 320)
    heard = list(blocks)
    assert streamed_notes == notes and all(block.shape == (320,) and block.dtype == np.float32 for block in heard)
    expected = np.pad(whole, (0, -len(whole) % 320))
    np.testing.assert_allclose(np.concatenate(heard), expected, atol=error)


def test_a_long_recording_takes_the_memory_of_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, wav_bytes(np.zeros(4_000_000), 22050))
    monkeypatch.setattr(audio_module, "CHUNK_SAMPLES", 50_000)
    tracemalloc.start()
    count = sum(1 for _ in wav_blocks_of(path, 3200)[0])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == -(-4_000_000 * 16000 // 22050 // 3200)
    assert peak_bytes < 2_000_000  # the whole recording takes 11.6 MB


def test_a_recording_that_goes_bad_later_says_so_when_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_module, "CHUNK_SAMPLES", 1000)
    bad = NOISE.copy()
    bad[-1] = np.inf
    blocks, _ = wav_blocks_of(saved(tmp_path, wav_bytes(bad, subtype="FLOAT")), 500)
    heard = []
    with pytest.raises(MilliwiseError, match=r"a\.wav holds samples that are not numbers"):
        for block in blocks:
            heard.append(block)
    assert len(heard) == 6


def test_what_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    nan = NOISE.copy()
    nan[7] = np.nan
    cases = {
        "is empty": saved(tmp_path, wav_bytes(NOISE[:0]), "none.wav"),
        "is not audio": saved(tmp_path, b"word,start_ms\n", "labels.wav"),
        "not numbers": saved(tmp_path, wav_bytes(nan, subtype="FLOAT"), "nan.wav"),
        "out of range": saved(tmp_path, wav_bytes(NOISE, 10), "slow.wav"),
        "No such file": tmp_path / "missing.wav",
        "not a file": tmp_path,
        "raw does not name": saved(tmp_path, b"ab", "samples.raw"),
        "wav does not name": Path("a\0b.wav"),
    }
    for message, path in cases.items():
        with pytest.raises(MilliwiseError, match=message) as error:
            read_wav(path)
        with pytest.raises(MilliwiseError) as streamed:
            wav_blocks_of(path, 320)
        assert str(streamed.value) == str(error.value) and str(error.value).isprintable()


@given(st.lists(st.integers(0, 30)), st.integers(1, 16))
def test_blocks_hold_every_sample_however_it_was_cut(sizes: list[int], hop: int) -> None:
    audio = np.linspace(-1, 1, sum(sizes), dtype=np.float32)
    blocks = list(reblock(np.split(audio, np.cumsum(sizes)), hop))
    assert all(block.shape == (hop,) and block.dtype == np.float32 for block in blocks)
    joined = np.concatenate([np.zeros(0, np.float32), *blocks])
    np.testing.assert_array_equal(joined, np.pad(audio, (0, -len(audio) % hop)))
    assert [block.tolist() for block in wav_blocks(audio, hop)] == [block.tolist() for block in blocks]


class Dribble(io.RawIOBase):
    """A stream that gives what it has in pieces of its own."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self.content, self.sizes = content, sizes

    def read(self, size: int = -1) -> bytes:
        take = min(size, self.sizes.pop() if self.sizes else size)
        piece, self.content = self.content[:take], self.content[take:]
        return piece


@given(st.lists(st.integers(1, 50), max_size=200), st.booleans())
def test_standard_input_may_come_in_any_pieces(sizes: list[int], odd: bool) -> None:
    samples = (NOISE * 32767).astype("<i2")
    stream = Dribble(samples.tobytes() + b"\x7f" * odd, sizes)
    heard = np.concatenate(list(stdin_blocks(stream, 16000, 320)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(heard[: len(samples)], samples.astype(np.float32) / 32768)
    assert len(heard) == -(-len(samples) // 320) * 320 and not heard[len(samples) :].any()


def test_standard_input_is_resampled_with_state() -> None:
    samples = (NOISE * 32767).astype("<i2")
    heard = np.concatenate(list(stdin_blocks(io.BytesIO(samples.tobytes()), 44100, 160)))
    expected = soxr.resample(samples.astype(np.float32) / 32768, 44100, 16000)
    np.testing.assert_allclose(heard[: len(expected)], expected, atol=1e-5)


def test_empty_standard_input_and_impossible_rates_are_refused() -> None:
    with pytest.raises(MilliwiseError, match="standard input is empty"):
        list(stdin_blocks(io.BytesIO(), 16000, 320))
    for rate_hz in (0, -1, 10**9):
        with pytest.raises(MilliwiseError, match="out of range"):
            stdin_blocks(io.BytesIO(), rate_hz, 320)
