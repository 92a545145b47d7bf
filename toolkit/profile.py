"""The device-profile file: what every edge costs on one device, how that was measured, and how wrong it still is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.files import read_json, write_json
from toolkit.graph import Architecture, Graph
from toolkit.makespan import HEAD, ParallelModel
from toolkit.memory import MemoryModel

FORMAT = 2  # 2: clock, bound and memory, edges that failed
PACED = ("p50", "p95", "p99", "p50_upper", "p95_upper", "p99_upper")


@dataclass(frozen=True)
class EdgeCost:
    """What one live edge adds to a network.

    Attributes:
        latency_ms: in context, as the fitted model uses it; None for an edge that could not be measured.
        isolated_ms: as measured before the fit, by difference (None for an edge that computes nothing).
        spread: relative spread of the measurement, a fraction.
        weight_bytes: of its float32 weights as they are exported, BatchNorm folded where it follows a convolution.
        state_bytes: what it keeps between two calls.
        activation_bytes: of its output for one call; 0 for an identity, which hands its input on.
        steps: units of sequential work (an identity is free).
        multiply_adds: per hop.
        parameters: trained values.
        uncounted: operators whose multiply-adds could not be counted.
        same_as: name of the edge that was measured in its place because it is the same computation.
        error_ms: standard error of latency_ms.
        failed: why it could not be measured.
    """

    latency_ms: float | None
    isolated_ms: float | None
    spread: float
    weight_bytes: int
    state_bytes: int
    activation_bytes: int
    steps: int
    multiply_adds: int
    parameters: int
    uncounted: tuple[str, ...] = ()
    same_as: str | None = None
    error_ms: float | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Line:
    """An affine map: base + slope · x."""

    base: float
    slope: float

    def __call__(self, value: float) -> float:
        return self.base + self.slope * value


@dataclass(frozen=True)
class Bound:
    """What most networks stay below: `factor` × the prediction of the table (front-end not included).

    Attributes:
        coverage: the least probability of that, for networks drawn as the calibrating ones were (split conformal).
        nets: how many networks calibrated it.
        held_out_coverage: the share of the held-out networks that did stay below.
    """

    coverage: float
    factor: float
    nets: int
    held_out_coverage: float | None = None


@dataclass(frozen=True)
class LatencyModel:
    """Latency of a network from its live edges, by the clock of the profile's table.

    ms by that clock = front_end_ms + base_ms + Σ edges + join_ms · (live edges beyond the first into each node)
                       + chain_ms · (nodes with one live edge in and one out);
    paced ms of a statistic = paced[statistic](ms by that clock).

    Attributes:
        front_end_ms: the stem alone.
        base_ms: calling the runtime, and the head.
        join_ms: adding one more live edge into a node.
        chain_ms: a node with one live edge in and one out, over any other (what was measured of networks of separable
            convolutions: about a microsecond each; nothing where edges are whole residual blocks).
        paced: statistic (p50, p95, p99) to the map from the table's ms to ms when called once per hop; `p95_upper` and
            so on lead to where the upper confidence bound of that statistic will likely be measured, which is what a
            budget is held against.
        shortened: the map from ms at the shortened gap to ms at the hop.
        shortened_gap_ms: that gap.
        paced_error: mean relative error of the paced p50 map over the networks it was fitted on, a fraction.
        bound: None where too few networks could calibrate one.
    """

    front_end_ms: float
    base_ms: float
    join_ms: float
    paced: Mapping[str, Line]
    shortened: Line
    shortened_gap_ms: float
    paced_error: float
    bound: Bound | None = None
    chain_ms: float = 0.0


def network_ms(
    graph: Graph,
    live: Architecture,
    edges_ms: Mapping[str, float],
    base_ms: float,
    join_ms: float,
    chain_ms: float = 0.0,
) -> float:
    """The latency model of `LatencyModel` for live edges, front-end not included."""
    nodes_ms = join_ms * graph.joins(live) + chain_ms * graph.chains(live)
    return base_ms + nodes_ms + sum(edges_ms[name] for name in live)


@dataclass(frozen=True)
class HeldOut:
    """How wrong the table's model is on networks that took no part in its fit (front-end not included).

    None where there were no such networks: the space has too few, or they failed.
    """

    nets: int
    mape: float | None
    within_5: float | None
    within_10: float | None
    spearman: float | None
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class DeviceProfile:
    """Everything `search`, `export` and `check` need to know about a device.

    `fixed` has the costs of what every network of the space contains beside its edges: `stem` and `head` (of a
    listener with 12 labels). Their latency is in the latency model, as `front_end_ms` and in `base_ms`.

    `clock` is the rhythm in which the table was timed: `tight` (calls back to back) or `paced` (idle between calls,
    where weights do not fit the cache and how warm it is decides). `noisy_because` says what disturbed it.

    `memory` and `parallel` are None where they were not measured.
    """

    space: str
    digest: str
    target: str
    fingerprint: Mapping[str, Any]
    threads: int
    hop_ms: int
    clock: str
    measured: Mapping[str, Any]
    edges: Mapping[str, EdgeCost]
    fixed: Mapping[str, EdgeCost]
    latency: LatencyModel
    held_out: HeldOut
    noisy: bool
    noisy_because: tuple[str, ...]
    seconds: float
    memory: MemoryModel | None = None
    parallel: ParallelModel | None = None

    @property
    def weightless(self) -> frozenset[str]:
        """The edges without weights, such as the ReLU of a sum."""
        return frozenset(name for name, row in self.edges.items() if row.parameters == 0)

    def table_ms(self, graph: Graph, live: Iterable[str], *, front_end: bool = True, bound: bool = False) -> float:
        """Predicted ms of a network of live edges by the table's clock.

        Args:
            bound: what it stays below with the probability `latency.bound.coverage`, instead of what it likely takes.

        Raises:
            UnpricedEdge: an edge has no cost in this profile, or a bound is asked for and there is none.
        """
        live = frozenset(live)
        self.require_priced(live)
        model = self.latency
        if bound and model.bound is None:
            raise UnpricedEdge(
                f"the profile of {self.space} has no bound, for too few networks calibrated it: go without one"
            )
        factor = model.bound.factor if bound and model.bound else 1.0
        edges_ms = {name: self.edges[name].latency_ms or 0.0 for name in live}
        front_end_ms = model.front_end_ms if front_end else 0.0
        return front_end_ms + factor * network_ms(graph, live, edges_ms, model.base_ms, model.join_ms, model.chain_ms)

    def paced_ms(self, graph: Graph, live: Iterable[str], statistic: str = "p95", *, bound: bool = False) -> float:
        """Predicted ms of the whole exported file, called once per hop; `bound` as in `table_ms`."""
        return self.latency.paced[statistic](self.table_ms(graph, live, bound=bound))

    def makespan_ms(self, graph: Graph, live: Iterable[str], workers: int) -> float:
        """Predicted ms of a network of live edges that so many workers share, run back to back.

        The front-end is no edge: it runs before there is anything to share.

        Raises:
            UnpricedEdge: see `require_parallel`.
        """
        live = frozenset(live)
        return self.latency.front_end_ms + self.require_parallel(live, workers).makespan_ms(graph, live, workers)

    def require_parallel(self, names: Iterable[str], workers: int) -> ParallelModel:
        """What networks of these edges take on so many workers.

        Raises:
            UnpricedEdge: that was not measured, of so many workers or of an edge that it names.
        """
        again = f"run milliwise profile {self.space} --workers {max(2, workers)} again"
        if self.parallel is None:
            reason = self.measured.get("no_parallel", "without --workers nothing of that is measured")
            raise UnpricedEdge(f"the profile of {self.space} knows no makespan ({reason!s:.200}): {again}")
        if workers > self.parallel.workers:
            raise UnpricedEdge(
                f"the profile of {self.space} knows the makespan on {self.parallel.workers} workers, not on {workers}: "
                f"{again}"
            )
        if missing := sorted({*names, HEAD} - self.parallel.costs.keys()):
            raise UnpricedEdge(f"edge {', '.join(missing)} was not measured on several workers: {again}")
        return self.parallel

    def require_priced(self, names: Iterable[str]) -> None:
        """Refuse edges without a measured cost.

        Raises:
            UnpricedEdge: names them.
        """
        for name in sorted(set(names) & self.edges.keys()):
            if (reason := self.edges[name].failed) is not None:
                raise UnpricedEdge(
                    f"edge {name} could not be measured ({reason}), so networks with it have no price: run milliwise "
                    f"profile {self.space} again, or leave the edge out of the space"
                )
        if missing := sorted(set(names) - self.edges.keys()):
            raise UnpricedEdge(
                f"the device profile has no cost for edge {', '.join(missing)}: "
                f"run milliwise profile {self.space} again"
            )

    def require(
        self, graph: Graph, threads: int | None = None, hop_ms: int | None = None, space: str | None = None
    ) -> None:
        """Refuse a profile that was made for something else.

        Args:
            space: whose graph it is, to be named in the message.

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
                    f"the profile of {self.space} was made for {what} {mine}, not {asked}: "
                    f"run milliwise profile {space or self.space}"
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
        from toolkit.profile_json import parse_profile  # which needs the classes above

        try:
            return parse_profile(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise MilliwiseError(
                f"device profile {path} is not as milliwise wrote it ({reason}): run milliwise profile again"
            ) from None
