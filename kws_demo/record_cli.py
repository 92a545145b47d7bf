"""The command `milliwise record`: own recordings of a word, from the microphone or cut out of a recording."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import FILE, Finite, json_option, report
from toolkit.errors import MilliwiseError
from toolkit.files import require_writable

if TYPE_CHECKING:  # these need numpy or soundfile, which help must not wait for
    import numpy as np

    from kws_demo.record import Take

TAKES = 5
PATIENCE_S = 30.0  # with a microphone that was unplugged
WAV = "Cut the takes out of this recording, in which the word is said several times; all of them without --takes."


@click.command()
@click.argument("word")
@click.option("-o", "output", type=FILE, required=True, help="The folder to add to: takes are saved in DIR/WORD.")
@click.option("--takes", type=click.IntRange(1, 1000), help=f"How many takes; {TAKES} unless --wav is given.")
@click.option("--device", metavar="NAME|INDEX", help="Microphone, as `milliwise devices` lists them.")
@click.option("--speaker", metavar="NAME", help="Who speaks; the name of the user unless given.")
@click.option("--seconds", default=2.0, show_default=True, type=Finite(1, 10), help="To listen for, each take.")
@click.option("--wav", type=FILE, help=WAV)
@json_option
@click.pass_context
def record(
    context: click.Context, word: str, output: Path, takes: int | None, device: str | None, speaker: str | None,
    seconds: float, wav: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Record some takes of WORD for `milliwise search --add DIR`; takes that were recorded before stay.

    Each take is checked, trimmed and saved as DIR/WORD/SPEAKER_N.wav; say the word when you are asked to. Exit code 1
    if fewer takes could be made.
    """
    from kws_demo.record import speaker_name
    from kws_demo.recordings import check_words

    check_words([word], "WORD")
    if wav is not None and device is not None:
        raise MilliwiseError("--wav and --device exclude each other: give one of them")
    speaker = speaker_name(speaker, word)
    folder = output / word
    require_writable(folder / f"{speaker}_1.wav")
    session = Session(word, folder, speaker)
    interrupted = False
    try:
        session.run(_takes_of(wav, takes) if wav is not None else _spoken(word, takes or TAKES, device, seconds))
    except KeyboardInterrupt:
        interrupted = True
    except MilliwiseError as error:  # the microphone was unplugged, the disk is full
        raise MilliwiseError(f"{error}{session.so_far()}") from None
    result = session.result()
    report(as_json, {**result, "interrupted": interrupted}, session.text(result, output))
    short = len(session.clips) < (takes or (1 if wav is not None else TAKES))
    context.exit(130 if interrupted else int(short))


class Session:
    """Saves takes as they come, and tells about them."""

    def __init__(self, word: str, folder: Path, speaker: str) -> None:
        self.word, self.folder, self.speaker = word, folder, speaker
        self.clips: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []

    def run(self, takes: Iterator[Take]) -> None:
        """Save what is good enough and say on standard error what was wrong with each."""
        from kws_demo.record import save_take

        for take in takes:
            row = {
                "seconds": round(take.seconds, 3),
                "level_db": round(take.level_db, 1),
                "findings": [{"kind": f.kind, "problem": f.problem, "cure": f.cure} for f in take.findings],
            }
            if take.kept:
                path = save_take(take, self.folder, self.speaker)
                self.clips.append({"path": str(path), **row})
            else:
                self.rejected.append({"take": take.number, **row})
            for line in take.advice() or [f"take {take.number} is fine ({take.level_db:.0f} dB)"]:
                click.echo(line if take.kept else f"{line} (not saved)", err=True)

    def result(self) -> dict[str, Any]:
        """All of it, as JSON; the takes of earlier sessions help to tell which one is unlike the others."""
        from kws_demo.record import strange_files, takes_by
        from kws_demo.recordings import Recording

        mine = [Recording(path, self.word, self.speaker) for path in takes_by(self.speaker, self.folder).values()]
        strange, compared = strange_files(mine)
        return {
            "word": self.word,
            "folder": str(self.folder),
            "speaker": self.speaker,
            "clips": self.clips,
            "rejected": self.rejected,
            "outliers": [str(path) for path in strange],
            "compared": compared,
        }

    def text(self, result: dict[str, Any], output: Path) -> str:
        """The end of the session, for people."""
        from kws_demo.record import unlike

        lines = [unlike(Path(path)) for path in result["outliers"]]
        if self.clips and not result["compared"]:
            lines.append("too few takes to tell whether one of them is another word: record three or more")
        lines.append(self._count())
        if not self.clips and not self.rejected:
            lines[-1] += ": no word stands out of the noise; record louder, or where it is quieter"
        elif not self.clips:
            lines[-1] += ": see what was wrong above, and try again"
        else:
            lines[-1] += f"; next: milliwise search … --add {output}"
        return "\n".join(lines)

    def so_far(self) -> str:
        """What an error that ends the session has left."""
        return f" ({self._count()})" if self.clips else ""

    def _count(self) -> str:
        return f"{len(self.clips)} take{'s' * (len(self.clips) != 1)} of '{self.word}' in {self.folder}"


