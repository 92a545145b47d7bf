"""A real capture path: PulseAudio plays a recording into PortAudio, its source is unplugged, and nothing is lost."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_listener import HOP, tone, write

from exporters.listener import Listener
from kws_demo import quiet, shipped
from kws_demo.audio import wav_blocks
from kws_demo.bench import listening
from kws_demo.bench.capture import WAYS, through_sound_server, unplugged
from kws_demo.bench.listening import hour, run, talk
from kws_demo.bench.pulse import missing_programs
from kws_demo.bench.rows import Results
from kws_demo.decide import Decider, Detection
from kws_demo.stream import listen
from toolkit.errors import MilliwiseError

LOUD = [(0.5, 1.5), (3.0, 4.0)]


@pytest.fixture
def sound_server() -> None:
    """What the tests through a sound server need."""
    if reason := missing_programs() or _without_portaudio():
        pytest.skip(reason)


def _without_portaudio() -> str:
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError):
        return "PortAudio is not installed: apt install libportaudio2"
    return ""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "words.wav", tone(5, LOUD), 16000)
    return tmp_path / "words.wav"


def in_the_file(tiny: Path) -> list[Detection]:
    listener, found = Listener.open(tiny), []
    listen(listener, wav_blocks(tone(5, LOUD), HOP), Decider(listener.labels, 200), found.append)
    return found


def test_what_is_played_is_heard_as_in_the_file(sound_server: None, tiny: Path, words: Path, tmp_path: Path) -> None:
    heard = through_sound_server(tiny, words, tmp_path)
    expected = in_the_file(tiny)
    assert heard.exit_code == 130 and heard.said == []
    assert (heard.summary["overflows"], heard.summary["late"]) == (0, 0)
    assert [each.keyword for each in heard.detections] == [each.keyword for each in expected] == ["loud", "loud"]
    apart = [found[1].start_s - found[0].start_s for found in (heard.detections, expected)]
    assert apart[0] == pytest.approx(apart[1], abs=0.21)  # the hops fall elsewhere
    kept = sorted((tmp_path / "kept").glob("*.wav"))
    assert [path.stem.split("_")[-1] for path in kept] == [f"{each.score:.2f}" for each in heard.detections]


@pytest.mark.parametrize("way", WAYS)
def test_an_unplugged_source_is_said_in_a_line_and_heard_again(
    sound_server: None, tiny: Path, tmp_path: Path, way: str
) -> None:
    soundfile.write(tmp_path / "word.wav", tone(1.5, [(0.2, 1.2)]), 16000)
    before, heard = unplugged(tiny, tmp_path / "word.wav", tmp_path, way)
    assert before == 1 and [each.keyword for each in heard.detections] == ["loud"] * 2
    assert len(heard.said) == 2 and "unplugged" in heard.said[0] and "is back after" in heard.said[1]
    assert heard.summary["overflows"] == 1 and heard.exit_code == 130


def test_memory_stays_flat_and_every_minute_is_heard_alike(tiny: Path, tmp_path: Path) -> None:
    found = hour(tiny, tone(60, [(1, 2), (20, 22), (59, 60)]), tmp_path, minutes=8)
    assert found["unlike"] == 0 and found["detections"] >= 8 * 2 and found["hops"] == 8 * 300
    assert len(found["memory_mb"]) == 8 and found["memory_mb"][-1] - found["memory_mb"][4] <= 1


def test_talk_says_the_words_of_a_listener(shared_data: Path) -> None:
    audio = talk(["_silence_", "_unknown_", "yes", "no"], shared_data, 12, seed=0)
    assert audio.shape == (12 * 16000,) and audio.dtype == np.float32 and abs(audio).max() <= 1
    loudness = [float(np.abs(audio[start * 16000 :][:16000]).max()) for start in (1, 4, 7)]
    assert min(loudness) > 10 * np.abs(audio[:16000]).max()
    np.testing.assert_array_equal(audio, talk(["_silence_", "_unknown_", "yes", "no"], shared_data, 12, seed=0))


def test_a_row_that_is_not_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    rows = run(Results(tmp_path / "rows.jsonl", False), quick=True, recordings=tmp_path, seed=0)["rows"]
    assert len(rows) == 9
    assert {(row["measured"], row["met"], row["reason"]) for row in rows} == {
        (None, None, "no listener ships with this installation")
    }


def test_quick_measures_an_hour_but_not_ten_minutes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(listening, "missing_programs", lambda: "pulseaudio is not installed")
    monkeypatch.setattr(listening, "talk", lambda *_: tone(60, [(1, 2), (20, 22)]))
    monkeypatch.setattr(listening, "HOUR_MINUTES", 6)
    rows = run(Results(tmp_path / "rows.jsonl", False), quick=True, recordings=tmp_path, seed=0)["rows"]
    measured = [row for row in rows if row["measured"] is not None]
    assert len(measured) == 3 and all(row["met"] for row in measured if "faster" not in row["name"])
    assert {row["reason"] for row in rows if row["measured"] is None} == {"pulseaudio is not installed"}


def test_a_stream_that_ends_says_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(MilliwiseError, match=r"the stream ended: .*cannot open the listener"):
        hour(tmp_path / "no.onnx", np.zeros(960_000, np.float32), tmp_path, minutes=2)


LOUD_C = """
import ctypes, os, sys
from kws_demo.quiet import quiet_c_stderr
C = ctypes.CDLL(None)
with quiet_c_stderr():
    C.perror(b"from C")
    print("from Python", file=sys.stderr)
C.perror(b"C again")
"""


def test_c_is_quiet_and_python_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", LOUD_C], capture_output=True, text=True, check=True)
    assert "from Python" in done.stderr and "C again" in done.stderr
    assert ("from C" in done.stderr) == (quiet.platform.libc_ver()[0] != "glibc")
