"""The command `milliwise score`: how well a listener hears a labelled recording, or clips; it needs no torch."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import FILE, FilePath, Finite, json_option, report, seed_option
from toolkit.errors import MilliwiseError, printable
from toolkit.progress import progress

if TYPE_CHECKING:  # these need onnxruntime or soundfile, which help must not wait for
    from exporters.listener import Listener
    from kws_demo.labels import Truth
    from kws_demo.transcript import Notes, Transcript

MAX_MS = 60_000
LABELS = "Its words, in order: lines `word, start_ms` or `word, start_ms, end_ms`."
CLIPS = "Instead of a recording: clips of single words in a folder for each word, as milliwise record makes them."
BASELINE = "Another listener: how much more of the clips does MODEL hear?"
OF_CLIPS = ("baseline", "seed")
OF_RECORDINGS = ("budget_ms", "average_ms", "suppression_ms", "minimum_count", "tolerance_ms", "paced")
BUDGET = "Of an adaptive listener: milliseconds a hop may take on average, as milliwise stream --budget-ms keeps them."
TOLERANCE = "How far the start of a detection's window may be from the start of the word."


@click.command()
@click.argument("model", type=FilePath(path_type=str))
@click.option("--wav", type=FILE, help="The recording.")
@click.option("--labels", type=FILE, help=LABELS)
@click.option("--clips", type=FILE, help=CLIPS)
@click.option("--baseline", metavar="MODEL", type=FilePath(path_type=str), help=BASELINE)
@click.option("--thresholds", type=FILE, help="A threshold for each keyword, as `milliwise tune` writes them.")
@click.option("--threshold", type=Finite(0, 1), help="Score a keyword has to exceed, instead of the listener's.")
@click.option("--average-ms", type=Finite(1, MAX_MS), help="How long scores are averaged, instead of the listener's.")
@click.option("--suppression-ms", type=Finite(0, 60 * MAX_MS), help="Pause after a word, instead of the listener's.")
@click.option("--minimum-count", type=click.IntRange(1, 10_000), help="Fewest scores averaged, instead of its own.")
@click.option("--tolerance-ms", default=750.0, show_default=True, type=Finite(0, MAX_MS), help=TOLERANCE)
@click.option("--budget-ms", type=Finite(min=0, min_open=True), help=BUDGET)
@click.option("--paced", is_flag=True, help="Play at the speed of life, so that times are those of real use.")
@seed_option
@json_option
def score(
    model: str, wav: Path | None, labels: Path | None, clips: Path | None, baseline: str | None,
    thresholds: Path | None, threshold: float | None, average_ms: float | None, suppression_ms: float | None,
    minimum_count: int | None, tolerance_ms: float, budget_ms: float | None, paced: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """How well the listener MODEL hears a labelled recording, by Warden's metrics and those users feel, or clips.

    MODEL is an .onnx file or a listener that `milliwise models` lists. Shares are of the number of words. Missed
    keywords, false alarms an hour and delay match each word with the nearest detection; false alarms are counted on the
    audio farther than the tolerance from any keyword.

    With --clips, clips of single words are heard in one stream: one is detected when its word has the highest score and
    that is above the threshold. Intervals are by bootstrap over speakers, or over the clips of a single one.
    """
    from exporters.listener import Listener
    from kws_demo.dial import require_gates
    from kws_demo.score_report import figures, lines
    from kws_demo.shipped import resolve_model

    _check_form(wav, labels, clips)
    if threshold is not None and thresholds is not None:
        raise MilliwiseError("--threshold and --thresholds exclude each other: give one of them")
    listener = Listener.open(resolve_model(model))
    if clips is not None:
        other = None if baseline is None else Listener.open(resolve_model(baseline))
        result = _of_clips(listener, clips, other, threshold, thresholds, seed)
        return report(as_json, result, _text(result))
    assert wav is not None and labels is not None
    changes = {
        "threshold": threshold,
        "average_ms": average_ms,
        "suppression_ms": suppression_ms,
        "minimum_count": minimum_count,
    }
    notes = _notes(listener, {name: value for name, value in changes.items() if value is not None}, thresholds)
    require_gates(listener, budget_ms)
    heard, truths = _listen(listener, notes, wav, labels, paced, budget_ms)
    result = figures(heard, truths, tolerance_ms, listener.metadata.window_ms)
    result |= {"decision": dataclasses.asdict(notes.settings), "thresholds": notes.thresholds}
    report(as_json, result, lines(result))


def _check_form(wav: Path | None, labels: Path | None, clips: Path | None) -> None:
    """Refuse what is neither a recording with labels nor clips, and options of the other form."""
    context, is_of_clips = click.get_current_context(), clips is not None
    if (wav is None) != (labels is None) and not is_of_clips:
        raise MilliwiseError("--wav and --labels belong together: give both, or --clips DIR")
    if (wav is not None or labels is not None) == is_of_clips:
        what = "exclude each other" if is_of_clips else "are both missing"
        raise MilliwiseError(f"a recording and clips {what}: give either --wav FILE --labels FILE, or --clips DIR")
    for name in OF_RECORDINGS if is_of_clips else OF_CLIPS:
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise MilliwiseError(f"{option} is of {'--wav' if is_of_clips else '--clips'} alone: leave it out")


def _of_clips(
    listener: Listener, folder: Path, baseline: Listener | None, threshold: float | None, path: Path | None, seed: int
) -> dict[str, Any]:
    from kws_demo.clip_score import folder_figures
    from kws_demo.thresholds import load_thresholds

    thresholds = None if path is None else load_thresholds(path, listener)
    return folder_figures(listener, folder, baseline, threshold, thresholds, seed)


def _text(result: dict[str, Any]) -> str:
    """The figures of clips for people: a row for each word, the other words, and what is heard in all."""
    before = result["baseline"]
    rows = {**result["words"], "all of them": result} if len(result["words"]) > 1 else result["words"]
    told = ["clips  heard                 missed  another" + ("  baseline            " if before else "") + "  word"]
    for word, row in rows.items():
        other = before["words"].get(word, before if row is result else None) if before else None
        column = "" if before is None else f"  {_heard(other) if other else '-':20s}"
        told.append(f"{row['clips']:5d}  {_heard(row):20s}  {row['missed']:6d}  {row['wrong']:7d}{column}  {word}")
    for name, each in (("", result), (" by the baseline", before)):
        if each and each["others"]:
            share = _share(each["others_share"], each["others_low"], each["others_high"])
            told.append(f"{each['others_accepted']} of {each['others']} other words accepted{name}: {share}")
    if before is None:
        told.append(f"{result['detected']} of {result['clips']} of your recordings are heard: {_heard(result)}")
    else:
        told.append(_gain(result))
    if result["speakers"] == 1:
        told.append("the recordings are of one voice, and so are the intervals: of others they say nothing")
    return "\n".join(told)


def _gain(result: dict[str, Any]) -> str:
    before, clips = result["baseline"], result["compared"]
    which = "" if clips == result["clips"] else " of words both listeners know"
    now = before["detected"] + result["only_model"] - result["only_baseline"]
    gain, low, high = (round(100 * result[name]) for name in ("gain", "gain_low", "gain_high"))
    return (
        f"{now} of {clips} of your recordings{which} are heard, {before['detected']} by the baseline:"
        f" gain {gain} points ({low} to {high}); {result['only_model']} are heard by this listener alone,"
        f" {result['only_baseline']} by the baseline alone"
    )


def _heard(row: dict[str, Any]) -> str:
    return _share(1 - row["frr"], 1 - row["frr_high"], 1 - row["frr_low"])


def _share(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


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


def _listen(
    listener: Listener, notes: Notes, wav: Path, labels: Path, paced: bool, budget_ms: float | None
) -> tuple[Transcript, list[Truth]]:
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
        return transcribe(listener, blocks, notes, paced, lambda hop: advance(hop_s), budget_ms), truths


def _known(truths: list[Truth], listener: Listener, path: Path) -> list[Truth]:
    """The words as the listener can say them; tells which it does not know, for it may be a slip of the pen."""
    from kws_demo.labels import as_labels

    if not truths:
        click.echo(f"{printable(path)} names no words: every word found is a false alarm", err=True)
    known, others = as_labels(truths, listener.labels)
    if others:
        first = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        keywords = ", ".join(listener.labels[2:7]) + (", ..." if len(listener.labels) > 7 else "")
        click.echo(f"{printable(path)}: {first} count as _unknown_; the keywords are {keywords}", err=True)
    return known
