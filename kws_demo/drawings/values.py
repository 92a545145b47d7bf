"""Read figures from JSON objects in which any of them may be missing, null or of another type, and print them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNMEASURED = "not measured"
LARGEST = 1e12  # beyond it a figure is nonsense, and would overflow the arithmetic of a drawing


def at(content: object, *path: str) -> Any:
    """What stands at a path of keys; None where there is nothing."""
    for key in path:
        if not isinstance(content, Mapping):
            return None
        content = content.get(key)
    return content


def number(content: object, *path: str) -> float | None:
    """The finite number at a path; None for anything else."""
    value = at(content, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and abs(value) <= LARGEST else None


def items(content: object, *path: str) -> list[Any]:
    """The list at a path; empty for anything else."""
    value = at(content, *path)
    return list(value) if isinstance(value, list | tuple) else []


def rows(content: object, *path: str) -> list[Mapping[str, Any]]:
    """The objects in the list at a path."""
    return [row for row in items(content, *path) if isinstance(row, Mapping)]


def texts(content: object, *path: str) -> list[str]:
    """The entries of the list at a path, as text."""
    return [str(entry) for entry in items(content, *path)]


def numbers(content: object, *path: str) -> list[float]:
    """The entries of the list at a path, 0 for those that are no finite number."""
    return [number({"": entry}, "") or 0.0 for entry in items(content, *path)]


def show_ms(value: float | None) -> str:
    """`0.781 ms`, `12.4 ms`, or that it is not measured."""
    return UNMEASURED if value is None else f"{_three_digits(value)} ms"


def show_us(value_ms: float) -> str:
    """A short latency in microseconds: `21 µs`, `0.6 µs`."""
    return f"{value_ms * 1e3:.{0 if value_ms >= 0.00995 else 1}f} µs"


def show_share(value: float | None, error: float | None = None) -> str:
    """A fraction as `95.0 %`, with its standard error where there is one."""
    if value is None:
        return UNMEASURED
    return f"{100 * value:.1f} %" if error is None else f"{100 * value:.1f} ± {100 * error:.1f} %"


def show_bytes(value: float | None) -> str:
    """`41.3 kB`, or that it is not measured."""
    if value is None:
        return UNMEASURED
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{value:.0f} B"


def show_binary(value: float) -> str:
    """A size of memory: `32 KiB`, `7.64 GiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def _three_digits(value: float) -> str:
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(4, 2 - magnitude))}f}"
