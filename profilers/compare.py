"""Hold two device profiles of one search space against each other: how far every edge drifted, and what differs."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profilers.drawing import BAND, FASTER, MOST_BARS, SLOWER, STILL, label, lanes, require_drawable, write_figure
from profilers.show import not_ours, time_ms, uncertainty_ms
from toolkit.errors import ProfileMismatch, UnpricedEdge
from toolkit.profile import DeviceProfile, EdgeCost

MOST_DRIFT = 1e6  # beyond that many times nothing is compared


@dataclass(frozen=True)
class EdgeDrift:
    """A distinct edge in profiles A and B.

    `noise_ms` is how far two profiles of an unchanged device may be apart, in 95 of 100 cases.
    """

    name: str
    a_ms: float
    b_ms: float
    noise_ms: float

    @property
    def drift(self) -> float | None:
        """B against A, a fraction; None where the edge cost nothing in A and something in B."""
        return _relative(self.a_ms, self.b_ms)

    @property
    def within_noise(self) -> bool:
        return abs(self.b_ms - self.a_ms) <= self.noise_ms

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "drift": self.drift, "within_noise": self.within_noise}


@dataclass(frozen=True)
class NetworkDrift:
    """Whole networks that both profiles were judged on: medians of B against A, fractions (None: A says 0 ms).

    Attributes:
        predicted: of the tight-loop prediction, front-end not included.
        predicted_p95: of the predicted p95 of the whole file, called once per hop.
        measured: of what was measured in a tight loop.
    """

    nets: int
    predicted: float | None
    predicted_p95: float | None
    measured: float | None


@dataclass(frozen=True)
class Comparison:
    """Two profiles of one graph.

    Attributes:
        failed: the edges that could not be measured in A or in B, and are not compared.
        differences: the recorded facts that are not equal: name to values in A and B.
    """

    space: str
    edges: tuple[EdgeDrift, ...]
    failed: tuple[str, ...]
    networks: NetworkDrift | None
    differences: Mapping[str, tuple[Any, Any]]

    @property
    def median_drift(self) -> float | None:
        """The median absolute drift of the edges that have one."""
        return _median(None if edge.drift is None else abs(edge.drift) for edge in self.edges)

    @property
    def worst_edge(self) -> EdgeDrift | None:
        """The edge with the largest absolute drift."""
        return max(self.edges, key=lambda edge: abs(edge.drift or 0.0), default=None)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        worst, networks = self.worst_edge, self.networks
        return {
            "space": self.space,
            "median_drift": self.median_drift,
            "worst_edge": worst and worst.facts(),
            "within_noise": sum(edge.within_noise for edge in self.edges),
            "edges": [edge.facts() for edge in self.edges],
            "failed": list(self.failed),
            "networks": networks and asdict(networks),
            "differences": [{"name": name, "a": a, "b": b} for name, (a, b) in self.differences.items()],
        }


def compare(a: DeviceProfile, b: DeviceProfile) -> Comparison:
    """How far the costs in profile B are from those in A. Edges that compute nothing are left out.

    Raises:
        ProfileMismatch: the profiles are of different graphs.
        UnpricedEdge: one has an edge that the other lacks.
    """
    if a.digest != b.digest:
        raise ProfileMismatch(
            f"the profiles are of different graphs, {a.space} ({a.digest}) and {b.space} ({b.digest}): "
            "compare two profiles of one search space"
        )
    if odd := sorted(a.edges.keys() ^ b.edges.keys()):
        raise UnpricedEdge(f"only one of the profiles of {a.space} has edge {odd[0]}: run milliwise profile again")
    edges, failed, networks = [], [], _networks(a, b)
    for name, before in a.edges.items():
        after = b.edges[name]
        if before.same_as is not None:
            continue
        if before.latency_ms is None or after.latency_ms is None:
            failed.append(name)
        elif before.steps:
            noise_ms = _noise_ms(before, after, networks is not None)
            edges.append(EdgeDrift(name, before.latency_ms, after.latency_ms, noise_ms))
    edges.sort(key=lambda edge: edge.drift or 0.0, reverse=True)
    return Comparison(a.space, tuple(edges), tuple(failed), networks, _differences(a, b))


def _noise_ms(a: EdgeCost, b: EdgeCost, same_networks: bool) -> float:
    """How far two measurements of one cost may be apart: the uncertainties of both together (root of squares).

    Much of a standard error is what the model cannot express, and profiles that were fitted on the same networks share
    that. Edges of repeated profiles of kws-ds were 0.7 to 1.0 standard errors apart (root of mean square) if they were
    fitted on other networks, 0.3 to 0.4 if on the same: there, half the band holds 95 % of them.
    """
    noise_ms = min(math.hypot(uncertainty_ms(a), uncertainty_ms(b)), sys.float_info.max)
    return noise_ms / 2 if same_networks and None not in (a.error_ms, b.error_ms) else noise_ms


def _networks(a: DeviceProfile, b: DeviceProfile) -> NetworkDrift | None:
    """None where the profiles were judged on different networks (another seed)."""
    before, after = _judged(a), _judged(b)
    common = [kept for kept in before if kept in after]
    if not common:
        return None

    def median(value: Callable[[DeviceProfile, tuple[float, float]], float]) -> float | None:
        return _median(_relative(value(a, before[kept]), value(b, after[kept])) for kept in common)

    def p95_ms(profile: DeviceProfile, row: tuple[float, float]) -> float:
        return profile.latency.paced["p95"](profile.latency.front_end_ms + row[0])

    return NetworkDrift(len(common), median(lambda _, row: row[0]), median(p95_ms), median(lambda _, row: row[1]))


def _relative(a: float, b: float) -> float | None:
    """B against A, a fraction; None where A is nothing beside B."""
    drift = 0.0 if a == b else b / a - 1 if a else math.inf
    return drift if drift <= MOST_DRIFT else None


def _median(drifts: Iterable[float | None]) -> float | None:
    known = [drift for drift in drifts if drift is not None]
    return statistics.median(known) if known else None


def _judged(profile: DeviceProfile) -> dict[frozenset[str], tuple[float, float]]:
    """Predicted and measured tight-loop ms of the held-out networks, by their kept edges.

    Raises:
        MilliwiseError: a row is not as milliwise wrote it.
    """
    found = {}
    for row in profile.held_out.rows:
        kept = row.get("kept")
        if not isinstance(kept, list) or not all(isinstance(name, str) for name in kept):
            raise not_ours(profile, "edges", kept)
        found[frozenset(kept)] = (time_ms(profile, row, "predicted_ms"), time_ms(profile, row, "measured_ms"))
    return found


def _differences(a: DeviceProfile, b: DeviceProfile) -> dict[str, tuple[Any, Any]]:
    before, after = _recorded(a), _recorded(b)
    names = dict.fromkeys((*before, *after))
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _recorded(profile: DeviceProfile) -> dict[str, Any]:
    """What the profile says about the device and about how it was measured."""
    plain = {name: value for name, value in profile.measured.items() if not isinstance(value, list | dict)}
    fields = ("target", "threads", "hop_ms", "clock", "noisy")
    return {**profile.fingerprint, **plain, **{name: getattr(profile, name) for name in fields}}


def draw(comparison: Comparison, path: Path) -> None:
    """Draw the drift of every edge as a bar over its noise, the slowest-grown first, as PNG or SVG.

    Raises:
        MilliwiseError: another format, or it cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    require_drawable(path)
    write_figure(_figure(comparison), path)


