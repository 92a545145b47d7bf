"""The commands `search`, `demo` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from toolkit.cli import FILE, FilePath, Finite, cost_option, json_option, report, seed_option
from toolkit.errors import MilliwiseError

FOLDER = FilePath(path_type=str)
DATA = (
    "synth:WORD,WORD,… or synth:LANGUAGE:WORD,…, a folder with a folder a word, or speech_commands[:PATH] (2.3 GB, "
    "downloaded unless it is there). Of a space that sees: an .npz, a folder of images by class, of idx or CIFAR "
    "binary files, or with images/ and masks/; or mnist, fashion-mnist, cifar10, cifar100."
)
MOST_FINDINGS = 12  # about own recordings, that are told


@click.command()
@click.argument("space")
@click.option("--profile", "profile_file", type=FILE, required=True, help="The device profile (milliwise profile).")
@click.option(
    "--budget",
    required=True,
    help="Such as '1 ms' (paced p95 of the whole file), '300 kparams', '40 MFLOPs' or '12 cost'.",
)
@click.option("--data", required=True, help=DATA)
@click.option(
    "-o",
    "output",
    type=FILE,
    required=True,
    help="The run folder to write; a run that is in it is replaced, unless --resume.",
)
@click.option("--words", help="WORD,WORD,…: listen for these words of the folder; all others in it are unknown.")
@click.option("--language", help="Of a folder's recordings: what is to be ignored is spoken in it. [default: en]")
@click.option("--spoken", help="WORD,WORD,…: the folder's words, in their order, as that language writes them.")
@click.option(
    "--add",
    type=FOLDER,
    multiple=True,
    help="A folder of own recordings of the words, for training only; more than one may be.",
)
@click.option(
    "--unknown", type=FOLDER, multiple=True, help="A folder of recordings of other words; more than one may be."
)
@click.option("--noise", type=FOLDER, multiple=True, help="A folder of background recordings; more than one may be.")
@click.option(
    "--clips",
    "clips_per_word",
    default=800,
    show_default=True,
    type=click.IntRange(30, 100_000),
    help="Synthetic clips a word.",
)
@click.option(
    "--teacher",
    is_flag=True,
    help="Beside its labels, a listener learns to hear like Google's speech embedding, which knows real voices: for "
    "words that synthesisers say (pip install 'milliwise[teacher]'). Training is slower: give it two cores, and time.",
)
@click.option(
    "--strategy",
    default="bsn",
    show_default=True,
    help="bsn; its variants bsn-greedy and bsn-published, and those with one improvement left out: bsn-fixed-penalty, "
    "… (any other word lists them all); its peers evolution, gumbel-softmax, magnitude-pruning, "
    "uniform (by chance) and hand-made (such as ResNets in their fabric); or sanas: a network chosen anew at every "
    "hop, with a budget such as '1 ms mean', or '40 MFLOPs mean' where no gated edge has to catch up.",
)
@click.option(
    "--network-only",
    is_flag=True,
    help="Of sanas and a budget in FLOPs: bill neither the controller nor the front-end, as the thesis does. Else "
    "everything in the file is billed.",
)
@click.option(
    "--discount",
    type=Finite(0, 1),
    help="γ of sanas: teach the controller by REINFORCE as published, with returns discounted by it from hop to hop "
    "and labels weighed by how rare they are. Else by the exact expectation of every hop, which varies less.",
)
@click.option(
    "--mirror/--no-mirror",
    default=True,
    help="Of images: half of them are mirrored while they train (never MNIST's digits), unless left and right matter.",
)
@click.option(
    "--penalty",
    type=Finite(min=0, min_open=True),
    help="λ, without a unit, of bsn, its variants or sanas; found by itself unless given (of bsn-published and "
    "bsn-fixed-penalty it is 1).",
)
@click.option(
    "--minutes",
    default=10.0,
    show_default=True,
    type=Finite(0.05, 10_000),
    help="Training time; measuring comes on top.",
)
@click.option(
    "--fine-tune",
    "fine_tuned",
    default=1,
    show_default=True,
    type=click.IntRange(1, 8),
    help="At most how many networks are trained alone, each at most half as far above the cheapest as the one before, "
    "for equal shares of the time; the one that validates best is taken. For budgets too large for the time.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@click.option(
    "--calls",
    default=400,
    show_default=True,
    type=click.IntRange(59, 100_000),
    help="Calls in each measurement of a candidate.",
)
@click.option(
    "--bound",
    is_flag=True,
    help="Price by the bound that 95 % of networks stay below, not by the prediction. It is calibrated on the network "
    "itself by the clock of the profile's table, not on its percentile when called once per hop.",
)
@cost_option
@click.option("--threads", type=click.IntRange(1, 64), help="Refuse a profile made for another thread count.")
@click.option("--on", "target", help="Where to measure: local or ssh://HOST. The default is the profile's target.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@seed_option
@json_option
@click.pass_context
def search(
    context: click.Context,
    profile_file: Path,
    output: Path,
    target: str | None,
    resume: bool,
    add: tuple[str, ...],
    unknown: tuple[str, ...],
    noise: tuple[str, ...],
    as_json: bool,
    **arguments: Any,
) -> None:
    """Find the network of SPACE that does best within a budget on the profiled device (exit code 1: not kept)."""
    from kws_demo.adaptive_search import run_adaptive_search
    from kws_demo.record import check_added
    from kws_demo.search import run_search
    from kws_demo.search_outcome import adaptive_outcome, outcome
    from kws_demo.settings import Settings
    from toolkit.profile import DeviceProfile

    settings = Settings(on=target, add=list(add), unknown=list(unknown), noise=list(noise), **arguments)
    if settings.strategy == "sanas":
        _refuse_given(context, "bound", "calls", "cost", "fine_tuned", "teacher")
    elif settings.network_only or settings.discount is not None:
        option = "--network-only" if settings.network_only else "--discount"
        raise MilliwiseError(f"{option} is of no use to --strategy {settings.strategy}: leave it out")
    for folder in settings.add:
        findings = check_added(Path(folder))
        more = [f"{len(findings) - MOST_FINDINGS} findings more in {folder}"] if findings[MOST_FINDINGS:] else []
        for line in [*findings[:MOST_FINDINGS], *more]:
            click.echo(line, err=True)
    profile, adaptive = DeviceProfile.load(profile_file), settings.strategy == "sanas"
    run = (run_adaptive_search if adaptive else run_search)(settings, profile, output, resume)
    result, text = (adaptive_outcome if adaptive else outcome)(run, output)
    report(as_json, result, text)
    context.exit(0 if result["budget_kept"] else 1)


def _refuse_given(context: click.Context, *names: str) -> None:
    """Refuse options that a search for an adaptive listener has no use for: it prices the modes it measured."""
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(each.opts[0] for each in context.command.params if each.name == name)
            raise MilliwiseError(f"{option} is of no use to --strategy sanas: leave it out")


@click.command()
@click.option("-o", "output", type=FILE, default=Path("demo-output"), show_default=True, help="The folder to write.")
@click.option("--minutes", default=6.0, show_default=True, type=Finite(3.3, 10_000), help="About how long it may take.")
@click.option("--data", default="synth:yes,no,stop,left", show_default=True, help=DATA)
@click.option("--budget", help="Paced p95; 1 ms unless this machine needs more.")
@click.option(
    "--recordings", type=FILE, help="A folder with a folder a word: stream these instead of synthetic speech."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted demo.")
@seed_option
@json_option
@click.pass_context
def demo(
    context: click.Context,
    output: Path,
    minutes: float,
    data: str,
    budget: str | None,
    recordings: Path | None,
    resume: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Profile this machine, teach a listener some words, export it, let it hear, and show all of it on one page."""
    from kws_demo.demo import run_demo

    result = run_demo(
        output, minutes=minutes, data=data, budget=budget, seed=seed, recordings=recordings, resume=resume
    )
    heard = "\n".join(
        f"  {row['start_s']:6.2f} s  {row['keyword']}  {row['score']:.2f}" for row in result["detections"]
    )
    report(
        as_json,
        result,
        f"heard in {result['wav']}:\n{heard}\n"
        f"{result['model']}: asked {result['budget']}, measured p95 {result['measured_p95_ms']:.3f} ms, budget "
        f"{'kept' if result['budget_kept'] else 'NOT kept'}; right for {100 * result['accuracy']:.1f} % of the test "
        f"clips, by voices it never heard; {result['seconds']:.0f} s in all.\nOpen {result['report']}, or speak to it: "
        f"milliwise stream {result['model']}",
    )
    context.exit(0 if result["budget_kept"] else 1)


