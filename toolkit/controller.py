"""Controllers: small networks that decide at every hop which gates open."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

KEPT_AT_FIRST = 3.0  # log-odds of every gate before training (thesis, section 4.4)


class Controller(nn.Module, ABC):
    """Decides from what it remembers, and from what the edges that always run say about this hop.

    Attributes:
        channels: of the sink's value.
        gates: how many edges it decides about.
        memory_size: of what it remembers from hop to hop; zeros at the start of a stream.
        looks: whether it looks at this hop at all.
    """

    looks: bool

    def __init__(self, channels: int, gates: int, memory_size: int) -> None:
        super().__init__()
        self.channels, self.gates, self.memory_size = channels, gates, memory_size

    @property
    def multiply_adds(self) -> int:
        """Of a hop: every weight is multiplied once; what a GRU does value by value is not billed, as published."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.ndim == 2)

    @abstractmethod
    def forward(self, memory: Tensor, known: Tensor) -> Tensor:
        """Log-odds [batch, gates] that each gate opens at this hop.

        Args:
            memory: [batch, memory_size].
            known: what the edges that always run give the sink at this hop, [batch, channels].
        """

    @abstractmethod
    def remember(self, memory: Tensor, known: Tensor, sink: Tensor) -> Tensor:
        """The memory [batch, memory_size] for the next hop; `sink` [batch, channels] is what was classified in this."""


class RecurrentController(Controller):
    """That of the thesis: a GRU over what was classified, which decides about a hop before anything of it is heard."""

    looks = False

    def __init__(self, channels: int, gates: int, memory_size: int = 100) -> None:
        super().__init__(channels, gates, memory_size)
        self.cell = nn.GRUCell(channels, memory_size)
        self.linear = nn.Linear(memory_size, gates)
        nn.init.constant_(self.linear.bias, KEPT_AT_FIRST)

    def forward(self, memory: Tensor, known: Tensor) -> Tensor:
        """See `Controller`."""
        result: Tensor = self.linear(memory)
        return result

    def remember(self, memory: Tensor, known: Tensor, sink: Tensor) -> Tensor:
        """See `Controller`."""
        result: Tensor = self.cell(sink, memory)
        return result


class HearingController(Controller):
    """Decides from what the edges that always run hear in this hop and heard in the one before: no hop of delay."""

    looks = True

    def __init__(self, channels: int, gates: int, hidden: int = 16) -> None:
        super().__init__(channels, gates, memory_size=channels)
        self.hidden = nn.Linear(2 * channels, hidden)
        self.linear = nn.Linear(hidden, gates)
        nn.init.constant_(self.linear.bias, KEPT_AT_FIRST)

    def forward(self, memory: Tensor, known: Tensor) -> Tensor:
        """See `Controller`."""
        result: Tensor = self.linear(self.hidden(torch.cat([known, memory], 1)).relu())
        return result

    def remember(self, memory: Tensor, known: Tensor, sink: Tensor) -> Tensor:
        """See `Controller`."""
        return known


CONTROLLERS: dict[str, type[RecurrentController] | type[HearingController]] = {
    "recurrent": RecurrentController,
    "hearing": HearingController,
}
