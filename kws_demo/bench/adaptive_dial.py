"""The dial on a stream: what a listener costs and misses under budgets from its cheapest mode to all gates open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from exporters.adaptive import modes_after
from kws_demo.bench.adaptive_gated import ALARMS_PER_HOUR, HOP_MS, Trial
from kws_demo.dial import Dial
from kws_demo.operating_points import at_false_alarms, missed_more, spent_ms
from toolkit.progress import progress

SHARES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of the way from the cheapest mode to all gates always open
ROUNDING = 1e-9  # of a mean
Row = dict[str, Any]


def dial_settings(trial: Trial) -> list[Row]:
    """Every budget: its ms a second and misses, and whether a larger one costs, or a smaller one misses, surely less.

    Misses at the same false alarms, as all that is compared; surely: beyond the interval over speakers.
    """
    rng, table = np.random.default_rng(trial.seed), trial.costs.table(trial.adaptive).double().numpy()
    budgets_ms = [float(table[0, 0] + share * (table[-1, -1] - table[0, 0])) for share in SHARES]
    spent, missed = [], []
    for modes in turned(trial, budgets_ms):
        spent.append(float(spent_ms(modes, table).mean()))
        sweep = trial.sweep(trial.heard.scores_of(modes))
        missed.append(sweep.missed[at_false_alarms(sweep, ALARMS_PER_HOUR)])
    return [
        {
            "budget_ms": budget_ms,
            "ms_per_second": spent[place] * 1000 / HOP_MS,
            "misses": float(missed[place].mean()),
            "costs_more": any(spent[place] > more + ROUNDING for more in spent[place + 1 :]),
            "misses_more": any(missed_more(missed[place], less, trial.speakers, rng)[1] > 0 for less in missed[:place]),
        }
        for place, budget_ms in enumerate(budgets_ms)
    ]


def turned(trial: Trial, budgets_ms: Sequence[float]) -> list[np.ndarray]:
    """What runs at every hop of the trial's stream under each budget: int64 [hops], as the network counts its modes."""
    assert trial.adaptive.controller.looks  # it hears the same whatever was decided before
    with torch.no_grad():
        log_odds = np.asarray(trial.adaptive.roll(trial.heard.sinks[None].float()).log_odds[0].numpy())
    found = []
    with progress("turning the dial", len(budgets_ms)) as advance:
        for budget_ms in budgets_ms:
            found.append(_turned(trial, log_odds, budget_ms))
            advance(1)
    return found


def _turned(trial: Trial, log_odds: np.ndarray, budget_ms: float) -> np.ndarray:
    """Hop by hop, as `kws_demo.stream.listen` turns the dial; each hop is billed as its mode was measured."""
    adaptive, after, mode_of = trial.adaptive, modes_after(trial.adaptive), trial.adaptive.mode_of.numpy()
    named = [{"name": name, "predicted_ms": ms} for name, ms in trial.costs.named_ms.items()]
    dial, gates = Dial(named, len(adaptive.gated), HOP_MS, budget_ms), 2 ** np.arange(len(adaptive.gated))
    modes, before = np.zeros(len(log_odds), np.int64), 0
    for hop, odds in enumerate(log_odds):
        modes[hop] = mode_of[(odds > dial.values) @ gates]
        dial.ran(int(after[before, modes[hop]]), 0.0)
        before = modes[hop]
    return modes
