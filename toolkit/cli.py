"""The `milliwise` command: a group whose sub-commands are found through entry points, and how every command reports."""

from __future__ import annotations

import json
import math
import os
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import click

from toolkit.errors import MilliwiseError, MissingExtra, printable

GROUP = "milliwise.commands"
EXTRA_OF = {"sounddevice": "mic"}
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of everything random.",
)


class FilePath(click.Path):
    """A path that is not empty: an empty one would silently mean the working folder."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Finite(click.FloatRange):
    """A range without infinity, and without NaN, which click finds inside of any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


FILE = FilePath(path_type=Path)
cost_option = click.option(
    "--cost",
    type=FilePath(path_type=str),
    help="For a budget such as '12 cost': table.json, a number for every edge; random:SEED, 0 to 1 for every edge that "
    "has weights; cloud:DEPTH, a cheap server from that depth on, behind a dear link; or my_cost.py:function, which is "
    "run on the names of the live edges.",
)


class Commands(click.Group):
    """Sub-commands from the entry points, imported only when they are called (or asked for their help)."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(entry.name for entry in entry_points(group=GROUP))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for entry in entry_points(group=GROUP):
            if entry.name == name:
                command = entry.load()
                assert isinstance(command, click.Command)
                return command
        return None

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except MilliwiseError as error:
            raise _Failure(str(error)) from error
        except ModuleNotFoundError as error:
            if not error.name or error.name.split(".")[0] in ("toolkit", "exporters", "profilers", "kws_demo"):
                raise
            package = error.name.split(".")[0]
            raise _Failure(str(MissingExtra(package, EXTRA_OF.get(package, "search")))) from error
        except KeyboardInterrupt:
            click.echo(f"interrupted{self._way_on(context)}", err=True)
            context.exit(130)

    def _way_on(self, context: click.Context) -> str:
        """How to keep what the interrupted command has done, if it can go on."""
        command = self.get_command(context, context.invoked_subcommand or "")
        names = {parameter.name for parameter in command.params} if command is not None else set()
        return ": the same command with --resume goes on; without, it begins anew" if "resume" in names else ""


class _Failure(click.ClickException):
    exit_code = MilliwiseError.exit_code

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("milliwise"), prog_name="milliwise")
def main() -> None:
    """Fit a neural network to a device: profile it, search under a budget in milliseconds, export, stream."""


def report(as_json: bool, result: dict[str, Any], text: str) -> None:
    """Print `result` as JSON on standard output, or `text` for people (beside JSON it goes to standard error)."""
    try:
        if as_json:
            click.echo(json.dumps(result, allow_nan=False))
        click.echo("\n".join(map(printable, text.split("\n"))), err=as_json)
    except BrokenPipeError:  # click ends quietly when nobody reads any more
        raise
    except OSError as error:
        raise MilliwiseError(f"cannot write the result: {error.strerror}; send the output elsewhere") from None
