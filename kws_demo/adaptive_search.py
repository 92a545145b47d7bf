"""The search of a listener that chooses its network at every hop: train all modes, price them, teach the controller.

The edges are trained first, every mode on every example. Then they stand still, and what each mode would say about some
streams is known: the controller learns from that (toolkit/strategies/sanas.py), thousands of steps in a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporters.metadata import default_decision
from kws_demo.calibrate import calibrate
from kws_demo.data import SpeechData
from kws_demo.run_folder import MODES_NAME, RunFolder
from kws_demo.settings import Settings, data_of
from kws_demo.stages import Stages, require_device
from kws_demo.streams import Mixture, Streams
from kws_demo.train import Speech, accuracy
from profilers.bundle import BundleTarget
from profilers.check import require_same_machine
from profilers.fixed import FEWEST_LABELS, with_classifier
from profilers.mode_prices import price_adaptive
from profilers.modes import ModeCosts, measure_modes
from profilers.target import parse_target
from toolkit.adaptive import AdaptiveNetwork, of_every_mode
from toolkit.budget import AVERAGED, Budget, show
from toolkit.controller_training import ControllerTraining
from toolkit.costs import ACCOUNTING
from toolkit.errors import BudgetTooSmall, MilliwiseError
from toolkit.features import front_end_of
from toolkit.files import read_json, write_json
from toolkit.graph import Architecture
from toolkit.profile import DeviceProfile
from toolkit.progress import progress
from toolkit.run import Selected, append_log, save_selected
from toolkit.spaces import SAMPLES_PER_MS, find_space
from toolkit.strategies.sanas import IGNORED, Objective, class_weights, hop_costs
from toolkit.training import Growth, Plan, quick_in_bfloat16, train

EDGES_SHARE = 0.9  # of the training time; the controller's is known from its epochs
LEARNING_RATE = 2e-3
MOST_EPOCHS = 1000
# Of the time, without branches that hold most of the weights: a step without them takes a fifteenth of the time
# (measured), and they learn faster from a trunk that hears something already.
SMALL_FIRST = 0.2
STREAM_EPOCHS, CONTROLLER_EPOCHS = 4, 60
RUN_HOPS = 5.0  # of a branch that opens: a word is in about so many windows (measured: with 1, the dear one stays shut)
# By metric, what is logged of the mean cost of a hop, and of those of each label.
LOGGED = {
    metric: {"mean_cost": mean, "cost_by_label": f"{mean.removeprefix('mean_')}_by_label"}
    for metric, mean in AVERAGED.items()
}
# Few hops of life are words; so that a controller learns to shut its gates again, more follows the word.
HEARD = Mixture(seconds=(3.0, 6.0), words=(1, 3), unknown_share=0.25, silence_share=0.1, talk_share=0.25)
Batch = tuple[Tensor, Tensor]


def small_first(adaptive: AdaptiveNetwork) -> Growth:
    """At first all edges but the gated ones that hold more than half of the weights, then all."""
    operations = adaptive.network.operations
    weights = {name: sum(weight.numel() for weight in operations[name].parameters()) for name in operations}
    large = {gate for gate in adaptive.gated if weights[gate] > sum(weights.values()) / 2}
    return lambda done: adaptive.graph.full - (large if done < SMALL_FIRST else set())


def run_adaptive_search(
    settings: Settings, profile: DeviceProfile, folder: Path, resume: bool = False
) -> dict[str, Any]:
    """Train an adaptive listener whose mean hop costs what the budget allows, and leave a run folder.

    The mean is over streams in which about half of the hops hold speech: more than a listener will hear.

    Args:
        profile: of the device; the modes are measured on its target. A budget of FLOPs is held against counted modes
            (`profilers/mode_prices.py`); their ms are measured all the same, for the listener and its meter.

    Returns:
        The content of `run.json`.

    Raises:
        MilliwiseError: the space has no gates, or for FLOPs gated edges that catch up; the budget is no mean of ms or
            FLOPs, or below the cheapest mode; bad data, or a folder of other arguments to resume.
    """
    run = _AdaptiveRun(settings, profile, folder, resume)
    with run.timed("data"):
        run.load()
    run.begin()
    with run.timed("measure"):
        run.measure()
    with run.timed("edges"):
        run.train_edges()
    with run.timed("controller"):
        run.teach()
    return run.save()


class _AdaptiveRun(Stages):
    """The steps, in the order of `run_adaptive_search`."""

    def __init__(self, settings: Settings, profile: DeviceProfile, folder: Path, resume: bool) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.settings, self.profile, self.folder = settings, profile, Path(folder)
        self.budget = Budget.parse(settings.budget)
        if self.budget.statistic != "mean":
            mean = f"{self.budget} mean" if self.budget.metric == "multiply_adds" else "1 ms mean"
            raise MilliwiseError(f"sanas keeps a mean over the hops, not {self.budget}: write it as '{mean}'")
        if settings.network_only and self.budget.metric != "multiply_adds":
            raise MilliwiseError(
                f"what is measured for {self.budget} contains controller and front-end: leave out --network-only, or "
                "give a budget such as '40 MFLOPs mean'"
            )
        self.space = find_space(settings.space)
        adaptive = self.space.adaptive(hop_ms=profile.hop_ms)
        front_end_of(adaptive.network.stem, self.space.name)
        profile.require(adaptive.graph, threads=settings.threads, space=self.space.name)
        self._set_prices(adaptive, with_classifier(profile, self.space, FEWEST_LABELS))
        self.target = parse_target(profile.target if settings.on is None else settings.on)
        if isinstance(self.target, BundleTarget):
            name = self.target.name
            raise MilliwiseError(f"every mode has to be measured, and {name} is carried by hand: use --on ssh://HOST")
        require_same_machine(profile, self.target)
        require_device(settings.device)
        self.run_folder = RunFolder(folder, settings, profile, resume)

    def load(self) -> None:
        """Read or make the data and build the network for its labels."""
        given = self.settings
        self.data: SpeechData = data_of(given)
        torch.manual_seed(given.seed)
        labels = len(self.data.labels)
        self.adaptive: AdaptiveNetwork = self.space.adaptive(labels, self.profile.hop_ms)
        self.profile = with_classifier(self.profile, self.space, labels)
        self._set_prices(self.adaptive, self.profile)
        self.hop_samples = self.profile.hop_ms * SAMPLES_PER_MS
        self.speech = Speech(self.data, self.adaptive.network.stem, self.hop_samples, given.seed, given.device)

    def _set_prices(self, adaptive: AdaptiveNetwork, profile: DeviceProfile) -> None:
        self.prices = None
        if self.budget.metric == "multiply_adds":
            self.prices = price_adaptive(adaptive, profile, self.settings.network_only)
            self._require_feasible(self.prices.named_multiply_adds)

    def measure(self) -> None:
        """What every mode costs on the target; weights do not matter for that."""
        path = self.folder / MODES_NAME
        if path.exists():
            self.costs = ModeCosts.from_facts(read_json(path, "modes"), self.adaptive)
        else:
            shape = self.space.shape(self.profile.hop_ms)
            options = {"hop_ms": self.profile.hop_ms, "threads": self.profile.threads}
            self.costs = measure_modes(self.adaptive.eval(), shape, self.target, **options)
            write_json(path, self.costs.facts())
        if self.prices is None:
            self._require_feasible(self.costs.named_ms)

    def _require_feasible(self, named: Mapping[str, float]) -> None:
        least = min(named.values())
        if self.settings.penalty is None and least > self.budget.limit:
            raise BudgetTooSmall(
                f"no listener of this space fits {self.budget}: its cheapest mode costs "
                f"{show(self.budget.metric, least)} here; allow at least that"
            )

    def train_edges(self) -> None:
        """Train the edges, every mode on every example."""
        minutes = EDGES_SHARE * self.settings.minutes
        for part in (self.adaptive.network.operations, self.adaptive.head, self.adaptive.controller):
            part.to(self.settings.device)  # the stem stays with the audio, on the CPU
        train(
            self.adaptive,
            self.speech.training,
            self.speech.steps,
            Plan(
                MOST_EPOCHS,
                minutes,
                LEARNING_RATE,
                bfloat16=quick_in_bfloat16(self.settings.device),
                growth=small_first(self.adaptive),
            ),
            of_every_mode(self.speech.loss()),
            title="training all modes",
            seed=self.settings.seed,
            checkpoint=self.folder / "edges.checkpoint",
            log=lambda row: append_log(self.folder, row),
        )
        torch.manual_seed(self.settings.seed)
        self.speech.recalibrate(self.adaptive, batches=16)

    def teach(self) -> None:
        """Teach the controller on streams of the training clips."""
        self.adaptive.cpu()
        self.speech.device = "cpu"  # from here on
        streams = Streams(self.data, "train", self.hop_samples, self.settings.seed, HEARD)
        cached = [batch for epoch in range(STREAM_EPOCHS) for batch in self._heard(streams, epoch)]
        table = self.costs.table(self.adaptive) if self.prices is None else self.prices.table()
        self.training = ControllerTraining(self.adaptive, table, self._objective(cached), self.settings.seed)
        self.training.run(
            lambda epoch: cached,
            CONTROLLER_EPOCHS,
            "teaching the controller",
            checkpoint=self.folder / "controller.checkpoint",
            log=self._log_taught,
        )

    def _objective(self, cached: Sequence[Batch]) -> Objective:
        """What the controller is taught: by the expectation, or as published."""
        penalty, discount = self.settings.penalty, self.settings.discount
        found = Objective(penalty, self.budget.limit if penalty is None else None, run_hops=RUN_HOPS)
        if discount is None:
            return found
        weights = class_weights((labels for _, labels in cached), len(self.data.labels))
        run_hops = 1.0 if discount else RUN_HOPS  # what later hops bring is in the return: nothing is to be spread
        return replace(found, exact=False, discount=discount, class_weights=weights, restraint=0.0, run_hops=run_hops)

    def _log_taught(self, row: dict[str, Any]) -> None:
        append_log(self.folder, {LOGGED[self.budget.metric].get(name, name): value for name, value in row.items()})

    def _heard(self, streams: Streams, epoch: int) -> Iterator[Batch]:
        """To teach with; the large branches in bfloat16 where that is quick, as they were trained."""
        total, stem = -(-streams.count // streams.batch_size), self.adaptive.network.stem
        with progress(f"hearing streams by all modes ({epoch + 1} of {STREAM_EPOCHS})", total) as advance:
            for batch in streams.batches(epoch):
                with torch.no_grad():
                    features = stem(batch.audio)
                    with torch.autocast("cpu", torch.bfloat16, enabled=quick_in_bfloat16("cpu")):
                        sinks = self.adaptive.eval().sink_values(features)
                yield sinks.float(), batch.labels
                advance(1)

    def save(self) -> dict[str, Any]:
        """Calibrate, judge on clips and streams of people never heard, and write the run."""
        adaptive = self.adaptive
        decision = default_decision(self.profile.hop_ms)
        average_hops = int(decision["average_ms"] // self.profile.hop_ms) + 1
        calibration = calibrate(adaptive, self.speech, average_hops)
        facts = {
            "space": self.space.name,
            "seed": self.settings.seed,
            "strategy": self.settings.strategy,
            "budget": str(self.budget),
            "accounting": ACCOUNTING,
            "arguments": asdict(self.settings),
            "data": self.data.description,
            "penalty": self.training.penalty,
            "modes": self.costs.facts(),
            **({} if self.prices is None else {"prices": self.prices.facts()}),
            "streams": self._judged("test"),
            "accuracy": self._accuracies(),
            "calibration": calibration.facts(),
            "decision": {**decision, "threshold": calibration.threshold},
            "seconds": self.seconds,
        }
        full: Architecture = adaptive.graph.live(adaptive.graph.full)
        save_selected(
            self.folder, Selected(adaptive.network, full, self.data.labels, self.profile.hop_ms, facts, adaptive)
        )
        return read_json(self.folder / "run.json", "run")

    def _accuracies(self) -> dict[str, Any]:
        found = {part: accuracy(self.adaptive, self.speech.evaluation(part)) for part in ("validation", "test")}
        return {
            "validation": found["validation"].share,
            "validation_error": found["validation"].error,
            "test": found["test"].share,
            "test_error": found["test"].error,
            "test_clips": found["test"].clips,
            "between_words": found["test"].between_words,
            "confusion": found["test"].confusion.tolist(),
        }

    def _judged(self, part: str) -> dict[str, Any]:
        """Over frozen streams: the share of hops that is labelled right, by the controller and by every mode; cost."""
        streams = Streams(self.data, part, self.hop_samples, self.settings.seed, HEARD)
        tables = {AVERAGED["latency_ms"]: self.costs.table(self.adaptive)}
        if self.prices is not None:
            tables[AVERAGED["multiply_adds"]] = self.prices.table()
        right, hops, totals = torch.zeros(1 + len(self.adaptive.modes)), 0, dict.fromkeys(tables, 0.0)
        with torch.no_grad():
            for batch in streams.frozen():
                valid = batch.labels != IGNORED
                sinks = self.adaptive.sink_values(self.adaptive.network.stem(batch.audio))
                rollout = self.adaptive.roll(sinks)
                said = [
                    rollout.logits,
                    *(self.adaptive.classify(sinks[:, :, m]) for m in range(len(self.adaptive.modes))),
                ]
                right += torch.tensor([float((logits.argmax(2) == batch.labels)[valid].sum()) for logits in said])
                for name, table in tables.items():
                    totals[name] += float(hop_costs(table, rollout.modes)[valid].sum(dtype=torch.float64))
                hops += int(valid.sum())
        shares = (right / hops).tolist()
        means = {name: total / hops for name, total in totals.items()}
        return {"hops": hops, "right": shares[0], "right_by_mode": shares[1:], **means}
