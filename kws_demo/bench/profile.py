"""`milliwise bench profile`: how far to trust a profile of this machine, beside what is asked of one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws_demo.bench.profile_kills import kill_rows
from kws_demo.bench.profile_methods import OURS, judged
from kws_demo.bench.profile_raw import (
    BUSY_PROFILES,
    CALIBRATING,
    FABRIC,
    HOP_MS,
    LARGE,
    LISTENER,
    accuracy,
    busy,
    memory,
    paced,
    repeated,
    shared,
)
from kws_demo.bench.profile_remote import ssh_rows
from kws_demo.bench.rows import Results, machine, row
from profilers.latency import conformal_bound

SPLITS = 200  # random ones into calibrating and held-out networks
KILLS = "killed at random moments, resumed"
Row = dict[str, Any]


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` leaves out what takes minutes.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    rows: list[Row] = []
    for name in (LISTENER, FABRIC, LARGE):
        rows += _accuracy_rows(name, results.keep(name, functools.partial(accuracy, name, seed)), seed)
    profiles = results.keep("profiles", lambda: repeated(seed))
    rows += _profile_rows(profiles)
    rows += _paced_rows(None if quick else results.keep("paced", lambda: paced(seed)), profiles)
    rows += _busy_rows(results, quick, seed)
    rows += _memory_rows(results.keep("memory", lambda: memory(seed)))
    for name in (FABRIC, LISTENER):
        rows += _worker_rows(name, results.keep(f"{name} on workers", functools.partial(shared, name, seed)))
    rows += ssh_rows(results, seed)
    rows += kill_rows(results, seed) if not quick else [row(KILLS, "", None, bool, reason="left out by --quick")]
    return {"rows": rows, "machine": machine()}


def _accuracy_rows(name: str, found: Row, seed: int) -> list[Row]:
    ours, again = found["methods"][OURS], found["again"]
    nets, large = len(found["measured_ms"]), name == LARGE
    told = f"{nets} networks; {_told(found['disturbed'])}"
    most = 0.06 if large else max(0.02, 1.3 * again["mape"])
    rows = [
        row(
            f"{name}: mean error of the prediction",
            f"<= {most:.3f}",
            ours["mape"],
            lambda value: value <= most,
            reason=told,
        ),
        row(
            f"{name}: within 10 %",
            ">= 0.9" if large else ">= 0.99",
            ours["within_10"],
            lambda value: value >= (0.9 if large else 0.99),
        ),
    ]
    if not large:
        rows += [
            row(f"{name}: within 5 %", ">= 0.9", ours["within_5"], lambda value: value >= 0.9),
            row(f"{name}: rank correlation", ">= 0.99", ours["spearman"], lambda value: value >= 0.99),
            *_bound_rows(name, found, seed),
        ]
    return [*rows, *_method_rows(name, found)]


def _method_rows(name: str, found: Row) -> list[Row]:
    """Everything else that is known, on the same networks; and how well the networks' own times repeat."""
    others = {method: each for method, each in found["methods"].items() if method != OURS}
    others["measured again in new processes"] = found["again"]
    return [
        row(
            f"{name}: {method}, mean error",
            "-",
            each["mape"],
            None,
            reason=f"{100 * each['within_10']:.0f} % within 10 %",
        )
        for method, each in others.items()
    ]


def _bound_rows(name: str, found: Row, seed: int) -> list[Row]:
    """Split conformal bounds on random halves of the networks that took no part in the fit."""
    measured, predicted = np.asarray(found["measured_ms"]), np.asarray(found["predicted_ms"])
    ratios = np.concatenate([found["calibrating"], measured / predicted])
    rng = np.random.default_rng(seed)
    coverages, over, winning = [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(ratios))
        bound = conformal_bound([float(ratios[place]) for place in order[:CALIBRATING]])
        assert bound is not None
        rest = ratios[order[CALIBRATING:]]
        coverages.append(float((rest <= bound.factor).mean()))
        over.append(float(np.median(bound.factor / rest)))
        winning.append(float((np.asarray(found["winners"]) <= bound.factor).mean()))
    return [
        row(
            f"{name}: 95 % bound, coverage, mean of {SPLITS} splits",
            "0.94-0.97",
            float(np.mean(coverages)),
            lambda value: 0.94 <= value <= 0.97,
        ),
        row(f"{name}: bound over truth, median", "<= 1.15", float(np.median(over)), lambda value: value <= 1.15),
        row(
            f"{name}: coverage on {len(found['winners'])} networks a search picks",
            "-",
            float(np.mean(winning)),
            None,
            reason="no target",
        ),
    ]


