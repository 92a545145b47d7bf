"""Run `milliwise score` as its tests do, and catch its refusals."""

from __future__ import annotations

import click
from click.testing import CliRunner, Result

from kws_demo.score_cli import score
from toolkit.cli import Commands


class Scoring(Commands):
    """The command group with this command alone, wherever it is registered."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return {"score": score}.get(name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(Scoring(), ["score", *(str(each) for each in arguments)])


def refusal(*arguments: object) -> str:
    """The one line of an error with exit code 2, beside which nothing is printed."""
    done = run(*arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert done.exit_code == 2 and len(lines) == 1 and not done.stdout, done.output
    return lines[0]
