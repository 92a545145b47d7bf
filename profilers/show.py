"""What a device profile holds, as facts: what each edge costs, how sure that is, and what is missing."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from toolkit.errors import MilliwiseError, printable
from toolkit.graph import Architecture
from toolkit.makespan import ParallelModel
from toolkit.memory import MemoryModel
from toolkit.profile import DeviceProfile, EdgeCost, HeldOut

if TYPE_CHECKING:
    from toolkit.costs import Price

Times = tuple[float, float]
"""Of a network: predicted and measured ms."""

# Of a row in the table of several profiles; a cell never holds where a device is or who owns it.
COLUMNS = (
    "device",
    "system",
    "onnxruntime",
    "threads",
    "hop",
    "search space",
    "edges",
    "p95 of its smallest / median / whole network",
    "held-out error",
    "profiled in",
    "noisy",
)


def costliest(profile: DeviceProfile) -> list[tuple[str, EdgeCost]]:
    """The distinct edges that were measured and cost something, the dearest first."""
    distinct = [(name, row) for name, row in profile.edges.items() if row.same_as is None and row.latency_ms]
    return sorted(distinct, key=lambda item: item[1].latency_ms or 0.0, reverse=True)


def uncertainty_ms(row: EdgeCost) -> float:
    """How far the cost of an edge may be off: twice its standard error (95 %), or its spread where there is none."""
    found = 2 * row.error_ms if row.error_ms is not None else row.spread * (row.latency_ms or 0.0)
    return min(found, sys.float_info.max)


def short(text: str, most: int) -> str:
    """Text of at most that length: names often differ at their ends, so the middle goes."""
    end = (most - 1) // 3
    return text if len(text) <= most else f"{text[: most - 1 - end]}…{text[-end:]}"


def percent(share: float | None, form: str = ".3g") -> str:
    """A fraction as a percentage; a dash where there is none."""
    return "–" if share is None else f"{100 * share:{form}} %"


def in_ms(value_ms: float, most_ms: float) -> str:
    """A time as a number of ms with as many decimals as show four digits of the largest of its column."""
    if not 1e-6 <= most_ms < 1e6:
        return f"{value_ms:.3g}"
    return f"{value_ms:.{max(0, 3 - math.floor(math.log10(most_ms)))}f}"


def held_out_times(profile: DeviceProfile) -> list[Times]:
    """Of every held-out network by the table's clock, front-end not included.

    Raises:
        MilliwiseError: a row is not as milliwise wrote it.
    """
    return [
        (time_ms(profile, row, "predicted_ms"), time_ms(profile, row, "measured_ms")) for row in profile.held_out.rows
    ]


def time_ms(profile: DeviceProfile, row: Mapping[str, Any], name: str) -> float:
    """`predicted_ms` or `measured_ms` of a held-out network.

    Raises:
        MilliwiseError: it is not as milliwise wrote it.
    """
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e300:
        raise not_ours(profile, name, value)
    return float(value)


def not_ours(profile: DeviceProfile, what: str, value: object) -> MilliwiseError:
    """The error of a held-out network that milliwise did not write."""
    return MilliwiseError(
        f"a held-out network in the profile of {profile.space} has {what} {str(value)[:40]!r}: "
        "run milliwise profile again"
    )


def networks_ms(profile: DeviceProfile) -> tuple[float, float, float] | None:
    """Predicted p95 at the hop of the space's cheapest, median (of random ones) and whole network.

    None where that cannot be told: torch is not installed, an edge has no cost, or the graph is none of milliwise's own
    (a user's is a program, and a profile that somebody sends must not have it run).
    """
    found = _priced(profile)
    return None if found is None else found.spread_of_space()


def networks_bytes(profile: DeviceProfile) -> tuple[float, float] | None:
    """Predicted memory of the space's cheapest and whole network; None where that cannot be told."""
    from toolkit.costs import planned_memory

    found, memory = _priced(profile), profile.memory
    if found is None or memory is None:
        return None
    least, most = (memory(planned_memory(found.graph, profile, live)) for live in _smallest_and_whole(found))
    return least, most


def networks_makespan_ms(profile: DeviceProfile) -> tuple[float, float] | None:
    """Predicted makespan, without front-end, of the space's cheapest and whole network on the workers of the profile.

    None where that cannot be told.
    """
    found, parallel = _priced(profile), profile.parallel
    if found is None or parallel is None:
        return None
    try:
        least, most = (parallel.makespan_ms(found.graph, live) for live in _smallest_and_whole(found))
    except MilliwiseError:
        return None
    return least, most


def _smallest_and_whole(found: Price) -> tuple[Architecture, Architecture]:
    return found.cheapest(), found.graph.live(found.graph.full)


def _priced(profile: DeviceProfile) -> Price | None:
    """How the p95 at the hop is computed of a space of milliwise's own, every edge of which has a cost."""
    from toolkit.costs import Price
    from toolkit.spaces import built_in

    try:
        space = built_in(profile.space)
        if space is None:
            return None
        graph = space.build(hop_ms=profile.hop_ms).graph
        profile.require(graph)
        profile.require_priced(graph.live(graph.full))
        return Price(graph, "latency_ms", partial(profile.paced_ms, graph))
    except (MilliwiseError, ModuleNotFoundError):
        return None


def missing(profile: DeviceProfile) -> list[str]:
    """What could not be counted, measured or told, in words: one entry each."""
    found = [
        f"{name} could not be measured: {row.failed}" for name, row in profile.edges.items() if row.failed is not None
    ]
    operators: dict[str, list[str]] = {}
    for name, row in (*profile.edges.items(), *profile.fixed.items()):
        for operator in row.uncounted:
            operators.setdefault(operator, []).append(name)
    found += [f"multiply-adds of {operator} in {', '.join(names)}" for operator, names in operators.items()]
    if profile.latency.bound is None:
        found.append("a bound: too few networks calibrated one")
    if profile.memory is None:
        found.append(f"the memory of networks: {profile.measured.get('no_memory', 'too few were measured')}")
    if profile.parallel is None and "no_parallel" in profile.measured:
        found.append(f"networks on several workers: {profile.measured['no_parallel']}")
    if untold := [name for name, value in profile.fingerprint.items() if value is None]:
        found.append(f"the device does not tell its {', '.join(untold)}")
    return found


def facts(profile: DeviceProfile) -> dict[str, Any]:
    """As JSON: the edges by falling cost, those that could not be measured last."""
    ranked = sorted(profile.edges.items(), key=lambda item: (item[1].latency_ms is None, -(item[1].latency_ms or 0.0)))
    smallest, median, whole = networks_ms(profile) or (None, None, None)
    return {
        **{name: getattr(profile, name) for name in ("space", "digest", "target", "threads", "hop_ms", "clock")},
        "device": dict(profile.fingerprint),
        "measured": dict(profile.measured),
        **{name: getattr(profile, name) for name in ("seconds", "noisy")},
        "noisy_because": list(profile.noisy_because),
        "networks": {"smallest_ms": smallest, "median_ms": median, "whole_ms": whole},
        "edges": [{"name": name, **asdict(row), "uncertainty_ms": uncertainty_ms(row)} for name, row in ranked],
        "fixed": {name: asdict(row) for name, row in profile.fixed.items()},
        "latency": asdict(profile.latency),
        "held_out": _without(profile.held_out, "rows"),
        "memory": _without(profile.memory, "rows"),
        "parallel": _without(profile.parallel, "costs"),
        "missing": missing(profile),
    }


def _without(model: HeldOut | MemoryModel | ParallelModel | None, many: str) -> dict[str, Any] | None:
    """What was fitted and how wrong it is, but not that of every single network or edge; None if not measured."""
    return None if model is None else {name: value for name, value in asdict(model).items() if name != many}


def cells(profile: DeviceProfile) -> list[str]:
    """A row of the table of several profiles, under `COLUMNS`."""
    told, networks = profile.fingerprint, networks_ms(profile)
    row = [
        str(told.get("cpu_model") or "unknown"),
        str(told.get("os") or "unknown"),
        str(told.get("onnxruntime") or "unknown"),
        str(profile.threads),
        f"{profile.hop_ms} ms",
        PurePath(profile.space).name,  # a space of the user's own is named by its file
        str(len(profile.edges)),
        "–" if networks is None else " / ".join(f"{float(f'{value:.2g}'):g}" for value in networks) + " ms",
        percent(profile.held_out.mape, ".1f"),
        f"{profile.seconds:.0f} s",
        "yes" if profile.noisy else "no",
    ]
    return [short(printable(cell), 80) for cell in row]


def markdown(profiles: Sequence[DeviceProfile]) -> str:
    """The table of devices for a README, a row for each profile."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *([_escaped(cell) for cell in cells(profile)] for profile in profiles)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _escaped(text: str) -> str:
    """Text that is itself in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|!#~&$])", r"\\\1", text)