@click.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="Leave out what takes long; its rows say so.")
@click.option("--resume", is_flag=True, help="Keep the rows that were measured before.")
@click.option("--results", type=FILE, help="Raw rows; tests/results/NAME.jsonl by default.")
@click.option(
    "--recordings",
    type=FILE,
    default=Path("../shared/data"),
    show_default=True,
    help="The folder of test recordings: keywords_en/ and keywords_ar/ (a folder a word, in train/ and val/), noise/ "
    "and images/cifar10.npz. What it lacks is not measured, and the row says so.",
)
@seed_option
@json_option
@click.pass_context
def bench(
    context: click.Context,
    name: str,
    quick: bool,
    resume: bool,
    results: Path | None,
    recordings: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Measure the figures of a benchmark: spine, listener, shipped, listening, profile, adaptive, search.

    They are printed beside their targets; exit code 1: one was missed.
    """
    from kws_demo.bench import find_bench
    from kws_demo.bench.rows import Results, table

    kept = Results(results or Path("tests/results") / f"{name}.jsonl", resume)
    outcome = find_bench(name)(kept, quick=quick, recordings=recordings, seed=seed)
    report(as_json, outcome, table(outcome["rows"]))
    context.exit(1 if any(row["met"] is False for row in outcome["rows"]) else 0)
