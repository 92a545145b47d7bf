"""`milliwise bench spine`: the figures of the main job, end to end, beside their targets."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kws_demo.bench.rows import Results, machine, row
from kws_demo.demo import run_demo, stream_and_record
from kws_demo.search import run_search
from kws_demo.settings import Settings
from profilers.clock import time_tight
from profilers.export import export_run
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE = "kws-ds"
BUDGETS, SEEDS = 6, 2
BUDGET_MINUTES = 0.4
WORDS_MINUTES = 3.0
DEMO_DATA = "synth:yes,no,stop,left"
Row = dict[str, Any]


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> dict[str, Any]:
    """Measure what `results` does not hold yet; `quick` leaves out the budgets and the demo.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    with tempfile.TemporaryDirectory(prefix="milliwise-bench-") as name:
        folder = Path(name)
        profile_file = results.path.with_suffix(".profile.json")
        known = results.get("profile")
        if known is None or not profile_file.exists():
            known = results.keep("profile", lambda: _profile(profile_file, seed))
        profile = DeviceProfile.load(profile_file)
        rows = _profile_rows(known)
        rows += _span_rows(results, profile)
        rows += _word_rows(results, profile, folder, recordings, seed)
        rows += _budget_rows(None if quick else results, profile, folder)
        rows += _demo_rows(None if quick else results, folder, seed)
        rows.append(row("make test, seconds", "<= 600", None, bool, reason="pytest prints it: run make test"))
    return {"rows": rows, "machine": machine()}


def _profile(path: Path, seed: int) -> Row:
    profile = profile_device(find_space(SPACE), LocalTarget(), seed=seed)
    profile.save(path)
    held_out = {name: value for name, value in asdict(profile.held_out).items() if name != "rows"}
    return {"seconds": profile.seconds, "noisy": profile.noisy, **held_out}


def _profile_rows(known: Row) -> list[Row]:
    reason = "the machine was busy" if known["noisy"] else ""
    return [
        row("kws-ds: held-out networks", ">= 40", known["nets"], lambda value: value >= 40),
        row(
            "kws-ds: mean error of the tight-loop prediction",
            "<= 0.05",
            known["mape"],
            lambda value: value <= 0.05,
            reason=reason,
        ),
        row("kws-ds: share within 10 %", ">= 0.95", known["within_10"], lambda value: value >= 0.95),
        row("kws-ds: Spearman", ">= 0.98", known["spearman"], lambda value: value >= 0.98),
        row("kws-ds: seconds to profile", "<= 90", known["seconds"], lambda value: value <= 90),
    ]


def _span_rows(results: Results, profile: DeviceProfile) -> list[Row]:
    """Dearest over cheapest in a tight loop, without the front-end, both timed in one run."""
    from exporters.onnx import to_onnx, with_properties
    from profilers.latency import features_only

    def measure() -> Row:
        network = find_space(SPACE).build(hop_ms=profile.hop_ms).eval()
        cheapest = price(network.graph, profile, Budget.parse("1 ms")).cheapest()
        models = {}
        for name, kept in (("cheapest", cheapest), ("dearest", network.graph.full)):
            body, shape = features_only(network.select(kept), find_space(SPACE).shape(profile.hop_ms))
            models[name] = with_properties(to_onnx(body, shape), {})
        return {name: timing.best_ms for name, timing in time_tight(models, LocalTarget(), rounds=24).items()}

    found = results.keep("span", measure)
    ratio = found["dearest"] / found["cheapest"]
    shown = f"{found['cheapest']:.4f} to {found['dearest']:.4f} ms"
    return [
        row(
            "kws-ds: dearest over cheapest, tight loop, no front-end",
            ">= 20",
            ratio,
            lambda value: value >= 20,
            reason=shown,
        )
    ]


def _word_rows(results: Results, profile: DeviceProfile, folder: Path, recordings: Path, seed: int) -> list[Row]:
    """Real words within 1 ms, and what streaming them costs."""
    english = recordings / "keywords_en"
    names = (
        "between bed, cat and happy of keywords_en/val, at 1 ms",
        "1 ms kept by that listener",
        "share of a core while streaming it",
    )
    targets = (">= 0.95", "= 1", "<= 0.02")
    if not english.is_dir():
        return [
            row(name, target, None, bool, reason=f"no recordings in {english}")
            for name, target in zip(names, targets, strict=True)
        ]

    def measure() -> Row:
        unknown, noise = str(recordings / "keywords_ar" / "train"), str(recordings / "noise")
        settings = Settings(
            SPACE, "1 ms", str(english), seed=seed, minutes=WORDS_MINUTES, unknown=[unknown], noise=[noise]
        )
        found = run_search(settings, profile, folder / "words")
        exported = export_run(folder / "words", folder / "words.onnx")
        return {
            "accuracy": found["accuracy"],
            "exported": exported,
            "core": _streaming_share(folder / "words.onnx", seed),
        }

    found = results.keep("words", measure)
    share, spoken = found["accuracy"]["between_words"], sum(map(sum, found["accuracy"]["confusion"][2:]))
    error = 1.96 * (share * (1 - share) / spoken) ** 0.5
    return [
        row(names[0], targets[0], share, lambda value: value >= 0.95, (share - error, min(1.0, share + error))),
        row(names[1], targets[1], float(found["exported"]["budget_kept"]), lambda value: value == 1),
        row(names[2], targets[2], found["core"], lambda value: value <= 0.02),
    ]