def _takes_of(wav: Path, wanted: int | None) -> Iterator[Take]:
    """The takes cut out of a recording, until as many as wanted were kept."""
    from kws_demo.audio import read_wav
    from kws_demo.record import takes_in

    audio, notes = read_wav(wav)
    for note in notes:
        click.echo(note, err=True)
    kept = 0
    for take in takes_in(audio):
        yield take
        kept += take.kept
        if kept == wanted:
            return


def _spoken(word: str, wanted: int, device: str | None, seconds: float) -> Iterator[Take]:
    """The takes that are spoken into the microphone, with what to do and the level on standard error."""
    from kws_demo.microphone import Microphone
    from kws_demo.record import HOP, takes_from

    with Prompt(word, wanted) as prompt:
        chosen = int(device) if device and device.isdecimal() else device
        with Microphone(chosen, HOP, prompt.say, PATIENCE_S) as mic:
            prompt.say(f"listening to {mic.name}; say '{word}' once whenever you are asked to")
            for take in takes_from(iter(mic), wanted, seconds, prompt, lambda: mic.overflows):
                prompt.clear()
                yield take


class Prompt:
    """Tells when to speak, and shows how loud it is: over and over in one line of a terminal, elsewhere once a take."""

    def __init__(self, word: str, wanted: int) -> None:
        self.word, self.wanted = word, wanted
        self.live = sys.stderr.isatty()
        self._asked = False

    def __enter__(self) -> Prompt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, number: int, speak: bool, left_s: float, block: np.ndarray) -> None:
        """Called with every block: before it is time to speak, and then."""
        what = f"take {number} of {self.wanted}: " + (f"say '{self.word}' now" if speak else "get ready")
        if self.live:
            self._draw(block, f"{what} {left_s:.1f} s")
        elif speak and not self._asked:
            self.say(what)
        self._asked = speak

    def say(self, line: str) -> None:
        """Print a line of its own."""
        self.clear()
        click.echo(line, err=True)

    def clear(self) -> None:
        """Take the line away, so that another one can be printed."""
        from kws_demo.meter import CLEAR

        if self.live:
            click.echo(CLEAR, nl=False, err=True)

    def _draw(self, block: np.ndarray, text: str) -> None:
        from rich.cells import set_cell_size

        from kws_demo.meter import CLEAR, SILENT_DB, SPARE_COLUMNS, bar, level_db

        level = level_db(block)
        columns = max(1, shutil.get_terminal_size().columns - SPARE_COLUMNS)
        line = set_cell_size(f"{level:4.0f} dB {bar(1 - level / SILENT_DB, 20)} {text}", columns)
        encoding = sys.stderr.encoding or "ascii"
        click.echo(CLEAR + line.encode(encoding, "replace").decode(encoding), nl=False, err=True)
