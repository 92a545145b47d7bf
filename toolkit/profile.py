"""The device-profile file: what every edge costs on one device, how that was measured, and how wrong it still is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.files import read_json, write_json
from toolkit.graph import Architecture, Graph

FORMAT = 1  # 1: the first
PACED = ("p50", "p95", "p99", "p50_upper", "p95_upper", "p99_upper")


@dataclass(frozen=True)
class EdgeCost:
    """What one live edge adds to a network.

    Attributes:
        latency_ms: in a tight loop, in context, as the fitted model uses it.
        isolated_ms: as measured before the fit, by difference (None for an edge that computes nothing).
        spread: relative spread of the measurement, a fraction.
        memory_bytes: weights, streaming state and output activation.
        steps: units of sequential work (an identity is free).
        multiply_adds: per hop.
        parameters: trained values.
        uncounted: operators whose multiply-adds could not be counted.
        same_as: name of the edge that was measured in its place because it is the same computation.
    """

    latency_ms: float
    isolated_ms: float | None
    spread: float
    memory_bytes: int
    steps: int
    multiply_adds: int
    parameters: int
    uncounted: tuple[str, ...] = ()
    same_as: str | None = None


@dataclass(frozen=True)
class Line:
    """An affine map: base + slope · x."""

    base: float
    slope: float

    def __call__(self, value: float) -> float:
        return self.base + self.slope * value


@dataclass(frozen=True)
class LatencyModel:
    """Latency of a network from its live edges.

    tight-loop ms = front_end_ms + base_ms + Σ edges + join_ms · (live edges beyond the first into each node);
    paced ms of a statistic = paced[statistic](tight-loop ms).

    Attributes:
        front_end_ms: the stem alone, in a tight loop.
        base_ms: calling the runtime, and the head.
        join_ms: adding one more live edge into a node.
        paced: statistic (p50, p95, p99) to the map from tight-loop ms to ms when called once per hop; `p95_upper` and
            so on lead to where the upper confidence bound of that statistic will likely be measured, which is what a
            budget is held against.
        shortened: the map from ms at the shortened gap to ms at the hop.
        shortened_gap_ms: that gap.
        paced_error: mean relative error of the paced p50 map over the networks it was fitted on, a fraction.
    """

    front_end_ms: float
    base_ms: float
    join_ms: float
    paced: Mapping[str, Line]
    shortened: Line
    shortened_gap_ms: float
    paced_error: float


def tight_loop_ms(
    graph: Graph, live: Architecture, edges_ms: Mapping[str, float], base_ms: float, join_ms: float
) -> float:
    """The latency model of `LatencyModel` for live edges, front-end not included."""
    return base_ms + join_ms * graph.joins(live) + sum(edges_ms[name] for name in live)


@dataclass(frozen=True)
class HeldOut:
    """How wrong the tight-loop model is on networks that took no part in its fit (front-end not included)."""

    nets: int
    mape: float
    within_5: float
    within_10: float
    spearman: float
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class DeviceProfile:
    """Everything `search`, `export` and `check` need to know about a device.

    `fixed` has the costs of what every network of the space contains beside its edges: `stem` and `head` (of a
    listener with 12 labels). Their latency is in the latency model, as `front_end_ms` and in `base_ms`.
    """

    space: str
    digest: str
    target: str
    fingerprint: Mapping[str, Any]
    threads: int
    hop_ms: int
    measured: Mapping[str, Any]
    edges: Mapping[str, EdgeCost]
    fixed: Mapping[str, EdgeCost]
    latency: LatencyModel
    held_out: HeldOut
    noisy: bool
    seconds: float

    def tight_ms(self, graph: Graph, live: Iterable[str], front_end: bool = True) -> float:
        """Predicted tight-loop ms of a network of live edges.

        Raises:
            UnpricedEdge: an edge has no row in this profile.
        """
        live = frozenset(live)
        self.require_priced(live)
        model = self.latency
        edges_ms = {name: self.edges[name].latency_ms for name in live}
        front_end_ms = model.front_end_ms if front_end else 0.0
        return front_end_ms + tight_loop_ms(graph, live, edges_ms, model.base_ms, model.join_ms)

    def paced_ms(self, graph: Graph, live: Iterable[str], statistic: str = "p95") -> float:
        """Predicted ms of the whole exported file, called once per hop."""
        return self.latency.paced[statistic](self.tight_ms(graph, live))

    def require_priced(self, names: Iterable[str]) -> None:
        """Refuse edges without a measured cost.

        Raises:
            UnpricedEdge: names them.
        """
        if missing := sorted(set(names) - self.edges.keys()):
            raise UnpricedEdge(
                f"the device profile has no cost for edge {', '.join(missing)}: "
                f"run milliwise profile {self.space} again"
            )

    def require(self, graph: Graph, threads: int | None = None, hop_ms: int | None = None) -> None:
        """Refuse a profile that was made for something else.

        Raises:
            ProfileMismatch: another graph, thread count or hop; both values are shown.
        """
        for what, mine, asked in (
            ("graph", self.digest, graph.digest()),
            ("thread count", self.threads, threads),
            ("hop in ms", self.hop_ms, hop_ms),
        ):
            if asked is not None and mine != asked:
                raise ProfileMismatch(
                    f"the profile of {self.space} was made for {what} {mine}, not {asked}: run milliwise profile again"
                )

    def save(self, path: Path) -> None:
        """Write the profile as JSON, aside and renamed."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """Read a profile.

        Raises:
            MilliwiseError: unreadable, truncated, edited by hand into something else, or of a newer format.
        """
        content = read_json(path, "device profile")
        if content.get("format") != FORMAT:
            raise MilliwiseError(
                f"device profile {path} has format {content.get('format')!r}, this version reads {FORMAT}: "
                "profile again"
            )
        try:
            return _from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise MilliwiseError(
                f"device profile {path} is not as milliwise wrote it ({reason}): run milliwise profile again"
            ) from None


def _number(value: object, name: str, least: float = -1e300) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e300:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return float(value)


def _count(value: object, name: str, least: int = 0, most: int = 10**18) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}")
    return value


def _line(value: Mapping[str, Any], name: str) -> Line:
    return Line(_number(value["base"], name, 0.0), _number(value["slope"], name, 0.0))


def _edge(name: str, row: Mapping[str, Any]) -> EdgeCost:
    isolated, same_as = row["isolated_ms"], row["same_as"]
    return EdgeCost(
        latency_ms=_number(row["latency_ms"], f"latency_ms of {name}", 0.0),
        isolated_ms=None if isolated is None else _number(isolated, f"isolated_ms of {name}"),
        spread=_number(row["spread"], f"spread of {name}", 0.0),
        memory_bytes=_count(row["memory_bytes"], f"memory_bytes of {name}"),
        steps=_count(row["steps"], f"steps of {name}"),
        multiply_adds=_count(row["multiply_adds"], f"multiply_adds of {name}"),
        parameters=_count(row["parameters"], f"parameters of {name}"),
        uncounted=tuple(_text(operator, f"uncounted of {name}") for operator in row["uncounted"]),
        same_as=None if same_as is None else _text(same_as, f"same_as of {name}"),
    )


def _latency(row: Mapping[str, Any]) -> LatencyModel:
    plain = ("front_end_ms", "base_ms", "join_ms")
    return LatencyModel(
        **{name: _number(row[name], name, 0.0) for name in plain},
        paced={name: _line(row["paced"][name], f"paced {name}") for name in PACED},
        shortened=_line(row["shortened"], "shortened"),
        shortened_gap_ms=_number(row["shortened_gap_ms"], "shortened_gap_ms", 1.0),
        paced_error=_number(row["paced_error"], "paced_error", 0.0),
    )


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    shares = {name: _number(row[name], name) for name in ("mape", "within_5", "within_10", "spearman")}
    return HeldOut(nets=_count(row["nets"], "nets"), rows=tuple(dict(item) for item in row["rows"]), **shares)


def _from_json(content: Mapping[str, Any]) -> DeviceProfile:
    texts = {name: _text(content[name], name) for name in ("space", "digest", "target")}
    return DeviceProfile(
        **texts,
        fingerprint=dict(content["fingerprint"]),
        threads=_count(content["threads"], "threads", 1, 64),
        hop_ms=_count(content["hop_ms"], "hop_ms", 1, 2000),
        measured=dict(content["measured"]),
        edges={str(name): _edge(name, row) for name, row in content["edges"].items()},
        fixed={name: _edge(name, content["fixed"][name]) for name in ("stem", "head")},
        latency=_latency(content["latency"]),
        held_out=_held_out(content["held_out"]),
        noisy=_flag(content["noisy"], "noisy"),
        seconds=_number(content["seconds"], "seconds", 0.0),
    )
