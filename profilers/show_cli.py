"""The command `show`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from profilers.show import (
    COLUMNS,
    cells,
    costliest,
    facts,
    held_out_times,
    in_ms,
    missing,
    networks_bytes,
    networks_makespan_ms,
    networks_ms,
    percent,
    short,
    uncertainty_ms,
)
from profilers.show import markdown as devices
from toolkit.cli import FILE, json_option, report
from toolkit.errors import MilliwiseError, printable
from toolkit.profile import DeviceProfile, EdgeCost, Line

WIDTH = 100
INDENT = 11
HEAD = ("edge", "ms", "± ms", "mult.-adds", "parameters", "weights", "state", "output")
STEPS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


@click.command()
@click.argument("files", metavar="PROFILE...", type=FILE, nargs=-1, required=True)
@click.option("--plot", type=FILE, help="Also draw a profile's error and its edges into this .png or .svg file.")
@click.option(
    "--edges", "most", default=20, show_default=True, type=click.IntRange(0), help="How many edges to list for people."
)
@click.option("--markdown", is_flag=True, help="Print a table for a README, without where the devices are.")
@json_option
def show(files: tuple[Path, ...], plot: Path | None, most: int, markdown: bool, as_json: bool) -> None:
    """What device profiles say: every edge's cost and how sure it is, the error, what is missing; several as table."""
    from profilers.drawing import draw_profile, require_drawable

    if plot is not None:
        require_drawable(plot)
        if len(files) > 1:
            raise MilliwiseError(f"a picture shows one profile, not {len(files)}: draw them one after the other")
    profiles = [DeviceProfile.load(path) for path in files]
    times = [held_out_times(profile) for profile in profiles]
    if plot is not None:
        draw_profile(profiles[0], times[0], plot)
    if markdown:
        text = devices(profiles)
    else:
        text = describe(files[0], profiles[0], most) if len(files) == 1 else table(files, profiles)
    rows = [{"profile": str(path), **facts(profile)} for path, profile in zip(files, profiles, strict=True) if as_json]
    report(as_json, {"profiles": rows, "plot": plot and str(plot)}, text)


def table(files: Sequence[Path], profiles: Sequence[DeviceProfile]) -> str:
    """Several profiles for people: the figures of each on one line, its device on the next."""
    rows = [cells(profile) for profile in profiles]
    head = ["", "threads", "hop", "space", "edges", "p95 of its networks", "error", "took", "noisy"]
    figures = [[short(printable(path.name), 20), *row[3:]] for path, row in zip(files, rows, strict=True)]
    lines = [short(line, WIDTH) for line in _aligned([head, *figures], left=(0, 3))]
    devices = ["", *(f"    {short(', '.join((*row[:2], f'onnxruntime {row[2]}')), WIDTH - 4)}" for row in rows)]
    told = [line for pair in zip(lines, devices, strict=True) for line in pair if line]
    return "\n".join([*told, f"p95 at the hop: {COLUMNS[7].removeprefix('p95 of ')}"])


def describe(path: Path, profile: DeviceProfile, most: int) -> str:
    """One profile for people, in lines of at most 100 columns."""
    told = [
        _wrapped("device", _device(profile)),
        _wrapped("measured", _measured(profile)),
        _wrapped("networks", _networks(profile)),
        *(_wrapped(name, text) for name, text in _model(profile)),
        _wrapped("error", _error(profile)),
        _wrapped("memory", _memory(profile)),
        _wrapped("parallel", _parallel(profile)),
        *(
            _wrapped("missing" if index == 0 else "", text)
            for index, text in enumerate(missing(profile) or ["nothing of what was asked for"])
        ),
    ]
    return "\n".join([f"{printable(path)}: {printable(profile.space)}", *told, "", *_edges(profile, most)])


def _device(profile: DeviceProfile) -> str:
    """Every fact of the fingerprint, with units."""
    told = []
    for name, value in profile.fingerprint.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        unit = "B" if name.endswith("_bytes") else ""
        texts = [f"{of} {_quantity(part)}B" if unit else f"{of} {part}" for of, part in parts if part is not None]
        if texts:
            told.append(f"{name.removesuffix('_bytes')} {', '.join(text.strip() for text in texts)}")
    return "; ".join(told)


def _measured(profile: DeviceProfile) -> str:
    noisy = "noisy: " + ("; ".join(profile.noisy_because) or "profile again when it is quiet")
    how = "; ".join(f"{name} {value}" for name, value in profile.measured.items() if _is_told(profile, name))
    return (
        f"on {profile.target} with {profile.threads} thread{'s' * (profile.threads > 1)} for a hop of "
        f"{profile.hop_ms} ms in {profile.seconds:.4g} s, {profile.clock} clock, "
        f"{noisy if profile.noisy else 'quiet'} ({how})"
    )


def _is_told(profile: DeviceProfile, name: str) -> bool:
    """Whether it is one number or text, and said nowhere else."""
    return name not in ("threads", "hop_ms") and not isinstance(profile.measured[name], list | dict)


def _networks(profile: DeviceProfile) -> str:
    found = networks_ms(profile)
    if found is None:
        return "not told: an edge has no cost, or the graph is none of milliwise's own (see milliwise feasible)"
    least, median, most = (f"{value:.3g}" for value in found)
    return f"p95 at the hop {least} ms for the smallest, {median} ms for the median, {most} ms for the whole network"


