"""The pictures of `milliwise bench search`: what is found under random and under cloud costs, and how it is learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kws_demo.bench.search_toys import COLUMNS, SCALES, toy_costs
from kws_demo.drawings import training
from kws_demo.drawings.fabric import Setting, by_cost, by_kind
from kws_demo.drawings.front import fronts
from kws_demo.drawings.picture import write_picture
from kws_demo.drawings.values import number, texts
from kws_demo.report_architecture import views
from kws_demo.sweep_row import Row as SweepRow
from kws_demo.sweep_table import summarise
from profilers.export import PROFILE_NAME
from toolkit.budget import Budget, show
from toolkit.files import read_json
from toolkit.infrastructure import DEVICE, LINK, SERVER, cloud_costs
from toolkit.profile import DeviceProfile
from toolkit.run import read_log
from toolkit.spaces import find_space, neural_fabric
from toolkit.supernet import SuperNetwork

Row = Mapping[str, Any]
SIDE = 2 ** (SCALES - 1)  # of an image
FORM = "{:.3g}".format
LEARNING = "multiply-adds"  # of the searches by cost, the one whose learning is drawn
KINDS = (("on the server", SERVER), ("on the device", DEVICE), ("the link", LINK))


def draw(
    folder: Path,
    toys: Mapping[str, Sequence[Row]],
    clouds: Sequence[Row],
    seed: int,
    by_view: Mapping[str, Path],
    compared: Sequence[SweepRow] = (),
) -> list[Path]:
    """Write what can be drawn as SVG and PNG; the files. Rows that lack what a picture needs have none.

    Args:
        toys: of every strategy, the rows of `toy_rows`.
        clouds: the rows of `cloud_rows`.
        seed: that they were made with.
        by_view: folders of searches of images, by which drawing of `report_architecture` shows what they were limited
            in; the log of one of them tells how loss and entropy went.
        compared: searches of images by all strategies, whose fronts are drawn.
    """
    setting = _setting()
    free = frozenset(setting.joints)
    drawn: dict[str, str | None] = {}
    for strategy, rows in toys.items():
        first = rows[0] if rows else {}
        costs = toy_costs(setting.graph, seed, 0, free)
        drawn[f"random-{strategy}"] = _random(setting, first, costs, strategy)
        history = [row for row in first.get("history") or () if isinstance(row, Mapping)]
        drawn[f"random-{strategy}-learning"] = training.learning(history, number(first, "least"), FORM, "step")
    for row in clouds:
        drawn[f"cloud-{row.get('depth')}"] = _cloud(setting, row, free)
    if (run := by_view.get(LEARNING)) is not None:
        budget = Budget.parse(str(read_json(run / "run.json", "run").get("budget")))
        drawn["learning"] = training.learning(read_log(run), budget.limit, partial(show, budget.metric))
    for name, found in by_view.items():
        drawn[f"images-{name}"] = _architecture(found, name)
    if compared:
        drawn["fronts"] = fronts(summarise(compared), [each.facts() for each in compared])
    return [
        path
        for name, markup in drawn.items()
        if markup is not None
        for path in write_picture(folder, f"search-{name}", markup)
    ]


def _random(setting: Setting, row: Row, costs: Mapping[str, float], strategy: str) -> str | None:
    kept, ratio = texts(row, "kept"), number(row, "ratio")
    if not setting.graph.full.issuperset(kept) or ratio is None:
        return None
    total = sum(costs[name] for name in setting.graph.live(kept))
    found = "the cheapest path" if ratio < 1 + 1e-9 else f"{ratio:.3g} times the cheapest path"
    title = f"random costs: {strategy} finds a network that costs {total:.3g}, {found}"
    return by_cost(setting, kept, costs, FORM, title)


def _cloud(setting: Setting, row: Row, free: frozenset[str]) -> str | None:
    kept, depth = texts(row, "kept"), number(row, "depth")
    if not setting.graph.full.issuperset(kept) or depth is None:
        return None
    costs = cloud_costs(setting.graph, int(depth), free)
    live = setting.graph.live(kept) - free
    kinds = [(f"{name} ({cost:g} each)", [edge for edge in live if costs[edge] == cost]) for name, cost in KINDS]
    title = f"a server from depth {depth:g} on: {sum(costs[name] for name in live):.4g} altogether"
    return by_kind(setting, kept, kinds, title)


def _architecture(run: Path, name: str) -> str | None:
    """That view of what a search found."""
    found, profile = read_json(run / "run.json", "run"), DeviceProfile.load(run / PROFILE_NAME)
    graph = find_space(str(found["space"])).build(hop_ms=profile.hop_ms).graph
    kept = texts(found, "kept")
    return next((view.markup for view in views(graph, frozenset(kept), profile) if view.name == name), None)


def _setting() -> Setting:
    """Of the fabric of the toys."""
    network = neural_fabric.fabric(2, COLUMNS, 1, SCALES).eval()
    joints = frozenset(name for name, operation in network.operations.items() if not list(operation.parameters()))
    return Setting(
        network.graph, _pixels(network), joints, lambda pixels: f"{math.isqrt(int(pixels))} × {math.isqrt(int(pixels))}"
    )


def _pixels(network: SuperNetwork) -> dict[str, float]:
    """Of the map in every node."""
    found = {network.graph.source: float(SIDE * SIDE)}

    def add(node: str, values: Sequence[torch.Tensor]) -> torch.Tensor:
        found[node] = float(values[0].numel())
        return values[0]

    with torch.no_grad():
        image = torch.zeros(1, 3, SIDE, SIDE)
        network.walk(network.graph.full, image, lambda _edge, operation, value: operation(value), add)
    return found
