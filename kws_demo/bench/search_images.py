"""Searches on a part of CIFAR-10: budgets in FLOPs and in milliseconds, beside the peers of the default strategy."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws_demo.search import APART, ROOM, SEARCH_SHARE, SMALLER
from kws_demo.sweep import grid, run_sweep
from kws_demo.sweep_row import read_finished
from kws_demo.workers import Executor, Here, Processes
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.costs import Price, price
from toolkit.errors import MilliwiseError
from toolkit.files import digest
from toolkit.profile import DeviceProfile
from toolkit.run import read_log
from toolkit.spaces import find_space

SPACE = "resnet-fabric:blocks=2,width=8"
MINUTES = 1.5
SEVERAL = 2  # candidates to fine-tune, where it is asked whether the better one was chosen
# Drawings of `milliwise report` that show an architecture by its cost, with the unit of a budget of that (thesis,
# figures 3.6 to 3.10).
COSTS = {"multiply-adds": "FLOPs", "memory": "B", "steps-1": "steps@1", "steps-2": "steps@2", "steps-4": "steps@4"}
DATA = Path("images") / "cifar10.npz"
RULE = "of those within their error of the best, the one of most parameters; factors are folded"  # how a search chooses
FINE_TUNING = "fine-tuning"  # how the log calls it
Row = dict[str, Any]


class ImageSearches:
    """Searches of one fabric; runs are kept in a folder, so that they can be gone on with.

    Args:
        recordings: the folder of test data.
        folder: for the device profile and the runs.
        warm_up_minutes: of training that all searches of a seed begin with; 0 leaves it out.
        resume: take what an earlier run left in the folder; else only its profile and its warm-ups are used again.
    """

    def __init__(self, recordings: Path, folder: Path, warm_up_minutes: float = 0.0, resume: bool = True) -> None:
        self._data, self._folder, self._warm_up_minutes = recordings / DATA, folder, warm_up_minutes
        self._resume = resume
        self._profile = self._measured()
        self._graph = find_space(SPACE).build().graph
        self.counted = self._price("1 MFLOPs")
        # In MFLOPs, from cheap to dear.
        self.made_by_hand = sorted(self.counted(kept) / 1e6 for kept in self._graph.made_by_hand.values())

    def _measured(self) -> DeviceProfile:
        path = self._folder / "resnet-fabric.profile.json"
        if not path.exists():
            profile_device(find_space(SPACE), LocalTarget()).save(path)
        return DeviceProfile.load(path)

    def _price(self, kind: str) -> Price:
        return price(self._graph, self._profile, Budget.parse(kind))

    def limits(self, count: int) -> list[float]:
        """Budgets in MFLOPs from just above the cheapest network to the whole one, evenly in the logarithm."""
        return _between(self.counted, count, 1e-6)

    def counted_searches(
        self, limits: Sequence[float], strategies: Sequence[str], seeds: Sequence[int], fine_tuned: int = 1
    ) -> list[Row]:
        """As many beside each other as there are cores, each on one: all have the same conditions.

        Args:
            limits: in MFLOPs.
            fine_tuned: how many candidates share the time for that.
        """
        budgets = [f"{math.ceil(1e4 * limit) / 1e4:.10g} MFLOPs" for limit in limits]
        return self._swept(budgets, strategies, seeds, Processes(len(os.sched_getaffinity(0))), fine_tuned)

    def timed_searches(self, strategy: str, count: int, seed: int) -> list[Row]:
        """Under so many budgets in milliseconds, with nothing beside it.

        The least is so far above the cheapest network's prediction as levels of a shared machine drift.
        """
        limits = _between(self._price("1 ms"), count + 1, 1.0, 1 / ROOM)[:-1]  # the whole network fits without a search
        return self._swept([f"{limit:.3g} ms" for limit in limits], [strategy], [seed], Here(), SEVERAL)

    def searches_by_cost(self, strategy: str, seeds: Sequence[int]) -> list[Row]:
        """One for every cost: half way, in the logarithm, from the cheapest network to the whole one.

        Steps are as many for all numbers of workers, half way to the whole one on the most.

        Returns:
            what a search gives, with view (see `COSTS`) and run (its folder, in that of this).
        """
        limits = {unit: _between(self._price(f"1 {unit}"), 3, 1.0)[1] for unit in COSTS.values()}
        alike = round(min(limit for unit, limit in limits.items() if unit.startswith("steps")))
        found = []
        for view, unit in COSTS.items():
            limit = alike if unit.startswith("steps") else round(limits[unit])
            for each in self._swept([f"{limit} {unit}"], [strategy], seeds, Processes(len(os.sched_getaffinity(0)))):
                found.append({**each, "view": view})
        return found

    def _swept(
        self,
        budgets: Sequence[str],
        strategies: Sequence[str],
        seeds: Sequence[int],
        executor: Executor,
        fine_tuned: int = 1,
    ) -> list[Row]:
        given = {"data": str(self._data), "minutes": MINUTES, "fine_tuned": fine_tuned}
        points = grid({SPACE: self._profile}, strategies, budgets, [], seeds, **given)
        # A sweep goes on with all of its points only, so whatever else was asked for has a folder of its own; so has
        # what was searched in another way.
        ways = [RULE, SEARCH_SHARE, SMALLER, APART, self._warm_up_minutes]
        told = [ways, sorted([point.name, point.arguments] for point in points)]
        folder = self._folder / f"sweep-{digest(told)[:12]}"
        if not self._resume and folder.exists():
            shutil.rmtree(folder)
        rows = run_sweep(points, folder, executor, True, self._warm_up_minutes, warm_up_folder=self._folder)
        if failed := [f"{row.point} failed: {row.failed}" for row in rows if row.failed is not None]:
            raise MilliwiseError(f"{failed[0]}; {len(failed)} of {len(rows)} searches failed: go on with --resume")
        return [{**row.facts(), **_found(folder / row.point), "run": f"{folder.name}/{row.point}"} for row in rows]


def _found(folder: Path) -> Row:
    """Of a run: by how many of its standard errors the best of those fine-tuned within the budget validated above the
    chosen, how many those were, how large the chosen one is, the epochs of all fine-tuning, and what was measured.
    """
    run = read_finished(folder)
    epochs = sum(str(each.get("stage")).startswith(FINE_TUNING) for each in read_log(folder))
    tried = [each for each in run["pareto"] if each["fine_tuned_accuracy"] is not None]
    chosen = next(each for each in tried if each["chosen"])
    best = max(each["fine_tuned_accuracy"] for each in tried if each["fits"] or each is chosen)
    beaten = (best - chosen["fine_tuned_accuracy"]) / chosen["fine_tuned_error"]
    p95_ms = run["measured"].get("p95_ms")  # for budgets of time
    return {"tried": len(tried), "beaten": beaten, "live_edges": len(run["kept"]), "epochs": epochs, "p95_ms": p95_ms}


def _between(asked: Price, count: int, unit: float, room: float = 1.02) -> list[float]:
    least, most = asked(asked.cheapest()), asked(asked.graph.full)
    return [round(float(limit) * unit, 4) for limit in np.geomspace(room * least, most, count)]
