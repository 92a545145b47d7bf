"""The commands `profile`, `check` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import FILE, json_option, report, seed_option

if TYPE_CHECKING:
    from profilers.bundle import BundleTarget

on_option = click.option(
    "--on", "target", default=None, help="Where to measure: local or ssh://HOST. The default is the profile's target."
)


@click.command()
@click.argument("space")
@click.option("-o", "output", type=FILE, required=True, help="The device profile to write (JSON).")
@click.option(
    "--on",
    "target",
    default="local",
    show_default=True,
    help="The device to measure: local, ssh://[USER@]HOST[:PORT], or bundle:FOLDER to carry there by hand.",
)
@click.option("--collect", type=FILE, help="The results.json that run.py in a bundle wrote on the device.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads of onnxruntime.")
@click.option(
    "--hop-ms", default=200, show_default=True, type=click.IntRange(10, 2000), help="How often the listener is called."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted profile instead of starting over.")
@seed_option
@json_option
def profile(
    space: str,
    output: Path,
    target: str,
    collect: Path | None,
    threads: int,
    hop_ms: int,
    resume: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure what every edge of SPACE costs on a device, and how wrong the prediction of whole networks is."""
    from profilers.bundle import BundleTarget
    from profilers.profile import profile_device
    from profilers.target import parse_target
    from toolkit.files import remove_file, require_writable
    from toolkit.spaces import find_space

    chosen, where = find_space(space), parse_target(target) if collect is None else BundleTarget.parse(target, collect)
    if isinstance(where, BundleTarget) and collect is None:
        with where.writing():
            profile_device(chosen, where, threads=threads, hop_ms=hop_ms, seed=seed)
        _report_bundle(where, as_json)
        return
    require_writable(output)
    partial = output.with_name(output.name + ".partial")
    if not resume:
        remove_file(partial)
    made = profile_device(chosen, where, threads=threads, hop_ms=hop_ms, seed=seed, partial=partial)
    made.save(output)
    held_out = {name: getattr(made.held_out, name) for name in ("nets", "mape", "within_5", "within_10", "spearman")}
    distinct = sum(row.same_as is None for row in made.edges.values())
    result = {
        "profile": str(output),
        "edges": len(made.edges),
        "distinct": distinct,
        "seconds": made.seconds,
        "noisy": made.noisy,
        "held_out": held_out,
    }
    report(
        as_json,
        result,
        f"{output}: {len(made.edges)} edges ({distinct} distinct) in {made.seconds:.0f} s. "
        f"On {made.held_out.nets} networks it had not seen the prediction is {100 * made.held_out.mape:.1f} % off "
        f"on average, within 10 % for {100 * made.held_out.within_10:.0f} %."
        + (" The machine was busy meanwhile: profile again when it is quiet." if made.noisy else ""),
    )


def _report_bundle(bundle: BundleTarget, as_json: bool) -> None:
    """Nothing is measured yet: what to do next."""
    keys = ("profile", "edges", "distinct", "seconds", "noisy", "held_out")
    report(
        as_json,
        {**dict.fromkeys(keys), "bundle": str(bundle.folder), "jobs": bundle.jobs},
        f"{bundle.folder}: {bundle.jobs} jobs. Copy the folder to the device and run python3 run.py in it; carry the "
        "results.json that it writes back, and repeat this command with --collect results.json.",
    )


@click.command()
@click.argument("model", type=FILE)
@click.option("--budget", required=True, help="Such as '2 ms' (paced p95) or '2 ms p50'.")
@click.option("--on", "target", default="local", show_default=True, help="Where to measure: local or ssh://HOST.")
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
    target: str,
    hop_ms: int | None,
    calls: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time MODEL as a stream calls it, in fresh processes, and say whether it keeps a budget (exit code 1 if not)."""
    from exporters.listener import Listener
    from profilers.check import check_budget
    from profilers.target import parse_target
    from toolkit.budget import Budget

    limit = Budget.parse(budget)
    where = parse_target(target)
    listener = Listener.open(model)
    hop = hop_ms or round(1000 * listener.hop_samples / listener.rate)
    found = check_budget(model, limit, where, hop_ms=hop, calls=calls, threads=threads or listener.threads)
    report(
        as_json,
        found.facts(),
        f"{model}: p50 {found.p50_ms:.3f} ms, p95 {found.p95_ms:.3f} ms (95 % sure: at most {found.p95_upper_ms:.3f}), "
        f"p99 {found.p99_ms:.3f} ms in {calls} calls every {hop} ms: {limit} is {'kept' if found.kept else 'NOT kept'}."
        + (" The machine was busy meanwhile: check again when it is quiet." if found.noisy else ""),
    )
    context.exit(0 if found.kept else 1)


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "output", type=FILE, required=True, help="The ONNX file to write.")
@click.option(
    "--control",
    type=click.Choice(["static"]),
    default="static",
    show_default=True,
    help="How the network is chosen while it runs.",
)
@click.option("--opset", default=17, show_default=True, type=click.IntRange(17, 21), help="ONNX operator set.")
@click.option("--ir", default=8, show_default=True, type=click.IntRange(8, 10), help="ONNX file version.")
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
    control: str,
    opset: int,
    ir: int,
    target: str | None,
    calls: int,
    as_json: bool,
) -> None:
    """Write the network a search chose as one verified ONNX file, and measure it (exit code 1 if over budget)."""
    from profilers.export import export_run

    result = export_run(run, output, opset=opset, ir=ir, on=target, calls=calls)
    kept = {True: "kept", False: "NOT kept", None: "not measured: its target cannot be reached"}[result["budget_kept"]]
    found = result["measured"]
    times = "" if found is None else f"p95 {found['p95_ms']:.3f} ms (95 % sure: at most {found['p95_upper_ms']:.3f}); "
    report(
        as_json,
        result,
        f"{output}: {result['bytes']} bytes, at most {result['max_abs_diff']:.1e} from torch; {times}"
        f"the budget {result['budget']} is {kept}.",
    )
    context.exit(0 if result["budget_kept"] else 1)
