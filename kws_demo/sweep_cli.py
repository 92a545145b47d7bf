"""The command `sweep`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import FILE, Finite, cost_option, json_option, report
from toolkit.errors import MilliwiseError

if TYPE_CHECKING:
    from kws_demo.workers import Executor
    from toolkit.profile import DeviceProfile

MOST_SEEDS = 1000


@click.command()
@click.argument("spaces", metavar="SPACE...", nargs=-1, required=True)
@click.option(
    "--profile",
    "profile_files",
    type=FILE,
    multiple=True,
    required=True,
    help="The device profile; of several spaces one for each, in any order.",
)
@click.option(
    "--data", required=True, help="As milliwise search takes it. On a cluster, a path has to be there on every node."
)
@click.option("--budget", "budgets", required=True, help="BUDGET,BUDGET,… of one kind: '2 MFLOPs,4 MFLOPs'.")
@click.option(
    "--strategy", "strategies", default="bsn", show_default=True, help="NAME,NAME,… as search takes them, except sanas."
)
@cost_option
@click.option(
    "--penalty",
    "penalties",
    help="λ,λ,…, without a unit, of strategies that take one; found by themselves unless given (of "
    "bsn-published and bsn-fixed-penalty it is 1).",
)
@click.option(
    "--mirror/--no-mirror",
    default=True,
    help="Of images: half of them are mirrored while they train (never MNIST's digits), unless left and right matter.",
)
@click.option("--seeds", default="3", show_default=True, help="How many seeds, from 0 on; or a list of them: 0,7,11.")
@click.option("--minutes", default=10.0, show_default=True, type=Finite(0.05, 10_000), help="Training time of a point.")
@click.option(
    "--fine-tune", "fine_tuned", default=1, show_default=True, type=click.IntRange(1, 8), help="As search takes it."
)
@click.option(
    "--warm-up",
    "warm_up_minutes",
    default=0.0,
    type=Finite(0, 10_000),
    help="First train the super-network so many minutes, once for each space and seed; all points begin with it.",
)
@click.option("-o", "output", type=FILE, required=True, help="The folder to write: a run folder for each point.")
@click.option("--resume", is_flag=True, help="Go on with a sweep, of more points perhaps. What failed is tried again.")
@click.option(
    "--workers",
    type=click.IntRange(1, 10_000),
    help="Points at once: processes that share this machine's cores (1 by default), or tasks of the cluster (as many "
    "as it has cores, or GPUs).",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Work on the Ray cluster whose head is HOST:PORT, and of which this machine is a node. Every node needs the "
    "same milliwise, and the data at the same path.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@json_option
@click.pass_context
def sweep(
    context: click.Context,
    spaces: tuple[str, ...],
    profile_files: tuple[Path, ...],
    budgets: str,
    strategies: str,
    penalties: str | None,
    seeds: str,
    output: Path,
    resume: bool,
    warm_up_minutes: float,
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Search with every SPACE, strategy, budget, λ and seed; compare them in a table and a plot.

    Which strategy is the best is told by the hypervolume of its front. The exit code is 1 if a point failed.

    JSON: points[], a row each, with the reason where it failed; table[], their means over seeds with intervals;
    strategies[], the best first, with hypervolumes; best; clear; reference; metric; accounting; failed; plots[]; sweep.
    """
    from kws_demo.drawings.front import fronts
    from kws_demo.drawings.picture import write_picture
    from kws_demo.sweep import grid, run_sweep
    from kws_demo.sweep_row import TABLE_NAME
    from kws_demo.sweep_table import summarise, text
    from toolkit.files import write_json
    from toolkit.own_cost import named_cost

    profiles = _profiles(spaces, profile_files)
    lambdas = [_number(part, "--penalty") for part in _parts(penalties)] if penalties is not None else []
    settings["data"] = _found_anywhere(settings["data"])
    if settings["cost"] is not None and named_cost(settings["cost"]) is None:
        settings["cost"] = os.path.abspath(settings["cost"])
    points = grid(profiles, _parts(strategies), _parts(budgets), lambdas, _seeds(seeds), **settings)
    executor = _executor(workers, cluster, settings["device"])
    rows = run_sweep(points, output, executor, resume, warm_up_minutes)
    summary = summarise(rows)
    facts = [row.facts() for row in rows]
    drawn = fronts(summary, facts)
    plots = [str(path) for path in (write_picture(output, "front", drawn) if drawn else ())]
    failed = [f"{row.point} failed: {row.failed}" for row in rows if row.failed is not None]
    result = {"sweep": str(output), **summary, "points": facts, "failed": len(failed), "plots": plots}
    write_json(output / TABLE_NAME, result)
    shown = [f"plots: {' and '.join(plots)}"] if plots else []
    report(as_json, result, "\n".join([text(summary), *failed, *shown]))
    context.exit(1 if failed else 0)


def _profiles(spaces: Sequence[str], files: Sequence[Path]) -> dict[str, DeviceProfile]:
    """The profile of each space, which is known by the graph that it was made for."""
    from toolkit.profile import DeviceProfile
    from toolkit.spaces import find_space

    waiting = {path: DeviceProfile.load(path) for path in files}
    found = {}
    for name in dict.fromkeys(spaces):
        space = find_space(name)
        fits = [path for path, each in waiting.items() if space.build(hop_ms=each.hop_ms).graph.digest() == each.digest]
        if not fits:
            raise MilliwiseError(f"no --profile is of {name}: make one with milliwise profile {name}")
        found[space.name] = waiting[fits[0]]  # of an own space it is its absolute path, which workers find
    if len(files) > len(found):
        raise MilliwiseError(f"{len(files)} profiles for {len(found)} spaces: give one for each")
    return found


def _found_anywhere(data: str) -> str:
    """Data as workers find them, whose working folder is another one."""
    from toolkit.image_sources.download import PUBLISHED

    return os.path.abspath(data) if data not in PUBLISHED and os.path.exists(data) else data


def _executor(workers: int | None, cluster: str | None, device: str) -> Executor:
    from kws_demo.workers import Here, Processes

    if cluster is not None:
        from kws_demo.cluster import Cluster

        return Cluster(cluster, workers, gpu=device == "cuda")
    return Processes(workers) if workers is not None and workers > 1 else Here()


def _parts(text: str) -> list[str]:
    parts = [" ".join(part.split()) for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(parts))


def _seeds(text: str) -> list[int]:
    """Of `3`: 0, 1, 2; of `0,7,11` these."""
    numbers = _parts(text)
    if not numbers or not all(part.isascii() and part.isdigit() and int(part) < 2**32 for part in numbers):
        raise MilliwiseError(f"cannot read --seeds {text!r}: give their number, such as 3, or a list, such as 0,7,11")
    if "," in text:
        return [int(part) for part in numbers]
    if not 1 <= int(text) <= MOST_SEEDS:
        raise MilliwiseError(f"--seeds {text} is not 1 to {MOST_SEEDS}: to take that one seed, write {text.strip()},")
    return list(range(int(text)))


def _number(text: str, option: str) -> float:
    try:
        return float(Finite(min=0, min_open=True).convert(text, None, None))
    except click.BadParameter as error:
        raise MilliwiseError(f"cannot read {option}: {error.message}") from None
