"""The command `milliwise speak`: words said by the other synthesisers that are installed, as recordings to train on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import FILE, json_option, report, seed_option

if TYPE_CHECKING:  # this needs numpy, which help must not wait for
    from kws_demo.synth import Spoken


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-o", "output", type=FILE, required=True, help="The folder to write: DIR/WORD/SYNTHESISER-VOICE_N.wav.")
@click.option("--takes", default=60, show_default=True, type=click.IntRange(1, 10_000), help="By every voice.")
@click.option("--unknown", default=1000, show_default=True, type=click.IntRange(0, 100_000), help="Other words, once.")
@click.option("--language", default="en", show_default=True, help="As in synth:LANGUAGE:WORD.")
@seed_option
@json_option
def speak(
    words: tuple[str, ...], output: Path, takes: int, unknown: int, language: str, seed: int, as_json: bool
) -> None:
    """Let flite and SVOX Pico, if they are installed, say WORDS, for `milliwise search --add DIR`.

    Their voices are recorded people: a listener that learns from them beside espeak-ng hears people better. They speak
    English, Pico also German, French, Italian and Spanish. Name all words of the listener at once, for none of them may
    be among the other words, and the --seed of the search, whose test words are then left out.
    """
    from exporters.metadata import UNKNOWN
    from kws_demo.recordings import check_words
    from kws_demo.synthesisers import installed_voices, say_often, say_once
    from toolkit.errors import MilliwiseError, printable
    from toolkit.files import require_writable
    from toolkit.progress import progress

    check_words(words, "WORDS")
    voices = installed_voices(language)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise MilliwiseError(f"{output} exists and is not empty: name another folder, and all words at once")
    require_writable(output / words[0] / "clip.wav")
    others = _others(words, unknown, language, seed)
    clips = 0
    try:
        with progress(
            f"{len(voices)} voices say {len(words)} words", len(words) * takes * len(voices) + unknown
        ) as advance:
            for word, said in zip(words, say_often(words, takes, voices, seed), strict=True):
                if not said:
                    raise MilliwiseError(
                        f"no voice makes a clip of '{printable(word)}' of 0.12 to 0.95 s: choose another word"
                    )
                clips += _save(said, output / word)
                advance(takes * len(voices))
            for first in range(0, len(others), 50):
                said = say_once(others[first : first + 50], voices, seed + first)
                clips += _save(said, output / UNKNOWN, first)
                advance(len(said))
    except BaseException:  # Ctrl-C, too
        shutil.rmtree(output, ignore_errors=True)  # it was empty
        raise
    names = [f"{synthesiser}-{voice}" for synthesiser, voice in voices]
    text = f"{clips} clips by {', '.join(names)} in {output}; next: milliwise search … --add {output}"
    report(as_json, {"clips": clips, "voices": names, "folder": str(output)}, text)


def _others(words: tuple[str, ...], count: int, language: str, seed: int) -> list[str]:
    """Frequent words that do not sound like one of the words, each once or as often as needed."""
    import numpy as np

    from kws_demo.words import draw, unknown_words

    if not count:
        return []
    return draw(unknown_words(words, language, seed)["train"].common, count, np.random.default_rng([seed, 13]))


def _save(clips: list[Spoken], folder: Path, first: int = 0) -> int:
    import io

    import numpy as np
    import soundfile

    from exporters.metadata import RATE_HZ
    from toolkit.files import write_bytes

    for number, clip in enumerate(clips, first + 1):
        content = io.BytesIO()
        margin = min(RATE_HZ // 10, (RATE_HZ - len(clip.audio)) // 2)  # a word at the very edge counts as cut off
        soundfile.write(content, np.pad(clip.audio, margin), RATE_HZ, format="WAV", subtype="PCM_16")
        write_bytes(folder / f"{clip.voice}_{number}.wav", content.getvalue())
    return len(clips)
