"""The command `milliwise score`: streaming metrics of a listener on a labelled recording; it needs no torch."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import FILE, FilePath, Finite, json_option, report
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

if TYPE_CHECKING:  # these need onnxruntime or soundfile, which help must not wait for
    from exporters.listener import Listener
    from kws_demo.labels import Truth
    from kws_demo.transcript import Notes, Transcript

MAX_MS = 60_000
LABELS = "Its words, in order: lines `word, start_ms` or `word, start_ms, end_ms`."
TOLERANCE = "How far the start of a detection's window may be from the start of the word."


@click.command()
@click.argument("model", type=FilePath(path_type=str))
@click.option("--wav", required=True, type=FILE, help="The recording.")
@click.option("--labels", required=True, type=FILE, help=LABELS)
@click.option("--thresholds", type=FILE, help="A threshold for each keyword, as `milliwise tune` writes them.")
@click.option("--threshold", type=Finite(0, 1), help="Score a keyword has to exceed, instead of the listener's.")
@click.option("--average-ms", type=Finite(1, MAX_MS), help="How long scores are averaged, instead of the listener's.")
@click.option("--suppression-ms", type=Finite(0, 60 * MAX_MS), help="Pause after a word, instead of the listener's.")
@click.option("--minimum-count", type=click.IntRange(1, 10_000), help="Fewest scores averaged, instead of its own.")
@click.option("--tolerance-ms", default=750.0, show_default=True, type=Finite(0, MAX_MS), help=TOLERANCE)
@click.option("--paced", is_flag=True, help="Play at the speed of life, so that times are those of real use.")
@json_option
def score(
    model: str, wav: Path, labels: Path, thresholds: Path | None, threshold: float | None, average_ms: float | None,
    suppression_ms: float | None, minimum_count: int | None, tolerance_ms: float, paced: bool, as_json: bool,
) -> None:  # fmt: skip
    """How well the listener MODEL hears a labelled recording, by Warden's metrics and those users feel.

    MODEL is an .onnx file or a listener that `milliwise models` lists. Shares are of the number of words. Missed
    keywords, false alarms an hour and delay match each word with the nearest detection; false alarms are counted on the
    audio farther than the tolerance from any keyword.
    """
    from exporters.listener import Listener
    from kws_demo.score_report import figures, lines
    from kws_demo.shipped import resolve_model

    if threshold is not None and thresholds is not None:
        raise MilliwiseError("--threshold and --thresholds exclude each other: give one of them")
    listener = Listener.open(resolve_model(model))
    changes = {
        "threshold": threshold,
        "average_ms": average_ms,
        "suppression_ms": suppression_ms,
        "minimum_count": minimum_count,
    }
    notes = _notes(listener, {name: value for name, value in changes.items() if value is not None}, thresholds)
    heard, truths = _listen(listener, notes, wav, labels, paced)
    result = figures(heard, truths, tolerance_ms, listener.metadata.window_ms)
    result |= {"decision": dataclasses.asdict(notes.settings), "thresholds": notes.thresholds}
    report(as_json, result, lines(result))


def _notes(listener: Listener, changes: dict[str, float], thresholds: Path | None) -> Notes:
    """The decider, with the listener's own settings where no others are given."""
    from kws_demo.decide import Decision
    from kws_demo.thresholds import load_thresholds
    from kws_demo.transcript import Notes

    if thresholds is not None and not changes.keys().isdisjoint({"average_ms", "minimum_count"}):
        raise MilliwiseError(
            "--thresholds were chosen for the listener's own averaging: leave out --average-ms and --minimum-count"
        )
    settings = dataclasses.replace(Decision(**listener.metadata.decision), **changes)  # type: ignore[arg-type]
    of_words = None if thresholds is None else load_thresholds(thresholds, listener)
    return Notes(listener.labels, 1000 * listener.hop_samples / listener.rate, settings, of_words)


def _listen(listener: Listener, notes: Notes, wav: Path, labels: Path, paced: bool) -> tuple[Transcript, list[Truth]]:
    """What was heard and what was said, with everything said on the way that is worth knowing."""
    import soundfile

    from kws_demo.audio import wav_blocks_of
    from kws_demo.labels import check_within, load_labels
    from kws_demo.transcript import transcribe

    truths = _known(load_labels(labels), listener, labels)
    blocks, told = wav_blocks_of(wav, listener.hop_samples)
    for note in told:
        click.echo(note, err=True)
    duration_s = soundfile.info(os.fspath(wav)).duration
    check_within(truths, 1000 * duration_s, str(labels))
    hop_s = listener.hop_samples / listener.rate
    with progress("listening", duration_s) as advance:
        return transcribe(listener, blocks, notes, paced, lambda hop: advance(hop_s)), truths


def _known(truths: list[Truth], listener: Listener, path: Path) -> list[Truth]:
    """The words as the listener can say them; tells which it does not know, for it may be a slip of the pen."""
    from kws_demo.audio import printable
    from kws_demo.labels import as_labels

    if not truths:
        click.echo(f"{printable(path)} names no words: every word found is a false alarm", err=True)
    known, others = as_labels(truths, listener.labels)
    if others:
        first = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        keywords = ", ".join(listener.labels[2:7]) + (", ..." if len(listener.labels) > 7 else "")
        click.echo(f"{printable(path)}: {first} count as _unknown_; the keywords are {keywords}", err=True)
    return known
