"""The ResNet fabric of the thesis' size, searched on a GPU within half an hour, beside what the thesis found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from kws_demo.bench.rows import row
from kws_demo.sweep import grid, run_sweep
from kws_demo.sweep_row import read_finished
from kws_demo.workers import Here
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import show
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE = "resnet-fabric:blocks=3"
THESIS = {39.25: 92.39, 56.47: 92.92, 152.6: 94.01}  # MFLOPs: right, in %, on all of CIFAR-10 (Budgeted Super Networks)
MINUTES = 9.0  # of each; the profile is made once, and not counted
LIMIT_MINUTES = 30.0
Row = dict[str, Any]


def gpu_rows(data: Path, folder: Path, strategy: str, seed: int) -> list[Row]:
    """A search within every cost of the thesis' table, one after the other; minutes, images and accuracy.

    Raises:
        MilliwiseError: a search failed; what is done is gone on with.
    """
    path = folder / "resnet-fabric-3.profile.json"
    if not path.exists():
        profile_device(find_space(SPACE), LocalTarget()).save(path)
    given = {"data": str(data), "minutes": MINUTES, "device": "cuda"}
    budgets = [f"{limit:g} MFLOPs" for limit in THESIS]
    points = grid({SPACE: DeviceProfile.load(path)}, [strategy], budgets, [], [seed], **given)
    rows = run_sweep(points, folder / f"gpu-{seed}", Here(), resume=True)
    if failed := [each.failed for each in rows if each.failed is not None]:
        raise MilliwiseError(f"{failed[0]}: go on with --resume")
    told = [read_finished(folder / f"gpu-{seed}" / each.point)["data"]["images"].rpartition(": ")[2] for each in rows]
    return [{**each.facts(), "images": images} for each, images in zip(rows, told, strict=True)]


def on_gpu() -> bool:
    """Whether there is one to search on."""
    return torch.cuda.is_available()


def judged_gpu(found: Sequence[Row] | None, why: str) -> Iterator[Row]:
    """All rows; without figures where nothing was found, and `why`."""
    name = f"minutes of searching {SPACE} on a GPU within the costs of the thesis"
    if found is None:
        yield row(name, f"<= {LIMIT_MINUTES:g}", None, None, reason=why)
        return
    minutes, told = sum(each["seconds"] for each in found) / 60, f"{len(found)} searches"
    yield row(name, f"<= {LIMIT_MINUTES:g}", minutes, lambda value: value <= LIMIT_MINUTES, reason=told)
    for each, (limit, published) in zip(found, THESIS.items(), strict=True):
        cost = show("multiply_adds", each["cost"])
        reason = f"{cost}, {each['images']}; the thesis' was right for {published} %, trained on all 50,000"
        yield row(f"right on a GPU within {limit:g} MFLOPs", "-", each["test"], None, reason=reason)
