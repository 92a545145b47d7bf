"""Sweeps: a grid of searches, done by whoever there is to do them, and gone on with after any interruption."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from kws_demo.run_folder import RunFolder
from kws_demo.settings import Settings, images_of
from kws_demo.stages import require_device
from kws_demo.sweep_point import Point
from kws_demo.sweep_row import SWEEP_FORMAT, SWEEP_NAME, Row, is_done, points_of, read_finished, read_row
from kws_demo.sweep_table import largest_budget
from kws_demo.warm_up import warm_up
from kws_demo.workers import Executor
from profilers.bundle import BundleTarget
from profilers.fixed import FEWEST_LABELS, with_classifier
from profilers.target import parse_target
from toolkit.budget import Budget
from toolkit.costs import Price, price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import holds_anything, require_writable, write_json
from toolkit.own_cost import own_cost
from toolkit.profile import DeviceProfile
from toolkit.progress import say
from toolkit.spaces import find_space
from toolkit.strategies import find_strategy


def grid(
    profiles: Mapping[str, DeviceProfile],
    strategies: Sequence[str],
    budgets: Sequence[str],
    penalties: Sequence[float],
    seeds: Sequence[int],
    **settings: Any,
) -> list[Point]:
    """Every combination, seeds outermost: whenever the sweep is interrupted, strategies and budgets were tried alike.

    Args:
        profiles: of the device, by the name of their space.
        penalties: λ of the strategies that take one; the others are tried once. None given: they find it themselves.
        settings: the others of `Settings`, the same for all points.

    Raises:
        MilliwiseError: no such strategy, or none that takes a λ; or budgets of several kinds.
    """
    if budgets:
        largest_budget(budgets)
    takes = {name: find_strategy(name).takes_penalty for name in strategies}
    if penalties and not any(takes.values()):
        raise MilliwiseError(f"{' and '.join(strategies)} take no λ: leave --penalty out")
    return [
        Point(Settings(space, budget, strategy=strategy, seed=seed, penalty=penalty, **settings), profile)
        for seed, (space, profile), budget, strategy in product(seeds, profiles.items(), budgets, strategies)
        for penalty in (penalties if penalties and takes[strategy] else [None])
    ]


def run_sweep(
    points: Sequence[Point],
    folder: Path,
    executor: Executor,
    resume: bool = False,
    warm_up_minutes: float = 0.0,
    warm_up_folder: Path | None = None,
) -> list[Row]:
    """Search at every point that is not done, and say how far it is; a point that fails is a row with its reason.

    Args:
        folder: gets a run folder for each point, and `sweep.json`, which lists them.
        resume: go on with the sweep in it, if there is one. There may be more points now, of other budgets, seeds or
            strategies, but all that there were have to be among them, with the same arguments: a table is always of
            everything in its folder. What failed is tried again.
        warm_up_minutes: a super-network is first trained that long, once for each space and seed, here; all of its
            points begin with it.
        warm_up_folder: for the weights of that, where other sweeps of these seeds find them; by default `folder`.

    Returns:
        A row for each point, in their order.

    Raises:
        BudgetTooSmall: a budget is below the cheapest network; nothing was trained.
        MilliwiseError: the points do not go together, or the folder holds something else.
    """
    folder = Path(folder)
    if warm_up_minutes:
        points = [_warmed(point, warm_up_folder or folder, executor, warm_up_minutes) for point in points]
    prices = _prices(points, executor)
    _begin(folder, points, resume)
    for path, point in {point.settings.warm: point for point in points if warm_up_minutes}.items():
        warm_up(point.settings, point.profile.hop_ms, Path(str(path)), warm_up_minutes)
    waiting = [point for point in points if not is_done(folder / point.name)]
    if len(waiting) < len(points):
        say(f"sweep: {len(points) - len(waiting)} of {len(points)} points were done before")
    failures: dict[str, str] = {}
    begun = time.monotonic()
    with closing(executor.run(waiting, folder)) as finished:
        for number, (point, failure) in enumerate(finished, start=1):
            if failure is not None:
                failures[point.name] = failure
            left_s = (time.monotonic() - begun) / number * (len(waiting) - number)
            left = f", about {_duration(left_s)} left" if number < len(waiting) else ""
            said = "done" if failure is None else f"failed: {failure}"
            say(f"sweep: {number} of {len(waiting)} points{left}; {point.name} {said}")
    return [
        read_row(point, price, folder / point.name, failures.get(point.name))
        for point, price in zip(points, prices, strict=True)
    ]


def _warmed(point: Point, folder: Path, executor: Executor, minutes: float) -> Point:
    if not executor.here:
        raise MilliwiseError("nodes of a cluster do not have the warm-up's file: leave --warm-up or --cluster out")
    path = folder.resolve() / f"warm-up_{point.space_name}_{minutes:g}-minutes_seed-{point.settings.seed}.safetensors"
    return replace(point, settings=replace(point.settings, warm=str(path)))


def _prices(points: Sequence[Point], executor: Executor) -> list[Price]:
    """How each point's network is priced.

    Raises:
        MilliwiseError: a point is impossible, or may not be worked on by this executor.
    """
    known: dict[tuple[str, str, int], Price] = {}
    tried: set[tuple[Any, ...]] = set()
    seen: dict[str, Point] = {}
    found = []
    for point in points:
        given, name = point.settings, point.name
        if seen.setdefault(name, point) is not point:
            raise MilliwiseError(f"two points would share the folder {name}: name everything once")
        key = given.space, given.budget, id(point.profile)
        if key not in known:
            try:
                known[key] = _price(point, executor)
            except MilliwiseError as error:
                raise type(error)(f"{name}: {error}") from None
        if (*key, given.strategy, given.penalty) not in tried:
            tried.add((*key, given.strategy, given.penalty))
            _try_strategy(point, known[key])
        found.append(known[key])
    if not points:
        raise MilliwiseError("the sweep has no points: name a budget, a strategy and a seed")
    if executor.here:
        _check_here(points)
    return found


def _try_strategy(point: Point, asked: Price) -> None:
    """Refuse a strategy that does not go with the space, or with what is budgeted."""
    given = point.settings
    try:
        find_strategy(given.strategy)(asked, Budget.parse(given.budget).limit, given.seed, **given.options)
    except MilliwiseError as error:
        raise type(error)(f"{point.name}: {error}") from None


def _price(point: Point, executor: Executor) -> Price:
    given, profile = point.settings, point.profile
    graph = find_space(given.space).build(hop_ms=profile.hop_ms).graph
    profile.require(graph, threads=given.threads)
    budget = Budget.parse(given.budget)
    least = with_classifier(profile, find_space(given.space), FEWEST_LABELS)  # to refuse what no data make fit
    found = price(graph, least, budget, bound=given.bound, own=own_cost(given.cost, graph, profile.weightless))
    found.require_feasible(budget)
    target = parse_target(profile.target if given.on is None else given.on)
    if budget.timed and not executor.alone and not isinstance(target, BundleTarget):
        raise MilliwiseError(
            f"{budget} is measured, which points beside each other would disturb: leave --workers and --cluster out, "
            "or take a budget that is counted, such as '40 MFLOPs'"
        )
    return found


def _check_here(points: Sequence[Point]) -> None:
    """Refuse what would fail at every point alike: no such device, or images that are not there."""
    for space, data, device in {(each.settings.space, each.settings.data, each.settings.device) for each in points}:
        require_device(device)
        if (known := find_space(space)).sees:
            images_of(Settings(space, "", data), known)


def _begin(folder: Path, points: Sequence[Point], resume: bool) -> None:
    """Take the folder for these points, or refuse it."""
    path = folder / SWEEP_NAME
    require_writable(path)
    listed = {point.name: point.arguments for point in points}
    if os.path.lexists(path):
        if not resume:
            raise MilliwiseError(f"{folder} holds a sweep: go on with it by --resume, or name a new folder")
        _require_superset(points_of(folder), listed, path)
    elif holds_anything(folder):
        raise MilliwiseError(f"{folder} is not empty and holds no sweep: name a new folder")
    for point in points:
        RunFolder(folder / point.name, point.settings, point.profile, resume=True)  # refuses one of other arguments
        if is_done(folder / point.name):
            read_finished(folder / point.name)
    write_json(path, {"format": SWEEP_FORMAT, "points": listed})


def _require_superset(begun: Mapping[str, Any], listed: Mapping[str, Any], path: Path) -> None:
    for name, arguments in begun.items():
        shown = printable(name)[:200]
        if name not in listed:
            raise MilliwiseError(f"{path} has the point {shown}, which is left out now: ask for it too, or begin anew")
        if arguments != listed[name]:
            raise MilliwiseError(
                f"{path}: {shown} was begun with {_differing(arguments, listed[name])}: repeat that, or begin anew in "
                "another folder"
            )


def _differing(before: Any, now: Mapping[str, Any]) -> str:
    """The first argument that is another one, with both values."""
    stored = before.get("settings") if isinstance(before, dict) else None
    if not isinstance(stored, dict):
        return "arguments that are damaged"
    if stored.keys() != now["settings"].keys():
        return "another version of milliwise"
    for name, value in now["settings"].items():
        if stored.get(name) != value:
            return f"{name} {printable(stored.get(name))[:60]}, not {printable(value)[:60]}"
    if before.get("cost") != now["cost"]:
        return "another content of --cost"
    return "another device profile"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