def _streaming_share(model: Path, seed: int) -> float:
    """CPU seconds of this process, meter aside, per second of audio, over two minutes of noise."""
    audio = np.random.default_rng(seed).normal(0, 0.05, 120 * 16_000).astype(np.float32)
    begun = time.process_time()
    stream_and_record(model, audio, [], "noise")
    return (time.process_time() - begun) / 120


def _budget_rows(results: Results | None, profile: DeviceProfile, folder: Path) -> list[Row]:
    """Six budgets from the cheapest to the dearest quarter, two seeds; in the middle, the uniform baseline beside."""
    wanted = (
        ("winners that keep their budget, of 12", "= 12"),
        ("winners with a clearly better measured candidate", "= 0"),
        ("accuracy of bsn less that of uniform, same minutes", ">= 0"),
    )
    if results is None:
        return [row(name, target, None, bool, reason="left out by --quick") for name, target in wanted]
    graph = find_space(SPACE).build(hop_ms=profile.hop_ms).graph
    least, _median, most = price(graph, profile, Budget.parse("1 ms")).spread_of_space()
    limits = np.linspace(least, least + 0.75 * (most - least), BUDGETS)

    def search(number: int, seed: int, strategy: str) -> Row:
        measure = _budget_search(float(limits[number]), seed, strategy, profile, folder)
        found: Row = results.keep(f"{strategy}: budget {number}, seed {seed}", measure)
        return found

    found = [search(number, seed, "bsn") for number in range(BUDGETS) for seed in range(SEEDS)]
    middle = BUDGETS // 2
    ours, theirs = (
        [search(middle, seed, strategy)["accuracy"] for seed in range(SEEDS)] for strategy in ("bsn", "uniform")
    )
    kept = sum(each["kept"] for each in found)
    beaten = sum(each["beaten"] for each in found)
    shown = "; ".join(f"{each['budget']}: {each['upper_ms']:.3f}" for each in found)
    gain = float(np.mean(ours) - np.mean(theirs))
    return [
        row(*wanted[0], kept, lambda value: value == BUDGETS * SEEDS, reason=shown),
        row(*wanted[1], beaten, lambda value: value == 0, reason="true by construction: all that fit are fine-tuned"),
        row(*wanted[2], gain, lambda value: value >= 0, reason=f"{ours} against {theirs} at {limits[middle]:.3f} ms"),
    ]


def _budget_search(limit: float, seed: int, strategy: str, profile: DeviceProfile, folder: Path) -> Callable[[], Row]:
    def measure() -> Row:
        budget = f"{np.ceil(limit * 1000) / 1000:.3f} ms"
        place = folder / f"{strategy}-{limit:.3f}-{seed}"
        settings = Settings(
            SPACE, budget, DEMO_DATA, strategy=strategy, seed=seed, minutes=BUDGET_MINUTES, clips_per_word=400
        )
        found = run_search(settings, profile, place)
        exported = export_run(place, place / "listener.onnx")
        best = found["accuracy"]["validation"] + found["accuracy"]["validation_error"]
        return {
            "budget": budget,
            "kept": bool(exported["budget_kept"]),
            "upper_ms": exported["measured"]["upper_ms"],
            "p95_ms": exported["measured_p95_ms"],
            "noisy": exported["measured"]["noisy"],
            "attempts": exported["measured"]["attempts"],
            "beaten": any(each["fits"] and (each["fine_tuned_accuracy"] or 0) > best for each in found["pareto"]),
            "accuracy": found["accuracy"]["test"],
            "live_edges": len(found["kept"]),
            "pareto": found["pareto"],
        }

    return measure


def _demo_rows(results: Results | None, folder: Path, seed: int) -> list[Row]:
    names = ("demo, seconds", "demo: budget kept", "demo: accuracy on synthetic voices it never heard")
    targets = ("<= 360", "= 1", ">= 0.90")
    if results is None:
        return [
            row(name, target, None, bool, reason="left out by --quick")
            for name, target in zip(names, targets, strict=True)
        ]
    found = results.keep("demo", lambda: run_demo(folder / "demo", minutes=6.0, data=DEMO_DATA, budget=None, seed=seed))
    return [
        row(names[0], targets[0], found["seconds"], lambda value: value <= 360),
        row(names[1], targets[1], float(found["budget_kept"]), lambda value: value == 1),
        row(names[2], targets[2], found["accuracy"], lambda value: value >= 0.90),
    ]
