"""`milliwise bench listening`: the shipped listener for an hour, through a real capture path, and unplugged."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from exporters.listener import Listener
from kws_demo.audio import read_wav, wav_blocks
from kws_demo.bench.capture import WAYS, Streaming, through_sound_server, unplugged
from kws_demo.bench.pulse import missing_programs
from kws_demo.bench.rows import Results, machine, row
from kws_demo.decide import Decider, Decision, Detection, is_keyword
from kws_demo.shipped import resolve_model, shipped
from kws_demo.stream import listen

RATE_HZ, SERVER_HZ = 16_000, 44_100
HOUR_MINUTES, SETTLED_MINUTES, REAL_MINUTES = 60, 5, 10
EVERY_SECONDS, CLIPS_PER_WORD, NOISE = 3, 6, 0.002
PHASES_MS = range(0, 200, 25)  # of the hops, and of a network's strides, against the words; a capture's is any
NEAR_SECONDS = 0.45  # at another phase an average is reached a hop sooner or later
UNPLUGGED_SECONDS = 12
Row = dict[str, Any]

# name, target, key of what was measured, whether it is met
HOUR = (
    ("an hour of audio: MB of memory it grows by after 5 minutes", "<= 1", "growth_mb", lambda value: value <= 1),
    ("an hour of audio: times faster than real time", ">= 20", "speed", lambda value: value >= 20),
    ("an hour of audio: minutes heard unlike the second one", "= 0", "unlike", lambda value: value == 0),
)
CAPTURE = (
    ("ten minutes through a sound server: dropped blocks", "= 0", "overflows", lambda value: value == 0),
    ("ten minutes through a sound server: late hops", "= 0", "late", lambda value: value == 0),
    ("words the file is heard to hold, missed through it", "= 0", "missed", lambda value: value == 0),
    ("words heard through it that the file is not", "= 0", "extra", lambda value: value == 0),
    ("activations not kept by --save-dir", "= 0", "not_kept", lambda value: value == 0),
)
UNPLUGGED = (("ways of unplugging survived, said in one line, of 2", "= 2", "survived", lambda value: value == 2),)


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` leaves out what takes ten minutes.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    unable = "" if shipped() else "no listener ships with this installation"
    deaf = unable or missing_programs()
    with tempfile.TemporaryDirectory(prefix="milliwise-bench-") as name:
        folder = Path(name)
        if not unable:
            model = resolve_model(None)
            audio = talk(Listener.open(model).labels, recordings, 60, seed)
        slow = deaf or ("left out by --quick" if quick else "")
        parts: list[tuple[str, tuple[Any, ...], str, Callable[[], Row]]] = [
            ("hour", HOUR, unable, lambda: hour(model, audio, folder, HOUR_MINUTES)),
            ("capture", CAPTURE, slow, lambda: capture(model, audio, folder, REAL_MINUTES)),
            ("unplugged", UNPLUGGED, deaf, lambda: unplug(model, audio, folder)),
        ]
        rows = [each for key, wanted, reason, measure in parts for each in _rows(results, key, wanted, reason, measure)]
    return {"rows": rows, "machine": machine()}


def _rows(results: Results, key: str, wanted: tuple[Any, ...], reason: str, measure: Callable[[], Row]) -> list[Row]:
    found = {} if reason else results.keep(key, measure)
    reason = reason or str(found.get("reason", ""))
    return [row(name, target, found.get(of), met, reason=reason) for name, target, of, met in wanted]


def talk(labels: list[str], recordings: Path, seconds: int, seed: int) -> np.ndarray:
    """Words of a listener, one every three seconds on a little noise: float32 [samples] at 16 kHz.

    They are real recordings where `recordings`/keywords_en30 has the word, synthetic speech elsewhere.
    """
    rng = np.random.default_rng(seed)
    audio = rng.normal(0, NOISE, seconds * RATE_HZ).astype(np.float32)
    words = [label for label in labels if is_keyword(label)]
    clips = [clip for word in words for clip in _clips(word, recordings / "keywords_en30" / word, seed)]
    order = rng.permutation(len(clips))
    for number, start_s in enumerate(range(1, seconds - EVERY_SECONDS, EVERY_SECONDS)):
        clip = clips[order[number % len(clips)]][: 2 * RATE_HZ]
        audio[start_s * RATE_HZ :][: len(clip)] += clip
    return np.clip(audio, -1, 1)


def _clips(word: str, folder: Path, seed: int) -> list[np.ndarray]:
    if folder.is_dir():
        return [read_wav(path)[0] for path in sorted(folder.iterdir())[:CLIPS_PER_WORD]]
    from kws_demo.synth import split_voices, synthesise

    voices = split_voices("en", seed)["test"]
    return [spoken.audio for spoken in synthesise([word], CLIPS_PER_WORD, seed, voices)]


def hour(model: Path, audio: np.ndarray, folder: Path, minutes: int) -> Row:
    """Feed a minute of audio again and again to `milliwise stream --stdin`, and watch its memory from outside."""
    minute, memory_mb = (audio * 32767).astype("<i2").tobytes(), []
    begun = time.monotonic()
    with Streaming(model, folder, ["--stdin", "--rate", RATE_HZ]) as streaming:
        for _ in range(minutes):
            streaming.write(minute)
            memory_mb.append(resident_mb(streaming.process.pid))
        heard = streaming.finish()
    seconds = time.monotonic() - begun
    by_minute: list[list[tuple[str, int]]] = [[] for _ in range(minutes + 1)]
    for found in heard.detections:
        number, millisecond = divmod(round(1000 * found.start_s), 60_000)
        by_minute[max(0, number)].append((found.keyword, millisecond))
    settled = min(SETTLED_MINUTES, minutes) - 1
    return {
        "growth_mb": max(memory_mb[settled:]) - memory_mb[settled],
        "memory_mb": memory_mb,
        "speed": 60 * minutes / seconds,
        "unlike": sum(each != by_minute[1] for each in by_minute[1 : minutes - 1]),
        "detections": len(heard.detections),
        "reason": f"{memory_mb[-1]:.0f} MB, {len(heard.detections)} words",
        **heard.summary,
    }


def resident_mb(process: int) -> float:
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def capture(model: Path, audio: np.ndarray, folder: Path, minutes: int) -> Row:
    """Play a recording at real time into a sound server, and compare with listening to the file.

    Some words are heard or not depending on where the hops fall: those that are heard at every phase must be heard
    through the sound server, and no others than those that are heard at some phase.
    """
    _write(folder / "words.wav", np.tile(audio, minutes))
    audio = read_wav(folder / "words.wav")[0]
    heard = through_sound_server(model, folder / "words.wav", folder)
    phases = [_detections(model, np.pad(audio, (phase_ms * RATE_HZ // 1000, 0))) for phase_ms in PHASES_MS]
    certain = [one for one in phases[0] if all(_near(one, phase, 0.0) for phase in phases)]
    possible = [one for phase in phases for one in phase]
    delay_s = _delay_s(heard.detections, certain)
    missed = [one for one in certain if not _near(one, heard.detections, delay_s)]
    extra = [one for one in heard.detections if not _near(one, possible, -delay_s)]
    return {
        "missed": len(missed),
        "extra": len(extra),
        "which": [one._asdict() for one in (*missed, *extra)],
        "not_kept": len(heard.detections) - len(list((folder / "kept").glob("*.wav"))),
        "reason": f"{len(heard.detections)} heard, {len(certain)} certain",
        **heard.summary,
    }


def _write(path: Path, audio: np.ndarray) -> None:
    """At the sound server's own rate: its quick resampling would change scores, and only listening is compared."""
    soundfile.write(path, np.clip(soxr.resample(audio, RATE_HZ, SERVER_HZ), -1, 1), SERVER_HZ)


