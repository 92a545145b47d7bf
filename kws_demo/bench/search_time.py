"""How long a search of images takes beside training the whole super-network for the same epochs."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from kws_demo.bench.search_images import SPACE
from kws_demo.seeing import Seeing
from toolkit.costs import Price
from toolkit.datasets import load_images
from toolkit.progress import progress
from toolkit.spaces import find_space
from toolkit.strategies import find_strategy
from toolkit.training import Plan, train

EPOCHS, STEPS, ROUNDS = 4, 25, 3
Row = dict[str, Any]


def time_rows(data: Path, price: Price, limit: float, strategies: tuple[str, ...], seed: int) -> Row:
    """Seconds of training the whole network, and of searching by each strategy, in turns on one core.

    Args:
        price, limit: of the searches.
    """
    task = Seeing(load_images(str(data), size=find_space(SPACE).shape(1)[2], seed=seed), seed, "cpu")
    names = ("", *strategies)
    found: dict[str, list[float]] = {name: [] for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with progress("timing searches", ROUNDS * len(names)) as advance:
        for _ in range(ROUNDS):
            for name in names:
                found[name].append(_seconds(task, name, price, limit, seed))
                advance(1)
    torch.set_num_threads(threads)
    whole = statistics.median(found[""])
    return {"whole_s": whole, "ratios": {name: statistics.median(found[name]) / whole for name in strategies}}


def _seconds(task: Seeing, name: str, price: Price, limit: float, seed: int) -> float:
    """Of training, without what makes the batches ready before it begins."""
    torch.manual_seed(seed)
    network = find_space(SPACE).build(len(task.labels))
    strategy = find_strategy(name)(price, limit, seed) if name else None
    told: list[dict[str, Any]] = []
    batches = [batch for batch, _step in zip(task.training(0), range(STEPS), strict=False)]
    train(
        network,
        lambda _epoch: batches,
        len(batches),
        Plan(EPOCHS),
        task.loss(),
        title=f"timing {name or 'the whole network'}",
        strategy=strategy,
        seed=seed,
        log=told.append,
    )
    return float(told[-1]["seconds"])
