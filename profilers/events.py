"""Read the runner's events from somewhere else (a device, a file) as hostile input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from toolkit.errors import printable

Event = dict[str, Any]
MAX_TEXT = 1000  # characters
MAX_NAME = 200  # characters of a text in a fingerprint
MAX_DEPTH = 4
MAX_ELEMENTS = 100_000  # numbers, texts, lists and objects in one event
SHORTEST_MS = 1e-6  # a nanosecond, the step in which the runner tells times
LONGEST_MS = 1e7  # the runner gives up on a model after a minute
Rule = Callable[[Any], bool]


def parse_line(line: bytes) -> Event | None:
    """The JSON object on a line; None for what a driver or a login script printed.

    Raises:
        ValueError: it holds what the runner never says: NaN, an endless number, deep nesting.
    """
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(line, parse_constant=_refused, parse_int=_integer)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except RecursionError:
        raise ValueError("deep nesting") from None
    return found if isinstance(found, dict) else None


def checked_event(event: object, models: Collection[str]) -> Event:
    """An event of a job with these model files, its texts made printable; of a fingerprint what is known of it only.

    Raises:
        ValueError: one short line; what is no such event, and why.
    """
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError("something that is no event")
    clean = {name: _plain(value, MAX_DEPTH) for name, value in _named(event)}
    rules = KNOWN.get(clean["event"], {})
    if bad := [name for name, rule in rules.items() if name not in clean or not rule(clean[name])]:
        raise ValueError(f"an event {_shown(clean['event'])!r} with a wrong {bad[0]}")
    if "model" in clean and not (_is_text(clean["model"]) and clean["model"] in models):
        raise ValueError(f"results for {_shown(clean['model'])!r}, which is not in the job")
    if _elements(clean) > MAX_ELEMENTS:
        raise ValueError(f"an event {_shown(clean['event'])!r} of more than {MAX_ELEMENTS} elements")
    if clean["event"] == "fingerprint":
        return {name: clean[name] for name in ("event", *rules)}
    return clean


def _named(mapping: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    if bad := [name for name in mapping if not isinstance(name, str) or len(name) > MAX_TEXT]:
        raise ValueError(f"the name {_shown(bad[0])!r}")
    return [(printable(name), value) for name, value in mapping.items()]


def _plain(value: object, depth: int) -> Any:
    """JSON without surprises: finite numbers of ordinary size, short printable texts, little nesting."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not -1e18 < value < 1e18:  # false for NaN, too
            raise ValueError(f"the number {value}" if isinstance(value, float) else "a number that is too large")
        return value
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return printable(value)
    if isinstance(value, list) and depth:
        return [_plain(each, depth - 1) for each in value]
    if isinstance(value, dict) and depth:
        return {name: _plain(each, depth - 1) for name, each in _named(value)}
    raise ValueError(f"a {type(value).__name__} that is too long or too deep")


def _elements(value: object) -> int:
    """How many values there are in it, itself included."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_elements, within))


def _shown(value: object) -> str:
    """For a line of an error: printable, and not long."""
    return printable(str(value)[:40])[:40]


def _refused(name: str) -> float:
    raise ValueError(f"the number {name}")


def _integer(digits: str) -> int:
    if len(digits) > 20:  # turning millions of digits into a number takes minutes
        raise ValueError(f"the number {digits[:20]}…")
    return int(digits)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and SHORTEST_MS <= value < LONGEST_MS


def _is_moment(value: Any) -> bool:
    return _is_number(value) and 0 <= value < LONGEST_MS


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 20
        and all(map(_is_name, value))
        and _each(_is_count, 0)(list(value.values()))
    )


def _each(rule: Rule, least: int = 1) -> Rule:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


# What our side relies on in each kind of event; other kinds and other values pass as they are, but plain. Of a
# fingerprint nothing else passes: it goes into profiles and exported files, beside values of our own.
KNOWN: dict[str, dict[str, Rule]] = {
    "host": {"code": lambda value: value is None or isinstance(value, int), "errors": _is_text, "reason": _is_text},
    "environment": {"onnxruntime": _is_text},
    "fingerprint": {
        "cpu_model": _is_name,
        "cores": _is_count,
        "architecture": _is_name,
        "memory_bytes": _is_count,
        "cache_bytes": _are_sizes,
        "governor": lambda value: value is None or _is_name(value),
        "os": _is_name,
        "kernel": _is_name,
        "python": _is_name,
        "onnxruntime": _is_name,
    },
    "progress": {"done": lambda value: _is_number(value) and value >= 0, "total": _is_time},
    "unfit": {"reason": _is_text},
    "opening": {"model": _is_text},
    "blocks": {
        "model": _is_text,
        "blocks_ms": _each(_is_time),
        "rejected_ms": _each(_is_time, 0),
        "calls_per_block": _is_count,
    },
    "paced": {"model": _is_text, "values_ms": _each(_is_time), "gap_ms": _is_time},
    "parallel": {
        "plan": _is_count,
        "blocks_ms": _each(_is_time),
        "begins_ms": _each(_is_moment),
        "ends_ms": _each(_is_moment),
    },
    "memory": {
        "model": _is_text,
        **dict.fromkeys(("before_bytes", "load_peak_bytes", "peak_bytes", "resident_bytes"), _is_count),
    },
    "load": {"foreign": _each(_is_share, 0), "probes_ms": _each(_is_time, 0)},
    "failed": {"model": _is_text, "reason": _is_text},
    "died": {"reason": _is_text},
}