def _model(profile: DeviceProfile) -> Iterator[tuple[str, str]]:
    model = profile.latency
    yield (
        "model",
        f"{profile.clock} ms = {model.front_end_ms:.3g} for the front-end + {model.base_ms:.3g} for the call and the "
        f"head + its edges + {model.join_ms:.3g} for each edge beyond the first into a node"
        f" + {model.chain_ms:.3g} for each node with one edge in and one out",
    )
    lines = "; ".join(f"{name} = {_line(model.paced[name])}" for name in ("p50", "p95", "p99"))
    gap = f"timed {model.shortened_gap_ms:g} ms apart and brought to the hop by {_line(model.shortened)} × those ms"
    yield (
        "",
        f"once per hop {lines} × that ({gap}, which is contained; the p50's is {percent(model.paced_error)} off on "
        "average)",
    )


def _line(line: Line) -> str:
    return f"{line.base:.3g} + {line.slope:.3g}"


def _error(profile: DeviceProfile) -> str:
    error, bound = profile.held_out, profile.latency.bound
    rank = "–" if error.spearman is None else f"{error.spearman:.4g}"
    text = (
        f"on {error.nets} networks that took no part in the fit {percent(error.mape)} on average, within 5 % for "
        f"{percent(error.within_5)}, within 10 % for {percent(error.within_10)}; rank correlation {rank}"
    )
    if bound is None:
        return f"{text}; no bound: too few networks calibrated one"
    return (
        f"{text}; {percent(bound.coverage)} of networks stay below {bound.factor:.4g} × their prediction (calibrated "
        f"on {bound.nets} others; of the {error.nets}: {percent(bound.held_out_coverage)})"
    )


def _memory(profile: DeviceProfile) -> str:
    model = profile.memory
    if model is None:
        return "not told (see missing)"
    largest = f" + {model.per_largest_byte:.3g} B for each of the largest part" if model.per_largest_byte else ""
    found = networks_bytes(profile)
    told = "" if found is None else "{}B for the smallest, {}B for the whole one; ".format(*map(_quantity, found))
    return (
        f"{told}a process that loads a network takes {_quantity(model.base_bytes)}B + {model.per_weight_byte:.3g} B "
        f"for each byte of weights{largest} + activations more; "
        + _judged(model.held_out_nets, model.held_out_error, 10, model.held_out_within_10)
    )


def _parallel(profile: DeviceProfile) -> str:
    model = profile.parallel
    if model is None:
        return "not told (see missing)" if "no_parallel" in profile.measured else "not asked for (--workers 2)"
    found = networks_makespan_ms(profile)
    told = "" if found is None else f": {found[0]:.3g} ms for the smallest, {found[1]:.3g} for the whole, no front-end"
    return f"{model.workers} workers{told}; handing a value over takes {1000 * model.handoff_ms:.3g} µs; " + _judged(
        model.nets, model.mape, 15, model.within_15, f" ({model.split} of them on several workers)"
    )


def _judged(nets: int, error: float | None, limit: int, within: float | None, aside: str = "") -> str:
    off = f"on {nets} networks that took no part in the fit {percent(error)} off on average{aside}"
    return f"{off}, within {limit} % for {percent(within)}"


def _edges(profile: DeviceProfile, most: int) -> list[str]:
    """The distinct edges, each above the names of those that are the same work, and the fixed parts."""
    twins: dict[str, list[str]] = {}
    for name, row in profile.edges.items():
        if row.same_as is not None:
            twins.setdefault(row.same_as, []).append(name)
    priced = costliest(profile)
    listed, most_ms = priced[:most], priced[0][1].latency_ms or 0.0 if priced else 0.0
    free = sum(row.latency_ms == 0 for row in profile.edges.values())
    rows = [*listed, *((f"({name})", row) for name, row in profile.fixed.items())]
    head, *lines = _aligned([HEAD, *(_cells(name, row, most_ms) for name, row in rows)], left=(0,))
    found = [head]
    for index, line in enumerate(lines):
        found.append(line)
        if index < len(listed) and (same := twins.get(listed[index][0])):
            found.append(_wrapped("", f"the same: {', '.join(same)}", indent=4))
    if left := len(priced) - len(listed):
        found.append(f"and {left} cheaper distinct edges: --edges {len(priced)} lists them")
    if free:
        found.append(f"and {free} edges that add nothing")
    return found


def _cells(name: str, row: EdgeCost, most_ms: float) -> list[str]:
    least = "≥ " if row.uncounted else ""
    times = [in_ms(value, most_ms) if value else "" for value in (row.latency_ms, uncertainty_ms(row))]
    sizes = [f"{_quantity(size)}B" for size in (row.weight_bytes, row.state_bytes, row.activation_bytes)]
    return [short(printable(name), 28), *times, least + _quantity(row.multiply_adds), _quantity(row.parameters), *sizes]


def _quantity(value: Any) -> str:
    """12345 as `12.3 k`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    for factor, unit in STEPS:
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:g} "


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Rows as lines, their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(name: str, text: str, indent: int = INDENT) -> str:
    first = f"{name:{INDENT}}" if indent == INDENT else " " * indent
    return textwrap.fill(printable(text), WIDTH, initial_indent=first, subsequent_indent=" " * indent)
