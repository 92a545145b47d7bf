"""The report of a finished sweep: its fronts, who is the best, and everything that was found, on one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kws_demo import sweep_table
from kws_demo.drawings.front import fronts
from kws_demo.drawings.picture import write_picture
from kws_demo.drawings.svg import plain
from kws_demo.report_page import html_page, section
from kws_demo.sweep_row import Row, read_rows
from toolkit.files import require_writable, write_bytes
from toolkit.spaces import built_in

LEAD = (
    "Every mark is the mean over seeds of what one strategy found within a budget, every faint dot one search. A line "
    "joins what validates best for its cost; the marks off it are hollow. The accuracy drawn is that of test examples."
)
WITHIN = {True: "Within {}", False: "Asked for {}, which it exceeds", None: "Asked for {}, which was not measured"}
LARGER = "A larger one is better: more accuracy over more halvings of the cost."


def report_sweep(folder: Path, output: Path, *, pictures: Path | None = None) -> dict[str, Any]:
    """Write the page of a sweep, and its fronts as files if asked.

    Args:
        folder: what `milliwise sweep` wrote.
        pictures: the folder for the drawing, as SVG and as PNG.

    Returns:
        The JSON keys of `milliwise report`: run, report, pictures, not_drawn.

    Raises:
        MilliwiseError: the sweep is unfinished or damaged, or something cannot be written.
    """
    require_writable(output)
    if pictures is not None:
        require_writable(pictures / "front.svg")
    rows = read_rows(folder)
    summary = sweep_table.summarise(rows)
    drawing = fronts(summary, [row.facts() for row in rows])
    write_bytes(output, page(folder, rows, summary, drawing).encode("utf-8", "replace"))
    paths = write_picture(pictures, "front", drawing) if pictures is not None and drawing else []
    missing = [] if drawing else ["the fronts: nothing was finished"]
    return {"run": str(folder), "report": str(output), "pictures": [*map(str, paths)], "not_drawn": missing}


def page(folder: Path, rows: Sequence[Row], summary: dict[str, Any], drawing: str | None) -> str:
    """The whole page as HTML."""
    failed = [row for row in rows if row.failed is not None]
    best = sweep_table.verdict(summary) or f"{len(rows) - len(failed)} of {len(rows)} searches are done"
    intervals, volume = map(plain, sweep_table.about(summary))
    strategies = ", ".join(dict.fromkeys(row.strategy for row in rows))
    head = (
        '<header class="verdict"><p class="eyebrow">milliwise · a sweep of '
        f"{len(rows)} searches</p><h1>{plain(best[:1].upper() + best[1:])}</h1>"
        f"<p>Searched with {plain(strategies)}. {intervals}.</p></header>"
    )
    reasons = _table([["search", "why it failed"], *([row.point, str(row.failed)] for row in failed)])
    volumes = _table(sweep_table.volumes(summary), headed=False)
    parts = [
        section("fronts", "Accuracy over cost", LEAD, drawing),
        section("volumes", "Who trades best", f"{volume[:1].upper()}{volume[1:]}. {LARGER}", volumes),
        section("table", "Everything that was found", "", _table(sweep_table.lines(summary))),
        section("failed", "What failed", "", reasons) if failed else "",
        section("use", "Use it", "", _usage(folder, rows, summary)),
    ]
    return html_page(f"milliwise: {plain(best)}", [head, *parts], "sweep")


def _table(lines: Sequence[Sequence[str]], headed: bool = True) -> str:
    tags = ["th" if headed and not number else "td" for number in range(len(lines))]
    rows = (
        "".join(f"<{tag}>{plain(cell, 300)}</{tag}>" for cell in line) for tag, line in zip(tags, lines, strict=True)
    )
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _usage(folder: Path, rows: Sequence[Row], summary: dict[str, Any]) -> str:
    """The best strategy's front: what to export, of every place the seed that validates best."""
    lines = []
    for place in (each for each in summary["table"] if each["front"] and each["strategy"] == summary["best"]):
        key = (place["space"], place["strategy"], place["budget"], place["penalty"])
        seeds = [row for row in rows if (row.space, row.strategy, row.budget, row.penalty) == key and not row.failed]
        found = max(seeds, key=lambda row: (row.budget_kept is True, row.validation or 0.0))
        within = WITHIN[found.budget_kept].format(found.budget)
        run = shlex.quote(str(folder / found.point))
        run += "" if built_in(found.space) else f" --space {shlex.quote(found.space)}"
        lines.append(
            f"<p>{plain(within, 80)}: right for {100 * (found.test or 0.0):.1f} % of test examples:</p>"
            f"<pre>{plain(f'milliwise report {run} -o report.html', 2000)}\n"
            f"{plain(f'milliwise export {run} -o network.onnx', 2000)}</pre>"
        )
    return "".join(lines)
