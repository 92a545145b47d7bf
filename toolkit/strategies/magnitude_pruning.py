"""The whole network is trained, then edges of the least magnitude are left out: what an edge gives has a learnt factor.

As network slimming (Liu et al., ICCV 2017) and sparse structure selection (Huang and Wang, ECCV 2018) do for channels
and blocks, factors start from 1, are drawn to 0 by their absolute values, and the smallest are cut. What is left has
them in its weights, where every edge with weights ends in a layer that can take its factor up; edges without weights
have none then. Else it is trained alone without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from toolkit.costs import Price
from toolkit.graph import Architecture
from toolkit.strategies.base import Proposal, Strategy
from toolkit.strategies.fitting import filled, thinned

SPARSITY = 1e-3  # weight of the sum of absolute factors beside the loss
RATE = 1e-2  # of Adam, of the factors


class MagnitudePruning(Strategy):
    """See the module. What it costs is looked at only when edges are cut."""

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        super().__init__(price, limit, seed)
        self._cheapest = self.cheapest_within_limit()
        self._whole = self.graph.live(self.graph.full)
        self._factors = {name: torch.ones((), requires_grad=True) for name in sorted(self._whole)}
        self._optimizer = torch.optim.Adam(self._factors.values(), lr=RATE)
        self._layers: dict[str, nn.Module] = {}  # that take a factor up

    def attach(self, operations: Mapping[str, nn.Module]) -> None:
        """See `Strategy`."""
        weighted = [name for name in sorted(self._whole) if list(operations[name].parameters())]
        last = {name: _last_layer(operations[name]) for name in weighted}
        if last and all(last.values()):
            self._layers = {name: layer for name, layer in last.items() if layer is not None}
            self._factors = {name: self._factors[name] for name in weighted}
            self._optimizer = torch.optim.Adam(self._factors.values(), lr=RATE)

    def settle(self) -> None:
        """See `Strategy`."""
        with torch.no_grad():
            for name, layer in self._layers.items():
                for values in layer.parameters():  # a weight and a bias
                    values.mul_(self._factors[name].item())

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`: one group of all examples, which sees the whole network."""
        return [Proposal(self._whole, gates=self._factors)]

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """See `Strategy`."""
        super().tell(proposals, losses, done)
        for factor in self._factors.values():
            pull = SPARSITY * factor.detach().sign()
            factor.grad = pull if factor.grad is None else factor.grad + pull
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            for factor in self._factors.values():
                factor.clamp_(min=0)  # a layer may be in front of a ReLU

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`: cut by magnitude, by magnitude per cost, each filled up, and the cheapest path."""
        magnitude = {name: self._factors[name].item() if name in self._factors else 1.0 for name in sorted(self._whole)}
        found = []
        for worth in (magnitude, self._per_cost(magnitude)):
            cut = thinned(self.price, self.limit, self._whole, worth) or self._cheapest
            found += [filled(self.price, self.limit, cut, worth), cut]
        return list(dict.fromkeys([*found, self._cheapest]))[:count]

    def _per_cost(self, magnitude: dict[str, float]) -> dict[str, float]:
        whole = self.price(self._whole) or 1.0  # where all is free, nothing tells them apart
        shorter = {name: self.graph.live(self._whole - {name}) for name in magnitude}
        saved = {name: whole - self.price(rest) if rest else whole for name, rest in shorter.items()}
        return {name: size / max(saved[name], 1e-6 * whole) for name, size in magnitude.items()}

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        state = self._optimizer.state
        return {
            "factors": {name: factor.item() for name, factor in self._factors.items()},
            "moments": {
                name: {key: float(value) for key, value in state[factor].items()}
                for name, factor in self._factors.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        with torch.no_grad():
            for name, factor in self._factors.items():
                factor.fill_(state["factors"][name])
                moments = state["moments"][name]
                self._optimizer.state[factor] = {key: torch.tensor(value) for key, value in moments.items()}


def _last_layer(operation: nn.Module) -> nn.Module | None:
    """The last one of an operation that is linear in its weight and its bias, with a ReLU or nothing behind it."""
    layers = [layer for layer in _in_order(operation) if not isinstance(layer, nn.ReLU | nn.Identity)]
    found = layers[-1] if layers else None
    is_linear = isinstance(found, nn.BatchNorm2d | nn.Conv2d | nn.Linear) and found.bias is not None
    return found if is_linear else None


def _in_order(operation: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(operation, nn.Sequential):
        yield operation
        return
    for part in operation:
        yield from _in_order(part)
