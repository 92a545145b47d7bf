"""The clips that a part of the data will have: collected first, then put into one array."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kws_demo.noises import CLIP_SAMPLES
from kws_demo.recordings import Recording, centred, read_clip
from kws_demo.synth import Spoken
from toolkit.progress import progress

MOST_SPARE = 4000  # 256 MB


@dataclass
class Plan:
    """Spoken clips with their labels, after them recordings that are still to be read; `spare` ones take no part."""

    spoken: deque[tuple[Spoken, str]] = field(default_factory=deque)
    recordings: list[Recording] = field(default_factory=list)
    spare: list[Recording] = field(default_factory=list)

    def say(self, clips: Sequence[Spoken], label: str = "") -> None:
        """Add spoken clips; their label is what they say unless it is given."""
        self.spoken += [(clip, label or clip.word) for clip in clips]

    @property
    def labels(self) -> list[str]:
        """Of every clip, in order."""
        return [label for _, label in self.spoken] + [recording.label for recording in self.recordings]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Of every clip, in order."""
        return (*(clip.voice for clip, _ in self.spoken), *(recording.speaker for recording in self.recordings))

    def read(self, silence: np.ndarray, advance: Callable[[float], None]) -> np.ndarray:
        """Silence clips and then all others in one array, float32 [clips, 16000].

        A spoken clip leaves the plan on its way, and no recording is kept beside the array: large sets fit into memory
        once only. `advance` is called with 1 after each recording.

        Raises:
            MilliwiseError: a recording that cannot be read.
        """
        first = len(silence) + len(self.spoken)
        audio = np.empty((first + len(self.recordings), CLIP_SAMPLES), np.float32)
        audio[: len(silence)] = silence
        for row in range(len(silence), first):
            audio[row] = centred(self.spoken.popleft()[0].audio)
        known: dict[Path, int] = {}  # added recordings come several times
        for row, recording in enumerate(self.recordings, first):
            if recording.path in known:
                audio[row] = audio[known[recording.path]]
            else:
                audio[row] = read_clip(recording.path)
                known[recording.path] = row
            advance(1)
        return audio

    def read_spare(self) -> np.ndarray:
        """The spare recordings, evenly where there are more than 4000: float32 [clips, 16000].

        Raises:
            MilliwiseError: a recording that cannot be read.
        """
        none = np.zeros((0, CLIP_SAMPLES), np.float32)
        if not self.spare:
            return none
        chosen = self.spare[:: -(-len(self.spare) // MOST_SPARE)]
        with progress(f"reading {len(chosen)} recordings for the teacher", len(chosen)) as advance:
            return Plan(recordings=chosen).read(none, advance)
