"""A person's own recordings of the keywords, which train a listener beside the data it is made of and test nothing."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from exporters.metadata import UNKNOWN
from kws_demo.recordings import Recording, by_label, word_recordings
from toolkit.errors import MilliwiseError, printable

OWN = "added/"  # begins the speaker of recordings that a person added
SHARE, MOST_COPIES = 0.1, 20


def own_takes(folder: Path, words: Sequence[str]) -> list[Recording]:
    """What a folder has to train on, labelled as the words are spelled; recordings that it holds out are left out.

    Raises:
        MilliwiseError: no such folder, a word without recordings, or one that is no keyword.
    """
    spelled = {_folded(word): word for word in (*words, UNKNOWN)}
    found = [take for take in word_recordings(folder) if take.part in ("", "train")]
    for label in dict.fromkeys(take.label for take in found):
        if _folded(label) not in spelled:
            raise MilliwiseError(
                f"{printable(folder)} has a folder '{printable(label)}' that is no keyword ({', '.join(words)}): give"
                f" it the name of one, or call it {UNKNOWN} if it is another word"
            )
    return [replace(take, label=spelled[_folded(take.label)], part="train") for take in found]


def require_unheld(takes: Sequence[Recording], recordings: Sequence[Recording], folder: Path) -> None:
    """Refuse takes that the data has, too, or whose speaker it holds out by name: they would be trained and tested.

    Raises:
        MilliwiseError: names the file or the speaker.
    """
    known = {recording.path.resolve() for recording in recordings}
    if twice := [take.path for take in takes if take.path.resolve() in known]:
        raise MilliwiseError(f"{printable(twice[0])} is in the data already: leave --add {printable(folder)} out")
    held = {recording.speaker for recording in recordings if recording.part in ("validation", "test")}
    if both := sorted(held & speakers(takes)):
        raise MilliwiseError(
            f"'{printable(both[0])}' of {printable(folder)} would be trained, and is held out for the test by the data:"
            " rename one of the two if they are not the same person, or leave those recordings out"
        )


def speakers(takes: Sequence[Recording]) -> set[str]:
    """Who speaks in them, as far as their files are named by speakers."""
    return {take.speaker for take in takes if "/" not in take.speaker}


def repeated(takes: Sequence[Recording], usual: Mapping[str, int], otherwise: float) -> list[Recording]:
    """The takes, those of a word as often as makes them a tenth of its clips (at most 20 times).

    Args:
        usual: how many clips a word is trained with without them, where that is known; else `otherwise`.
    """
    found: list[Recording] = []
    for label, group in by_label(takes).items():
        copies = min(MOST_COPIES, max(1, round(SHARE * (usual.get(label) or otherwise) / len(group))))
        own = [replace(take, speaker=f"{OWN}{take.speaker}") for take in group]
        found += own if label == UNKNOWN else own * copies
    return found


def trained(recordings: Sequence[Recording]) -> Counter[str]:
    """How many recordings of each label are for training."""
    return Counter(recording.label for recording in recordings if recording.part == "train")


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold()
