"""Whether this machine is fit to measure on now: its processors, their speed and heat, its other work, its clock."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from profilers.timing import BUSY

OK, NOTE, FAULT = "ok", "note", "fault"
ROOT = Path("/")  # where Linux tells about itself
CLOCKS = "sys/devices/system/clocksource/clocksource0"
PERFORMANCE = "sudo cpupower frequency-set -g performance"


@dataclass(frozen=True)
class Verdict:
    """`state` is ok, note (it may matter) or fault (it has to be mended); `cure` is empty where none is needed."""

    state: str
    seen: str
    cure: str = ""

    @property
    def ok(self) -> bool:
        return self.state != FAULT


def processors(threads: int) -> Verdict:
    """Whether as many processors may be used as there are threads, all the time."""
    cores, quota = len(os.sched_getaffinity(0)), _quota()
    seen = f"{cores} may be used" + ("" if quota is None else f", for the time of {quota:.3g} (cgroup)")
    if min(cores, cores if quota is None else quota) >= threads:
        return Verdict(OK, seen)
    cure = "give the container more CPU, or measure with fewer threads"
    return Verdict(FAULT, f"{seen}: too few for {threads} thread{'s' * (threads > 1)}", cure)


def _quota() -> float | None:
    """The least CPU time per time that a cgroup (version 1 or 2) around this process allows; None if all."""
    found = []
    for line in (_text("proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or "cpu" in controllers.split(","):
            base = Path("sys/fs/cgroup") / ("" if number == "0" else "cpu")
            inner = base / path.lstrip("/")
            around = (inner, *(each for each in inner.parents if each.is_relative_to(base)))
            found += [share for share in map(_cpu_share, around) if share is not None]
    return min(found, default=None)


def _cpu_share(cgroup: Path) -> float | None:
    """What one cgroup allows: `QUOTA PERIOD` in one file (version 2) or in two; no number if all."""
    version_1 = f"{_text(cgroup / 'cpu.cfs_quota_us')} {_text(cgroup / 'cpu.cfs_period_us')}"
    quota, _, period = (_text(cgroup / "cpu.max") or version_1).partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def governor() -> Verdict:
    """Whether the processors keep their frequency while they wait for the next call."""
    names = {_text(path) for path in _processors("cpufreq/scaling_governor")} - {None}
    if not names:
        return Verdict(OK, "this machine does not tell (a virtual one seldom does)")
    seen = ", ".join(sorted(map(str, names)))
    return Verdict(OK, seen) if names == {"performance"} else Verdict(NOTE, f"{seen}: the speed varies", PERFORMANCE)


def heat() -> Verdict:
    """Whether the processors are kept from their full speed."""
    signs = [*_slowed(), *_hot_zones(), *_limited()]
    if signs:
        return Verdict(NOTE, "; ".join(signs), "cool it, and use a power supply and a mode that allow full speed")
    return Verdict(OK, "nothing tells that the processors are slowed down")


def _slowed() -> Iterator[str]:
    if times := sum(_number(path) or 0 for path in _processors("thermal_throttle/core_throttle_count")):
        yield f"slowed down {times} times since the machine started"


def _hot_zones() -> Iterator[str]:
    for zone in sorted((ROOT / "sys/class/thermal").glob("thermal_zone*")):
        now, trips = _number(zone / "temp"), [_number(path) for path in zone.glob("trip_point_*_temp")]
        least = min((trip for trip in trips if trip), default=None)
        if now is not None and least is not None and now >= least:
            yield f"{_text(zone / 'type')} is at {now / 1000:.0f} °C"


def _limited() -> Iterator[str]:
    for path in _processors("cpufreq/scaling_max_freq"):
        now_khz, most_khz = _number(path), _number(path.with_name("cpuinfo_max_freq"))
        if now_khz and most_khz and now_khz < most_khz:
            yield f"{path.parts[-3]} is limited to {now_khz / 1e6:.3g} of {most_khz / 1e6:.3g} GHz"


def others(seconds: float = 1.0) -> Verdict:
    """Whether other processes keep the machine busy now."""
    from profilers.runner import Watch

    before, watch = dict(_cpu_ticks()), Watch()
    time.sleep(seconds)
    watch.look(0.0)
    share = watch.shares[-1]
    seen = f"they use {100 * share:.0f} % of the machine"
    if share <= BUSY:
        return Verdict(OK, seen)
    used = sorted(((ticks - before.get(who, ticks), who) for who, ticks in _cpu_ticks()), reverse=True)
    names = ", ".join(who for ticks, who in used[:3] if ticks > 0)
    return Verdict(NOTE, f"{seen}: {names or 'none that can be seen here'}", "measure when it is quiet")


def _cpu_ticks() -> Iterator[tuple[str, int]]:
    """`name (pid)` of every other process and the CPU time it has used."""
    for path in (ROOT / "proc").glob("[0-9]*"):
        name, _, rest = (_text(path / "stat") or "").partition("(")[2].rpartition(")")
        if rest and path.name != str(os.getpid()):
            yield f"{name} ({path.name})", sum(map(int, rest.split()[11:13]))


def clock(now: Callable[[], float] = time.perf_counter, readings: int = 20_000) -> Verdict:
    """Whether the clock runs forwards, in steps that a single call of a model can be timed with."""
    values = [now() for _ in range(readings)]
    steps = [after - before for before, after in itertools.pairwise(values)]
    finest_s = min((step for step in steps if step > 0), default=0.0)
    source = _text(f"{CLOCKS}/current_clocksource") or "its source is not told"
    cure = f"choose another source: {ROOT / CLOCKS}/available_clocksource"
    if min(steps) < 0 or not finest_s:
        return Verdict(FAULT, f"it runs backwards or stands still ({source})", cure)
    seen = f"in steps of at most {1e9 * finest_s:.0f} ns ({source})"
    return Verdict(OK, seen) if finest_s < 1e-5 else Verdict(NOTE, seen, cure)


def _processors(file: str) -> list[Path]:
    return sorted((ROOT / "sys/devices/system/cpu").glob(f"cpu[0-9]*/{file}"))


def _number(path: Path) -> int | None:
    text = _text(path) or ""
    return int(text) if text.isdecimal() else None


def _text(path: str | Path) -> str | None:
    try:
        return (ROOT / path).read_text(errors="replace").strip()
    except OSError:
        return None
