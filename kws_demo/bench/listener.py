"""`milliwise bench listener`: how well listeners of 1 ms hear people they never met, beside the targets.

Every listener is made by the search and the export that users have, then its file is streamed over recordings that
trained nothing, its states never reset. This is not Speech Commands-12.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.listener import Listener
from kws_demo.audio import read_wav
from kws_demo.bench.rows import Results, machine, row
from kws_demo.evaluate import ClipScores, overconfidence, score_clips, share_of, threshold_for
from kws_demo.intervals import mean_interval
from kws_demo.recordings import Recording, noise_files, read_clip, word_recordings
from kws_demo.search import run_search
from kws_demo.settings import Settings
from kws_demo.shipped import shipped
from profilers.export import export_run
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE, BUDGET = "kws-coarse", "1 ms"
SEEDS = 3
WORDS = ("bed", "cat", "happy")
CORE = ("yes", "no", "up", "down", "left", "right", "open", "close", "start", "stop")
TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
ACCEPTED = 7  # of the 139 other-word clips of keywords_en30: 5 %
OWN = 5  # real clips a word
NOISES = ("train", "esc10")  # to train with; "val" is the silence of the test
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A way to train, and what its listeners are asked."""

    name: str
    targets: tuple[tuple[str, str, float], ...]  # figure, its name in the table, the least it may be
    minutes: float = 5.0  # of training


