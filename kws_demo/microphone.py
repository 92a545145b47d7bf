"""The microphone as a source of blocks: chosen by name or index, opened at its native rate, missed when it goes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from kws_demo.audio import PIPE, printable, reblock, resample
from toolkit.errors import MilliwiseError

RING_SECONDS, CHUNK_SECONDS = 4.0, 0.05  # each chunk costs some 0.4 ms in PortAudio, Python and here
NAP_SECONDS, MOST_NAPS = 0.5, 10  # of waiting for audio


def microphones() -> list[dict[str, Any]]:
    """Every input device: `index`, `name`, `rate_hz` (native), `channels`, `default`.

    Raises:
        MilliwiseError: PortAudio is not installed.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        {
            "index": index,
            "name": str(device["name"]),
            "rate_hz": round(device["default_samplerate"]),
            "channels": int(device["max_input_channels"]),
            "default": index == default,
        }
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def choose(device: str | int | None, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The microphone with this index, or the one whose name holds this text; the default one for None.

    Raises:
        MilliwiseError: there is none at all, or none or several match; the message names those there are.
    """
    if not found:
        raise MilliwiseError(f"no microphone is connected: connect one, or pipe audio: {PIPE}")
    if device is None:
        return next((each for each in found if each["default"]), found[0])
    if isinstance(device, int):
        matches = [each for each in found if each["index"] == device]
    else:
        exact = [each for each in found if each["name"] == device]
        matches = exact or [each for each in found if device.lower() in each["name"].lower()]
    if len(matches) != 1:
        count = "several microphones match" if matches else "no microphone matches"
        names = ", ".join(f"{each['index']} {printable(each['name'])}" for each in matches or found)
        raise MilliwiseError(f"{count} {printable(device)!r}: choose one of {names}")
    return matches[0]


class Microphone:
    """A context manager, and inside it an endless iterator of float32 [hop] blocks at 16 kHz.

    The callback of the sound card only puts what came into a bounded ring; converting is done by who iterates.
    """

    def __init__(self, device: str | int | None, hop: int) -> None:
        """A microphone by name or index (None: the default one), in blocks of `hop` samples."""
        self.device, self.hop = device, hop
        self.overflows = 0  # gaps in the audio: the sound card's own, and those of a full ring
        self._dropping = False  # inside a gap of a full ring
        self._ring: queue.Queue[np.ndarray] = queue.Queue(maxsize=round(RING_SECONDS / CHUNK_SECONDS))

    def __enter__(self) -> Microphone:
        """Open the device.

        Raises:
            MilliwiseError: no PortAudio, no such microphone, or it cannot be opened.
        """
        sounddevice = _sounddevice()
        self.found = choose(self.device, microphones())
        self.name = printable(self.found["name"])
        for channels in sorted({1, self.found["channels"]}):  # some hardware has no mono
            try:
                self._stream = self._open(sounddevice, channels)
                return self
            except sounddevice.PortAudioError as error:
                reason = printable(error)
        raise MilliwiseError(f"cannot open the microphone {self.name} ({reason}): is another program using it?")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close(ignore_errors=True)

    def __iter__(self) -> Iterator[np.ndarray]:
        return reblock(resample(self._chunks(), self.found["rate_hz"]), self.hop)

    def _open(self, sounddevice: Any, channels: int) -> Any:
        rate_hz = self.found["rate_hz"]
        stream = sounddevice.InputStream(
            device=self.found["index"], samplerate=rate_hz, channels=channels, dtype="float32",
            blocksize=round(rate_hz * CHUNK_SECONDS), callback=self._enqueue,
        )  # fmt: skip
        try:
            stream.start()
        except sounddevice.PortAudioError:
            stream.close(ignore_errors=True)
            raise
        return stream

    def _enqueue(self, samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Called by PortAudio's thread: copy and leave."""
        self.overflows += bool(status.input_overflow)
        try:
            self._ring.put_nowait(samples.copy())
            self._dropping = False
        except queue.Full:
            self.overflows += not self._dropping
            self._dropping = True

    def _chunks(self) -> Iterator[np.ndarray]:
        while True:
            yield self._next_chunk().mean(axis=1)

    def _next_chunk(self) -> np.ndarray:
        """Waits in naps: a process that was stopped (Ctrl-Z, a debugger) has overslept one of them, not all."""
        for _ in range(MOST_NAPS):
            try:
                return self._ring.get(timeout=NAP_SECONDS)
            except queue.Empty:
                if not self._stream.active:  # PortAudio gave it up
                    break
        raise MilliwiseError(f"no audio comes from the microphone {self.name} any more: was it unplugged?")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError:
        raise MilliwiseError(f"PortAudio is not installed: apt install libportaudio2, or pipe audio: {PIPE}") from None
    return sounddevice
