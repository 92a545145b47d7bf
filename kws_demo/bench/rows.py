"""Rows of a benchmark: raw measurements kept line by line, and judged against their targets."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profilers.device import fingerprint
from toolkit.errors import MilliwiseError
from toolkit.files import write_bytes


class Results:
    """Raw results by key, written to a JSON-lines file after each, with the commit and machine they come from."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path, self.resume = path, resume
        self._rows: dict[str, dict[str, Any]] = {}
        if resume and path.exists():
            self._rows = _stored(path)

    def get(self, key: str) -> Any:
        """The stored result, or None."""
        return self._rows[key]["value"] if key in self._rows else None

    def keep(self, key: str, measure: Callable[[], Any]) -> Any:
        """The stored result of that key, or what `measure` gives now."""
        if key not in self._rows:
            begun, load = time.monotonic(), os.getloadavg()[0]
            value = measure()
            seconds = round(time.monotonic() - begun, 1)
            self._rows[key] = {
                "key": key,
                "value": value,
                "seconds": seconds,
                "load_before": load,
                "commit": _commit(),
                "machine": machine(),
            }
            write_bytes(self.path, "".join(json.dumps(row) + "\n" for row in self._rows.values()).encode())
        return self._rows[key]["value"]


def _stored(path: Path) -> dict[str, dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {str(row["key"]): {"value": row["value"], **row} for row in rows}
    except OSError as error:
        raise MilliwiseError(f"cannot read the results {path}: {error.strerror}; leave out --resume") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MilliwiseError(f"the results {path} are damaged ({error}): leave out --resume") from None


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    known = fingerprint()
    return {name: known[name] for name in ("cpu_model", "cores", "memory_bytes", "os", "python", "onnxruntime")}


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def row(
    name: str,
    target: str,
    measured: float | None,
    met: Callable[[float], bool] | None,
    interval: tuple[float, float] | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """One judged figure; `met` is None, with the reason, when it was not measured, or has no target."""
    verdict = None if measured is None or met is None else bool(met(measured))
    return {
        "name": name,
        "target": target,
        "measured": measured,
        "interval": interval,
        "met": verdict,
        "reason": reason,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    words = {True: "met", False: "MISSED", None: "-"}
    lines = []
    for each in rows:
        shown = "not measured" if each["measured"] is None else f"{each['measured']:.4g}"
        if each["interval"]:
            shown += f" ({each['interval'][0]:.4g} to {each['interval'][1]:.4g})"
        lines.append(
            f"{words[each['met']]:7} {each['name']:58} {each['target']:>12}   {shown}  {each['reason']}".rstrip()
        )
    return "\n".join(lines)
