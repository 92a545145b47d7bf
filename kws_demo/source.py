"""What a data argument names: words to synthesise, a folder of recordings, or Speech Commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kws_demo.recordings import check_words
from kws_demo.synth import base_voices
from toolkit.errors import MilliwiseError, printable
from toolkit.files import cache_folder

FORMS = "synth:WORD,WORD,… or synth:LANGUAGE:WORD,WORD,…, a folder with a folder a word, or speech_commands[:PATH]"


@dataclass(frozen=True)
class Source:
    """What a data argument says: `kind` is "synth", "folder" or "speech_commands"."""

    kind: str
    words: tuple[str, ...] = ()
    language: str = "en"
    path: Path = Path()


def parse_spec(spec: str) -> Source:
    """Understand a data argument: `synth:[LANGUAGE:]WORD,WORD,…`, an existing folder, or `speech_commands[:PATH]`.

    Raises:
        MilliwiseError: none of these, an unknown language, or words that cannot be labels.
    """
    shown = printable(spec)[:200]
    scheme, colon, rest = spec.partition(":")
    if not spec.isprintable():
        raise MilliwiseError(f"the data '{shown}' has control characters: give {FORMS}")
    if scheme == "synth" and colon:
        named, text = _language_of(rest)
        words = split_words(text)
        check_words(words, f"'{shown}'")
        for word in words:
            if not any(letter.isalnum() for letter in word):
                raise MilliwiseError(f"espeak-ng cannot say '{printable(word)}': give words with letters")
        base_voices(named)
        return Source("synth", words, named)
    if scheme == "speech_commands":
        return Source("speech_commands", path=Path(rest) if rest else cache_folder() / "speech_commands")
    if not _is_folder(spec):
        raise MilliwiseError(f"there is no data '{shown}': give {FORMS}")
    return Source("folder", path=Path(spec))


def split_words(text: str) -> tuple[str, ...]:
    """The words of `WORD,WORD,…`; in a pronunciation, `[[…]]`, a comma is a stress."""
    return tuple(word.strip() for word in re.split(r",(?![^\[]*\]\])", text))


def _language_of(text: str) -> tuple[str, str]:
    """The language before the words, English if there is none, and the words; a colon in `[[…]]` is a long vowel."""
    found = re.fullmatch(r"([^\[\]]*?):(.*)", text)
    return (found[1].strip(), found[2]) if found else ("en", text)


def _is_folder(text: str) -> bool:
    try:
        return bool(text.strip()) and Path(text).is_dir()
    except (OSError, ValueError):  # a name too long, or not a name
        return False
