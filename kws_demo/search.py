"""The search run: train the super-network under a budget, measure the best few on the target, fine-tune, choose.

A candidate's cost does not depend on its weights, so candidates are measured before training time is spent on them:
only those that keep the budget on the device are fine-tuned, and the one that validates best is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kws_demo.candidate import (
    CANDIDATES_NAME,
    Candidate,
    load_candidates,
    next_to_measure,
    prediction_error,
    save_candidates,
)
from kws_demo.measure import excess, measure_candidate, predicted_candidate
from kws_demo.preparation import prepare
from kws_demo.run_folder import RunFolder
from kws_demo.search_facts import search_facts
from kws_demo.settings import Settings
from kws_demo.stages import MOST_EPOCHS, Stages, require_device
from kws_demo.task import Accuracy
from kws_demo.warm_up import begin_with
from profilers.check import require_same_machine
from profilers.fixed import FEWEST_LABELS, with_classifier
from profilers.target import parse_target
from toolkit.budget import Budget
from toolkit.costs import Price, price
from toolkit.errors import MilliwiseError
from toolkit.features import front_end_of
from toolkit.files import read_json
from toolkit.graph import Architecture, Graph
from toolkit.own_cost import own_cost
from toolkit.profile import DeviceProfile
from toolkit.progress import countdown, progress
from toolkit.run import Selected, append_log, save_selected
from toolkit.spaces import find_space
from toolkit.strategies import Strategy, find_strategy
from toolkit.supernet import SuperNetwork
from toolkit.training import Plan, train

ROOM = 0.9  # candidates are sought below this share of the limit: levels of a shared machine drift by that much
# Of the training time; the rest fine-tunes. Measured on a ResNet fabric of 6.8 MFLOPs, on CIFAR-10, in 1.5 minutes and
# in 5: with 0.12 right for 62.0 % and 71.2 %, with 0.3 for 59.3 % and 68.5 %; with 0.06, in 1.5 minutes, 59.4 %.
SEARCH_SHARE = 0.12
CANDIDATES = 12
JUDGED = 1000  # examples, of a search that judges as many networks as its time allows
MOST_MEASURED = 4
SMALLER = 0.5  # each of several candidates keeps so much, at most, of what the one before costs above the cheapest
APART = 0.9  # and is none where that would be this share of its cost, or more


def run_search(settings: Settings, profile: DeviceProfile, folder: Path, resume: bool = False) -> dict[str, Any]:
    """Search, and leave a run folder that `milliwise export` takes.

    Args:
        profile: of the device; the candidates are measured on its target.
        folder: run folder; with `resume` the work goes on from what is in it.

    Returns:
        The content of `run.json`.

    Raises:
        MilliwiseError: impossible budget, bad data, or a folder of other arguments to resume.
    """
    run = _Run(settings, profile, folder, resume)
    with run.timed("data"):
        run.load()
    run.begin()
    with run.timed("search"):
        run.train_supernetwork()
        candidates = run.candidates()
    with run.timed("measure"):
        run.measure(candidates)
    with run.timed("fine_tune"):
        networks = run.fine_tune(candidates)
    return run.choose(candidates, networks)


class _Run(Stages):
    """The steps of a search, in the order of `run_search`."""

    def __init__(self, settings: Settings, profile: DeviceProfile, folder: Path, resume: bool) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.settings, self.profile, self.folder = settings, profile, Path(folder)
        self.budget = Budget.parse(settings.budget)
        self.space = find_space(settings.space)
        network = self.space.build(hop_ms=profile.hop_ms)
        if not self.space.sees:
            front_end_of(network.stem, self.space.name)
        graph = network.graph
        profile.require(graph, threads=settings.threads, space=self.space.name)
        self._set_price(graph, with_classifier(profile, self.space, FEWEST_LABELS))  # to refuse what no data make fit
        self.target = parse_target(profile.target if settings.on is None else settings.on)
        if self.budget.timed:  # nothing else is measured
            require_same_machine(profile, self.target)
        if not find_strategy(settings.strategy).takes_penalty and settings.penalty is not None:
            raise MilliwiseError(f"{settings.strategy} has no λ: leave --penalty out")
        require_device(settings.device)
        self.run_folder = RunFolder(folder, settings, profile, resume)

    def load(self) -> None:
        """Read or make the data and build the super-network for its labels; what is counted, is counted with those."""
        self.task, self.network = prepare(self.settings, self.space, self.profile.hop_ms)
        self.profile = with_classifier(self.profile, self.space, len(self.task.labels))
        self._set_price(self.network.graph, self.profile)
        if self.settings.warm is not None:
            begin_with(self.network, self.task.labels, Path(self.settings.warm))

    def _set_price(self, graph: Graph, profile: DeviceProfile) -> None:
        own = own_cost(self.settings.cost, graph, profile.weightless)
        self.price: Price = price(graph, profile, self.budget, bound=self.settings.bound, own=own)
        self.price.require_feasible(self.budget)

    def train_supernetwork(self) -> None:
        """Train shared weights while the strategy learns which edges to keep."""
        chosen = self.settings
        room = ROOM if self.budget.timed else 1.0  # what is counted comes out the same again
        limit = max(room * self.budget.limit, self.price(self.price.cheapest()))
        self.strategy: Strategy = find_strategy(chosen.strategy)(self.price, limit, chosen.seed, **chosen.options)
        if chosen.warm is not None:
            self.strategy.skip_warm_up()

        def log(row: dict[str, Any]) -> None:
            append_log(self.folder, row)
            if facts := self.strategy.facts():
                append_log(self.folder, {"stage": "probabilities", "epoch": row["epoch"], **facts})

        minutes = SEARCH_SHARE * chosen.minutes * self.strategy.training_share
        self.strategy.attach(dict(self.network.operations.items()))
        self._train(self.network, "training the super-network", minutes, "search.checkpoint", log, self.strategy)
        self.strategy.settle()

    def _train(
        self,
        network: SuperNetwork,
        title: str,
        minutes: float,
        name: str,
        log: Callable[[dict[str, Any]], None],
        strategy: Strategy | None = None,
    ) -> None:
        plan = Plan(epochs=MOST_EPOCHS, minutes=minutes)
        network.operations.to(self.settings.device)  # the stem stays with the audio, on the CPU
        network.head.to(self.settings.device)
        train(
            self.task.student(network),
            self.task.training,
            self.task.steps,
            plan,
            self.task.loss(),
            title=title,
            strategy=strategy,
            seed=self.settings.seed,
            checkpoint=self.folder / name,
            log=log,
        )

    def candidates(self) -> list[Candidate]:
        """The strategy's best, ranked by how they validate with the shared weights."""
        path, self.measured = self.folder / CANDIDATES_NAME, False
        if path.exists():
            found, self.measured = load_candidates(path, self.strategy)
            return found
        self._refine()
        found = self._compare(self.strategy.candidates(CANDIDATES))
        self._save(found)
        return found

    def _refine(self) -> None:
        """Let the strategy use the rest of the search's time, if it left any, to judge with the trained weights."""
        seconds = 60 * SEARCH_SHARE * self.settings.minutes * (1 - self.strategy.training_share)
        if not seconds:
            return
        with countdown("judging more networks", seconds) as over:
            self.strategy.refine(lambda kept: self._validated(kept, JUDGED).share, over)

    def _validated(self, kept: Architecture, most: int | None = None) -> Accuracy:
        self.task.recalibrate(self.network, kept)
        return self.task.judge(self.network, "validation", kept, most)

    def _compare(self, proposed: list[Architecture]) -> list[Candidate]:
        found = []
        with progress(f"comparing {len(proposed)} candidates", len(proposed)) as advance:
            for kept in proposed:
                found.append(self._candidate(kept))
                advance(1)
        return sorted(found, key=lambda candidate: -candidate.accuracy)

    def _candidate(self, kept: Architecture) -> Candidate:
        return predicted_candidate(
            kept, self._validated(kept), self.budget, self.price, self.profile, self.settings.bound
        )

    def _save(self, candidates: list[Candidate]) -> None:
        save_candidates(self.folder / CANDIDATES_NAME, candidates, self.strategy, self.measured)

    def measure(self, candidates: list[Candidate]) -> None:
        """Measure the most promising on the target until enough keep the budget; at last the cheapest of all."""
        if self.measured:  # in an earlier sitting
            return
        known = sum(candidate.fits is not None for candidate in candidates)
        for number in range(known + 1, MOST_MEASURED + self.settings.fine_tuned):
            if (chosen := self._next(candidates)) is None:
                break
            self._measure(candidates, chosen, f"measuring candidate {number}")
        cheapest = self.price.cheapest()
        if not any(candidate.fits for candidate in candidates) and sorted(cheapest) not in (c.kept for c in candidates):
            candidates.append(self._candidate(cheapest))
            self.measured = True  # with this one
            self._measure(candidates, candidates[-1], "measuring the cheapest network")
        self.measured = True
        self._save(candidates)

    def _next(self, candidates: list[Candidate]) -> Candidate | None:
        """The next one to measure, if one more is to be fine-tuned; what the strategy proposes anew joins the others.

        Each that is to be fine-tuned is smaller than the one before. A smaller network learns faster, and may be the
        better one when time is short; two of about the same cost would differ by little more than chance.
        """
        fitting = [self.price(candidate.kept) for candidate in candidates if candidate.fits]
        if len(fitting) == self.settings.fine_tuned:
            return None
        if not fitting:
            if found := next_to_measure(candidates, self.budget.limit):
                return found
            # As much lower as the predictions were too low.
            candidates += self._within(ROOM * self.budget.limit / prediction_error(candidates), candidates)
            return next_to_measure(candidates, self.budget.limit)
        least, before = self.price(self.price.cheapest()), min(fitting)
        limit = least + SMALLER * (before - least)
        if limit >= APART * before:
            return None
        candidates += self._within(limit, candidates)
        smaller = (each for each in candidates if each.fits is not None or self.price(each.kept) <= limit)
        return next_to_measure(smaller, self.budget.limit)

    def _within(self, limit: float, candidates: list[Candidate]) -> list[Candidate]:
        """What the strategy proposes besides the candidates when its limit is lowered."""
        self.strategy.limit = max(limit, self.price(self.price.cheapest()))
        known = [candidate.kept for candidate in candidates]
        return self._compare([kept for kept in self.strategy.candidates(CANDIDATES) if sorted(kept) not in known])

    def _measure(self, candidates: list[Candidate], candidate: Candidate, title: str) -> None:
        network = self.network.select(candidate.kept).cpu().eval()
        shape, calls = self.space.shape(self.profile.hop_ms), self.settings.calls
        measure_candidate(candidate, network, shape, self.budget, self.price, self.profile, self.target, calls, title)
        self._save(candidates)

    def fine_tune(self, candidates: list[Candidate]) -> dict[int, SuperNetwork]:
        """Train every candidate that keeps the budget alone; if none does, the one that exceeds it least."""
        fitting = [index for index, candidate in enumerate(candidates) if candidate.fits]
        if not fitting:
            places = range(len(candidates))
            fitting = [min(places, key=lambda index: excess(candidates[index], self.budget, self.price))]
        minutes = (1 - SEARCH_SHARE) * self.settings.minutes / len(fitting)
        networks = {}
        for number, index in enumerate(fitting):
            self.task.recalibrate(self.network, candidates[index].kept)
            network = self.network.select(candidates[index].kept)
            title = f"fine-tuning candidate {number + 1} of {len(fitting)}"
            self._train(
                network, title, minutes, f"candidate-{index}.checkpoint", lambda row: append_log(self.folder, row)
            )
            self.task.recalibrate(network, batches=16)
            judged = self.task.judge(network, "validation")
            candidates[index].fine_tuned_accuracy, candidates[index].fine_tuned_error = judged.share, judged.error
            candidates[index].silence_heard = self.task.hears_silence(network)
            networks[index] = network
        return networks

    def choose(self, candidates: list[Candidate], networks: dict[int, SuperNetwork]) -> dict[str, Any]:
        """The measured candidate that validates best, of equals the faster. The test part is looked at only here."""
        best = max(networks, key=lambda index: candidates[index].merit())
        winner, network = candidates[best], networks[best]
        finished = self.task.finish(network)
        for each in candidates:
            each.chosen = each is winner
        self._save(candidates)
        told = search_facts(self.settings, self.space.name, self.price, self.task, candidates, winner, network)
        facts = {**told, "seconds": self.seconds, **finished}
        selected = Selected(network.cpu(), frozenset(winner.kept), self.task.labels, self.profile.hop_ms, facts)
        save_selected(self.folder, selected)
        return read_json(self.folder / "run.json", "run")
