"""Folders of recordings, made up: words in a folder each, and a tiny Speech Commands set."""

from pathlib import Path

import numpy as np
import soundfile


def record(folder: Path, speakers: int, takes: int = 2, prefix: str = "s", ending: str = "wav") -> None:
    """Recordings SPEAKER_TAKE in a folder, each a tone of its own at half level."""
    folder.mkdir(parents=True)
    for speaker in range(speakers):
        for take in range(takes):
            tone = 0.5 * np.sin(np.arange(8000) * (0.05 + 0.01 * speaker + 0.001 * take))
            soundfile.write(folder / f"{prefix}{speaker}_{take}.{ending}", tone, 16000)


def speech_commands_set(root: Path) -> Path:
    """A tiny Speech Commands: 8 speakers, of whom s6 is on the validation list and s7 on the test list."""
    base = root / "SpeechCommands" / "speech_commands_v0.02"
    words = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "marvin")
    for word in words:
        record(base / word, 8, takes=1)
        for path in (base / word).iterdir():
            path.rename(path.with_name(path.name.replace("_", "_nohash_")))
    for name, speaker in (("validation", "s6"), ("testing", "s7")):
        (base / f"{name}_list.txt").write_text("".join(f"{word}/{speaker}_nohash_0.wav\n" for word in words))
    record(base / "_background_noise_", 1)
    return base