def _profile_rows(found: Row) -> list[Row]:
    seconds = max(found["table_seconds"])
    told = _told([reason for reasons in found["disturbed"] for reason in reasons])
    return [
        row(f"{LISTENER}: seconds for its table", "<= 60", seconds, lambda value: value <= 60, reason=told),
        row(
            "profiles in new processes: median drift of the edges, the worst of 3 pairs",
            "<= 0.03",
            found["median_drift"],
            lambda value: value <= 0.03,
            reason=told,
        ),
    ]


def _paced_rows(measured: list[float] | None, profiles: Row) -> list[Row]:
    name, target = f"{LISTENER}: p95 of whole files at a hop of {HOP_MS} ms, mean error", "<= 0.1"
    if measured is None:
        return [row(name, target, None, bool, reason="left out by --quick")]
    found = judged(profiles["p95_ms"], measured)
    return [row(name, target, found.mape, lambda value: value <= 0.1, reason=f"{len(measured)} networks")]


def _busy_rows(results: Results, quick: bool, seed: int) -> list[Row]:
    flags, errors = f"one core busy: flagged, of {BUSY_PROFILES}", "one core busy: mean error of the table, the worst"
    if quick:
        return [row(name, "", None, bool, reason="left out by --quick") for name in (flags, errors)]
    quiet = results.get(LISTENER)
    found = [results.keep(f"busy {index}", lambda: busy(quiet, seed)) for index in range(BUSY_PROFILES)]
    worst = max(each["mape"] for each in found)
    return [
        row(flags, f"= {BUSY_PROFILES}", sum(each["flagged"] for each in found), lambda value: value == BUSY_PROFILES),
        row(errors, "<= 0.05", worst, lambda value: value <= 0.05),
    ]


def _memory_rows(found: list[dict[str, Any]]) -> list[Row]:
    name, target = f"{LARGE}: memory increment of 20 MB or more, within 10 %", ">= 0.9"
    large = [each for each in found if each["measured_bytes"] >= 20e6]
    if not large:
        return [row(name, target, None, bool, reason="memory could not be measured here")]
    errors = [abs(each["predicted_bytes"] / each["measured_bytes"] - 1) for each in large]
    within = float(np.mean([error <= 0.10 for error in errors]))
    told = f"{len(large)} networks, mean error {100 * float(np.mean(errors)):.1f} %"
    return [row(name, target, within, lambda value: value >= 0.9, reason=told)]


def _worker_rows(name: str, found: Row) -> list[Row]:
    """Of all networks, and of those that the plan splits: the others say nothing about working in parallel."""
    rows = []
    split = [each for each in found["rows"] if each["workers"] > 1]
    for title, chosen in (
        (f"{name}: makespan on 2 workers, within 15 %", found["rows"]),
        (f"{name}: of those that are split", split),
    ):
        errors = [abs(each["predicted_ms"] / each["measured_ms"] - 1) for each in chosen]
        if not errors:
            rows.append(row(title, ">= 0.9", None, bool, reason="no network is split: it would not be faster"))
            continue
        faster = float(np.median([each["one_measured_ms"] / each["measured_ms"] for each in chosen]))
        told = f"{len(errors)} networks, mean error {100 * float(np.mean(errors)):.1f} %, {faster:.2f} × one's speed"
        within = float(np.mean([error <= 0.15 for error in errors]))
        rows.append(row(title, ">= 0.9", within, lambda value: value >= 0.9, reason=told))
    return rows


def _told(disturbed: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(disturbed)) or "the machine was quiet"
