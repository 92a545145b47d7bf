"""Read a device profile from JSON as hostile input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.makespan import parse_parallel
from toolkit.memory import MemoryModel
from toolkit.profile import PACED, Bound, DeviceProfile, EdgeCost, HeldOut, LatencyModel, Line
from toolkit.values import count, flag, number, optional_number, text, texts

CLOCKS = ("tight", "paced")
COUNTED = ("cores", "memory_bytes")  # of a fingerprint
COUNTS = ("weight_bytes", "state_bytes", "activation_bytes", "steps", "multiply_adds", "parameters")


def parse_profile(content: Mapping[str, Any]) -> DeviceProfile:
    """A profile from the JSON that `DeviceProfile.save` writes.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not as we wrote it.
    """
    named = {name: text(content[name], name) for name in ("space", "digest", "target", "clock")}
    if named["clock"] not in CLOCKS:
        raise ValueError(f"clock is {named['clock'][:40]!r}, not {' or '.join(CLOCKS)}")
    return DeviceProfile(
        **named,
        fingerprint=_fingerprint(content["fingerprint"]),
        threads=count(content["threads"], "threads", 1, 64),
        hop_ms=count(content["hop_ms"], "hop_ms", 1, 2000),
        measured=dict(content["measured"]),
        edges={str(name): _edge(name, row) for name, row in content["edges"].items()},
        fixed={name: _edge(name, content["fixed"][name]) for name in ("stem", "head")},
        latency=_latency(content["latency"]),
        held_out=_held_out(content["held_out"]),
        noisy=flag(content["noisy"], "noisy"),
        noisy_because=texts(content["noisy_because"], "noisy_because"),
        seconds=number(content["seconds"], "seconds", 0.0),
        memory=_memory(content.get("memory")),
        parallel=None if content.get("parallel") is None else parse_parallel(content["parallel"]),
    )


def _fingerprint(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is counted is a count, `cache_bytes` are counts by name, all else is a text, a number, a flag or nothing."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "cache_bytes" and value is not None:
            found[name] = {str(level): count(size, f"{name} of {level}") for level, size in value.items()}
        elif value is None or (isinstance(value, bool | str) and name not in COUNTED):
            found[name] = value
        else:
            number(value, f"{name[:40]!a} of the fingerprint")
            found[name] = count(value, name) if name in COUNTED else value
    return found


def _line(value: Mapping[str, Any], name: str) -> Line:
    return Line(number(value["base"], name, 0.0), number(value["slope"], name, 0.0))


def _edge(name: str, row: Mapping[str, Any]) -> EdgeCost:
    same_as = row["same_as"]
    return EdgeCost(
        latency_ms=optional_number(row["latency_ms"], f"latency_ms of {name}"),
        isolated_ms=optional_number(row["isolated_ms"], f"isolated_ms of {name}", least=-1e300),
        spread=number(row["spread"], f"spread of {name}", 0.0),
        **{counted: count(row[counted], f"{counted} of {name}") for counted in COUNTS},
        uncounted=texts(row["uncounted"], f"uncounted of {name}"),
        same_as=None if same_as is None else text(same_as, f"same_as of {name}"),
        error_ms=optional_number(row["error_ms"], f"error_ms of {name}"),
        failed=_failed(name, row),
    )


def _memory(row: Mapping[str, Any] | None) -> MemoryModel | None:
    if row is None:
        return None
    return MemoryModel(
        base_bytes=number(row["base_bytes"], "base_bytes", 0.0),
        per_weight_byte=number(row["per_weight_byte"], "per_weight_byte", 0.0),
        per_largest_byte=number(row["per_largest_byte"], "per_largest_byte", 0.0),
        fitted_nets=count(row["fitted_nets"], "fitted_nets"),
        fitted_error=number(row["fitted_error"], "fitted_error", 0.0),
        held_out_nets=count(row["held_out_nets"], "held_out_nets"),
        held_out_error=optional_number(row["held_out_error"], "held_out_error"),
        held_out_within_10=optional_number(row["held_out_within_10"], "held_out_within_10"),
        rows=tuple(dict(item) for item in row["rows"]),
    )


def _failed(name: str, row: Mapping[str, Any]) -> str | None:
    """An edge has a cost or a reason why not; never neither."""
    failed = row["failed"]
    if (failed is None) == (row["latency_ms"] is None):
        raise ValueError(f"latency_ms of {name} is {row['latency_ms']} and failed is {str(failed)[:40]}")
    return None if failed is None else text(failed, f"failed of {name}")


def _bound(row: Mapping[str, Any] | None) -> Bound | None:
    if row is None:
        return None
    return Bound(
        coverage=number(row["coverage"], "coverage", 0.0),
        factor=number(row["factor"], "factor of the bound", 0.0),
        nets=count(row["nets"], "nets of the bound"),
        held_out_coverage=optional_number(row["held_out_coverage"], "held_out_coverage"),
    )


def _latency(row: Mapping[str, Any]) -> LatencyModel:
    plain = ("front_end_ms", "base_ms", "join_ms", "chain_ms")
    return LatencyModel(
        **{name: number(row[name], name, 0.0) for name in plain},
        paced={name: _line(row["paced"][name], f"paced {name}") for name in PACED},
        shortened=_line(row["shortened"], "shortened"),
        shortened_gap_ms=number(row["shortened_gap_ms"], "shortened_gap_ms", 1.0),
        paced_error=number(row["paced_error"], "paced_error", 0.0),
        bound=_bound(row["bound"]),
    )


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    names = ("mape", "within_5", "within_10", "spearman")
    shares = {name: optional_number(row[name], name, least=-1.0) for name in names}
    return HeldOut(nets=count(row["nets"], "nets"), rows=tuple(dict(item) for item in row["rows"]), **shares)
