"""The command `profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from toolkit.budget import MOST_WORKERS
from toolkit.cli import FILE, json_option, report, seed_option
from toolkit.errors import MilliwiseError

if TYPE_CHECKING:
    from profilers.bundle import BundleTarget
    from toolkit.profile import DeviceProfile

EACH_ITS_OWN = ("targets", "output", "collect", "resume", "as_json")  # options, where several devices are profiled


@click.command()
@click.argument("space")
@click.option(
    "-o",
    "output",
    type=FILE,
    required=True,
    help="The device profile to write (JSON); with several devices, a folder for the profiles.",
)
@click.option(
    "--on",
    "targets",
    default=("local",),
    show_default=True,
    multiple=True,
    help="The device to measure: local, ssh://[USER@]HOST[:PORT], or bundle:FOLDER to carry there by hand. "
    "Several are measured at once.",
)
@click.option("--collect", type=FILE, help="The results.json that run.py in a bundle wrote on the device.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads of onnxruntime.")
@click.option(
    "--hop-ms", default=200, show_default=True, type=click.IntRange(10, 2000), help="How often the listener is called."
)
@click.option(
    "--clock",
    type=click.Choice(["auto", "tight", "paced"]),
    default="auto",
    show_default=True,
    help="How edges are timed: back to back, or at the pace of a stream, which is slow and right where weights do not "
    "fit the cache. auto decides by that; a device that tells no cache size, or a bundle, is taken to have 2 MB.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST_WORKERS),
    help="Also measure what as many threads take that share a network, each with one thread of onnxruntime: for a "
    "budget such as '5 ms@2'.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted profile instead of starting over.")
@seed_option
@json_option
def profile(
    space: str,
    output: Path,
    targets: tuple[str, ...],
    collect: Path | None,
    threads: int,
    hop_ms: int,
    clock: str,
    workers: int,
    resume: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure what every edge of SPACE costs on a device, and how wrong the prediction of whole networks is.

    SPACE is one of those that milliwise spaces lists, or a Python file of your own with build(labels, hop_ms).
    """
    from profilers.bundle import BundleTarget
    from profilers.partial import only_writer
    from profilers.profile import profile_device
    from profilers.target import parse_target
    from toolkit.files import remove_file, require_writable
    from toolkit.spaces import find_space

    if len(targets) > 1:
        _profile_several(targets)
    (target,) = targets
    chosen, where = find_space(space), parse_target(target) if collect is None else BundleTarget.parse(target, collect)
    options: dict[str, Any] = {
        "threads": threads,
        "hop_ms": hop_ms,
        "clock": clock,
        "workers": workers,
        "seed": seed,
    }
    if isinstance(where, BundleTarget) and collect is None:
        with where.writing():
            profile_device(chosen, where, **options)
        _report_bundle(where, as_json)
        return
    require_writable(output)
    partial = output.with_name(output.name + ".partial")
    with only_writer(partial, resume):
        # What is carried back is all there: a journal would only make the questions differ from those written down.
        made = profile_device(chosen, where, **options, partial=None if collect is not None else partial)
        made.save(output)
        remove_file(partial)
    report(as_json, {"profile": str(output), **_facts(made)}, f"{output}: {_said(made)}")


def _facts(made: DeviceProfile) -> dict[str, Any]:
    held_out = {name: getattr(made.held_out, name) for name in ("nets", "mape", "within_5", "within_10", "spearman")}
    memory, parallel = made.memory, made.parallel
    return {
        "edges": len(made.edges),
        "distinct": sum(row.same_as is None for row in made.edges.values()),
        "failed": {name: row.failed for name, row in made.edges.items() if row.failed is not None},
        "seconds": made.seconds,
        "noisy": made.noisy,
        "noisy_because": list(made.noisy_because),
        "clock": made.clock,
        "held_out": held_out,
        "bound": None if made.latency.bound is None else vars(made.latency.bound),
        "memory": None if memory is None else {"nets": memory.held_out_nets, "within_10": memory.held_out_within_10},
        "parallel": None if parallel is None else {"nets": parallel.nets, "within_15": parallel.within_15},
    }


def _said(made: DeviceProfile) -> str:
    facts = _facts(made)
    said = [f"{facts['edges']} edges ({facts['distinct']} distinct) in {made.seconds:.0f} s."]
    if made.held_out.mape is not None and made.held_out.within_10 is not None:
        said.append(
            f"On {made.held_out.nets} networks it had not seen the prediction is {100 * made.held_out.mape:.1f} % off "
            f"on average, within 10 % for {100 * made.held_out.within_10:.0f} %."
        )
    for name, reason in list(facts["failed"].items())[:1]:
        said.append(f"{len(facts['failed'])} edges could not be measured ({name}: {reason}).")
    if made.noisy:
        said.append(f"Disturbed: {'; '.join(made.noisy_because)}: profile again when it is quiet.")
    return " ".join(said)


def _profile_several(targets: tuple[str, ...]) -> NoReturn:
    """The command as it was called, for every target at once. Ends with exit code 2 if one of them failed."""
    from profilers.fleet import profile_devices, profile_files
    from toolkit.progress import say
    from toolkit.spaces import find_space

    context = click.get_current_context()
    given = context.params
    if given["collect"] is not None:
        raise MilliwiseError("--collect takes the answer of one device: give its bundle a command without another --on")
    files = profile_files(targets, given["output"])
    rows = profile_devices(find_space(given["space"]).name, files, _further(context), given["resume"], say)
    words = [row.get("error") or f"{row['profile']}: {row['edges']} edges in {row['seconds']:.0f} s" for row in rows]
    text = "\n".join(f"{row['target']}: {told}" for row, told in zip(rows, words, strict=True))
    report(given["as_json"], {"profiles": rows}, text)
    context.exit(2 if any("error" in row for row in rows) else 0)


def _further(context: click.Context) -> list[str]:
    """The options of a command as words, but for those that differ from device to device."""
    words = []
    for option in context.command.params:
        value = context.params[option.name or ""]
        if isinstance(option, click.Option) and option.name not in EACH_ITS_OWN:
            if option.is_flag:
                words += option.opts[:1] * bool(value)
            elif value is not None:
                words.append(f"{option.opts[0]}={value}")
    return words


def _report_bundle(bundle: BundleTarget, as_json: bool) -> None:
    """Nothing is measured yet: what to do next."""
    keys = ("profile", "edges", "distinct", "seconds", "noisy", "held_out")
    report(
        as_json,
        {**dict.fromkeys(keys), "bundle": str(bundle.folder), "jobs": bundle.jobs},
        f"{bundle.folder}: {bundle.jobs} jobs. Copy the folder to the device and run python3 run.py in it; carry the "
        "results.json that it writes back, and repeat this command with --collect results.json.",
    )
