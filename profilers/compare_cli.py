"""The command `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import FILE, json_option, report

if TYPE_CHECKING:
    from profilers.compare import Comparison

MOST_EDGES = 8


@click.command()
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option("--drift", "drawing", type=FILE, help="Also draw the drift of every edge into this .png or .svg file.")
@json_option
def compare(a: Path, b: Path, drawing: Path | None, as_json: bool) -> None:
    """How far the costs in device profile B drifted from those in A, edge by edge, and what differs between them."""
    from profilers.compare import compare, draw, require_drawable
    from toolkit.profile import DeviceProfile

    if drawing is not None:
        require_drawable(drawing)
    found = compare(DeviceProfile.load(a), DeviceProfile.load(b))
    if drawing is not None:
        draw(found, drawing)
    facts = {"a": str(a), "b": str(b), **found.facts(), "drawing": drawing and str(drawing)}
    report(as_json, facts, f"{a} (A) → {b} (B)\n{describe(found)}")


def describe(found: Comparison) -> str:
    """The comparison in a few lines for people."""
    still = [edge for edge in found.edges if edge.within_noise]
    lines = [f"{len(found.edges)} distinct edges of {found.space}, {len(still)} of them within noise"]
    if found.median_drift is not None:
        lines[0] += f"; median drift {100 * found.median_drift:.1f} %"
    moved = sorted((edge for edge in found.edges if edge not in still), key=lambda edge: -abs(edge.drift or 0.0))
    for edge in moved[:MOST_EDGES]:
        noise = f" (noise ±{100 * edge.noise_ms / edge.a_ms:.1f} %)" if edge.a_ms else ""
        lines.append(f"  {edge.name:34} {edge.a_ms:.3g} → {edge.b_ms:.3g} ms  {_share(edge.drift)}{noise}")
    if len(moved) > MOST_EDGES:
        lines.append(f"  and {len(moved) - MOST_EDGES} more")
    if found.failed:
        lines.append(f"not compared, for one of the profiles could not measure it: {', '.join(found.failed)}")
    lines.append(_networks(found))
    if found.differences:
        lines.append("what differs, and may explain it:")
        lines += [f"  {name}: {_value(a)} → {_value(b)}" for name, (a, b) in found.differences.items()]
    else:
        lines.append(
            "nothing else that the profiles record differs" + (": it is load, heat or chance" if moved else "")
        )
    return "\n".join(lines)


def _networks(found: Comparison) -> str:
    networks = found.networks
    if networks is None:
        return "no whole network in common: profile both with the same --seed to compare those, too"
    return (
        f"{networks.nets} whole networks in common, medians: predicted {_share(networks.predicted)}, "
        f"measured {_share(networks.measured)}; predicted p95 at the hop {_share(networks.predicted_p95)}"
    )


def _share(drift: float | None) -> str:
    return "from nothing" if drift is None else f"{100 * drift:+.1f} %"


def _value(value: object) -> str:
    text = "unknown" if value is None else json.dumps(value, ensure_ascii=False).strip('"')
    return text if len(text) <= 60 else text[:59] + "…"
