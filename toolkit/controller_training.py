"""The training loop of a controller: epochs over what every mode gives the sink, with progress and resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.adaptive import AdaptiveNetwork, Rollout
from toolkit.errors import MilliwiseError
from toolkit.files import digest
from toolkit.progress import progress
from toolkit.strategies.sanas import IGNORED, Objective, certainty, expected, hop_costs, reinforced, spread
from toolkit.weights import read_tensors, restore_tensors, save_tensors, tensors_of

CERTAIN = 4.0  # times the log-odds that are tried: what is billed is nearly what is more likely, and still smooth

Streams = Iterable[tuple[Tensor, Tensor]]
"""Batches of what every mode gives the sink, [batch, hops, modes, channels], with labels [batch, hops]."""


class ControllerTraining:
    """Trains controller and classifier of an adaptive network, epoch by epoch; all of it with `everything`.

    Args:
        costs: [modes, modes], of a mode (second) after a mode (first); with the controller and all that always runs.
        everything: train the edges, too: the batches are then made by the network itself, with gradients, each when it
            is asked for.

    Raises:
        MilliwiseError: the costs are not one finite number above 0 for each mode after each.
    """

    def __init__(
        self, adaptive: AdaptiveNetwork, costs: Tensor, objective: Objective, seed: int, everything: bool = False
    ) -> None:
        if costs.shape != (len(adaptive.modes),) * 2 or not bool(((costs > 0) & costs.isfinite()).all()):
            raise MilliwiseError(f"the costs are {list(costs.shape)}: give one above 0 for each mode after each")
        self.adaptive, self.objective, self.everything = adaptive, objective, everything
        self.costs = costs.float().cpu()
        self.seed, self.epoch, self.baseline = seed, 0, math.nan
        self.penalty = 0.1 if objective.penalty is None else objective.penalty
        trained: nn.Module = adaptive.network if everything else adaptive.network.head
        trained.requires_grad_(objective.classifier or everything)
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(adaptive.controller.parameters()), "weight_decay": 0.0},
                {"params": list(trained.parameters()), "weight_decay": objective.weight_decay},
            ],
            lr=objective.learning_rate,
        )

    def run(
        self,
        batches: Callable[[int], Streams],
        epochs: int,
        title: str,
        checkpoint: Path | None = None,
        log: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> AdaptiveNetwork:
        """Train until `epochs` epochs are done, from the checkpoint if there is one; the network in evaluation mode.

        Args:
            batches: of an epoch, the same for the same epoch.
            log: receives a row per epoch: loss, penalty, mean ms of a hop by the more likely decisions, and
                ms by label (Fig. 4.10 of the thesis).

        Raises:
            MilliwiseError: the loss is not finite, or the checkpoint is damaged or of another network.
        """
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        with progress(title, epochs) as advance:
            advance(min(self.epoch, epochs))
            while self.epoch < epochs:
                begun = time.monotonic()
                row = self._epoch(batches(self.epoch), self.epoch / epochs)
                self.epoch += 1
                log({"stage": title, "epoch": self.epoch, "seconds": round(time.monotonic() - begun, 3), **row})
                if checkpoint is not None:  # last: an epoch that is saved is not trained, nor told, again
                    self._save(checkpoint)
                advance(1)
        return self.adaptive.eval()

    def _epoch(self, batches: Streams, done: float) -> dict[str, Any]:
        torch.manual_seed(self.seed * 1009 + self.epoch)  # of the dropout, with `everything`
        generator = torch.Generator().manual_seed(self.seed * 1009 + self.epoch)
        ramp = min(1.0, done / self.objective.warm_up) if self.objective.warm_up else 1.0
        losses, spent = [], _Spent()
        self.adaptive.train(self.everything)  # before the first batch, which the network itself may make
        for sinks, labels in batches:
            self.optimizer.zero_grad(set_to_none=True)
            rollout = self.adaptive.roll(sinks, generator)
            loss = self._loss(rollout, sinks, labels, self.penalty * ramp)
            if not math.isfinite(loss.item()):
                raise MilliwiseError(f"training the controller diverged (loss {loss.item()}): try another --seed")
            loss.backward()
            nn.utils.clip_grad_norm_([each for group in self.optimizer.param_groups for each in group["params"]], 5.0)
            self.optimizer.step()
            # More certain than what is tried, for what is more likely is what will run.
            modes = self.adaptive.drawn_modes(CERTAIN * rollout.log_odds.detach(), generator).cpu()
            spent.add(hop_costs(self.costs, modes), labels.cpu())
            losses.append(loss.item())
        if self.objective.limit is not None and ramp == 1:  # dual ascent
            excess = spent.mean / self.objective.limit - 1
            step = 1.5 * (1 - done) * max(-0.2, min(0.2, excess))  # smaller and smaller: the policy lags behind
            self.penalty = min(1e3, max(1e-4, self.penalty * math.exp(step)))
        return {"loss": sum(losses) / len(losses), "penalty": self.penalty, **spent.facts()}

    def _loss(self, rollout: Rollout, sinks: Tensor, labels: Tensor, penalty: float) -> Tensor:
        costs = spread(self.costs / self.costs.max(), self.objective.run_hops).to(sinks.device)
        count = rollout.logits.shape[-1]
        weights = torch.tensor(self.objective.class_weights or (1.0,) * count, device=sinks.device)
        restraint = self.objective.restraint * certainty(rollout, labels)
        if self.objective.exact:
            return restraint + expected(self.adaptive, rollout, sinks, labels, costs, penalty, weights)
        first = math.isnan(self.baseline)
        baseline = 0.0 if first else self.baseline
        loss, gained = reinforced(rollout, labels, costs, penalty, self.objective.discount, weights, baseline)
        # The decay of 0.9 is that of the new value, as in the released code.
        self.baseline = gained.item() if first else 0.9 * gained.item() + 0.1 * self.baseline
        return restraint + loss

    def _save(self, path: Path) -> None:
        baseline = None if math.isnan(self.baseline) else self.baseline
        state = {"epoch": self.epoch, "penalty": self.penalty, "baseline": baseline, "task": self._task()}
        save_tensors(path, tensors_of(self.adaptive, self.optimizer), json.dumps({**state, "sha256": digest(state)}))

    def _load(self, path: Path) -> None:
        tensors, text = read_tensors(path)
        try:
            state = json.loads(text)
            if state.pop("sha256") != digest(state) or state["task"] != self._task():
                raise ValueError("edited by hand, or of another network, cost or objective")
            restore_tensors(self.adaptive, self.optimizer, tensors)
            self.epoch, self.penalty = int(state["epoch"]), float(state["penalty"])
            self.baseline = math.nan if state["baseline"] is None else float(state["baseline"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise MilliwiseError(
                f"checkpoint {path} is damaged or of another network ({reason}): start over without --resume"
            ) from None

    def _task(self) -> str:
        """A hash of what is trained, and for what: with anything else a checkpoint would go on, but mean nothing."""
        network = [self.adaptive.graph.digest(), self.adaptive.gated, str(self.adaptive.controller), self.everything]
        return digest([network, asdict(self.objective), self.costs.tolist(), self.seed])


class _Spent:
    """Adds up the ms of hops, in all and by label."""

    def __init__(self) -> None:
        self.total: dict[int, float] = {}
        self.hops: dict[int, int] = {}

    def add(self, costs: Tensor, labels: Tensor) -> None:
        for label in labels.unique().tolist():
            if label != IGNORED:
                chosen = labels == label
                self.total[label] = self.total.get(label, 0.0) + float(costs[chosen].sum())
                self.hops[label] = self.hops.get(label, 0) + int(chosen.sum())

    @property
    def mean(self) -> float:
        return sum(self.total.values()) / max(1, sum(self.hops.values()))

    def facts(self) -> dict[str, Any]:
        by_label = {str(label): self.total[label] / self.hops[label] for label in sorted(self.hops)}
        return {"mean_cost": self.mean, "cost_by_label": by_label}
