"""Searches on a part of CIFAR-10 under counted budgets, and the chain ResNet of the same fabric trained as long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kws_demo.search import MOST_EPOCHS, run_search
from kws_demo.seeing import Seeing
from kws_demo.settings import Settings, images_of
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.costs import Price, price
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space
from toolkit.spaces.resnet_fabric import resnet
from toolkit.training import Plan, train

SPACE, BLOCKS = "resnet-fabric:blocks=2,width=8", 2
CHAIN_LAYERS = 6 * BLOCKS + 2
MINUTES = 1.0
DATA = Path("images") / "cifar10.npz"
Row = dict[str, Any]


class ImageSearches:
    """Searches of one fabric; runs are kept in a folder, so that they can be gone on with.

    Args:
        recordings: the folder of test data.
        folder: for the device profile and the runs.
    """

    def __init__(self, recordings: Path, folder: Path) -> None:
        self._data, self._folder, self._space = recordings / DATA, folder, find_space(SPACE)
        self._profile = self._measured()
        graph = self._space.build().graph
        self.price: Price = price(graph, self._profile, Budget.parse("1 MFLOPs"))
        self.chain = resnet(CHAIN_LAYERS, BLOCKS)

    def _measured(self) -> DeviceProfile:
        path = self._folder / "resnet-fabric.profile.json"
        if not path.exists():
            profile_device(self._space, LocalTarget()).save(path)
        return DeviceProfile.load(path)

    def limits(self, count: int) -> list[float]:
        """Budgets in MFLOPs from just above the cheapest network to the whole one, evenly in the logarithm."""
        least, most = self.price(self.price.cheapest()), self.price(self.price.graph.full)
        return [round(float(limit) / 1e6, 4) for limit in np.geomspace(1.02 * least, most, count)]

    def searched(self, mega: float, seed: int) -> Row:
        """What a search finds within so many MFLOPs: its cost, in MFLOPs, and how often it is right."""
        settings = self._settings(mega, seed)
        run = run_search(settings, self._profile, self._folder / f"{mega:g}-{seed}", resume=True)
        right = {name: run["accuracy"][name] for name in ("validation", "test", "test_error")}
        return {"limit": mega, "cost": self.price(run["kept"]) / 1e6, "seconds": run["seconds"], **right}

    def chained(self, seed: int) -> Row:
        """The chain alone, trained for the same minutes."""
        settings = self._settings(self.price(self.chain) / 1e6, seed)
        data = images_of(settings, self._space)
        torch.manual_seed(seed)
        network = self._space.build(len(data.labels)).select(self.chain)
        task = Seeing(data, seed, settings.device)
        plan, title = Plan(MOST_EPOCHS, MINUTES), f"training the chain, seed {seed}"
        train(network, task.training, task.steps, plan, task.loss(), title=title, seed=seed)
        task.recalibrate(network, batches=16)
        judged = task.judge(network, "test")
        return {"cost": self.price(self.chain) / 1e6, "test": judged.share, "test_error": judged.error}

    def _settings(self, mega: float, seed: int) -> Settings:
        return Settings(SPACE, f"{mega:.6g} MFLOPs", str(self._data), seed=seed, minutes=MINUTES)