KINDS = (
    Kind(
        "real",
        (
            ("between", "keywords_en/train: between bed, cat and happy", 0.97),
            ("detected", "keywords_en/train: detected at 7 of 139 others", 0.85),
        ),
    ),
    Kind(
        "synthetic",
        (
            ("between", "synthetic only: between bed, cat and happy", 0.90),
            ("detected", "synthetic only: detected at 7 of 139 others", 0.50),
        ),
    ),
    Kind("added", (("detected", "synthetic + 5 own clips a word: detected", 0.65),)),
    Kind(
        "arabic",
        (
            ("twelve", "keywords_ar/val: ten words, unknown, silence", 0.95),
            ("core", "keywords_ar/val: between the ten words", 0.97),
        ),
        minutes=10.0,
    ),
)
SHIPPED = ("shipped English: ten words of keywords_en30, 5 % of others", 0.60)


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` trains one seed of each kind instead of three.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    needed = ("keywords_en", "keywords_en30", "keywords_ar", "noise/val", *(f"noise/{name}" for name in NOISES))
    missing = [name for name in needed if not (recordings / name).is_dir()]
    if missing:
        return {"rows": _unmeasured(f"no recordings in {recordings}: {', '.join(missing)}"), "machine": machine()}
    seeds = range(seed, seed + (1 if quick else SEEDS))
    profile_file = results.path.with_suffix(".profile.json")
    if results.get("profile") is None or not profile_file.exists():
        results.keep("profile", lambda: _profile(profile_file, seed))
    profile = DeviceProfile.load(profile_file)
    rows, slowest = [], []
    for kind in KINDS:
        found = [results.keep(f"{kind.name}: seed {one}", _trained(kind, one, recordings, profile)) for one in seeds]
        rows += [_judged(found, *target) for target in kind.targets]
        slowest += [each["p95_upper_ms"] for each in found if each["p95_upper_ms"] is not None]
    rows.append(_budget_row(slowest))
    rows.append(_shipped_row(results, recordings))
    return {"rows": rows, "machine": machine()}


def _profile(path: Path, seed: int) -> Row:
    profile = profile_device(find_space(SPACE), LocalTarget(), seed=seed)
    profile.save(path)
    return {"seconds": profile.seconds, "noisy": profile.noisy}


def _unmeasured(reason: str) -> list[Row]:
    targets = [(name, least) for kind in KINDS for _figure, name, least in kind.targets] + [SHIPPED]
    rows = [row(name, f">= {least:.2f}", None, bool, reason=reason) for name, least in targets]
    return [*rows, row("listeners whose p95 keeps 1 ms a hop", "= all", None, bool, reason=reason)]


def _judged(found: Sequence[Row], figure: str, name: str, least: float) -> Row:
    """The mean over the seeds; its interval by bootstrap over speakers, each with the clips of all seeds."""
    groups: dict[str, list[float]] = {}
    for each in found:
        for speaker, right in each[figure]["right"].items():
            groups.setdefault(speaker, []).extend(right)
    share = float(np.mean([each[figure]["share"] for each in found]))
    interval = mean_interval(list(groups.values()), np.random.default_rng(0))
    shown = "seeds " + " ".join(f"{each[figure]['share']:.3f}" for each in found)
    return row(name, f">= {least:.2f}", share, lambda value: value >= least, interval, shown)


def _budget_row(slowest: Sequence[float]) -> Row:
    if not slowest:
        return row("listeners whose p95 keeps 1 ms a hop", "= all", None, bool, reason="none was timed")
    kept = sum(upper <= 1.0 for upper in slowest)
    shown = f"{min(slowest):.3f} to {max(slowest):.3f} ms"
    name = f"listeners whose p95 keeps 1 ms a hop, of {len(slowest)}"
    return row(name, f"= {len(slowest)}", kept, lambda value: value == len(slowest), reason=shown)


def _shipped_row(results: Results, recordings: Path) -> Row:
    name, least = SHIPPED
    path = shipped().get("english")
    if path is None:
        return row(name, f">= {least:.2f}", None, bool, reason="no English listener ships")
    found = results.keep(f"shipped: english {Listener.open(path).sha256[:12]}", lambda: ten_words(path, recordings))
    return _judged([found], "detected", name, least)


def _trained(kind: Kind, seed: int, recordings: Path, profile: DeviceProfile) -> Callable[[], Row]:
    def measure() -> Row:
        with tempfile.TemporaryDirectory(prefix="milliwise-bench-") as name:
            folder = Path(name)
            settings = replace(_settings(kind.name, recordings, folder, seed), seed=seed, minutes=kind.minutes)
            found = run_search(settings, profile, folder / "run")
            exported = export_run(folder / "run", folder / "listener.onnx")
            heard = arabic_words if kind.name == "arabic" else three_words
            return {
                **heard(folder / "listener.onnx", recordings),
                "p95_ms": exported["measured_p95_ms"],
                "p95_upper_ms": exported["measured"]["upper_ms"],
                "noisy": exported["measured"]["noisy"],
                "bytes": exported["bytes"],
                "live_edges": len(found["kept"]),
                "calibration": found["calibration"],
                "seconds": found["seconds"],
            }

    return measure


def _settings(kind: str, recordings: Path, folder: Path, seed: int) -> Settings:
    unknown = str(recordings / "keywords_ar" / "train")
    noise = [str(recordings / "noise" / name) for name in NOISES]
    if kind == "arabic":
        return Settings(SPACE, BUDGET, str(recordings / "keywords_ar"), words=",".join(CORE), noise=noise)
    if kind == "real":
        return Settings(SPACE, BUDGET, str(recordings / "keywords_en"), unknown=[unknown], noise=noise)
    add = [str(_few(recordings / "keywords_en" / "train", folder / "own", seed))] if kind == "added" else []
    return Settings(SPACE, BUDGET, f"synth:{','.join(WORDS)}", add=add, unknown=[unknown], noise=noise)


def _few(source: Path, target: Path, seed: int) -> Path:
    """A folder with links to a few clips of every word."""
    for word in WORDS:
        (target / word).mkdir(parents=True)
        for path in random.Random(seed).sample(sorted((source / word).iterdir()), OWN):
            os.symlink(path.resolve(), target / word / path.name)
    return target


def _heard(
    model: Path, recordings: Sequence[Recording], read: Callable[[Path], NDArray[np.float32]] = read_clip
) -> tuple[ClipScores, list[str]]:
    listener = Listener.open(model)
    return score_clips(listener, [read(found.path) for found in recordings]), list(listener.labels)


def _places(recordings: Sequence[Recording], labels: Sequence[str]) -> NDArray[np.int64]:
    return np.array([labels.index(found.label) if found.label in labels else 1 for found in recordings])


def _figure(right: NDArray[np.bool_], recordings: Sequence[Recording]) -> Row:
    """A share with its interval, and what it was made of, by speaker."""
    speakers = [found.speaker for found in recordings]
    by_speaker: dict[str, list[float]] = {}
    for value, speaker in zip(right, speakers, strict=True):
        by_speaker.setdefault(speaker, []).append(float(value))
    return {**asdict(share_of(right, speakers)), "right": by_speaker}


def keyword_figures(
    model: Path,
    words: Sequence[Recording],
    others: Sequence[Recording],
    accepted: int,
    read: Callable[[Path], NDArray[np.float32]] = read_clip,
) -> Row:
    """Told apart, detected where few others are accepted, and what the listener's own threshold gives."""
    spoken, labels = _heard(model, words, read)
    strange, _labels = _heard(model, others, read)
    right = spoken.keyword + 2 == _places(words, labels)
    threshold = threshold_for(strange, accepted)
    own = float(Listener.open(model).metadata.decision["threshold"])
    return {
        "between": _figure(right, words),
        "detected": _figure(right & (spoken.score > threshold), words),
        "threshold": threshold,
        "others": len(others),
        "own_threshold": own,
        "own_detected": float((right & (spoken.score > own)).mean()),
        "own_accepted": float((strange.score > own).mean()),
        "overconfidence": _overconfidence([spoken, strange], [right, np.zeros(len(others), bool)], labels),
    }


def _overconfidence(parts: Sequence[ClipScores], right: Sequence[NDArray[np.bool_]], labels: Sequence[str]) -> Row:
    together = ClipScores(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("peaks", "labelled")))
    return dict(zip(labels[2:], overconfidence(together, np.concatenate(right)), strict=True))


def three_words(model: Path, recordings: Path) -> Row:
    """bed, cat and happy of keywords_en/val, against all other words of keywords_en30."""
    words = word_recordings(recordings / "keywords_en" / "val")
    others = [found for found in word_recordings(recordings / "keywords_en30") if found.label not in WORDS]
    return keyword_figures(model, words, others, ACCEPTED)


def ten_words(model: Path, recordings: Path) -> Row:
    """Ten commands of keywords_en30 against its other words, 5 % of which may be accepted."""
    found = word_recordings(recordings / "keywords_en30")
    words, others = ([each for each in found if (each.label in TEN) == wanted] for wanted in (True, False))
    return keyword_figures(model, words, others, round(0.05 * len(others)))


def arabic_words(model: Path, recordings: Path) -> Row:
    """The ten core words, other words and silence of keywords_ar/val: the label of the window that holds the clip."""
    found = word_recordings(recordings / "keywords_ar" / "val")
    listener = Listener.open(model)
    labels = listener.labels
    heard = score_clips(listener, [read_clip(each.path) for each in found], on_hops=True)
    places = _places(found, labels)
    core = places >= 2
    between = heard.keyword + 2 == places
    noise = _silence(recordings)
    silent = score_clips(listener, [clip for _, clip in noise], on_hops=True)
    quiet = [Recording(path, "_silence_", f"noise/{path.stem}") for path, _ in noise]
    # The sets are of very different size: every label counts as often as its clips, and silence as a word's do.
    right = np.concatenate([heard.labelled == places, silent.labelled == 0])
    words = [each for each, is_core in zip(found, core, strict=True) if is_core]
    return {
        "twelve": _figure(right, [*found, *quiet]),
        "core": _figure(between[core], words),
        "overconfidence": _overconfidence([heard], [between], labels),
    }


def _silence(recordings: Path) -> list[tuple[Path, NDArray[np.float32]]]:
    """Seconds of background noise that trained nothing, at -40 dB: as many as a word has clips."""
    files = noise_files(recordings / "noise" / "val")
    count, rng = 48, np.random.default_rng(0)
    clips = []
    for number in range(count):
        path = files[number % len(files)]
        audio = read_wav(path)[0]
        start = int(rng.integers(max(1, len(audio) - 16_000)))
        clip = np.resize(audio[start : start + 16_000], 16_000)
        clips.append((path, (0.01 * clip / max(1e-5, float(np.sqrt(np.mean(clip**2))))).astype(np.float32)))
    return clips
