"""The microphone as a source of blocks: chosen by name or index, opened at its native rate, missed when it goes."""

from __future__ import annotations

import atexit
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

import numpy as np

from kws_demo.audio import PIPE, reblock, resample
from kws_demo.quiet import quiet_c_stderr
from toolkit.errors import MilliwiseError, printable

RING_SECONDS, CHUNK_SECONDS = 4.0, 0.05  # each chunk costs some 0.4 ms in PortAudio, Python and here
NAP_SECONDS, MOST_NAPS = 0.5, 10  # of waiting for audio
RETRY_SECONDS = 1.0  # between two looks for a microphone that vanished
REOPEN_SECONDS = 30.0  # PortAudio may hang when a sound server does
CLOSE_SECONDS = 2.0  # for which a sound server that hangs is waited for at the end


def microphones() -> list[dict[str, Any]]:
    """Every input device: `index`, `name`, `rate_hz` (native), `channels`, `default`.

    Raises:
        MilliwiseError: PortAudio is not installed, or does not work.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    try:
        found = sounddevice.query_devices()
    except sounddevice.PortAudioError as error:
        raise MilliwiseError(f"the audio system tells no devices ({printable(error)}): pipe audio: {PIPE}") from None
    return [
        {
            "index": index,
            "name": str(device["name"]),
            "rate_hz": round(device["default_samplerate"]),
            "channels": int(device["max_input_channels"]),
            "default": index == default,
        }
        for index, device in enumerate(found)
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

    The callback of the sound card only puts what came into a bounded ring; converting is done by who iterates. A
    microphone that vanishes is said to, once, and waited for: the audio goes on where it returns, without the silence
    between. No block has audio from before and after a gap.
    """

    def __init__(
        self,
        device: str | int | None,
        hop: int,
        say: Callable[[str], None] = lambda line: None,
        patience_s: float = math.inf,
    ) -> None:
        """A microphone by name or index (None: the default one), in blocks of `hop` samples.

        Args:
            device: as `choose` takes it.
            hop: samples of a block.
            say: called with a line when the microphone vanishes and when it is back.
            patience_s: how long one that vanished is waited for.
        """
        self.device, self.hop, self.say, self.patience_s = device, hop, say, patience_s
        self.overflows = 0  # gaps in the audio: the sound card's own, those of a full ring, and times it was away
        self.returns = 0  # times it was away and came back, or was not listened to for longer than the ring holds
        self.invalid_samples = 0  # which were no numbers (NaN or infinity); zeros are heard in their place
        self._channels: int | None = None  # that it was opened with
        self._dropping = False  # inside a gap of a full ring
        self._skipped = False  # there is a gap before what the ring has next
        self._ring: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=round(RING_SECONDS / CHUNK_SECONDS))
        self._stream: Any = None
        self._worker = threading.Thread()

    def __enter__(self) -> Microphone:
        """Open the device.

        Raises:
            MilliwiseError: no PortAudio, no such microphone, or it cannot be opened.
        """
        with ExitStack() as stack:
            stack.enter_context(quiet_c_stderr())
            self._open(choose(self.device, microphones()))
            self._unquiet = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._unquiet:
            if not self._aside(self._close, CLOSE_SECONDS):
                atexit.unregister(_sounddevice()._exit_handler)  # it would wait for ever for the same sound server

    def __iter__(self) -> Iterator[np.ndarray]:
        """The blocks.

        Raises:
            MilliwiseError: no audio comes from the beginning, or a microphone that vanished is not back in time.
        """
        chunk = self._behind_gaps(self._next_chunk())
        if chunk is None:
            raise MilliwiseError(f"no audio comes from the microphone {self.name}: is it muted, or unplugged?")
        while True:  # between two gaps: resampled anew, for another microphone may return
            yield from reblock(resample(self._chunks(chunk), self.found["rate_hz"]), self.hop, fill=False)
            skipped = self._after_skipping()
            chunk = self._returned() if skipped is None else skipped

    def _open(self, found: dict[str, Any]) -> None:
        sounddevice = _sounddevice()
        self.found, self.name = found, printable(found["name"])
        ways = sorted({1, found["channels"]})  # some hardware has no mono
        if self._channels in ways:  # mono that is refused while it comes back is not left for the mean of 32 channels
            ways = [self._channels]
        for channels in ways:
            try:
                self._stream = self._started(sounddevice, channels)
                self._channels = channels
                return
            except sounddevice.PortAudioError as error:
                reason = printable(error)
        raise MilliwiseError(f"cannot open the microphone {self.name} ({reason}): is another program using it?")

    def _started(self, sounddevice: Any, channels: int) -> Any:
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

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(ignore_errors=True)

    def _enqueue(self, samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Called by PortAudio's thread: copy and leave."""
        self.overflows += bool(status.input_overflow)
        try:
            if self._dropping:
                if self._ring.qsize() > self._ring.maxsize - 2:  # or the ring would fill with marks of one gap
                    return
                self._ring.put_nowait(None)
            self._ring.put_nowait(samples.copy())
            self._dropping = False
        except queue.Full:
            self.overflows += not self._dropping
            self._dropping = True

    def _chunks(self, first: np.ndarray) -> Iterator[np.ndarray]:
        chunk: np.ndarray | None = first
        while chunk is not None:
            yield self._valid(chunk).mean(axis=1)
            chunk = self._next_chunk()

    def _valid(self, chunk: np.ndarray) -> np.ndarray:
        """The samples [frames, channels] of a driver that works: one NaN would be remembered for ever."""
        if np.isfinite(chunk).all():
            return chunk
        if not self.invalid_samples:
            self.say(f"the microphone {self.name} gives samples that are not numbers: zeros are heard in their place")
        self.invalid_samples += int(chunk.size - np.isfinite(chunk).sum())
        return np.nan_to_num(chunk, nan=0.0, posinf=0.0, neginf=0.0)

    def _next_chunk(self) -> np.ndarray | None:
        """None when no more come, or what comes is behind a gap.

        Waits in naps: a process that was stopped (Ctrl-Z) has overslept one, not all.
        """
        self._skipped = False
        for _ in range(MOST_NAPS):
            try:
                chunk = self._ring.get(timeout=NAP_SECONDS)
                self._skipped = chunk is None
                return chunk
            except queue.Empty:
                if not self._stream.active:  # PortAudio gave it up
                    break
        return None

    def _behind_gaps(self, chunk: np.ndarray | None) -> np.ndarray | None:
        while chunk is None and self._skipped:
            chunk = self._next_chunk()
        return chunk

    def _after_skipping(self) -> np.ndarray | None:
        """The first chunk behind what a full ring lost; None if there is none, or nothing was lost."""
        if (chunk := self._behind_gaps(None)) is not None:
            self.returns += 1
            self.say(f"audio was lost, for nobody took it for {RING_SECONDS:g} s: what was heard before is forgotten")
        return chunk

    def _returned(self) -> np.ndarray:
        """Wait until the microphone is back; its first chunk."""
        begun = time.monotonic()
        self.overflows += 1
        self.say(f"no audio comes from the microphone {self.name} any more (unplugged?): waiting for it")
        while time.monotonic() - begun < self.patience_s:
            if (chunk := self._retry()) is not None:
                away_s = time.monotonic() - begun
                self.returns += 1
                self.say(f"the microphone {self.name} is back after {away_s:.0f} s: listening goes on")
                return chunk
            time.sleep(RETRY_SECONDS)
        raise MilliwiseError(f"no audio comes from the microphone {self.name} any more: was it unplugged?")

    def _retry(self) -> np.ndarray | None:
        """Look for the same microphone, open it and wait for audio; None if there is none yet."""
        returned = self._aside(self._reopen, REOPEN_SECONDS)
        return self._next_chunk() if returned and self._stream is not None else None

    def _reopen(self) -> None:
        sounddevice = _sounddevice()
        self._close()
        with suppress(sounddevice.PortAudioError):
            sounddevice._terminate()  # PortAudio looks for devices only when it starts
        with suppress(sounddevice.PortAudioError, MilliwiseError):
            sounddevice._initialize()
            same = [each for each in microphones() if _lasting(each["name"]) == _lasting(self.found["name"])]
            if same:
                self._open(min(same, key=lambda each: abs(each["index"] - self.found["index"])))

    def _aside(self, function: Callable[[], None], patience_s: float = math.inf) -> bool:
        """Call into PortAudio in a thread: a sound server that hangs holds it, but not Ctrl-C. Whether it returned."""
        deadline = time.monotonic() + patience_s
        self._await_worker(deadline)  # an earlier call may still be held
        if not self._worker.is_alive():
            self._worker = threading.Thread(target=function, daemon=True)
            self._worker.start()
        return self._await_worker(deadline)

    def _await_worker(self, deadline: float) -> bool:
        while self._worker.is_alive() and time.monotonic() < deadline:
            self._worker.join(NAP_SECONDS)
        return not self._worker.is_alive()


def _lasting(name: str) -> str:
    """The name without the number ALSA gave the card, which may be another one when it is plugged in again."""
    return re.sub(r" \(hw:\d+,\d+\)$", "", name)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError:
        raise MilliwiseError(f"PortAudio is not installed: apt install libportaudio2, or pipe audio: {PIPE}") from None
    except ImportError:
        raise
    except Exception as error:  # its own: it starts the audio system when it is imported
        raise MilliwiseError(f"the audio system does not start ({printable(error)}): pipe audio: {PIPE}") from None
    return sounddevice
