"""What tests of sweeps share: a space, a profile, images, and a search that takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dense_space
import numpy as np

from kws_demo.run_folder import RunFolder
from kws_demo.settings import Settings
from kws_demo.sweep_point import Point
from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.errors import MilliwiseError
from toolkit.files import write_bytes, write_json
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE = "neural-fabric:columns=2,channels=4,size=8"
COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


def pictures(folder: Path) -> Path:
    """Images of three colours."""
    chance = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 150), ("test", 30)):
        labels = np.arange(count) % 3
        noise = chance.integers(-25, 26, (count, 8, 8, 3))
        parts |= {f"x_{part}": (COLOURS[labels][:, None, None] + noise).astype(np.uint8), f"y_{part}": labels}
    np.savez(folder / "colours.npz", **parts)
    return folder / "colours.npz"


def profile() -> DeviceProfile:
    """Of the space, counted."""
    return dense_space.counted_profile(find_space(SPACE))


class FakeSearch:
    """Instead of `run_search`: finds the cheapest network, right for 80 % and a little more for a dear budget."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: set[str] = set()

    def __call__(self, settings: Settings, profile: DeviceProfile, folder: Path, resume: bool) -> dict[str, Any]:
        """As `run_search`."""
        name = Point(settings, profile).name
        self.asked.append(name)
        RunFolder(folder, settings, profile, resume).begin(profile)
        if name in self.failing:
            raise MilliwiseError("training diverged\n(loss nan): try another --seed")
        budget = Budget.parse(settings.budget)
        asked = price(find_space(settings.space).build().graph, profile, budget)
        kept = asked.cheapest()
        right = 0.8 + 0.01 * settings.seed + 1e-6 * budget.limit
        run = {
            "format": 1,
            "kept": sorted(kept),
            "labels": ["a", "b", "c"],
            "task": "classify",
            "measured": {},
            "accuracy": {
                "validation": right,
                "validation_error": 0.01,
                "test": right,
                "test_error": 0.01,
                "test_clips": 100,
            },
            "pareto": [{"chosen": False}, {"chosen": True, "fits": True, "cost": asked(kept)}],
            "seconds": {"search": 2.0, "fine_tune": 3.0},
        }
        write_json(folder / "candidates.json", {})
        write_bytes(folder / "log.jsonl", b"")
        write_bytes(folder / "weights.safetensors", b"weights")
        write_json(folder / "run.json", run)
        return run
