"""The commands that listen: `milliwise stream` and `milliwise devices`; neither needs torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.allocator import return_freed_memory
from toolkit.budget import Budget
from toolkit.cli import FILE, FilePath, Finite, json_option, report
from toolkit.errors import MilliwiseError
from toolkit.files import require_writable

if TYPE_CHECKING:  # these need onnxruntime or soundfile, which help must not wait for
    import numpy as np

    from exporters.listener import Listener
    from kws_demo.decide import Decider, Detection
    from kws_demo.dial import Dial
    from kws_demo.live import Live
    from kws_demo.meter import Meter
    from kws_demo.stream import Hop, Summary

JSON_LINES = "Print JSON lines on standard output: one for each detection, then a summary."
BUDGET = (
    "Of an adaptive listener: milliseconds a hop may take on average over any minute; its gates open less readily as"
    " they run out. Of any other: what the meter shows each hop against, instead of the listener's own budget."
)
OVERSPENT = 1.2  # of the budget: modes that are measured twice differ by a tenth or two


@click.command()
@click.argument("model", required=False, type=FilePath(path_type=str))
@click.option("--device", metavar="NAME|INDEX", help="Microphone, as `milliwise devices` lists them.")
@click.option("--wav", type=FILE, help="Listen to a recording instead of a microphone.")
@click.option(
    "--stdin", "use_stdin", is_flag=True, help="Listen to raw 16-bit little-endian mono samples; needs --rate."
)
@click.option("--rate", "rate_hz", type=int, help="Sample rate of --stdin in Hz.")
@click.option("--budget-ms", type=Finite(min=0, min_open=True), help=BUDGET)
@click.option("--save-dir", type=FILE, help="Save the 2 s before each detection here, as WAV.")
@click.option("--threshold", type=Finite(0, 1), help="Score a keyword has to exceed, instead of the listener's.")
@click.option("--thresholds", type=FILE, help="Scores of the single keywords, as `milliwise tune` writes them.")
@click.option("--json", "as_json", is_flag=True, help=JSON_LINES)
def stream(
    model: str | None, device: str | None, wav: Path | None, use_stdin: bool, rate_hz: int | None,
    budget_ms: float | None, save_dir: Path | None, threshold: float | None, thresholds: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Listen for keywords with the listener MODEL: from the microphone, a recording or standard input.

    MODEL is an .onnx file, the folder of a bundle, or a listener that `milliwise models` lists; without one, the first
    of those listens. A line for each keyword: `start_s` is the start, in the stream, of the one-second window it was
    heard in. A microphone that is unplugged is waited for; Ctrl-C ends.
    """
    from exporters.listener import Listener
    from kws_demo.meter import Meter
    from kws_demo.shipped import resolve_model
    from kws_demo.stream import Keeper, listen

    return_freed_memory()
    _check_source(device, wav, use_stdin, rate_hz)
    path = resolve_model(model)
    if threshold is not None and thresholds is not None:
        raise MilliwiseError("--threshold and --thresholds exclude each other: give one of them")
    if save_dir is not None:
        require_writable(save_dir / "clip.wav")
    listener = Listener.open(path)
    meter = Meter()
    say = _say(meter)
    decider = _decider(listener, threshold, thresholds, say)
    dial = _dial(listener, budget_ms, say)
    if model is None:
        say(f"listening with the shipped listener {path.stem}: {', '.join(listener.labels[2:])}")
    keeper = None if save_dir is None else Keeper(save_dir, listener.rate, listener.hop_samples, say)
    with meter, _source(listener.hop_samples, device, wav, use_stdin, rate_hz, say) as blocks:
        on_hop = _on_hop(meter, listener, decider, budget_ms if dial is None else dial.budget_ms)
        summary = listen(listener, blocks, decider, _on_detection(meter, as_json), on_hop, keeper, dial)
    if dial is not None and dial.budget_ms is not None:
        _say_overspent(summary, dial.budget_ms, say, path.is_dir())
    _report_summary(summary, as_json)


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the microphones and the known targets."""
    from kws_demo.microphone import microphones
    from toolkit.errors import printable

    found = microphones()
    lines = [
        f"{each['index']:3d} {'*' if each['default'] else ' '} {printable(each['name'])}"
        f"  ({each['rate_hz']} Hz, {each['channels']} channels)"
        for each in found
    ]
    text = "\n".join(["microphones (* default):", *(lines or ["  none"]), "targets:", "  local"])
    report(as_json, {"microphones": found, "targets": [{"name": "local"}]}, text)


def _check_source(device: str | None, wav: Path | None, use_stdin: bool, rate_hz: int | None) -> None:
    if sum([device is not None, wav is not None, use_stdin]) > 1:
        raise MilliwiseError("--device, --wav and --stdin exclude each other: give one of them")
    if use_stdin != (rate_hz is not None):
        raise MilliwiseError("--stdin and --rate go together: --stdin --rate 16000")
    if use_stdin and sys.stdin.isatty():
        raise MilliwiseError("nothing is piped into --stdin: arecord -f S16_LE -r 16000 -c 1 | milliwise stream ...")


def _source(
    hop: int, device: str | None, wav: Path | None, use_stdin: bool, rate_hz: int | None, say: Callable[[str], None]
) -> AbstractContextManager[Iterable[np.ndarray]]:
    from kws_demo.audio import stdin_blocks, wav_blocks_of
    from kws_demo.microphone import Microphone

    if wav is not None:
        blocks, notes = wav_blocks_of(wav, hop)
        for note in notes:
            say(note)
        return nullcontext(blocks)
    if use_stdin and rate_hz is not None:
        return _watched(nullcontext(stdin_blocks(sys.stdin.buffer, rate_hz, hop)), hop, say, waits=True)
    return _watched(Microphone(int(device) if device and device.isdecimal() else device, hop, say), hop, say)


@contextmanager
def _watched(
    source: AbstractContextManager[Iterable[np.ndarray]], hop: int, say: Callable[[str], None], waits: bool = False
) -> Iterator[Live]:
    from exporters.metadata import RATE_HZ
    from kws_demo.live import Live

    with source as blocks:
        yield Live(blocks, hop / RATE_HZ, say, waits)


def _decider(
    listener: Listener, threshold: float | None, thresholds: Path | None, say: Callable[[str], None]
) -> Decider:
    from kws_demo.decide import Decider, Decision, never_found
    from kws_demo.thresholds import load_thresholds

    settings = Decision(**listener.metadata.decision)
    if threshold is not None:
        settings = dataclasses.replace(settings, threshold=threshold)
    of_words = None if thresholds is None else load_thresholds(thresholds, listener)
    decider = Decider(listener.labels, 1000 * listener.hop_samples / listener.rate, settings, of_words)
    if never := never_found(decider.thresholds):
        say(f"never found, because no score is above their threshold of 1: {', '.join(never)}")
    return decider


def _dial(listener: Listener, budget_ms: float | None, say: Callable[[str], None]) -> Dial | None:
    """Of an adaptive listener: it keeps every hop within its deadline, with or without a budget."""
    from kws_demo.dial import Dial

    dial = Dial.of(listener, budget_ms)
    for note in () if dial is None else dial.notes:
        say(note)
    return dial


def _say(meter: Meter) -> Callable[[str], None]:
    def say(line: str) -> None:
        meter.clear()
        with suppress(OSError):  # nobody reads it, or a log is on a full disk: no reason to stop listening
            click.echo(line, err=True)

    return say


def _on_detection(meter: Meter, as_json: bool) -> Callable[[Detection], None]:
    def show(found: Detection) -> None:
        meter.clear()
        line = {"keyword": found.keyword, "start_s": round(found.start_s, 3), "score": round(found.score, 4)}
        report(as_json, line, f"{found.start_s:9.2f} s  {found.keyword}  {found.score:.2f}")

    return show


def _on_hop(
    meter: Meter, listener: Listener, decider: Decider, budget_ms: float | None
) -> Callable[[Hop], None] | None:
    from kws_demo.audio import is_clipped
    from kws_demo.meter import Reading, level_db

    limit_ms = budget_ms or _own_budget_ms(listener)
    modes = [mode["name"] for mode in listener.metadata.modes]

    def draw(hop: Hop) -> None:
        if not meter.due():
            return
        place = 2 + int(decider.average[2:].argmax())
        mode = hop.scores.mode
        name = None if mode is None else modes[mode] if 0 <= mode < len(modes) else str(mode)
        score, threshold = float(decider.average[place]), decider.thresholds[decider.labels[place]]
        level = level_db(hop.block)
        cost = (hop.scores.elapsed_ms, limit_ms, hop.late, hop.overflows, name)
        reading = Reading(level, decider.labels[place], score, threshold, *cost, is_clipped=is_clipped(hop.block))
        if hop.ran is not None:
            average_ms = None if budget_ms is None else hop.ran.average_ms
            reading = reading._replace(why=hop.ran.why, average_ms=average_ms)
        meter.draw(reading)

    return draw if meter.live else None


def _own_budget_ms(listener: Listener) -> float:
    """The listener's budget if it is one of time, else the hop itself, after which the next one is due."""
    if listener.metadata.budget is not None:
        budget = Budget.parse(listener.metadata.budget)
        if budget.metric == "latency_ms" and budget.statistic != "mean":
            return budget.limit
    return 1000 * listener.hop_samples / listener.rate


