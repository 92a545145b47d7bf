"""Find espeak-ng, run it in a process of its own, and ask it how words sound."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import signal
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import MilliwiseError, MissingExtra
from toolkit.progress import progress

PROBE = "bama"  # no word of any language: a voice that changes its language for it does not read Latin letters
ALIASES = {"zh": "cmn", "no": "nb", "iw": "he", "jp": "ja", "cn": "cmn"}
STRESS = {ord("ˈ"): None, ord("ˌ"): None}


@dataclass(frozen=True)
class Pronunciation:
    """How espeak-ng says a text: `ipa` with ties and stress, and its own `mnemonics`, a tuple of them for each word.

    Both are empty where it makes no sound of the text, does not survive it, or cannot read its script and has `spelled`
    it letter by letter instead. A loan that it says as another language does ("timer" in German) has no mnemonics: they
    would mean other sounds in its own.
    """

    ipa: str = ""
    mnemonics: tuple[tuple[str, ...], ...] = ()
    spelled: bool = False


def base_voices(language: str) -> tuple[str, ...]:
    """The espeak-ng voices of a language ("en" has eight, "en-us" two), found in its data without loading it.

    Raises:
        MilliwiseError: an unknown language; names the nearest ones.
    """
    data = espeak_folder() / "espeak-ng-data"
    names = sorted(path.name.lower() for path in (data / "lang").rglob("*") if path.is_file())
    # Shavian and the other romanisations do not read ordinary script; three languages come without their dictionary.
    names = [name for name in names if name != "en-shaw" and (data / f"{_dictionary(name)}_dict").exists()]
    if language in names and "-latn" in language:
        return (language,)
    found = [name for name in names if "-latn" not in name and (name == language or name.startswith(f"{language}-"))]
    if not found:
        close = difflib.get_close_matches(language, names, n=5, cutoff=0.3) or ["en", "de", "fr", "es"]
        close = [ALIASES[language]] if language in ALIASES else close
        raise MilliwiseError(f"espeak-ng has no language {language!r}: choose a code like {', '.join(close)}")
    return tuple(found)


def pronounce(texts: Sequence[str], language: str = "en") -> list[Pronunciation]:
    """How espeak-ng says each text, which is in the letters of the language or, within `[[ ]]`, in its mnemonics.

    Raises:
        MilliwiseError: an unknown language.
    """
    voice = language if language in base_voices(language) else base_voices(language)[0]
    return _ask([(voice, text) for text in texts])


def all_accents(texts: Sequence[str], language: str = "en") -> list[Pronunciation]:
    """How each base voice of a language says each text: "stop" is not the same in British and American English."""
    return _ask([(voice, text) for voice in base_voices(language) for text in texts])


def pronunciations(words: Sequence[str], language: str = "en") -> list[str]:
    """How espeak-ng pronounces each word, in IPA without stress marks: equal ones sound the same ("right", "write").

    Raises:
        MilliwiseError: an unknown language.
    """
    return [said.ipa.translate(STRESS) for said in pronounce(words, language)]


def _ask(questions: Sequence[tuple[str, str]]) -> list[Pronunciation]:
    """How a voice says a text, for each pair of them; what was asked before is remembered."""
    new = [question for question in dict.fromkeys(questions) if question not in _known()]
    if new:
        asked = list(dict.fromkeys([*new, *((voice, PROBE) for voice, _text in new)]))
        result = run_worker({"texts": asked, "voice": new[0][0], "utterances": []})
        said = dict(zip(asked, zip(result["ipa"].tolist(), result["mnemonics"].tolist(), strict=True), strict=True))
        reads_latin = {voice: not _tags(said[voice, PROBE][0]) for voice, _text in new}
        _known().update(
            {(voice, text): _parsed(text, *said[voice, text], voice, reads_latin[voice]) for voice, text in new}
        )
    return [_known()[question] for question in questions]


@lru_cache(maxsize=1)
def _known() -> dict[tuple[str, str], Pronunciation]:
    """What was asked before: starting espeak-ng takes longer than what it answers."""
    return {}


def _parsed(text: str, ipa: str, mnemonics: str, voice: str, reads_latin: bool) -> Pronunciation:
    """The answer of espeak-ng, understood; it changes to a language in parentheses, "(en)", to spell, or for a loan."""
    tags = _tags(ipa)
    for tag in tags:
        ipa = ipa.replace(tag, "")
    long = len(ipa.split()) > len(text.split())  # Chinese has a word a syllable; the others spell
    if tags:
        spelled = long or not (reads_latin and _is_latin(text))
        return Pronunciation(spelled=True) if spelled else Pronunciation(ipa.strip())
    words = [tuple(filter(None, word.split("·"))) for word in mnemonics.split()]
    spelled = long and not text.isascii() and voice.split("-")[0] not in ("cmn", "yue", "hak")
    return Pronunciation(spelled=True) if spelled else Pronunciation(ipa.strip(), tuple(filter(None, words)))


def _tags(ipa: str) -> list[str]:
    """Where the language changes: "(en)", with ties between its letters."""
    return re.findall(r"\([^)]*\)", ipa)


def _is_latin(text: str) -> bool:
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in text if letter.isalpha())


def unread(text: str, language: str) -> bool:
    """Whether espeak-ng leaves out letters of the text without a word: Chinese ones in Japanese and Korean."""
    return language in ("ja", "ko") and any(map(_is_han, text))


def _is_han(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("CJK")


def run_worker(job: dict[str, Any], title: str = "") -> dict[str, np.ndarray]:
    """Run espeak_worker.py on a job; its arrays. With a title, show how far it is.

    A text that kills espeak-ng is searched by halves and left out: it gets no sound and no phonemes.

    Raises:
        MilliwiseError: espeak-ng does not start, or there is no room for what it says.
    """
    espeak = espeak_folder()
    library = next(iter(sorted(espeak.glob("*espeak-ng*.so*")) + sorted(espeak.glob("*espeak-ng*.d*l*"))), espeak)
    job = {**job, "library": str(library), "data": str(espeak / "espeak-ng-data")}
    bar = progress(title, len(job["utterances"])) if title else contextlib.nullcontext(lambda amount: None)
    try:
        with tempfile.TemporaryDirectory(prefix="milliwise-") as folder, bar as advance:
            return _run_parts(Path(folder), job, advance)
    except OSError as error:
        raise MilliwiseError(
            f"cannot run espeak-ng in {tempfile.gettempdir()} ({error.strerror}): free some space there or set TMPDIR"
        ) from None


def _run_parts(folder: Path, job: dict[str, Any], advance: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Do a job whole or, where that kills espeak-ng, in halves; a single text that kills it gives nothing."""
    result = _run_in(folder, job, advance)
    if result is not None:
        return result
    kind = "texts" if len(job["texts"]) > len(job["utterances"]) else "utterances"
    items = job[kind]
    if items in ([], [None]):
        raise MilliwiseError("espeak-ng crashes before it says a word: install the package espeakng-loader again")
    if len(items) == 1:
        return _run_parts(folder, {**job, kind: [None]}, advance)
    middle = len(items) // 2
    halves = [_run_parts(folder, {**job, kind: part}, advance) for part in (items[:middle], items[middle:])]
    return {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}


