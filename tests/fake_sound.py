"""A stand-in for sounddevice, so that the microphone is tested on machines without one."""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kws_demo import microphone


class PortAudioError(Exception):
    pass


class FakeSound(types.ModuleType):
    """A stand-in for sounddevice: two microphones and a loudspeaker; the stream gives what `script` says at once."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.default = types.SimpleNamespace(device=(2, 0))
        self.script: list[tuple[np.ndarray, bool]] = []  # chunks [frames, channels], with PortAudio's overflow flag
        self.refused_channels: set[int] = set()
        self.opened: list[dict[str, Any]] = []
        self.closed = 0
        self.active = True  # what an open stream says of itself
        self.names = ["speaker", "USB mic", "built-in \x1b[31mmic"]  # of what is connected when PortAudio starts
        self.restarts = 0
        self.on_restart: Callable[[], None] = lambda: None
        self.InputStream = lambda **options: FakeStream(self, options)

    def query_devices(self) -> list[dict[str, Any]]:
        channels = [0 if name == "speaker" else 1 if "built-in" in name else 2 for name in self.names]
        rates = [16000.0 if "built-in" in name else 44100.0 for name in self.names]
        return [
            {"name": name, "max_input_channels": count, "default_samplerate": rate}
            for name, count, rate in zip(self.names, channels, rates, strict=True)
        ]

    def _terminate(self) -> None:
        pass

    def _initialize(self) -> None:
        self.restarts += 1
        self.on_restart()

    def _exit_handler(self) -> None:
        pass


class FakeStream:
    def __init__(self, sound: FakeSound, options: dict[str, Any]) -> None:
        self.sound, self.options = sound, options
        if options["channels"] in sound.refused_channels:
            raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")
        sound.opened.append(options)

    @property
    def active(self) -> bool:
        return self.sound.active

    def start(self) -> None:
        for chunk, overflow in self.sound.script:
            self.options["callback"](chunk, len(chunk), None, types.SimpleNamespace(input_overflow=overflow))

    def close(self, ignore_errors: bool = True) -> None:
        self.sound.closed += 1


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakeSound:
    fake = FakeSound()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(microphone, "NAP_SECONDS", 0.001)
    monkeypatch.setattr(microphone, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(microphone, "CLOSE_SECONDS", 0.05)
    return fake
