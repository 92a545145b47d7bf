"""What the user asks for: a limit on one metric, in a unit that is always written out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from toolkit.errors import MilliwiseError

# Unit as typed (lower case): metric, factor to the metric's own unit, unit as printed.
UNITS: dict[str, tuple[str, float, str]] = {
    "us": ("latency_ms", 1e-3, "ms"),
    "µs": ("latency_ms", 1e-3, "ms"),
    "ms": ("latency_ms", 1.0, "ms"),
    "s": ("latency_ms", 1e3, "ms"),
    "b": ("memory_bytes", 1.0, "B"),
    "kb": ("memory_bytes", 1e3, "kB"),
    "mb": ("memory_bytes", 1e6, "MB"),
    "flops": ("multiply_adds", 1.0, "FLOPs"),
    "kflops": ("multiply_adds", 1e3, "kFLOPs"),
    "mflops": ("multiply_adds", 1e6, "MFLOPs"),
    "gflops": ("multiply_adds", 1e9, "GFLOPs"),
    "params": ("parameters", 1.0, "params"),
    "kparams": ("parameters", 1e3, "kparams"),
    "mparams": ("parameters", 1e6, "Mparams"),
    "steps": ("steps", 1.0, "steps"),
    "cost": ("cost", 1.0, "cost"),
}
OWN = "cost"  # metric of a cost that the user gives
STATISTICS = ("p50", "p95", "p99")  # of a network that does not change
AVERAGED = {"latency_ms": "mean_ms", "multiply_adds": "mean_multiply_adds"}  # over hops, of one that does; in JSON
TIMED = ("latency_ms", "makespan_ms")
MOST_WORKERS = 16  # that a makespan is measured on
EXAMPLES = (
    "'2 ms', '2 ms p50', '1 ms mean', '5 ms@2', '500 kB', '40 MFLOPs', '40 MFLOPs mean', '300 kparams', '8 steps@4' "
    "or '12 cost'"
)
FORM = re.compile(
    r"\s*(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[A-Za-zµ]*)(?:@(?P<workers>[0-9]{1,3}))?(?:\s+(?P<statistic>p[0-9]+|mean))?\s*"
)


@dataclass(frozen=True)
class Budget:
    """A limit.

    FLOPs are multiply-adds counted once, those of pooling included and those of sums left out; the published tables
    differ in both (`profilers.published` counts as they do).

    Attributes:
        metric: latency_ms, makespan_ms, memory_bytes, multiply_adds, parameters, steps, or cost: the user's own.
        limit: in the metric's own unit (ms, bytes, single operations, steps). Steps are of edges that compute; that of
            the classifier, which comes after them all, is left out, where the thesis counts it.
        statistic: of the paced latency: p50, p95 (the default) or p99; mean, of latency or multiply-adds, for networks
            that change from hop to hop; else empty: a makespan is the median of networks run back to back.
        workers: number of workers that steps, or measured edges, are scheduled on; 1 for other metrics.
        text: as the user wrote it.
    """

    metric: str
    limit: float
    statistic: str
    workers: int
    text: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget such as `2 ms` (paced p95), `1 ms mean`, `500 kB`, `40 MFLOPs`, `300 kparams`, `8 steps@4`.

        `5 ms@2` is a makespan: of a network whose edges 2 workers share.

        Raises:
            MilliwiseError: no number, no unit, an unknown unit or statistic, a limit that is not positive, or a number
                of workers that no schedule has.
        """
        match = FORM.fullmatch(text)
        if match is None:
            raise MilliwiseError(f"cannot read the budget {text!r}: write {EXAMPLES}")
        number, unit, workers, statistic = match.group("number", "unit", "workers", "statistic")
        if not unit:
            raise MilliwiseError(f"the budget {text!r} has no unit: write {EXAMPLES}")
        if unit.lower() not in UNITS:
            raise MilliwiseError(f"the budget {text!r} has the unknown unit {unit!r}: write {EXAMPLES}")
        metric, factor, _shown = UNITS[unit.lower()]
        if workers is not None:
            metric = _shared(text, metric, int(workers), statistic)
        limit = float(number) * factor
        if not 0 < limit < math.inf:
            raise MilliwiseError(f"the budget {text!r} is not above zero: write {EXAMPLES}")
        taken = (*(STATISTICS if metric == "latency_ms" else ()), *(("mean",) if metric in AVERAGED else ()))
        if statistic and statistic not in taken:
            raise MilliwiseError(
                f"the budget {text!r} asks for {statistic}: only milliseconds take p50, p95 or p99, they and FLOPs mean"
            )
        chosen = statistic or ("p95" if metric == "latency_ms" else "")
        return cls(metric, limit, chosen, int(workers or 1), " ".join(text.split()))

    @property
    def timed(self) -> bool:
        """Whether it is held against a measurement; all else is counted, or planned."""
        return self.metric in TIMED

    def require_fixed(self) -> None:
        """Refuse a mean, where no network changes from hop to hop.

        Raises:
            MilliwiseError: it is one.
        """
        if self.statistic == "mean":
            raise MilliwiseError(
                f"a budget of {self} is for networks that change from hop to hop, which search --strategy sanas finds; "
                f"this command knows those that do not: write '{show(self.metric, self.limit)}'"
            )

    def __str__(self) -> str:
        return self.text


def _shared(text: str, metric: str, workers: int, statistic: str | None) -> str:
    """The metric of a budget that names workers."""
    if metric not in ("steps", "latency_ms") or workers < 1:
        raise MilliwiseError(f"the budget {text!r} names workers: only steps and milliseconds take them, at least @1")
    if metric == "steps":
        return metric
    if statistic:
        raise MilliwiseError(
            f"the budget {text!r} asks for {statistic}, but networks on several workers are run back to back, and "
            "their median is judged: leave it out"
        )
    if workers > MOST_WORKERS:
        raise MilliwiseError(f"the budget {text!r} names {workers} workers: at most {MOST_WORKERS} are measured")
    return "makespan_ms"


def show(metric: str, value: float) -> str:
    """A value of a metric with its unit, for people: `0.412 ms`, `81.3 kB`."""
    if metric in TIMED:
        return f"{value:.3g} ms"
    steps = [(factor, shown) for of, factor, shown in UNITS.values() if of == metric]
    factor, shown = max((step for step in steps if step[0] <= max(value, 1.0)), default=steps[0])
    return f"{value / factor:.4g} {shown}"
