"""Where audio comes from: a file, standard input or a microphone, as float32 blocks of one hop at 16 kHz."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from exporters.metadata import RATE_HZ
from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular

LOWEST_HZ, HIGHEST_HZ = 1000, 1_000_000
FULL_SCALE = 32767 / 32768  # the highest value of 16 bits
MAX_SECONDS = 4 * 3600
CHUNK_SAMPLES = 1_000_000  # decoded at a time, over all channels
UNKNOWN_SIZE = 0x7FFFF000  # a WAV header written into a pipe promises at least this much
PIPE = "arecord -f S16_LE -r 16000 -c 1 | milliwise stream MODEL --stdin --rate 16000"


def read_wav(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a clip as float32 [samples] at 16 kHz mono within -1..1, and what had to be converted, in one line.

    WAV is what is promised, of any rate, width and number of channels; libsndfile's other formats work as well.

    Raises:
        MilliwiseError: it is unreadable, not audio, empty, truncated, longer than 4 hours, or holds NaN.
    """
    with _opened(path) as file:
        notes = _notes(file, printable(path))
    parts = list(_decoded(path, MAX_SECONDS))
    audio = np.clip(np.concatenate(parts), -1, 1) if parts else np.zeros(0, np.float32)
    if len(audio) == 0:
        raise _empty(path)
    return audio, notes


def wav_blocks_of(path: Path, hop: int) -> tuple[Iterator[np.ndarray], list[str]]:
    """The samples and notes of `read_wav`, as blocks float32 [hop] that are decoded while they are taken.

    A recording of any length takes the memory of some seconds.

    Raises:
        MilliwiseError: it is unreadable, not audio, empty or truncated; while blocks are taken, it is damaged or holds
            NaN.
    """
    with _opened(path) as file:
        notes = _notes(file, printable(path))
    blocks = reblock(_decoded(path), hop)
    first = next(blocks, None)
    if first is None:
        raise _empty(path)
    return chain([first], blocks), notes


def wav_blocks(audio: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Blocks float32 [hop] of a recording, the last one filled with zeros."""
    return reblock([audio], hop)


def stdin_blocks(stream: BinaryIO, rate_hz: int, hop: int) -> Iterator[np.ndarray]:
    """Blocks float32 [hop] at 16 kHz of raw signed 16-bit little-endian mono samples at `rate_hz`.

    Raises:
        MilliwiseError: the rate is out of range, or nothing at all came in.
    """
    check_rate(rate_hz)
    return reblock(resample(_pcm(stream, 2 * max(1, rate_hz * hop // RATE_HZ)), rate_hz), hop)


def check_rate(rate_hz: int) -> None:
    """Refuse a sample rate that is no sample rate, before the resampler makes gigabytes of it."""
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise MilliwiseError(
            f"a sample rate of {rate_hz} Hz is out of range: it must be {LOWEST_HZ} to {HIGHEST_HZ} Hz"
        )


def resample(chunks: Iterable[np.ndarray], rate_hz: float) -> Iterator[np.ndarray]:
    """Chunks of mono audio at 16 kHz, resampled with state by soxr: the cuts between the chunks are not heard."""
    if rate_hz == RATE_HZ:
        yield from chunks
        return
    resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32")
    for chunk in chunks:
        yield resampler.resample_chunk(chunk)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def reblock(chunks: Iterable[np.ndarray], hop: int, fill: bool = True) -> Iterator[np.ndarray]:
    """Cut chunks of any length into blocks float32 [hop] within -1..1, the last one filled with zeros, or left out."""
    rest = np.zeros(0, np.float32)
    for chunk in chunks:
        samples = np.concatenate([rest, np.clip(chunk, -1, 1)]) if len(rest) else np.clip(chunk, -1, 1)
        whole = len(samples) // hop * hop
        for start in range(0, whole, hop):
            yield samples[start : start + hop]
        rest = samples[whole:]
    if fill and len(rest):
        yield np.pad(rest, (0, hop - len(rest)))


def is_clipped(block: np.ndarray) -> bool:
    """Whether samples of an input in -1..1 are at full scale: three of them, for one may just be loud."""
    return int(np.count_nonzero(np.abs(block) >= FULL_SCALE)) >= 3


def _pcm(stream: BinaryIO, size: int) -> Iterator[np.ndarray]:
    """Float chunks of a byte stream, which may cut a sample in two; a lone last byte is dropped."""
    rest = b""
    heard = False
    while data := stream.read(size):
        heard = True
        data = rest + data
        even = len(data) // 2 * 2
        yield np.frombuffer(data[:even], "<i2").astype(np.float32) / 32768
        rest = data[even:]
    if not heard:
        raise MilliwiseError(f"standard input is empty; pipe audio: {PIPE}")


def _missing_bytes(path: Path) -> int:
    """How many bytes a RIFF WAV promises in its data chunk and does not have; 0 for other files.

    libsndfile reads a truncated WAV without a word, as if it were shorter.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(12)
        if header[:4] != b"RIFF" or header[8:] != b"WAVE":
            return 0
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return 0 if length >= UNKNOWN_SIZE else max(0, file.tell() + length - size)
            file.seek(length + length % 2, os.SEEK_CUR)
    return max(0, int.from_bytes(header[4:8], "little") + 8 - size)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """A recording that was checked and is open; what goes wrong with it becomes one line."""
    name = printable(path)
    try:
        require_regular(Path(path))
        if missing := _missing_bytes(Path(path)):
            raise MilliwiseError(f"{name} is truncated ({missing} bytes are missing): copy or record it again")
        with soundfile.SoundFile(os.fspath(path)) as file:
            check_rate(file.samplerate)
            yield file
    except OSError as error:
        raise MilliwiseError(f"cannot read {name}: {error.strerror}; give a WAV file") from None
    except soundfile.LibsndfileError as error:
        raise MilliwiseError(
            f"{name} is not audio, or is damaged ({printable(error.error_string)}): give a WAV file"
        ) from None
    except (TypeError, ValueError):  # soundfile's answers to names such as a.raw or with a null character
        raise MilliwiseError(f"{name} does not name a recording: give a WAV file") from None


def _decoded(path: Path, max_seconds: float = math.inf) -> Iterator[np.ndarray]:
    """Mono chunks at 16 kHz, decoded in pieces, so that a header which lies about its length allocates nothing."""
    with _opened(path) as file:
        yield from resample(_mono(file, printable(path), max_seconds), file.samplerate)


def _mono(file: soundfile.SoundFile, name: str, max_seconds: float) -> Iterator[np.ndarray]:
    step = max(1, CHUNK_SAMPLES // file.channels)
    seen = 0
    while len(chunk := file.read(step, dtype="float32", always_2d=True)):
        seen += len(chunk)
        if seen > max_seconds * file.samplerate:
            raise MilliwiseError(f"{name} is longer than {max_seconds / 3600:g} hours: split it")
        if not np.isfinite(chunk).all():
            raise MilliwiseError(f"{name} holds samples that are not numbers (NaN or infinity): record it again")
        yield chunk.mean(1)


def _empty(path: Path) -> MilliwiseError:
    return MilliwiseError(f"{printable(path)} is empty (no samples): record it again")


def _notes(file: soundfile.SoundFile, name: str) -> list[str]:
    if (file.samplerate, file.channels, file.subtype) == (RATE_HZ, 1, "PCM_16"):
        return []
    channels = "mono" if file.channels == 1 else f"{file.channels} channels"
    return [f"{name}: {file.samplerate} Hz, {file.subtype_info}, {channels}; converted to {RATE_HZ} Hz mono"]
