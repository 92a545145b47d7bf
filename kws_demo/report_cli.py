"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli import FILE, json_option
from toolkit.cli import report as tell


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "output", type=FILE, required=True, help="The HTML page to write.")
@click.option("--pictures", type=FILE, help="A folder for its drawings of the architecture and of learning: SVG, PNG.")
@click.option(
    "--space", help="The search space of the run, if it is your own: its Python file, which is never run unnamed."
)
@json_option
def report(run: Path, output: Path, pictures: Path | None, space: str | None, as_json: bool) -> None:
    """Show what a search did: what was asked and found, candidates, the architecture by its costs, how it learnt."""
    from kws_demo.report_run import report_run

    result: dict[str, Any] = report_run(run, output, pictures=pictures, space=space)
    drawn = f" {len(result['pictures'])} pictures in {pictures}." if pictures is not None else ""
    missing = "".join(f"\nNot drawn: {reason}" for reason in result["not_drawn"])
    tell(as_json, result, f"{output}: the run {run} on one page.{drawn}{missing}")
