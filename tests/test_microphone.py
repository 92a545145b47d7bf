"""The microphone, which is a fake one: chosen, opened, resampled, overflowing, stopped and unplugged."""

import queue
import sys

import numpy as np
import pytest
import soxr
from fake_sound import FakeSound, sound  # noqa: F401 (a fixture)

from kws_demo import microphone
from kws_demo.microphone import Microphone, choose, microphones
from toolkit.errors import MilliwiseError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)


def heard_until_unplugged(mic: Microphone) -> np.ndarray:
    blocks = []
    with pytest.raises(MilliwiseError, match="unplugged"):
        for block in mic:
            blocks.append(block)
    return np.concatenate(blocks)


def test_microphones_are_listed(sound: FakeSound) -> None:  # noqa: F811
    assert microphones() == [
        {"index": 1, "name": "USB mic", "rate_hz": 44100, "channels": 2, "default": False},
        {"index": 2, "name": "built-in \x1b[31mmic", "rate_hz": 16000, "channels": 1, "default": True},
    ]


def test_a_microphone_is_chosen_by_name_index_or_default(sound: FakeSound) -> None:  # noqa: F811
    found = microphones()
    assert [choose(device, found)["index"] for device in (None, 1, "usb", "USB mic")] == [2, 1, 1, 1]
    assert choose(None, found[:1])["index"] == 1  # no default one
    for device in ("headset", 0, 7):
        with pytest.raises(MilliwiseError, match=r"no microphone matches .*1 USB mic, 2 built-in") as error:
            choose(device, found)
        assert str(error.value).isprintable()
    with pytest.raises(MilliwiseError, match="several microphones match 'mic'"):
        choose("mic", found)
    with pytest.raises(MilliwiseError, match="no microphone is connected"):
        choose(None, [])


def test_a_microphone_is_opened_at_its_own_rate_and_resampled_with_state(sound: FakeSound) -> None:  # noqa: F811
    sound.script = [(np.stack([chunk, chunk], 1), False) for chunk in np.split(NOISE, 5)]
    sound.refused_channels = {1}
    with Microphone("usb", 160) as mic:
        heard = heard_until_unplugged(mic)
    assert [(each["samplerate"], each["channels"], each["device"]) for each in sound.opened] == [(44100, 2, 1)]
    np.testing.assert_allclose(heard, soxr.resample(NOISE, 44100, 16000)[: len(heard)], atol=1e-5)
    assert len(heard) >= 800 and mic.overflows == 0 and sound.closed == 1


def test_overflows_of_the_card_and_of_the_ring_are_counted(sound: FakeSound) -> None:  # noqa: F811
    chunk = np.zeros((320, 1), np.float32)
    sound.script = [(chunk, index < 3) for index in range(90)]  # the ring holds 80 chunks
    with Microphone(None, 320) as mic:
        assert len(heard_until_unplugged(mic)) == 80 * 320
        assert mic.overflows == 3 + 1  # what a full ring loses in a row is one gap
        for _ in range(2):
            sound.script = [(chunk, False)] * 81
            mic._stream.start()  # type: ignore[attr-defined]
            heard_until_unplugged(mic)
    assert mic.overflows == 3 + 1 + 2


class Sleepy(queue.Queue):
    """A ring whose waits all time out, as those of a stopped process do, until `naps` of them have."""

    def __init__(self, naps: int) -> None:
        super().__init__()
        self.naps = naps

    def get(self, block: bool = True, timeout: float | None = None) -> np.ndarray:
        self.naps -= 1
        if self.naps >= 0:
            raise queue.Empty
        return np.ones((320, 1), np.float32)


def test_a_process_that_was_stopped_listens_on(sound: FakeSound) -> None:  # noqa: F811
    with Microphone(None, 320) as mic:
        mic._ring = Sleepy(microphone.MOST_NAPS - 1)
        assert next(iter(mic)).tolist() == [1.0] * 320
        mic._ring = Sleepy(microphone.MOST_NAPS)
        with pytest.raises(MilliwiseError, match=r"no audio comes from the microphone built-in .* unplugged"):
            next(iter(mic))


def test_a_microphone_that_portaudio_gave_up_is_not_waited_for(sound: FakeSound) -> None:  # noqa: F811
    sound.script, sound.active = [(np.ones((320, 1), np.float32), False)], False
    with Microphone(None, 320) as mic:
        blocks = iter(mic)
        assert next(blocks).tolist() == [1.0] * 320  # what came before is still heard
        mic._ring = Sleepy(1)
        with pytest.raises(MilliwiseError, match="unplugged"):
            next(blocks)


def test_a_chunk_is_copied_because_portaudio_reuses_its_memory(sound: FakeSound) -> None:  # noqa: F811
    chunk = np.ones((320, 1), np.float32)
    sound.script = [(chunk, False)]
    with Microphone(None, 320) as mic:
        chunk[:] = 0
        assert heard_until_unplugged(mic).tolist() == [1.0] * 320


def test_a_microphone_that_cannot_be_opened(sound: FakeSound) -> None:  # noqa: F811
    sound.refused_channels = {1, 2}
    with pytest.raises(MilliwiseError, match=r"cannot open the microphone USB mic .*-9998"), Microphone("usb", 160):
        pass


def test_no_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(MilliwiseError, match="apt install libportaudio2, or pipe audio: arecord -f S16_LE"):
        microphones()
