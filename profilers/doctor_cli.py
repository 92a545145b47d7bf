"""The command `doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from toolkit.cli import json_option, report


@click.command()
@click.option("--on", "target", default="local", show_default=True, help="The target to examine: local or ssh://….")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads of onnxruntime.")
@json_option
@click.pass_context
def doctor(context: click.Context, target: str, threads: int, as_json: bool) -> None:
    """Say what is wrong with this installation or a target, and the cure (exit code 1 if it has to be mended)."""
    from profilers.doctor import examine

    found = examine(target, threads)
    rows = [{"name": name, "ok": verdict.ok, **asdict(verdict)} for name, verdict in found.items()]
    width = max(map(len, found))
    lines = [
        f"{name:{width}}  {verdict.state:5}  {verdict.seen}" + (f"  → {verdict.cure}" if verdict.cure else "")
        for name, verdict in found.items()
    ]
    faults = sum(not verdict.ok for verdict in found.values())
    lines.append(f"{faults} to mend" if faults else "nothing has to be mended")
    report(as_json, {"target": target, "checks": rows}, "\n".join(lines))
    context.exit(1 if faults else 0)
