"""The commands `check` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli import FILE, json_option, report
from toolkit.errors import MilliwiseError

USUAL_HOP_MS = 200  # of images that were not measured
on_option = click.option(
    "--on", "target", default=None, help="Where to measure: local or ssh://HOST. The default is the profile's target."
)


@click.command()
@click.argument("model", type=FILE)
@click.option("--budget", required=True, help="Such as '2 ms' (paced p95) or '2 ms p50'.")
@click.option(
    "--on", "target", help="Where to measure: local or ssh://HOST. The default is the target the model was made for."
)
@click.option("--hop-ms", type=click.IntRange(10, 2000), help="How often it is called; the model's own hop by default.")
@click.option(
    "--calls", default=400, show_default=True, type=click.IntRange(59, 100_000), help="Calls, over two fresh processes."
)
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of onnxruntime; the model's own by default.")
@json_option
@click.pass_context
def check(
    context: click.Context,
    model: Path,
    budget: str,
    target: str | None,
    hop_ms: int | None,
    calls: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time MODEL as a stream calls it, in fresh processes, and say whether it keeps a budget (exit code 1 if not)."""
    from exporters.image_file import open_images, sees
    from exporters.listener import Listener
    from profilers.check import check_budget, own_target
    from profilers.target import parse_target
    from toolkit.budget import Budget

    limit = Budget.parse(budget)
    if model.is_dir():
        raise MilliwiseError(
            f"{model} is a folder, and only a single file is timed: check what `milliwise export --control if` writes "
            "of the same run, whose modes a bundle has"
        )
    if sees(model):
        seen = open_images(model)
        device, own_hop_ms, own_threads = seen.device, seen.hop_ms or USUAL_HOP_MS, 1
    else:
        listener = Listener.open(model)
        device, own_threads = listener.metadata.device, listener.threads
        own_hop_ms = round(1000 * listener.hop_samples / listener.rate)
    where, hop = parse_target(target or own_target(device)), hop_ms or own_hop_ms
    found = check_budget(model, limit, where, hop_ms=hop, calls=calls, threads=threads or own_threads)
    report(
        as_json,
        {"target": where.name, **found.facts()},
        f"{model} on {where.name}: p50 {found.p50_ms:.3f} ms, p95 {found.p95_ms:.3f} ms "
        f"(95 % sure: at most {found.p95_upper_ms:.3f}), p99 {found.p99_ms:.3f} ms in {calls} calls every {hop} ms: "
        f"{limit} is {'kept' if found.kept else 'NOT kept'}."
        + (" The machine was busy meanwhile: check again when it is quiet." if found.noisy else ""),
    )
    context.exit(0 if found.kept else 1)


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "output", type=FILE, required=True, help="The ONNX file to write; for a bundle, the folder.")
@click.option(
    "--control",
    type=click.Choice(["static", "if", "bundle"]),
    help="How the network is chosen while it runs: static is one network; if, the default of an adaptive run, has all "
    "modes in one file, of which it runs what its controller chose; bundle is a folder of files without conditions, of "
    "which `milliwise stream` runs what the controller chose.",
)
@click.option("--opset", default=17, show_default=True, type=click.IntRange(17, 21), help="ONNX operator set.")
@click.option("--ir", default=8, show_default=True, type=click.IntRange(8, 10), help="ONNX file version.")
@click.option(
    "--space", help="The search space of the run, if it is your own: its Python file, which is never run unnamed."
)
@on_option
@click.option(
    "--calls", default=400, show_default=True, type=click.IntRange(59, 100_000), help="Calls in the measurement."
)
@json_option
@click.pass_context
def export(
    context: click.Context,
    run: Path,
    output: Path,
    control: str | None,
    opset: int,
    ir: int,
    space: str | None,
    target: str | None,
    calls: int,
    as_json: bool,
) -> None:
    """Write the network a search chose as one verified ONNX file, and measure it (exit code 1: budget not kept, or not
    measured).
    """
    from profilers.export import export_run

    result = export_run(run, output, control=control, opset=opset, ir=ir, space=space, on=target, calls=calls)
    report(as_json, result, _exported(result))
    context.exit(0 if result["budget_kept"] else 1)


def _exported(result: dict[str, Any]) -> str:
    """For people. Of an adaptive listener the dearest mode is measured; its budget is a mean, and predicted."""
    kept = {True: "kept", False: "NOT kept", None: f"not measured: {result.get('reason')}"}[result["budget_kept"]]
    found, adaptive = result["measured"], "modes" in result
    times = "" if found is None else f"p95 {found['p95_ms']:.3f} ms (95 % sure: at most {found['p95_upper_ms']:.3f}); "
    if adaptive:
        forced = f"its dearest mode, forced at every hop: {times}" if times else ""
        times = f"{forced}{result['predicted_ms']:.3f} ms predicted on average; "
    return (
        f"{result['model']}: {result['bytes']} bytes, at most {result['max_abs_diff']:.1e} from torch; {times}"
        f"the budget {result['budget']} is {kept}."
    )
