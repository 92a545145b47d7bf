"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli import FILE, json_option
from toolkit.cli import report as tell
from toolkit.errors import MilliwiseError


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "output", type=FILE, required=True, help="The HTML page to write.")
@click.option(
    "--pictures",
    type=FILE,
    help="A folder for its drawings (of a search the architecture and learning, of a sweep the fronts): SVG, PNG.",
)
@click.option(
    "--space", help="The search space of the run, if it is your own: its Python file, which is never run unnamed."
)
@json_option
def report(run: Path, output: Path, pictures: Path | None, space: str | None, as_json: bool) -> None:
    """Show what a search did: what was asked and found, candidates, the architecture by its costs, how it learnt.

    RUN is the folder of a search, or of a sweep: then the fronts of its strategies, which of them is the best, and all
    that was found.
    """
    from kws_demo.report_run import report_run
    from kws_demo.report_sweep import report_sweep
    from kws_demo.sweep_row import SWEEP_NAME

    result: dict[str, Any]
    if (run / SWEEP_NAME).exists():
        if space is not None:
            raise MilliwiseError("--space is for the report of one search, and this is a sweep: leave it out")
        result = report_sweep(run, output, pictures=pictures)
    else:
        result = report_run(run, output, pictures=pictures, space=space)
    drawn = f" {len(result['pictures'])} pictures in {pictures}." if pictures is not None else ""
    missing = "".join(f"\nNot drawn: {reason}" for reason in result["not_drawn"])
    tell(as_json, result, f"{output}: {run} on one page.{drawn}{missing}")
