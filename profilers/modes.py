"""What each mode of an adaptive network costs on a device: the whole exported file, that mode forced at every hop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporters.adaptive import COLD, OFF, ON, WARM, file_modes, mode_names, modes_after, to_adaptive_onnx
from exporters.gates import remembers
from exporters.onnx import with_properties
from profilers.clock import time_paced
from profilers.target import Target
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

CALLS = 30  # of every mode, once per hop


@dataclass(frozen=True)
class ModeCosts:
    """Measured modes.

    Attributes:
        named_ms: median ms of a hop in every mode of the exported file, in its order.
        hop_ms: how often it was called.
    """

    named_ms: Mapping[str, float]
    hop_ms: int

    def table(self, adaptive: AdaptiveNetwork) -> Tensor:
        """ms of a mode of `adaptive` (second index) after another (first), [modes, modes]."""
        values = torch.tensor(list(self.named_ms.values()), dtype=torch.float32)
        return values[torch.from_numpy(modes_after(adaptive))]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"named_ms": dict(self.named_ms), "hop_ms": self.hop_ms}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], adaptive: AdaptiveNetwork) -> ModeCosts:
        """Read `facts` back.

        Raises:
            MilliwiseError: they are not of this network's modes, or a time is no finite number above zero.
        """
        named, hop_ms = facts.get("named_ms"), facts.get("hop_ms")
        names = mode_names(adaptive)
        if not isinstance(named, dict) or tuple(named) != names or type(hop_ms) is not int:
            raise MilliwiseError("the measured modes are of another network: measure again, without --resume")
        for name, ms in named.items():
            if not (isinstance(ms, float) and 0 < ms < math.inf):
                raise MilliwiseError(f"the mode {name!a} was measured as {str(ms)[:40]} ms: measure again")
        return cls(named, hop_ms)


def measure_modes(
    adaptive: AdaptiveNetwork,
    input_shape: tuple[int, ...],
    target: Target,
    *,
    hop_ms: int,
    threads: int = 1,
    calls: int = CALLS,
) -> ModeCosts:
    """Time every mode, one after the other, each in processes of its own, once per hop.

    The gaps are those of a stream: what was fitted to shorten them is known of networks that never skip anything, and
    told an idle mode 15 % too dear (measured).

    Args:
        adaptive: weights do not matter; nothing of the network is changed.
        input_shape: of one call, batch of one included.
        calls: of each mode.

    Raises:
        MilliwiseError: the target fails.
    """
    names = mode_names(adaptive)
    named_ms: dict[str, float] = {}
    with progress(f"timing {len(names)} modes", len(names)) as advance:
        for place, name in enumerate(names):
            model = with_properties(to_adaptive_onnx(adaptive, input_shape, forced=forced(adaptive, place)), {})
            timing = time_paced(
                model,
                target,
                hop_ms=hop_ms,
                gap_ms=hop_ms,
                calls=calls,
                threads=threads,
                title="",
            )
            named_ms[name] = statistics.median(timing.values_ms)
            advance(1)
    return ModeCosts(named_ms, hop_ms)


def forced(adaptive: AdaptiveNetwork, place: int) -> dict[str, str]:
    """What every gate has to do at every hop for the file's mode of that place to run."""
    mode, warm = file_modes(adaptive)[place]

    def state(gate: str) -> str:
        if gate not in adaptive.modes[mode]:
            return OFF
        if not remembers(adaptive.network.operations[gate]):
            return ON
        return WARM if gate in warm else COLD

    return {gate: state(gate) for gate in adaptive.gated}
