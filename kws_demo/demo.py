"""The demo: profile this machine, search on synthetic speech, export, stream, and one page that shows it all."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from exporters.listener import Listener
from exporters.metadata import RATE_HZ
from kws_demo.audio import wav_blocks
from kws_demo.data import Clips, load_data
from kws_demo.decide import Decider, Decision, Detection
from kws_demo.dial import Dial
from kws_demo.recordings import Recording, read_clip, word_recordings
from kws_demo.report import write_report
from kws_demo.search import run_search
from kws_demo.settings import Settings
from kws_demo.source import parse_spec
from kws_demo.stream import Hop, listen
from profilers.export import export_run
from profilers.partial import only_writer
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import OWN, Budget
from toolkit.costs import price
from toolkit.errors import MilliwiseError
from toolkit.files import remove_file, require_writable, write_file, write_json
from toolkit.profile import DeviceProfile
from toolkit.progress import progress
from toolkit.run import read_log
from toolkit.spaces import find_space

SPACE = "kws-ds"
FIXED_MINUTES = 3.2  # profile, data, measuring, export and report; the rest of the time trains
WORD_EVERY_S = 2.2
SPOKEN_WORDS = 12


def run_demo(
    folder: Path,
    *,
    minutes: float,
    data: str,
    budget: str | None,
    seed: int,
    recordings: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """All of it, into one folder.

    Args:
        minutes: about how long it may take.
        data: what to listen for, as for `milliwise search`.
        budget: paced milliseconds; by default 1 ms, or what this machine can do if that is too little for it.
        recordings: a folder with a folder a word, streamed instead of synthetic speech; it trains nothing.

    Returns:
        The JSON keys of `milliwise demo`.

    Raises:
        MilliwiseError: an impossible budget, bad data, or a folder that cannot be written.
    """
    begun = time.monotonic()
    _check_arguments(folder, data, budget, recordings)
    searched = resume and (folder / "profile.json").exists()  # else a run in the folder is of an earlier profile
    profile = _profile(folder / "profile.json", seed, resume)
    chosen = budget or _fitting_budget(profile)
    settings = Settings(SPACE, chosen, data, seed=seed, minutes=max(0.2, minutes - FIXED_MINUTES))
    run = run_search(settings, profile, folder / "run", searched)
    model = folder / "listener.onnx"
    exported = export_run(folder / "run", model)
    audio, truth = _spoken(settings, run["labels"], recordings)
    write_file(folder / "stream.wav", lambda aside: soundfile.write(aside, audio, RATE_HZ, format="WAV"))
    heard = stream_and_record(
        model, audio, truth, "real recordings" if recordings else "synthetic voices it never heard"
    )
    if Budget.parse(chosen).metric == "latency_ms":
        run["measured"] = exported["measured"]
    run["model"] = {"file": str(model), **{key: exported[key] for key in ("bytes", "max_abs_diff")}}
    run["seconds"] |= {"profile": profile.seconds}
    run["seconds"]["total"] = round(max(time.monotonic() - begun, sum(run["seconds"].values())), 1)  # of all sittings
    write_json(folder / "stream.json", heard)
    with progress("drawing the report", 1):
        write_report(folder / "report.html", profile=profile, run=run, log=read_log(folder / "run"), stream=heard)
    return {
        "profile": str(folder / "profile.json"),
        "model": str(model),
        "budget": chosen,
        "budget_kept": exported["budget_kept"],
        "measured_p95_ms": exported["measured_p95_ms"],
        "accuracy": run["accuracy"]["test"],
        "heard": f"{len(heard['detections'])} detections in {len(truth)} words",
        "detections": heard["detections"],
        "report": str(folder / "report.html"),
        "wav": str(folder / "stream.wav"),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _check_arguments(folder: Path, data: str, budget: str | None, recordings: Path | None) -> None:
    """Refuse what would fail only after minutes of measuring and training."""
    words = parse_spec(data).words  # none yet when a folder tells them
    if budget is not None:
        asked = Budget.parse(budget)
        asked.require_fixed()
        if asked.metric == "makespan_ms":
            raise MilliwiseError(f"the demo measures no workers, as {asked} needs: give a budget such as '1 ms'")
        if asked.metric == OWN:
            raise MilliwiseError(f"the demo knows no cost of your own, as {asked} needs: give a budget such as '1 ms'")
    if recordings is not None:
        _recordings_of(recordings, words)
    require_writable(folder / "profile.json")


def _profile(path: Path, seed: int, resume: bool) -> DeviceProfile:
    partial = path.with_name(path.name + ".partial")
    if resume and path.exists():
        return DeviceProfile.load(path)
    with only_writer(partial, resume):
        remove_file(path)  # of an earlier demo: it is not to be gone on with when this one is interrupted
        profile = profile_device(find_space(SPACE), LocalTarget(), seed=seed, partial=partial)
        profile.save(path)
        remove_file(partial)
        return profile


def _fitting_budget(profile: DeviceProfile) -> str:
    """1 ms where that leaves a choice; else midway between the cheapest and the median network of this machine."""
    graph = find_space(SPACE).build(hop_ms=profile.hop_ms).graph
    least, median, _most = price(graph, profile, Budget.parse("1 ms")).spread_of_space()
    return "1 ms" if least < 0.9 else f"{(least + median) / 2:.2g} ms"


def _spoken(
    settings: Settings, labels: list[str], recordings: Path | None
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Some keywords on quiet noise: from recordings, or from the voices that were kept for the test."""
    if recordings is None:
        test = load_data(settings.data, seed=settings.seed, clips_per_word=settings.clips_per_word).test
    else:
        test = _read(recordings, labels)
    return lay_out(test, labels, settings.seed)


