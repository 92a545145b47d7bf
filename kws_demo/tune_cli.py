"""The command that chooses thresholds: `milliwise tune`; with recordings as negatives it needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import FILE, FilePath, Finite, json_option, report, seed_option
from toolkit.errors import MilliwiseError
from toolkit.files import require_writable, write_bytes

if TYPE_CHECKING:  # these need onnxruntime, which help must not wait for
    from exporters.listener import Listener
    from kws_demo.tune import Clips, Tuning
    from kws_demo.tune_audio import Suspect

NEGATIVES = "Audio without the keywords: a folder of recordings of any length, or generated talk, such as synth:en:6."
BUDGET = "Of an adaptive listener: tune it for that milliwise stream --budget-ms, which opens fewer of its gates."
POSITIVES = "Recordings of the keywords in folders of their names, to see how many are missed."


@click.command()
@click.argument("model", type=FilePath(path_type=str))
@click.option("--negatives", "spec", required=True, metavar="DIR|synth:LANG:HOURS", help=NEGATIVES)
@click.option("--fa-per-hour", required=True, type=Finite(min=0, min_open=True), help="False alarms you can live with.")
@click.option("--positives", "folder", type=FILE, help=POSITIVES)
@click.option("-o", "--output", type=FILE, help="Write the thresholds here, for milliwise stream --thresholds.")
@click.option("--drawing", type=FILE, help="Draw misses against false alarms here, as SVG.")
@click.option("--noise", type=FILE, help="Background recordings behind generated talk.")
@click.option(
    "--spoken",
    help="WORD,WORD,…: the keywords, in their order, as the language of generated talk writes them if labels do not.",
)
@click.option("--budget-ms", type=Finite(min=0, min_open=True), help=BUDGET)
@seed_option
@json_option
def tune(
    model: str, spec: str, fa_per_hour: float, folder: Path | None, output: Path | None, drawing: Path | None,
    noise: Path | None, spoken: str | None, budget_ms: float | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Choose the thresholds of the listener MODEL for a number of false alarms an hour.

    MODEL is an .onnx file or a listener that `milliwise models` lists. The thresholds are the lowest that keep the
    number on the negatives, of which each keyword has an equal share. Exits with 1 when the negatives are too short to
    show it: no false alarm in T hours shows only that there are fewer than 3 / T an hour; or when no threshold keeps a
    keyword within its share, so that it would never be found; if that is so for all of them, nothing is written.
    """
    from exporters.listener import Listener
    from kws_demo.dial import require_gates
    from kws_demo.shipped import resolve_model
    from kws_demo.source import split_words
    from kws_demo.tune import GRID, thresholds_for
    from kws_demo.tune_audio import hear, negatives

    for path in (output, drawing):
        if path is not None:
            require_writable(path)
    listener = Listener.open(resolve_model(model))
    require_gates(listener, budget_ms)
    stream = negatives(spec, listener, seed, noise, split_words(spoken) if spoken is not None else ())
    clips = _clips(folder, listener, seed, budget_ms) if folder is not None else None  # first: it is over sooner
    heard = hear(listener, stream, "listening to the negatives", float(GRID[0]), budget_ms)
    _warn(heard.suspects)
    tuned = thresholds_for(heard, fa_per_hour, stream.synthetic, clips)
    if len(tuned.never) == len(tuned.thresholds):
        text = f"{_text(tuned, None)}\nnothing is written: with these thresholds no keyword would ever be found"
    else:
        _write(tuned, listener, output, drawing, {"negatives": spec, "seed": seed})
        text = _text(tuned, output)
    report(as_json, {**tuned.summary(), "suspects": [each._asdict() for each in heard.suspects]}, text)
    if tuned.never or not tuned.supported:
        click.get_current_context().exit(1)


def _clips(folder: Path, listener: Listener, seed: int, budget_ms: float | None) -> Clips:
    from kws_demo.tune import GRID, Clips
    from kws_demo.tune_audio import hear, positives

    stream, said = positives(folder, listener, seed)
    heard = hear(listener, stream, "listening to the keywords", float(GRID[0]), budget_ms)
    return Clips(heard, said, listener.metadata.window_ms)


def _write(
    tuned: Tuning, listener: Listener, output: Path | None, drawing: Path | None, source: dict[str, object]
) -> None:
    from kws_demo.drawings.tradeoff import standalone, tradeoff
    from kws_demo.thresholds import save_thresholds

    summary = tuned.summary()
    if output is not None:
        measured = {key: value for key, value in summary.items() if key not in ("thresholds", "curve")}
        save_thresholds(output, listener, tuned.thresholds, {**source, **measured})
    if drawing is not None:
        markup = tradeoff(summary)
        if markup is None:
            raise MilliwiseError("there is nothing to draw: the negatives hold no audio")
        write_bytes(drawing, standalone(markup).encode())


def _warn(suspects: Sequence[Suspect]) -> None:
    for each in suspects:
        click.echo(f"check {each.name} at {each.start_s:.1f} s: is '{each.keyword}' said there?", err=True)
    if suspects:
        click.echo("a keyword in the negatives counts as a false alarm and raises its threshold", err=True)


def _text(tuned: Tuning, output: Path | None) -> str:
    """For people: a line for each keyword, what all of them did, and how far it can be trusted."""
    summary = tuned.summary()
    lines = ["threshold  false alarms  missed               keyword"]
    for word, threshold in tuned.thresholds.items():
        row = summary["words"][word]
        lines.append(f"{threshold:9.4f}  {row['false_alarms']:12d}  {_missed(row):19s}  {word}")
    talk = "synthetic talk" if tuned.synthetic else "recordings"
    lines.append(
        f"{tuned.total} false alarms in {tuned.hours:.3g} h of {talk}: {summary['fa_per_hour']:.3g} an hour,"
        f" with 95 % confidence fewer than {summary['fa_upper']:.3g}; missed {_missed(summary)}"
    )
    if not tuned.supported:
        lines.append(
            f"{tuned.hours:.3g} h cannot show {tuned.target_fa_per_hour:g} false alarms an hour: these thresholds are a"
            f" best guess, which needs at least {tuned.hours_needed:.3g} h"
        )
    if tuned.never:
        lines.append(
            f"never found, for no threshold keeps them within their share: {', '.join(tuned.never)}; listen to the"
            " negatives for them, or allow more false alarms"
        )
    if output is not None:
        lines.append(f"written to {output}: milliwise stream MODEL --thresholds {output}")
    return "\n".join(lines)


def _missed(row: dict[str, float | None]) -> str:
    if row["frr"] is None:
        return "not measured"
    low, high = row["frr_low"] or 0.0, row["frr_high"] or 0.0
    return f"{100 * row['frr']:.1f} % ({100 * low:.1f}–{100 * high:.1f})"
