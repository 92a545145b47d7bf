"""The microphone, which is a fake one: chosen, opened, resampled, overflowing, stopped and unplugged."""

import queue
import sys
import threading
from typing import Any

import numpy as np
import pytest
import soxr
from fake_sound import FakeSound, sound  # noqa: F401 (a fixture)

from kws_demo import microphone
from kws_demo.microphone import Microphone, choose, microphones
from toolkit.errors import MilliwiseError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)


def impatient(device: str | None, hop: int) -> Microphone:
    """A microphone that is not waited for."""
    return Microphone(device, hop, patience_s=0)


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
    with impatient("usb", 160) as mic:
        heard = heard_until_unplugged(mic)
    assert [(each["samplerate"], each["channels"], each["device"]) for each in sound.opened] == [(44100, 2, 1)]
    np.testing.assert_allclose(heard, soxr.resample(NOISE, 44100, 16000)[: len(heard)], atol=1e-5)
    assert len(heard) >= 800 and mic.overflows == 1 and sound.closed == 1


def test_overflows_of_the_card_and_of_the_ring_are_counted(sound: FakeSound) -> None:  # noqa: F811
    chunk = np.zeros((320, 1), np.float32)
    sound.script = [(chunk, index < 3) for index in range(90)]  # the ring holds 80 chunks
    with impatient(None, 320) as mic:
        assert len(heard_until_unplugged(mic)) == 80 * 320
        assert mic.overflows == 3 + 1 + 1  # what a full ring loses in a row is one gap, and so is an unplugged one
        for _ in range(2):
            sound.script = [(chunk, False)] * 81
            mic._stream.start()  # type: ignore[attr-defined]
            heard_until_unplugged(mic)
    assert mic.overflows == 3 + 1 + 1 + 2 * 2