def _detections(model: Path, audio: np.ndarray) -> list[Detection]:
    listener = Listener.open(model)
    decider = Decider(
        listener.labels, 1000 * listener.hop_samples / listener.rate, Decision(**listener.metadata.decision)
    )
    found: list[Detection] = []
    listen(listener, wav_blocks(audio, listener.hop_samples), decider, found.append)
    return found


def _near(one: Detection, others: list[Detection], delay_s: float) -> bool:
    return any(
        one.keyword == other.keyword and abs(one.start_s + delay_s - other.start_s) <= NEAR_SECONDS for other in others
    )


def _delay_s(heard: list[Detection], expected: list[Detection]) -> float:
    """How much later things are heard than expected: the median over the pairs of the delay that makes most pairs."""
    delays = [one.start_s - other.start_s for one in heard[:10] for other in expected[:10]]
    rough_s = max(delays, key=lambda delay_s: sum(_near(one, heard, delay_s) for one in expected[:20]), default=0.0)
    pairs = [(one, other) for one in heard for other in expected if _near(other, [one], rough_s)]
    return float(np.median([one.start_s - other.start_s for one, other in pairs])) if pairs else rough_s


def unplug(model: Path, audio: np.ndarray, folder: Path) -> Row:
    """Take the source away in every way there is, and see whether words are heard again when it is back."""
    _write(folder / "short.wav", audio[: UNPLUGGED_SECONDS * RATE_HZ])
    survived, said = 0, {}
    for way in WAYS:
        before, heard = unplugged(model, folder / "short.wav", folder, way)
        said[way] = heard.said
        again = len(heard.detections) > before > 0
        survived += again and len(heard.said) == 2 and heard.exit_code == 130
    return {"survived": survived, "reason": "; ".join(said[next(iter(WAYS))]), "said": said}
