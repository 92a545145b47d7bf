"""A listener that chooses its network at every hop: a super-network, its gated edges, and the controller that decides.

After Véniat, Schwander and Denoyer (2019), "Stochastic Adaptive Neural Architecture Search for Keyword Spotting". The
decisions are per edge; what they leave alive is a *mode*. Edges that are not gated run at every hop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from toolkit.controller import CONTROLLERS, Controller
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph
from toolkit.layers import WindowHead
from toolkit.supernet import SuperNetwork, add_up

MOST_GATES = 8  # there are two to that power choices, and every mode among them is tabulated
Made = tuple[Architecture, Tensor]  # the edges a value was made by, and the value


@dataclass(frozen=True)
class Rollout:
    """What the controller made of some streams.

    Attributes:
        log_odds: of every decision, [batch, hops, gates].
        decisions: which gates opened, bool [batch, hops, gates].
        modes: index of the mode that ran, [batch, hops].
        logits: [batch, hops, labels].
    """

    log_odds: Tensor
    decisions: Tensor
    modes: Tensor
    logits: Tensor


class AdaptiveNetwork(nn.Module):
    """A super-network with gates.

    Args:
        network: its head takes one value per hop (a `WindowHead` over a window of one column), so that nothing that was
            skipped is missing later.
        gated: the edges the controller decides about; all others always run.
        controller: made for as many gates.

    Raises:
        MilliwiseError: an edge to gate is not in the graph, named twice or named as modes are, there are too many or
            none, the head remembers hops, or the controller is made for others, or looks at edges that always run and
            there are none.
    """

    def __init__(self, network: SuperNetwork, gated: Sequence[str], controller: Controller) -> None:
        super().__init__()
        self.network, self.gated, self.controller = network, tuple(gated), controller
        if unknown := set(gated) - network.graph.full:
            raise MilliwiseError(f"the graph has no edge {min(unknown)!r} to gate")
        if not 1 <= len(self.gated) == len(set(gated)) <= MOST_GATES:
            raise MilliwiseError(f"{len(self.gated)} gated edges: gate 1 to {MOST_GATES} different ones")
        if odd := [name for name in gated if name == "off" or "+" in name or name.endswith((" cold", " warm"))]:
            raise MilliwiseError(
                f"a gate named {odd[0]!r} would be taken for a mode of others: name the edge otherwise"
            )
        head = network.head
        if not isinstance(head, WindowHead) or (head.window_columns, head.hop_columns) != (1, 1):
            raise MilliwiseError("the head remembers hops in which gated edges may have been off: pool in the edges")
        if (controller.channels, controller.gates) != (head.linear.in_features, len(self.gated)):
            raise MilliwiseError(
                f"the controller is for {controller.channels} channels and {controller.gates} gates, the network has "
                f"{head.linear.in_features} and {len(self.gated)}: make it for these"
            )
        if controller.looks and not self.modes[0]:
            raise MilliwiseError("no edges that always run join source and sink: use the recurrent controller")

    @property
    def kind(self) -> str:
        """Of the controller: its name in CONTROLLERS."""
        return next(name for name, kind in CONTROLLERS.items() if type(self.controller) is kind)

    @property
    def head(self) -> nn.Module:
        """Of the super-network."""
        return self.network.head

    @property
    def graph(self) -> Graph:
        """Of the super-network."""
        return self.network.graph

    @cached_property
    def choices(self) -> tuple[tuple[bool, ...], ...]:
        """Every way to open the gates; the gates are the digits of its index, the first gate the lowest."""
        return tuple(choice[::-1] for choice in product((False, True), repeat=len(self.gated)))

    @cached_property
    def modes(self) -> tuple[Architecture, ...]:
        """The different live edges that the choices leave, in the order of the choices; the first has all gates shut.

        A mode without edges is off: the sink's value is zero.
        """
        return tuple(dict.fromkeys(self._live(choice) for choice in self.choices))

    @cached_property
    def mode_of(self) -> Tensor:
        """Index of the mode of every choice, int64 [2 ** gates]."""
        places = {live: place for place, live in enumerate(self.modes)}
        return torch.tensor([places[self._live(choice)] for choice in self.choices])

    def _live(self, choice: Sequence[bool]) -> Architecture:
        always = self.network.graph.full - set(self.gated)
        return self.network.graph.live(always | {gate for gate, on in zip(self.gated, choice, strict=True) if on})

    def sink_values(self, features: Tensor, kept: Iterable[str] | None = None) -> Tensor:
        """What every mode gives the sink at every hop, [batch, hops, modes, channels]; shared edges are computed once.

        Args:
            features: of whole streams, as the stem gives them.
            kept: only the modes of these edges; all by default.
        """
        known: dict[tuple[str, Architecture], Tensor] = {}
        modes = self.modes if kept is None else [live for live in self.modes if live <= frozenset(kept)]
        found = [self._sink(features, live, known) for live in modes if live]
        values = iter(found)
        return torch.stack([next(values) if live else torch.zeros_like(found[0]) for live in modes], 2)

    def _sink(self, features: Tensor, live: Architecture, known: dict[tuple[str, Architecture], Tensor]) -> Tensor:
        def apply(edge: Edge, operation: nn.Module, source: Made) -> Made:
            before, value = source
            key = (edge.name, before)
            if key not in known:
                known[key] = operation(value)
            return before | {edge.name}, known[key]

        def add(_node: str, values: Sequence[Made]) -> Made:
            nothing: Architecture = frozenset()
            return nothing.union(*(before for before, _value in values)), add_up([value for _, value in values])

        start: Made = (frozenset(), features)
        value = self.network.walk(live, start, apply, add)[1]
        return value.squeeze(2).transpose(1, 2)

    def classify(self, sink: Tensor) -> Tensor:
        """Logits [..., labels] of the sink's values [..., channels]: what the head says; its mean is of one column."""
        head = cast(WindowHead, self.network.head)
        result: Tensor = head.linear(head.dropout(sink))
        return result

    def from_features(self, features: Tensor, kept: Iterable[str] | None = None) -> Tensor:
        """Logits [batch, hops, labels] of the modes the controller chooses.

        In training mode instead what every mode alone says, one after the other, [modes · batch, hops, labels]: see
        `of_every_mode`.

        Args:
            kept: in training mode, only the modes of these edges; all by default.
        """
        if not self.training:
            return self.roll(self.sink_values(features)).logits
        sinks = self.sink_values(features, kept)
        return torch.cat([self.network.head(sink.transpose(1, 2).unsqueeze(2)) for sink in sinks.unbind(2)])

    def roll(
        self,
        sinks: Tensor,
        generator: torch.Generator | None = None,
        modes: Tensor | None = None,
        dial: Tensor | None = None,
    ) -> Rollout:
        """Let the controller decide hop by hop, by chance if there is a generator, else whatever is more likely.

        Args:
            sinks: as `sink_values` gives them.
            modes: [batch, hops], what ran instead of what was decided: another's decisions, with this one's memory.
            dial: [gates] or [batch, gates], log-odds that a gate needs to be as likely open as shut; as trained: 0.
        """
        batch, hops, _modes, _channels = sinks.shape
        mode_of = self.mode_of.to(sinks.device)
        places = 2 ** torch.arange(len(self.gated), device=sinks.device)
        rows = torch.arange(batch, device=sinks.device)
        memory = sinks.new_zeros(batch, self.controller.memory_size)
        told: list[list[Tensor]] = [[], [], [], []]
        for hop in range(hops):
            known = sinks[:, hop, 0]
            odds = self.controller(memory, known)
            threshold = 0.5 if generator is None else torch.rand(odds.shape, generator=generator).to(odds.device)
            opened = (odds if dial is None else odds - dial).sigmoid() > threshold
            mode = mode_of[(opened * places).sum(1)] if modes is None else modes[:, hop]
            sink = sinks[rows, hop, mode]
            memory = self.controller.remember(memory, known, sink)
            for values, value in zip(told, (odds, opened, mode, sink), strict=True):
                values.append(value)
        log_odds, decisions, ran, chosen = (torch.stack(values, 1) for values in told)
        return Rollout(log_odds, decisions, ran, self.classify(chosen))

    def drawn_modes(self, log_odds: Tensor, generator: torch.Generator) -> Tensor:
        """Modes int64 [batch, hops] of decisions drawn by their log-odds [batch, hops, gates]."""
        drawn = torch.rand(log_odds.shape, generator=generator).to(log_odds.device) < log_odds.sigmoid()
        return self.mode_of.to(log_odds.device)[
            (drawn * 2 ** torch.arange(len(self.gated), device=drawn.device)).sum(-1)
        ]

    def forward(self, audio: Tensor) -> Tensor:
        """As `from_features`, of audio [batch, samples]."""
        return self.from_features(self.network.stem(audio))