def _say_overspent(summary: Summary, budget_ms: float, say: Callable[[str], None], is_bundle: bool = False) -> None:
    """The dial bills what was measured of modes, so that a busy machine hears the same; say if that was too low."""
    if summary.network_ms > OVERSPENT * budget_ms:
        slower = (
            "this machine is busier or slower than the one whose costs the listener bills; search again with a profile"
        )
        several = "the files of a bundle take longer than the one file whose costs it bills; export with --control if"
        say(
            f"hops took {summary.network_ms:.3g} ms on average, not {budget_ms:.3g}: "
            + (f"{several}, or ask for less" if is_bundle else f"{slower} of this one")
        )


def _report_summary(summary: Summary, as_json: bool) -> None:
    """The last line; exits with 130 after Ctrl-C, as every command does."""
    line: dict[str, Any] = {
        "hops": summary.hops,
        "late": summary.late,
        "overflows": summary.overflows,
        "ms_per_second": round(summary.ms_per_second, 4),
        "p99_ms": round(summary.p99_ms, 4),
    }
    text = (
        f"{summary.seconds:.1f} s in {summary.hops} hops: {summary.ms_per_second:.2f} ms of work per second of audio, "
        f"99 % of hops within {summary.p99_ms:.2f} ms, {summary.late} late, gaps in the audio: {summary.overflows}"
    )
    if summary.modes is not None:
        line["modes"] = summary.modes
        text += "\nmodes: " + ", ".join(f"{name} {hops}" for name, hops in summary.modes.items() if hops)
    if summary.invalid_samples:
        line["invalid_samples"] = summary.invalid_samples
        text += f"\nsamples that were not numbers: {summary.invalid_samples}"
    if summary.clipped:
        line["clipped_hops"] = summary.clipped
        text += f"\nhops that were clipped: {summary.clipped}; move away from the microphone or lower its gain"
    report(as_json, line, text)
    if summary.interrupted:
        click.get_current_context().exit(130)