def test_what_a_full_ring_lost_is_a_gap(sound: FakeSound) -> None:  # noqa: F811
    said: list[str] = []
    sound.script = [(np.full((320, 1), 0.25, np.float32), False)] * 90  # the ring holds 80 chunks
    with Microphone(None, 480, said.append, patience_s=0) as mic:
        blocks = iter(mic)
        heard = [next(blocks) for _ in range(10)]
        sound.script = [(np.full((320, 1), 0.5, np.float32), False)] * 3
        mic._stream.start()  # type: ignore[attr-defined]
        heard += [next(blocks) for _ in range(80 * 320 // 480 - 10)]
        assert (mic.returns, said) == (0, []) and set(np.concatenate(heard)) == {0.25}
        assert next(blocks).tolist() == [0.5] * 480  # no block is of before and after
        assert mic.returns == 1 and len(said) == 1 and "was lost, for nobody took it for 4 s" in said[0]


def test_a_gap_is_marked_once_however_slowly_the_ring_empties(sound: FakeSound) -> None:  # noqa: F811
    chunk = (np.full((320, 1), 0.25, np.float32), False)
    sound.script = [chunk] * 90  # the ring holds 80 chunks
    with Microphone(None, 320, patience_s=0) as mic:
        sound.script = [chunk]
        for _ in range(30):  # one is taken for one that comes
            mic._ring.get_nowait()
            mic._stream.start()  # type: ignore[attr-defined]
        assert sum(each is None for each in mic._ring.queue) == 1 and mic.overflows == 1


class Broken:
    """An audio system that has no sound server, or lost it."""

    PortAudioError = type("PortAudioError", (Exception,), {})
    default = type("Default", (), {"device": (0, 0)})

    def query_devices(self) -> list[Any]:
        raise self.PortAudioError("Error querying device")


def test_an_audio_system_that_does_not_work_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Broken())
    with pytest.raises(MilliwiseError, match=r"tells no devices \(Error querying device\): pipe audio: arecord"):
        microphones()


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
    with impatient(None, 320) as mic:
        mic._ring = Sleepy(microphone.MOST_NAPS - 1)
        assert next(iter(mic)).tolist() == [1.0] * 320
        mic._ring = Sleepy(microphone.MOST_NAPS)
        with pytest.raises(MilliwiseError, match=r"no audio comes from the microphone built-in .* unplugged"):
            next(iter(mic))


def test_a_microphone_that_portaudio_gave_up_is_not_waited_for(sound: FakeSound) -> None:  # noqa: F811
    sound.script, sound.active = [(np.ones((320, 1), np.float32), False)], False
    with impatient(None, 320) as mic:
        blocks = iter(mic)
        assert next(blocks).tolist() == [1.0] * 320  # what came before is still heard
        mic._ring = Sleepy(1)
        with pytest.raises(MilliwiseError, match="unplugged"):
            next(blocks)


def test_a_chunk_is_copied_because_portaudio_reuses_its_memory(sound: FakeSound) -> None:  # noqa: F811
    chunk = np.ones((320, 1), np.float32)
    sound.script = [(chunk, False)]
    with impatient(None, 320) as mic:
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


def test_a_microphone_that_returns_is_listened_to_again(sound: FakeSound) -> None:  # noqa: F811
    said: list[str] = []
    sound.names = ["speaker", "USB mic (hw:1,0)", "built-in mic"]
    sound.script = [(np.full((441, 2), 0.25, np.float32), False)] * 20

    def replug() -> None:
        here = sound.restarts > 2  # not yet at the first two looks; then ALSA has numbered it otherwise
        sound.names = ["built-in mic", "speaker", *(["USB mic (hw:2,0)"] if here else [])]

    sound.on_restart = replug
    with Microphone("usb", 160, said.append) as mic:
        blocks = iter(mic)
        heard = [next(blocks) for _ in range(30)]
    assert [each["device"] for each in sound.opened] == [1, 2]
    assert len(said) == 2 and "unplugged" in said[0] and "is back after 0 s" in said[1]
    assert mic.overflows == 1 and sound.closed == 2
    assert np.median(np.concatenate(heard)) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("usual", [1, 2])
def test_a_microphone_that_returns_is_opened_as_it_was_before(sound: FakeSound, usual: int) -> None:  # noqa: F811
    sound.script = [(np.ones((4410, usual), np.float32), False)]
    sound.refused_channels = {3 - usual}

    def replug() -> None:
        sound.refused_channels = {usual} if sound.restarts < 3 else set()

    sound.on_restart = replug
    with Microphone("usb", 160) as mic:
        blocks = iter(mic)
        while not mic.returns:
            next(blocks)
    assert [each["channels"] for each in sound.opened] == [usual, usual] and sound.restarts == 3


def test_a_microphone_that_returns_at_another_rate_is_resampled_anew(
    sound: FakeSound,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)  # as it sounds at 16 kHz
    sound.script = [(np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)[:, None], False)]

    def replug() -> None:
        devices = sound.query_devices()
        devices[1]["default_samplerate"] = 48000.0
        monkeypatch.setattr(sound, "query_devices", lambda: devices)
        sound.script = [(np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32)[:, None], False)]

    sound.on_restart = replug
    with Microphone("usb", 1600) as mic:
        blocks = iter(mic)
        heard = np.concatenate([next(blocks) for _ in range(19)])
    assert [each["samplerate"] for each in sound.opened] == [44100, 48000]
    for begin in (0, 16000):  # not in the ends, where the filter hears silence
        np.testing.assert_allclose(heard[begin + 1600 : begin + 14000], second[1600:14000], atol=0.01)


def test_a_microphone_that_opens_but_stays_silent_is_not_back(sound: FakeSound) -> None:  # noqa: F811
    said: list[str] = []
    sound.script = [(np.ones((160, 1), np.float32), False)]

    def wake() -> None:
        sound.script = [(np.ones((160, 1), np.float32), False)] if sound.restarts == 3 else []

    sound.on_restart = wake
    with Microphone(None, 160, said.append) as mic:
        blocks = iter(mic)
        assert [next(blocks).tolist() for _ in range(2)] == [[1.0] * 160] * 2
    assert len(said) == 2 and sound.restarts == 3


def test_a_microphone_silent_from_the_beginning_is_an_error(sound: FakeSound) -> None:  # noqa: F811
    with Microphone(None, 160) as mic, pytest.raises(MilliwiseError, match=r"no audio comes from .* muted"):
        next(iter(mic))


def test_ctrl_c_ends_the_waiting(sound: FakeSound, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    sound.script = [(np.ones((160, 1), np.float32), False)]
    sound.on_restart = lambda: sound.names.clear()
    monkeypatch.setattr(microphone.time, "sleep", interrupt)
    with Microphone(None, 160) as mic:
        blocks = iter(mic)
        next(blocks)
        with pytest.raises(KeyboardInterrupt):
            next(blocks)


def test_a_sound_server_that_hangs_is_not_waited_for_at_the_end(
    sound: FakeSound,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, unregistered = threading.Event(), []
    monkeypatch.setattr(microphone.atexit, "unregister", unregistered.append)
    with Microphone(None, 160) as mic:
        monkeypatch.setattr(mic._stream, "close", lambda ignore_errors: released.wait(30))
    assert unregistered == [sound._exit_handler]
    released.set()