Network = SuperNetwork | AdaptiveNetwork
"""Whatever can be trained and listened with."""

LossOf = Callable[[Tensor, Tensor], Tensor]
"""A loss of logits against labels."""


def gate(network: SuperNetwork, gated: Sequence[str], controller: str) -> AdaptiveNetwork:
    """The network with a new controller of that kind for these gates.

    Raises:
        MilliwiseError: there is no such kind, or see `AdaptiveNetwork`.
    """
    if controller not in CONTROLLERS:
        raise MilliwiseError(f"no controller {controller!a}: choose {' or '.join(CONTROLLERS)}")
    if not isinstance(network.head, WindowHead):
        raise MilliwiseError(f"the head is a {type(network.head).__name__}: gates need a WindowHead")
    return AdaptiveNetwork(network, gated, CONTROLLERS[controller](network.head.linear.in_features, len(gated)))


def of_every_mode(loss: LossOf, shares: Sequence[float] | None = None) -> LossOf:
    """The loss over the modes of `AdaptiveNetwork.from_features`, from that of one network.

    Args:
        shares: of the modes in it; by default it is their mean. A mode that is cheap enough to run most of the time
            may deserve more than one among many.
    """
    if shares is None:
        return lambda logits, labels: loss(logits, labels.repeat(len(logits) // len(labels), *(1,) * (labels.ndim - 1)))

    def shared(logits: Tensor, labels: Tensor) -> Tensor:
        parts = zip(shares, logits.split(len(labels)), strict=True)
        return torch.stack([share * loss(part, labels) for share, part in parts]).sum()

    return shared