def _figure(comparison: Comparison) -> Any:
    from matplotlib.figure import Figure

    bars = _bars(comparison)
    drifts = [100 * (edge.drift or 0.0) for edge in bars]
    noise = [100 * min(edge.noise_ms / edge.a_ms, MOST_DRIFT) if edge.a_ms else 0.0 for edge in bars]
    figure = Figure(figsize=(9, 1.6 + 0.22 * max(len(bars), 3)), layout="constrained")
    axes, places = figure.add_subplot(), range(len(bars))
    axes.barh(places, [2 * share for share in noise], 0.9, [-share for share in noise], color=BAND)
    axes.barh(places, drifts, 0.45, color=[_colour(edge) for edge in bars])
    axes.axvline(0, color="black", linewidth=0.8)
    told = [f"{edge.a_ms:.3g} → {edge.b_ms:.3g} ms, {drift:+.1f} %" for edge, drift in zip(bars, drifts, strict=True)]
    lanes(axes, [edge.name for edge in bars], told)
    reach = _reach([abs(share) for share in (*drifts, *noise)])
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(
        "B against A, %: slower to the right. Grey: within noise; the light band is how far two profiles may be apart",
        fontsize=8,
    )
    axes.set_title(_title(comparison, len(bars)), parse_math=False, fontsize=10)
    return figure


def _bars(comparison: Comparison) -> list[EdgeDrift]:
    """The edges that are drawn, in their order: those with the largest drift."""
    known = [edge for edge in comparison.edges if edge.drift is not None]
    largest = set(sorted(known, key=lambda edge: abs(edge.drift or 0.0), reverse=True)[:MOST_BARS])
    return [edge for edge in known if edge in largest]


def _reach(shares: list[float]) -> float:
    """How far the axis goes, in %: one bar far beyond all others leaves the picture (its figure stands beside it)."""
    usual = sorted(shares)[int(0.9 * (len(shares) - 1))] if shares else 0.0
    return max(5.0, min(3 * usual, 1.05 * max(shares, default=0.0)))


def _title(comparison: Comparison, drawn: int) -> str:
    median = "" if comparison.median_drift is None else f": median {100 * comparison.median_drift:.1f} %"
    part = "" if drawn == len(comparison.edges) else f" ({drawn} of {len(comparison.edges)} drawn)"
    return f"Drift of the edges of {label(comparison.space)}{median}{part}"


def _colour(edge: EdgeDrift) -> str:
    if edge.within_noise:
        return STILL
    return SLOWER if edge.b_ms > edge.a_ms else FASTER
