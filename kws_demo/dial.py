"""The run-time dial of an adaptive listener: its gates open less readily where a minute would cost too much."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from exporters.listener import Listener, Scores
from toolkit.errors import MilliwiseError, printable

MINUTE_MS = 60_000
CAP_SHARE = 0.25  # of the hop: what any hop may take, so that it meets its deadline on a busy machine, too
SHUT = 1e9  # log-odds that no controller has
SCARCE = 0.25  # of what a minute may cost: while more is left, all is as trained
STEEPNESS = 8.0  # log-odds that opening the dearest gates takes when half of that is left; more and more after that
NS = 1_000_000  # in a millisecond; whole numbers add up exactly, however long it listens
LEARNED, QUIET, BUDGET, CAP = "as learned", "quiet", "budget", "cap"
OFF, COLD, WARM = "off", "cold", "warm"  # in the names of modes, which join gates: "wide cold+deep warm"


class Ran(NamedTuple):
    """What a hop did."""

    mode: str
    cost_ms: float  # as billed: what is predicted of the mode, or what the hop took where nothing is
    average_ms: float  # of the hops of the last minute, this one included
    why: str  # LEARNED, QUIET (all gates shut, as learned), BUDGET or CAP (which may have kept a gate shut)


@dataclass(frozen=True)
class _Mode:
    """Sets of gates are the digits of a number, the first gate the lowest."""

    name: str
    live: int
    cold: int  # of the live ones, those that catch up: they did not run in the hop before
    warm: int  # those that did

    def follows(self, before: int) -> bool:
        """Whether it can run after these gates did."""
        return not (self.cold & before or self.warm & ~before)


class Dial:
    """Tokens for the last minute: as many milliseconds as its hops may take, less what they took.

    No minute, and no shorter time since the start, costs more on average than the budget: a gate may open only if the
    tokens cover the dearest mode that this can cause in the next hop.

    Attributes:
        budget_ms: what a hop may cost on average; None: any number.
        cap_ms: what any single hop may cost.
        notes: what of that cannot be had, a line each.
        values: float32 [gates], for `Listener.set_dial` before the next hop.
    """

    def __init__(
        self,
        modes: Sequence[Mapping[str, Any]],
        gates: int,
        hop_ms: float,
        budget_ms: float | None = None,
        cap_ms: float | None = None,
    ) -> None:
        """Of a listener with these modes (`name`, `predicted_ms`), the first of them with all gates shut.

        Args:
            modes: as the metadata of a listener has them.
            gates: how many there are.
            hop_ms: of audio.
            budget_ms: what a hop may cost on average. Less than the cheapest mode costs is raised to that.
            cap_ms: what any hop may cost; a quarter of the hop when None.

        Raises:
            MilliwiseError: the modes do not name all gates, or none opens a gate after some that can run.
        """
        names = _gate_names(modes, gates)
        self._modes = [_parsed(str(mode["name"]), names) for mode in modes]
        _check_followed(self._modes, names)
        self.cap_ms = CAP_SHARE * hop_ms if cap_ms is None else cap_ms
        predicted_ms = [mode["predicted_ms"] for mode in modes]
        self._predicted = [each_ms is not None for each_ms in predicted_ms]
        cheapest_ms = predicted_ms[0] or 0.0  # nothing can be done about it
        known_ms = [self.cap_ms if each_ms is None else each_ms for each_ms in predicted_ms[1:]]  # nothing is free
        self._costs = [math.ceil(NS * max(cheapest_ms, each_ms)) for each_ms in (cheapest_ms, *known_ms)]
        self.budget_ms = None if budget_ms is None else max(budget_ms, cheapest_ms)
        self._budget = None if self.budget_ms is None else max(int(NS * self.budget_ms), self._costs[0])
        self._window: deque[int] = deque(maxlen=max(1, round(MINUTE_MS / hop_ms)))
        self._spent = 0  # in the window
        self._before = 0  # the gates that ran in the hop before
        self._gates = range(gates)
        self.notes = tuple(self._notes(budget_ms, cheapest_ms))
        self._turn()

    @classmethod
    def of(cls, listener: Listener, budget_ms: float | None = None, cap_ms: float | None = None) -> Dial | None:
        """The dial of an adaptive listener; None of any other.

        Raises:
            MilliwiseError: its modes do not name all gates.
        """
        if not listener.gates:
            return None
        hop_ms = 1000 * listener.hop_samples / listener.rate
        return cls(listener.metadata.modes, listener.gates, hop_ms, budget_ms, cap_ms)

    def ran(self, mode: int, elapsed_ms: float) -> Ran:
        """Bill the mode that ran, and turn the dial for the next hop.

        Raises:
            MilliwiseError: there is no such mode.
        """
        if not 0 <= mode < len(self._modes):
            raise MilliwiseError(f"the listener ran mode {mode}, which its metadata does not name: export it again")
        why = self._why(mode)
        cost = self._costs[mode] if self._predicted[mode] else math.ceil(NS * elapsed_ms)
        if mode and not self._predicted[mode]:
            self._costs[mode] = min(self._costs[mode], cost)  # a hop that was held up says nothing about the next
        self._spent += cost - self._oldest
        self._window.append(cost)
        self._before = self._modes[mode].live
        self._turn()
        return Ran(self._modes[mode].name, cost / NS, self._spent / len(self._window) / NS, why)

    def reset(self) -> None:
        """The listener was reset: nothing is warm any more. What was spent stays spent."""
        self._before = 0
        self._turn()

    @property
    def _oldest(self) -> int:
        """What leaves the window with the next hop."""
        return self._window[0] if len(self._window) == self._window.maxlen else 0

    def _turn(self) -> None:
        """Set `values` for the next hop."""
        following = [
            (mode.live, cost) for mode, cost in zip(self._modes, self._costs, strict=True) if mode.follows(self._before)
        ]
        # What it costs to open a gate: less for one that runs, so that it is not shut only to catch up again.
        # Modes that no listener runs in this order have nothing to follow them: as dear as can be.
        dearest = max(self._costs)
        opening = [[cost for live, cost in following if live >> gate & 1] for gate in self._gates]
        prices = [min(costs, default=dearest) - self._costs[0] for costs in opening]
        order = sorted(self._gates, key=prices.__getitem__)
        cap = math.floor(NS * self.cap_ms)
        tokens, left = self._tokens()
        self._capped = _shut(following, order, cap)
        shut = _shut(following, order, min(cap, tokens)) if tokens < cap else self._capped
        steepness = STEEPNESS * max(0.0, SCARCE / max(left, 1e-6) - 1) / max(1, *self._costs)
        raised = (SHUT if shut >> gate & 1 else steepness * price for gate, price in enumerate(prices))
        self.values = np.fromiter(raised, np.float32, len(prices))

    def _tokens(self) -> tuple[float, float]:
        """What the next hop may cost; and what is left of all that the gates may cost, a share."""
        if self._budget is None or self._budget >= max(self._costs):
            return math.inf, 1.0
        spent = self._spent - self._oldest
        hops = len(self._window) + (len(self._window) < (self._window.maxlen or 0))  # the next one included
        free = hops * (self._budget - self._costs[0])
        left = 1 - (spent - (hops - 1) * self._costs[0]) / free if free else 0.0
        return hops * self._budget - spent, left

    def _why(self, mode: int) -> str:
        """Why the gates that were shut in the last hop were."""
        live = self._modes[mode].live
        raised = [gate for gate, value in enumerate(self.values) if value > 0 and not live >> gate & 1]
        if any(not self._capped >> gate & 1 for gate in raised):
            return BUDGET
        return CAP if raised else LEARNED if live else QUIET

    def _notes(self, budget_ms: float | None, cheapest_ms: float) -> Iterable[str]:
        cheapest = printable(self._modes[0].name)
        if budget_ms is not None and budget_ms < cheapest_ms:
            yield (
                f"{budget_ms:g} ms a hop is less than the cheapest mode costs: the listener stays in {cheapest},"
                f" at {cheapest_ms:g} ms"
            )
        over = sum(cost > NS * self.cap_ms for cost in self._costs[1:])
        if over:
            yield f"{over} of {len(self._costs)} modes may not run: they take longer than {self.cap_ms:g} ms a hop"


def _shut(following: Sequence[tuple[int, int]], order: Iterable[int], limit: float) -> int:
    """The gates that have to stay shut so that the next hop costs no more; those first in order may open first.

    Args:
        following: the live gates and the cost of every mode that can follow.
        order: of the gates.
        limit: in the units of the costs.
    """
    allowed = 0
    for gate in order:
        opened = allowed | 1 << gate
        if all(cost <= limit for live, cost in following if live | opened == opened):
            allowed = opened
    return ~allowed


def require_gates(listener: Listener, budget_ms: float | None) -> None:
    """Refuse a budget of a listener that does the same at every hop.

    Raises:
        MilliwiseError: it has no gates.
    """
    if budget_ms is not None and not listener.gates:
        raise MilliwiseError("--budget-ms is of listeners that choose their network; this one does not: leave it out")


def start_anew(listener: Listener, dial: Dial | None) -> None:
    """Nothing has been heard yet."""
    listener.reset()
    if dial is not None:
        dial.reset()
        listener.set_dial(dial.values)


def turn(listener: Listener, dial: Dial | None, scores: Scores) -> Ran | None:
    """Turn the dial, if there is one, for the next hop by what ran in this."""
    if dial is None or scores.mode is None:
        return None
    ran = dial.ran(scores.mode, scores.elapsed_ms)
    listener.set_dial(dial.values)
    return ran


def _gate_names(modes: Sequence[Mapping[str, Any]], gates: int) -> list[str]:
    """The gates in their order, which is that of the mode with all of them.

    Raises:
        MilliwiseError: there is no such mode, or the first one is not that without gates.
    """
    named = [_parts(str(mode["name"])) for mode in modes]
    found = next((list(parts) for parts in named if len(parts) == gates), None)
    if not gates or found is None or named[0] or not set().union(*named) <= set(found):
        raise MilliwiseError(
            f"the listener's {len(modes)} modes do not name its {gates} gates, all shut in the first: export it again"
        )
    return found


def _check_followed(modes: Sequence[_Mode], gates: Sequence[str]) -> None:
    """Refuse modes of which, after some that can run, none opens a gate: nobody knows what that costs."""
    reachable, new = {0}, {0}
    while new:
        new = {mode.live for mode in modes for before in new if mode.follows(before)} - reachable
        reachable |= new
    for before in sorted(reachable):
        opened = {mode.live for mode in modes if mode.follows(before)}
        for place, gate in enumerate(gates):
            if not any(live >> place & 1 for live in opened):
                after = "+".join(name for number, name in enumerate(gates) if before >> number & 1) or OFF
                raise MilliwiseError(
                    f"the listener's modes do not name one that opens {printable(gate)} after {printable(after)}: "
                    "export it again"
                )


def _parts(name: str) -> dict[str, str]:
    """The live gates that a mode's name joins, and whether each is cold or warm, or neither: ""."""
    found: dict[str, str] = {}
    for part in [] if name == OFF else name.split("+"):
        gate, _space, state = part.rpartition(" ")
        found.update({gate: state} if state in (COLD, WARM) else {part: ""})
    return found


def _parsed(name: str, gates: Sequence[str]) -> _Mode:
    parts = _parts(name)

    def places(*states: str) -> int:
        return sum(1 << place for place, gate in enumerate(gates) if parts.get(gate) in states)

    return _Mode(name, places(COLD, WARM, ""), places(COLD), places(WARM))
