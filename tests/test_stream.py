"""The listening loop and the commands, on a tiny listener whose answers are known, with torch out of reach."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from fake_adaptive import MODES, adaptive
from fake_sound import FakeSound, sound  # noqa: F401 (a fixture)
from tiny_listener import HOP, metadata, model, tone, write

from exporters.listener import Listener
from kws_demo.audio import wav_blocks
from kws_demo.decide import Decider, Decision, Detection, never_found
from kws_demo.microphone import Microphone
from kws_demo.stream import Histogram, Hop, Keeper, Summary, listen, save
from kws_demo.stream_cli import devices, stream
from kws_demo.thresholds import save_thresholds
from toolkit.cli import Commands
from toolkit.errors import MilliwiseError

REPOSITORY = Path(__file__).parents[1]


class Listening(Commands):
    """The command group with these two commands alone, wherever they are registered."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return {"stream": stream, "devices": devices}.get(name)


def milliwise(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(Listening(), [str(each) for each in arguments], input=stdin)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "words.wav", tone(6, [(1, 2), (5.4, 6)]), 16000)
    return tmp_path / "words.wav"


def heard(tiny: Path, audio: np.ndarray) -> tuple[list[Detection], list[Hop], Summary]:
    listener = Listener.open(tiny)
    found: list[Detection] = []
    hops: list[Hop] = []
    decider = Decider(listener.labels, 200)
    return found, hops, listen(listener, wav_blocks(audio, HOP), decider, found.append, hops.append)


def test_words_are_found_where_they_are_and_audio_is_counted(tiny: Path) -> None:
    found, hops, summary = heard(tiny, tone(5, [(2, 3)]))
    # Loud from 2.0 s; mean of three hops of p(loud) exceeds 0.7 at the third, which ends at 2.6 s: 2.6 - 1.0.
    assert [(each.keyword, each.start_s) for each in found] == [("loud", pytest.approx(1.6))]
    assert found[0].score > 0.7
    assert (summary.hops, summary.seconds, summary.overflows, summary.interrupted) == (25, 5.0, 0, False)
    assert len(hops) == 25 and summary.p99_ms > 0 and summary.ms_per_second > 0


def test_a_word_at_the_very_end_is_decided_by_silence_that_is_not_counted(tiny: Path) -> None:
    found, hops, summary = heard(tiny, tone(5.9, [(5.5, 5.9)], amplitude=0.9))
    assert len(found) == 1 and 4.5 <= found[0].start_s <= 5.2
    assert summary.hops == len(hops) == 30  # the last one is half silence


def test_listening_twice_gives_the_same(tiny: Path) -> None:
    listener = Listener.open(tiny)
    decider = Decider(listener.labels, 200)
    audio = tone(3, [(0.2, 3)])
    runs: list[list[Detection]] = [[], []]
    for run in runs:
        listen(listener, wav_blocks(audio, HOP), decider, run.append)
    assert runs[0] == runs[1] != []


def test_a_hop_that_takes_longer_than_its_audio_is_late(tiny: Path) -> None:
    listener = Listener.open(tiny)
    blocks = wav_blocks(tone(0.6, []), HOP)
    slept: list[int] = []

    def on_hop(hop: Hop) -> None:
        slept.append(hop.late)
        if len(slept) == 2:
            time.sleep(0.21)

    assert listen(listener, blocks, Decider(listener.labels, 200), lambda found: None, on_hop).late >= 1
    assert slept[2] >= 1


def test_ctrl_c_ends_with_a_summary(tiny: Path) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield from wav_blocks(tone(1, []), HOP)
        raise KeyboardInterrupt

    listener = Listener.open(tiny)
    summary = listen(listener, interrupted(), Decider(listener.labels, 200), lambda found: None)
    assert summary.interrupted and summary.hops == 5


def test_percentiles_in_bounded_memory_agree_with_numpy() -> None:
    durations = np.random.default_rng(0).lognormal(0, 1.5, 20_000)
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    for share in (0.5, 0.95, 0.99):
        expected = np.quantile(durations, share, method="inverted_cdf")
        assert histogram.percentile_ms(share) == pytest.approx(expected, rel=0.01)
    histogram.add(0)
    histogram.add(1e9)  # beyond both ends
    assert histogram.counts.sum() == 20_002 and Histogram().percentile_ms(0.99) == 0


def test_what_led_to_a_detection_is_saved(tiny: Path, recording: Path, tmp_path: Path) -> None:
    done = milliwise("stream", tiny, "--wav", recording, "--save-dir", tmp_path / "kept")
    assert done.exit_code == 0
    kept = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.name.split("_")[1])
    assert [path.name.split("_")[1:3] for path in kept] == [["0.600s", "loud"], ["5.000s", "loud"]]
    audio, rate_hz = soundfile.read(kept[1], dtype="float32")
    assert rate_hz == 16000
    np.testing.assert_allclose(audio, tone(6, [(1, 2), (5.4, 6)])[4 * 16000 :], atol=1e-4)


