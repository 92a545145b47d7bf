"""Tell machines apart: the fingerprint of this one, and in what another differs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A measurement holds for machines that agree in these.
IDENTITY = ("cpu_model", "cores", "architecture")
# And for this software: another version has other kernels.
RUNTIME = ("onnxruntime",)
_CPU = Path("/sys/devices/system/cpu/cpu0")


def fingerprint() -> dict[str, Any]:
    """What a cost measured here depends on; a fact that this machine does not tell is None.

    Keys: cpu_model, cores (that this process may use), architecture, memory_bytes, cache_bytes (per level, as seen by
    the first core), governor, os, kernel, python, onnxruntime.
    """
    import onnxruntime

    return {
        "cpu_model": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cache_bytes": _caches(),
        "governor": _text(_CPU / "cpufreq/scaling_governor"),
        "os": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def identity(fingerprint: Mapping[str, Any]) -> str:
    """Twelve hex digits that are equal for machines whose measurements are interchangeable."""
    told = json.dumps([fingerprint.get(field) for field in IDENTITY])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def difference(stored: Mapping[str, Any], found: Mapping[str, Any], where: str = "here") -> str | None:
    """The first field in which two fingerprints must agree and do not, with both values; None when they agree.

    Args:
        where: the second one was found, in words.
    """
    for field in (*IDENTITY, *RUNTIME):
        if stored.get(field) != found.get(field):
            return f"{field} is {stored.get(field)!r} there and {found.get(field)!r} {where}"
    return None


def _cpu_model() -> str:
    """The name of the processor as Linux tells it on x86 and ARM."""
    rows = [line.partition(":") for line in (_text(Path("/proc/cpuinfo")) or "").splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in reversed(rows)}
    board = (_text(Path("/proc/device-tree/model")) or "").rstrip("\0")
    arm = f"ARM part {fields['CPU part']}" if "CPU part" in fields else ""
    return fields.get("model name") or board or fields.get("Hardware") or arm or platform.processor() or "unknown"


def _caches() -> dict[str, int]:
    """{"L1 data": 32768, ...}; empty where Linux does not tell."""
    sizes = {}
    for index in sorted(_CPU.glob("cache/index*")):
        level, kind, size = (_text(index / name) for name in ("level", "type", "size"))
        if level and kind and size and size[:-1].isdigit():
            name = f"L{level}" if kind == "Unified" else f"L{level} {kind.lower()}"
            sizes[name] = int(size[:-1]) * {"K": 1024, "M": 1024**2}.get(size[-1], 1)
    return sizes


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
