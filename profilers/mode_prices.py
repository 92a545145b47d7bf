"""What each mode of an adaptive network costs by counting, whatever the device: multiply-adds, the published FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporters.adaptive import mode_names
from exporters.gates import remembers
from toolkit.adaptive import AdaptiveNetwork
from toolkit.costs import price_modes
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile


@dataclass(frozen=True)
class ModePrices:
    """Counted modes.

    Attributes:
        named_multiply_adds: of a hop in every mode, in the order of `AdaptiveNetwork.modes`.
        network_only: neither the controller nor the front-end is in them.
    """

    named_multiply_adds: Mapping[str, float]
    network_only: bool

    def table(self) -> Tensor:
        """Multiply-adds of a mode (second index) after another (first), which changes nothing: [modes, modes]."""
        values = torch.tensor(list(self.named_multiply_adds.values()), dtype=torch.float32)
        return values.expand(len(values), -1)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"named_multiply_adds": dict(self.named_multiply_adds), "network_only": self.network_only}


def price_adaptive(adaptive: AdaptiveNetwork, profile: DeviceProfile, network_only: bool = False) -> ModePrices:
    """Count every mode.

    Billed is what runs at a hop of the exported file: live edges, the sums they go into, classifier, front-end and
    controller.

    Args:
        network_only: bill neither front-end nor controller: the accounting of the thesis (SANAS, Véniat 2019).

    Raises:
        MilliwiseError: a gated edge remembers columns, so that what it computes depends on the hop before.
        ProfileMismatch: the profile is of another graph.
        UnpricedEdge: an edge, the front-end or the classifier was not counted.
    """
    for gate in adaptive.gated:
        if remembers(adaptive.network.operations[gate]):
            raise MilliwiseError(
                f"the gated edge {gate} catches up on what it missed, which its FLOPs of one hop do not say: give a "
                "budget in ms, such as '1 ms mean'"
            )
    cost = price_modes(adaptive.graph, profile, front_end=not network_only)
    controller = 0 if network_only else adaptive.controller.multiply_adds
    named = zip(mode_names(adaptive), (cost(live) + controller for live in adaptive.modes), strict=True)
    return ModePrices(dict(named), network_only)
