"""`milliwise bench adaptive`: listeners that choose their network at every hop, beside what they have to beat."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from kws_demo.bench.adaptive_costs import outer_costs
from kws_demo.bench.adaptive_dial import dial_settings
from kws_demo.bench.adaptive_gated import HOP_MS, SPACE, Trial, points
from kws_demo.bench.adaptive_long import big_ms, cold_onset, hour
from kws_demo.bench.adaptive_pictures import draw
from kws_demo.bench.adaptive_static import static_points
from kws_demo.bench.adaptive_thesis import PENALTIES, Protocol, judged
from kws_demo.bench.adaptive_thesis import SPACE as THESIS_SPACE
from kws_demo.bench.rows import Results, machine, row
from kws_demo.operating_points import own_fronts
from profilers.modes import ModeCosts, measure_modes
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.files import read_json, write_json
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SEEDS = 3
MINUTES = 20.0  # of training of a listener of kws-gated
OVER_IDLE = 1.2  # of the budget
CLOSE = 0.01  # of the words: so much more a detector may miss than the best one, and be chosen for its cost
NEEDED = ("keywords_ar", "keywords_en", "noise")
Row = dict[str, Any]
# name, target, whether it is met
Judged = Sequence[tuple[str, str, Callable[[float], bool]]]
THESIS_ROWS: Judged = (
    (f"{THESIS_SPACE}: correct, the adaptive one less the full network", ">= 0", lambda value: value >= 0),
    (f"{THESIS_SPACE}: its ms a hop over the full network's", "<= 0.33", lambda value: value <= 1 / 3),
    (f"{THESIS_SPACE}: ms of background over ms of words", "<= 0.5", lambda value: value <= 0.5),
    (f"{THESIS_SPACE}: correlation of ms with the share of word", ">= 0.5", lambda value: value >= 0.5),
    (f"{THESIS_SPACE}: penalties that cost more than a smaller one", "= 0", lambda value: value == 0),
    (f"{THESIS_SPACE}: under a huge penalty, ms over the cheapest mode's", "<= 1.01", lambda value: value <= 1.01),
)
GATED_ROWS: Judged = (
    (f"{SPACE}: the big network's p95 in ms, once per hop", ">= 2", lambda value: value >= 2),
    (f"{SPACE}: misses more than always big, 5 % speech", "<= 0.01", lambda value: value <= 0.01),
    (f"{SPACE}: of that, the upper bound of 95 %", "<= 0.03", lambda value: value <= 0.03),
    (f"{SPACE}: its ms over always big's", "<= 0.25", lambda value: value <= 0.25),
    (f"{SPACE}: in talk, its ms over the best VAD's with the big one", "<= 0.4", lambda value: value <= 0.4),
    (f"{SPACE}: announced later than by always big, ms", "<= 200", lambda value: value <= 200),
    (f"{SPACE}: misses more after 1 to 600 s of idle, the most", "<= 0.03", lambda value: value <= 0.03),
    (f"{SPACE}: of one core, on background", "<= 0.02", lambda value: value <= 0.02),
    (f"{SPACE}: p99 in the dearest mode, of the hop", "<= 0.25", lambda value: value <= 0.25),
    (f"{SPACE}: MB of memory an hour grows by", "< 1", lambda value: value < 1),
    (f"{SPACE}: scores after an hour, from offline", "<= 1e-4", lambda value: value <= 1e-4),
    (f"{SPACE}: dial settings that cost more than a larger one", "= 0", lambda value: value == 0),
    (f"{SPACE}: dial settings that surely miss more than a smaller one", "= 0", lambda value: value == 0),
)


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` does one seed of `kws-gated` alone, trained for 10 minutes.

    Static listeners have results of their own: those of `kws-gated` from before them stay valid.
    Checkpoints and runs are kept in a folder beside the results, so that a benchmark of hours can be gone on with.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    missing = [name for name in NEEDED if not (recordings / name).is_dir()]
    if missing:
        return {"rows": _unmeasured(f"no recordings in {recordings}: {', '.join(missing)}"), "machine": machine()}
    folder = results.path.with_suffix("")
    seeds = range(seed, seed + (1 if quick else SEEDS))
    rows = _gated(results, recordings, folder, seeds, 10.0 if quick else MINUTES, static=not quick)
    if quick:
        return {"rows": rows + _rows(THESIS_ROWS, [], "left out by --quick"), "machine": machine()}
    return {"rows": rows + _thesis(results, recordings, folder, seeds), "machine": machine()}


def _profile(folder: Path, space: str, seed: int) -> DeviceProfile:
    """Of this machine; measured once."""
    path = folder / f"{space}.profile.json"
    if not path.exists():
        profile_device(find_space(space), LocalTarget(), seed=seed).save(path)
    return DeviceProfile.load(path)


def _gated(
    results: Results, recordings: Path, folder: Path, seeds: Sequence[int], minutes: float, static: bool
) -> list[Row]:
    @lru_cache(maxsize=1)
    def made(seed: int) -> Trial:
        profile = _profile(folder, SPACE, seed)
        return Trial(recordings, folder / f"{SPACE}-{minutes:g}-{seed}", seed, minutes, profile, _budget(folder))

    found: list[Row] = []
    for seed in seeds:

        def measure(seed: int = seed) -> Row:
            trial = made(seed)
            found = points(trial, outer_costs(trial))
            after = hour(trial)
            return {
                **found,
                "budget": trial.budget,
                "line": after.pop("line"),
                "big_ms": big_ms(trial),
                "onset": cold_onset(trial),
                "dial": dial_settings(trial),
                "hour": after,
            }

        def measure_static(seed: int = seed) -> Row:
            return static_points(made(seed))

        key = f"{SPACE}: {minutes:g} minutes, seed {seed}"
        own = results.keep(key, measure)
        others = results.keep(f"{key}, static listeners", measure_static)["rows"] if static else []
        found.append({**own, "rows": [*own["rows"], *others]})
    draw(results.path.parent, found[0], folder / f"{SPACE}-{minutes:g}-{seeds[0]}")
    chosen = [_chosen(each["rows"]) for each in found]
    figures = [_gated_figures(each, point) for each, point in zip(found, chosen, strict=True)]
    reason = f"budget {found[0]['budget']}; " + "; ".join(f"dial {point['parameter']:g}" for point in chosen)
    return [*_rows(GATED_ROWS, figures, reason), *_table(found)]


def _chosen(rows: Sequence[Row]) -> Row:
    """Our operating point: the controller as it was taught."""
    return next(each for each in rows if each["name"] == "learned" and each["parameter"] == 0)


def _gated_figures(found: Row, point: Row) -> list[float | None]:
    rows = found["rows"]
    big = [each for each in rows if each["name"] == "static"][-1]
    vads = [each for each in rows if each["name"] == "vad"]
    fewest = min(each["misses"] for each in vads)
    best_vad = min(each["talk_ms_per_second"] for each in vads if each["misses"] <= fewest + CLOSE)
    return [
        found["big_ms"],
        point["more_missed"][0],
        point["more_missed"][2],
        point["ms_per_second"] / big["ms_per_second"],
        point["talk_ms_per_second"] / best_vad,
        point["more_delay_ms"],
        max(found["onset"]["more_missed"].values()),
        found["hour"]["background_core"],
        found["hour"]["p99_ms"] / HOP_MS,
        found["hour"]["growth_mb"],
        found["hour"]["difference"],
        sum(each["costs_more"] for each in found["dial"]),
        sum(each["misses_more"] for each in found["dial"]),
    ]


def _rows(wanted: Judged, figures: Sequence[Sequence[float | None]], reason: str) -> list[Row]:
    """The mean over the seeds of every figure; all seeds are told."""
    rows = []
    for place, (name, target, met) in enumerate(wanted):
        values = [each[place] for each in figures]
        known = [value for value in values if value is not None]
        told = f"seeds {' '.join('-' if value is None else f'{value:.4g}' for value in values)}; " if values else ""
        whole = statistics.fmean(known) if values and len(known) == len(values) else None
        rows.append(row(name, target, whole, met, reason=f"{told}{reason}"))
    return rows


def _table(found: Sequence[Row]) -> list[Row]:
    """Of every way to choose a mode, the points on its own front: misses, with what they cost (no targets)."""
    rows = []
    for each in own_fronts(found[0]["rows"]):
        shown = f"{each['ms_per_second']:.2f} ms/s, in talk {each['talk_ms_per_second']:.2f}"
        bounds = (each["misses_low"], each["misses_high"])
        rows.append(row(f"  {each['name']} {each['parameter']}: misses", "-", each["misses"], None, bounds, shown))
    return rows


def _thesis(results: Results, recordings: Path, folder: Path, seeds: Sequence[int]) -> list[Row]:
    figures = []
    for seed in seeds:

        def measure(seed: int = seed) -> Row:
            protocol = Protocol(recordings, folder / f"{THESIS_SPACE}-{seed}", seed)
            costs = _mode_costs(folder, THESIS_SPACE)
            found = [
                judged(protocol, each, costs, alone=not place) for place, each in enumerate(protocol.controllers(costs))
            ]
            together = judged(protocol, protocol.together(costs), costs, alone=False)["own"]
            return {
                "penalties": list(PENALTIES),
                "judged": found,
                "together": together,
                "named_ms": dict(costs.named_ms),
            }

        found = results.keep(f"{THESIS_SPACE}: seed {seed}", measure)
        figures.append(_thesis_figures(found))
    return _rows(THESIS_ROWS, figures, "10 Arabic words, not Speech Commands; edges trained with their controller")


def _mode_costs(folder: Path, space: str) -> ModeCosts:
    """Of this machine; measured once."""
    path = folder / f"{space}.modes.json"
    adaptive = find_space(space).adaptive(hop_ms=HOP_MS).eval()
    if not path.exists():
        costs = measure_modes(adaptive, find_space(space).shape(HOP_MS), LocalTarget(), hop_ms=HOP_MS)
        write_json(path, costs.facts())
    return ModeCosts.from_facts(read_json(path, "modes"), adaptive)


def _budget(folder: Path) -> str:
    """So much over the idle mode, on the training streams, of whose hops half hold speech."""
    idle_ms = min(_mode_costs(folder, SPACE).named_ms.values())
    return f"{OVER_IDLE * idle_ms:.3g} ms mean"


def _full(found: Row) -> Row:
    """All edges at every hop, with the classifier of the least penalty."""
    alone: Row = found["judged"][0]["alone"][-1]
    return alone


def _thesis_figures(found: Row) -> list[float | None]:
    own, full = found["together"], _full(found)  # none is chosen by the streams that it is judged on
    spent = [each["own"]["mean_ms"] for each in found["judged"]]
    cheapest = min(found["named_ms"].values())
    return [
        own["correct"] - full["correct"],
        own["ms"] / full["ms"],
        own["background_ms"] / own["word_ms"],
        own["correlation"],
        float(sum(later > 1.02 * before for before, later in pairwise(spent))),
        spent[-1] / cheapest,
    ]


def _unmeasured(reason: str) -> list[Row]:
    return [row(name, target, None, met, reason=reason) for name, target, met in (*GATED_ROWS, *THESIS_ROWS)]
