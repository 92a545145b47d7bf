"""The official Speech Commands set with its official split, through torchaudio's dataset class."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from exporters.metadata import UNKNOWN
from kws_demo.recordings import BACKGROUND, Recording
from kws_demo.torchaudio_compat import import_torchaudio
from toolkit.errors import MilliwiseError, printable

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SUBSETS = {"train": "training", "validation": "validation", "test": "testing"}
VERSIONS = ("speech_commands_v0.02", "speech_commands_v0.01")
CURE = "unpack speech_commands_v0.02.tar.gz there, or use a folder with a folder a word"


def speech_commands(path: Path) -> tuple[list[Recording], list[Path]]:
    """Recordings of the ten usual keywords and, as `_unknown_`, of the other words; and the background recordings.

    `path` is the set itself or the folder it lies in. It is downloaded (2.3 GB) only when `path` does not exist.

    Raises:
        MilliwiseError: there is no Speech Commands in `path`, or it cannot be downloaded.
    """
    root, archive, name = _locate(path)
    found: list[Recording] = []
    dataset = import_torchaudio().datasets.SPEECHCOMMANDS
    try:
        if not path.exists():
            _download(dataset, root, name, archive)
        for part, subset in SUBSETS.items():
            data = dataset(root, name, archive, subset=subset)
            for index in range(len(data)):
                file, _, word, speaker, _ = data.get_metadata(index)
                label = word if word in KEYWORDS else UNKNOWN
                found.append(Recording(root / archive / file, label, speaker, part))
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        why = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise MilliwiseError(f"no Speech Commands in {printable(path)} ({why}): {CURE}") from None
    return found, sorted((root / archive / name / BACKGROUND).glob("*.wav"))


def _download(dataset: Any, root: Path, name: str, archive: str) -> None:
    """Download and unpack the set beside a new folder, then rename it: half a set looks whole."""
    aside = root.with_name(f".{root.name}.{os.getpid()}")
    aside.mkdir(parents=True)  # neither torchaudio nor torch makes it
    try:
        dataset(aside, name, archive, download=True)
        aside.rename(root)
    except BaseException:  # also when interrupted
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _locate(path: Path) -> tuple[Path, str, str]:
    """Root, folder in it and version, as torchaudio wants them."""
    for name in VERSIONS:
        if path.name == name and path.is_dir():
            return path.parent, "", name
        for archive in ("SpeechCommands", ""):
            if (path / archive / name).is_dir():
                return path, archive, name
    if path.exists():
        raise MilliwiseError(f"no Speech Commands in {printable(path)} (no folder {VERSIONS[0]}): {CURE}")
    return path, "SpeechCommands", VERSIONS[0]