def _recordings_of(folder: Path, words: Sequence[str]) -> list[Recording]:
    """The recordings of some words in a folder, or all there are when none are given."""
    found = [recording for recording in word_recordings(folder) if not words or recording.label in words]
    if not found:
        raise MilliwiseError(f"{folder} holds no recordings of {', '.join(words)}: name a folder with a folder a word")
    return found


def _read(folder: Path, labels: list[str]) -> Clips:
    found = _recordings_of(folder, labels[2:])
    clips = [read_clip(recording.path) for recording in found]
    label = np.array([labels.index(recording.label) for recording in found])
    return Clips(np.stack(clips), label, tuple(recording.speaker for recording in found), np.ones(len(found), bool))


def lay_out(clips: Clips, labels: list[str], seed: int) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Keyword clips on quiet noise, one every 2.2 s: audio float32 at 16 kHz, and rows keyword, start_s."""
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    spoken = [index for index, label in enumerate(clips.label) if label >= 2]
    chosen = chance.sample(spoken, min(SPOKEN_WORDS, len(spoken)))
    step = int(WORD_EVERY_S * RATE_HZ)
    audio = rng.normal(0, 0.002, step * len(chosen) + RATE_HZ).astype(np.float32)
    truth = []
    for number, index in enumerate(chosen):
        start = number * step + RATE_HZ
        audio[start : start + RATE_HZ] += clips.audio[index]
        truth.append({"keyword": labels[clips.label[index]], "start_s": start / RATE_HZ})
    return np.clip(audio, -1, 1), truth


def stream_and_record(
    model: Path, audio: NDArray[np.float32], truth: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    """Stream audio through a listener and keep what its report draws: scores, levels, detections."""
    listener = Listener.open(model)
    decision = Decision(**listener.metadata.decision)
    decider = Decider(listener.labels, 1000 * listener.hop_samples / listener.rate, decision)
    detections: list[Detection] = []
    hops: list[Hop] = []
    blocks, dial = wav_blocks(audio, listener.hop_samples), Dial.of(listener)
    summary = listen(listener, blocks, decider, detections.append, hops.append, dial=dial)
    return {
        "wav": name,
        "seconds": summary.seconds,
        "hop_ms": round(1000 * listener.hop_samples / listener.rate),
        "labels": listener.labels,
        "scores": [np.round(hop.scores.probabilities, 4).tolist() for hop in hops],
        "level": [round(float(np.sqrt(np.mean(part**2))), 5) for hop in hops for part in np.array_split(hop.block, 4)],
        "detections": [
            {"keyword": found.keyword, "start_s": found.start_s, "score": found.score} for found in detections
        ],
        "truth": truth,
        "threshold": decision.threshold,
        **_modes(listener, hops),
        **{key: value for key, value in asdict(summary).items() if key in ("ms_per_second", "p99_ms", "hops", "late")},
    }


def _modes(listener: Listener, hops: Sequence[Hop]) -> dict[str, Any]:
    """Of an adaptive listener, the mode of every hop by its name, and what it took."""
    names = [mode["name"] for mode in listener.metadata.modes]
    if not names:
        return {}
    return {
        "modes": [names[hop.scores.mode] for hop in hops if hop.scores.mode is not None],
        "ms": [round(hop.scores.elapsed_ms, 4) for hop in hops],
    }