def _run_in(folder: Path, job: dict[str, Any], advance: Callable[[float], None]) -> dict[str, np.ndarray] | None:
    """The arrays of a job; None where a signal ended the worker."""
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(Path(__file__).with_name("espeak_worker.py")), str(folder / "spoken.npz")]
    with (
        (folder / "job.json").open() as stdin,
        (folder / "errors.txt").open("w") as stderr,
        subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        _follow(process, advance)
    if process.returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL):
        return None
    if process.returncode != 0:
        lines = (folder / "errors.txt").read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        said = f"code {process.returncode}, {lines[-1]}"
        raise MilliwiseError(f"espeak-ng stopped ({said}): install the package espeakng-loader again")
    with np.load(folder / "spoken.npz", allow_pickle=False) as result:
        return dict(result)


def _follow(process: subprocess.Popen[str], advance: Callable[[float], None]) -> None:
    """Hand on how far the worker is until it ends; it ends with us when we are interrupted."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            advance(float(line))
    except KeyboardInterrupt:
        process.kill()
        raise


def _dictionary(voice: str) -> str:
    return {"nb": "no", "hyw": "hy", "ltg": "lv"}.get(name := voice.split("-")[0], name)


def espeak_folder() -> Path:
    """Where the package espeakng_loader keeps the library and its data; the library itself is never loaded here."""
    spec = find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        raise MissingExtra("espeakng-loader", "search")
    return Path(spec.origin).parent
