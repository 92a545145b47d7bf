"""The command `milliwise models`: the listeners that come with the package."""

from __future__ import annotations

import click

from toolkit.cli import json_option, report


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the listeners that come with milliwise; any of the names is a MODEL, as in `milliwise stream NAME`."""
    from kws_demo.model_card import describe
    from kws_demo.shipped import shipped

    found = [describe(name, path) for name, path in shipped().items()]
    lines = [
        f"{each['name']:10} {each['kb']:4.0f} kB  {', '.join(each['words'])}\n"
        f"{'':10} {each['accuracy']}\n{'':10} {each['license']}; {each['path']}"
        for each in found
    ]
    report(as_json, {"models": found}, "\n".join(lines) or "no listener ships with this installation")