def test_what_was_heard_before_a_gap_is_not_saved(tiny: Path, tmp_path: Path) -> None:
    hop = 3200
    blocks = np.split(tone(6, [(1, 2), (5.4, 6)]), 6 * 16000 // hop)

    class Interrupted:
        """A source that was away for a while after 5 s."""

        after_gap = 0

        def __iter__(self) -> Iterator[np.ndarray]:
            for number, block in enumerate(blocks):
                self.after_gap = int(number == 25)
                yield block

    listener = Listener.open(tiny)
    decider = Decider(listener.labels, 200, Decision(**listener.metadata.decision))
    keeper = Keeper(tmp_path / "kept", 16000, hop)
    found: list[Detection] = []
    listen(listener, Interrupted(), decider, found.append, keeper=keeper)
    sizes = [soundfile.info(path).frames for path in sorted((tmp_path / "kept").iterdir())]
    assert len(found) == len(sizes) == 2 and max(sizes) == sizes[0] and sizes[1] < 2 * 16000


def test_a_keyword_cannot_choose_where_it_is_saved(tmp_path: Path) -> None:
    path = save(
        tmp_path / "in", Detection("../../up/\x1b and away" + "x" * 400, 1.0, 0.9), np.zeros(160, np.float32), 16000
    )
    assert path.parent == tmp_path / "in" and path.exists() and path.name.isprintable() and "/" not in path.name
    (tmp_path / "file").touch()
    with pytest.raises(MilliwiseError, match="cannot write"):
        save(tmp_path / "file", Detection("yes", 1.0, 0.9), np.zeros(160, np.float32), 16000)


def test_two_activations_of_one_moment_are_both_kept(tmp_path: Path) -> None:
    paths = {save(tmp_path, Detection("yes", 1.0, 0.9), np.zeros(160, np.float32), 16000) for _ in range(5)}
    assert len(paths) == 5 == len(list(tmp_path.iterdir()))


def test_a_full_disk_is_said_once_and_listening_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real, kept = os.fsync, tmp_path / "kept"

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    keeper = Keeper(kept, 16000, HOP, said.append)
    monkeypatch.setattr(os, "fsync", full)
    found: list[Detection] = []
    listener = Listener.open(tiny)
    audio = tone(12, [(1, 2), (5.4, 6), (9, 10)])
    summary = listen(listener, wav_blocks(audio, HOP), Decider(listener.labels, 200), found.append, keeper=keeper)
    assert len(found) >= 2 and summary.hops == 60
    assert len(said) == 1 and "No space left" in said[0] and "listening goes on" in said[0]
    assert list(kept.iterdir()) == []  # nothing half-written
    monkeypatch.setattr(os, "fsync", real)
    keeper.keep(found[0])
    monkeypatch.setattr(os, "fsync", full)
    keeper.keep(found[0])
    assert len(list(kept.iterdir())) == 1 and len(said) == 2  # said again after it worked


def test_json_lines(tiny: Path, recording: Path) -> None:
    done = milliwise("stream", tiny, "--wav", recording, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    assert [set(line) for line in lines[:-1]] == [{"keyword", "start_s", "score"}] * 2
    assert [line["keyword"] for line in lines[:-1]] == ["loud", "loud"]
    assert set(lines[-1]) == {"hops", "late", "overflows", "ms_per_second", "p99_ms"}
    assert lines[-1]["hops"] == 30 and "loud" in done.stderr


def test_standard_input_hears_what_the_file_hears(tiny: Path, recording: Path) -> None:
    samples, _ = soundfile.read(recording, dtype="int16")
    piped = milliwise("stream", tiny, "--stdin", "--rate", 16000, "--json", stdin=samples.tobytes())
    from_file = milliwise("stream", tiny, "--wav", recording, "--json")
    assert piped.stdout.splitlines()[:-1] == from_file.stdout.splitlines()[:-1]
    assert piped.exit_code == 0 and len(piped.stdout.splitlines()) == 3


def test_a_converted_recording_says_so(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hifi.wav", np.repeat(tone(3, [(1, 2)]), 3), 48000, subtype="PCM_24")
    done = milliwise("stream", tiny, "--wav", tmp_path / "hifi.wav", "--budget-ms", 3)
    assert "48000 Hz" in done.stderr and "loud" in done.stdout


def test_the_threshold_can_be_raised(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "soft.wav", tone(4, [(1, 2)], amplitude=0.25), 16000)  # p(loud) = 0.9 at most
    found = [milliwise("stream", tiny, "--wav", tmp_path / "soft.wav", "--threshold", each) for each in (0.8, 0.95)]
    assert ["loud" in each.stdout for each in found] == [True, False]


def test_clipped_hops_are_counted(tiny: Path, tmp_path: Path) -> None:
    loud = np.clip(4 * tone(4, [(1, 2)], amplitude=0.5), -1, 1)  # 5 hops of 200 ms
    soundfile.write(tmp_path / "hot.wav", loud, 16000)
    done = milliwise("stream", tiny, "--wav", tmp_path / "hot.wav", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["clipped_hops"] == 5
    assert "hops that were clipped: 5;" in milliwise("stream", tiny, "--wav", tmp_path / "hot.wav").stdout


def test_a_word_that_nobody_can_say_is_named(tmp_path: Path, recording: Path) -> None:
    labels = ["_silence_", "_unknown_", "loud"]
    listener = Listener.open(write(tmp_path / "tiny.onnx"))
    assert never_found({label: 0.7 for label in labels} | {"_unknown_": 1.0}) == []
    assert never_found({"loud": 0.9, "soft": 1.0}) == ["soft"]
    save_thresholds(tmp_path / "tuned.json", listener, {"loud": 1.0}, {})
    done = milliwise("stream", tmp_path / "tiny.onnx", "--wav", recording, "--thresholds", tmp_path / "tuned.json")
    assert done.exit_code == 2 and "no keyword would ever be found" in done.stderr


def test_the_microphone_is_listened_to_and_waited_for(
    tiny: Path,
    sound: FakeSound,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound.script = [(chunk[:, None], index == 0) for index, chunk in enumerate(np.split(tone(3, [(1, 2)]), 60))]

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Microphone, "_retry", lambda self: interrupt())
    done = milliwise("stream", tiny, "--device", "2", "--json")
    found, summary = map(json.loads, done.stdout.splitlines())
    assert found["keyword"] == "loud" and summary["hops"] == 15 and summary["overflows"] == 2
    assert done.exit_code == 130 and sound.closed == 1
    assert sum("unplugged" in line for line in done.stderr.splitlines()) == 1


def test_ctrl_c_exits_with_130_after_the_summary(tiny: Path, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Listener, audio: np.ndarray) -> None:
        raise KeyboardInterrupt

    listener = Listener.open(tiny)
    monkeypatch.setattr(Listener, "open", lambda path: listener)
    monkeypatch.setattr(Listener, "push", stop)
    done = milliwise("stream", tiny, "--wav", recording, "--json")
    assert done.exit_code == 130 and json.loads(done.stdout)["hops"] == 0


def test_devices(sound: FakeSound) -> None:  # noqa: F811
    done = milliwise("devices", "--json")
    listed = json.loads(done.stdout)
    assert [each["name"] for each in listed["microphones"]] == ["USB mic", "built-in \x1b[31mmic"]
    assert listed["targets"] == [{"name": "local"}] and "\x1b" not in done.stderr
    assert "USB mic" in milliwise("devices").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tiny}", "--threshold", "0.5", "--thresholds", "{tiny}"], "exclude each other"),
        (["{tiny}", "--wav", "{wav}", "--thresholds", "{tiny}"], "thresholds"),
        (["{tiny}", "--wav", "{wav}", "--device", "1"], "exclude each other"),
        (["{tiny}", "--wav", "{wav}", "--stdin", "--rate", "16000"], "exclude each other"),
        (["{tiny}", "--stdin"], "--stdin and --rate go together"),
        (["{tiny}", "--wav", "{wav}", "--rate", "16000"], "--stdin and --rate go together"),
        (["{tiny}", "--stdin", "--rate", "16000"], "standard input is empty"),
        (["{tiny}", "--stdin", "--rate", "1"], "out of range"),
        (["{tiny}", "--wav", "{tiny}"], "is not audio"),
        (["{wav}", "--wav", "{wav}"], "not an ONNX file"),
        (["{greedy}", "--wav", "{wav}"], "choose minimum_count <= 3"),
        (["{tiny}", "--wav", "{wav}", "--threshold", "2"], "threshold"),
        (["{tiny}", "--wav", "{wav}", "--threshold", "1"], "choose a threshold below 1"),
        (["{nowhere}", "--wav", "{wav}"], "do not name its 2 gates"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], message: str, tiny: Path, recording: Path) -> None:
    decision = {"average_ms": 500, "threshold": 0.7, "suppression_ms": 1500, "minimum_count": 4}
    greedy = write(tiny.with_name("greedy.onnx"), model(metadata(decision=decision).to_properties()))
    nowhere = write(tiny.with_name("nowhere.onnx"), adaptive(MODES[:3]))
    names = {"tiny": tiny, "wav": recording, "greedy": greedy, "nowhere": nowhere}
    done = milliwise("stream", *[each.format(**names) for each in arguments])
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and "Traceback" not in done.stderr


WITHOUT = """
import sys
for name in ("torch", "torchaudio", "onnx"):
    sys.modules[name] = None
import exporters.listener, kws_demo.stream, kws_demo.stream_cli
kws_demo.stream_cli.stream.main(sys.argv[1:])
"""


def test_it_listens_where_torch_and_onnx_are_not_installed(tiny: Path, recording: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tiny), "--wav", str(recording), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line).get("keyword") for line in done.stdout.splitlines()] == ["loud", "loud", None]
