"""Detectors that hear sound hop by hop, as a gate in front of a listener would: at the cost of one, and no more."""

from __future__ import annotations

import importlib
import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np

from exporters.metadata import RATE_HZ
from toolkit.errors import MissingExtra

FLOOR_SECONDS, FLOOR_SHARE = 10, 0.1  # the noise floor is this quantile of the hops of so long
QUIETEST_DB = -80.0  # below it all is as quiet: digital silence would make any noise a sound
VOICE_BYTES = 2 * 3 * RATE_HZ // 100  # of 16-bit samples of 30 ms, the longest frame of webrtcvad
FULL_SCALE = 32767


class EnergyDetector:
    """How far the energy of a hop is above the noise floor of the last ten seconds."""

    def __init__(self, above_db: float, hop_samples: int) -> None:
        """Of hops of so many samples, which are heard when they are more than `above_db` above the floor."""
        self.above_db, self._count = above_db, max(1, round(FLOOR_SECONDS * RATE_HZ / hop_samples))
        self._levels: deque[float] = deque()  # by age
        self._sorted: list[float] = []
        self._between, place = math.modf(FLOOR_SHARE * (self._count - 1))
        self._place = int(place)

    def push(self, hop: np.ndarray) -> bool:
        """Whether a hop, float32 [hop_samples] within -1..1, is heard; those before the first were as loud as it."""
        power = float(np.dot(hop, hop)) / len(hop)
        level_db = 10 * math.log10(power) if power > 10 ** (QUIETEST_DB / 10) else QUIETEST_DB
        if not self._levels:
            self._sorted = [level_db] * self._count
            self._levels.extend(self._sorted)
        else:
            del self._sorted[bisect_left(self._sorted, self._levels.popleft())]
            insort(self._sorted, level_db)
            self._levels.append(level_db)
        low, high = self._sorted[self._place], self._sorted[min(self._place + 1, self._count - 1)]
        return level_db - (low + self._between * (high - low)) > self.above_db


class VoiceDetector:
    """WebRTC's voice detector (webrtcvad), by the share of a hop's frames of 30 ms that are voiced."""

    def __init__(self, share: float, aggressiveness: int) -> None:
        """A hop is heard when more than `share` of the frames that end in it are voiced.

        Raises:
            MissingExtra: webrtcvad is not installed.
        """
        try:
            self._detector = importlib.import_module("webrtcvad").Vad(aggressiveness)
        except ImportError:
            raise MissingExtra("webrtcvad-wheels", "dev") from None
        self.share, self._rest = share, b""

    def push(self, hop: bytes) -> bool:
        """Whether a hop of 16-bit little-endian samples, as a microphone gives them, is heard.

        Frames go on over the ends of hops. A hop in which none ends is not heard.
        """
        heard = self._rest + hop
        starts = range(0, len(heard) - VOICE_BYTES + 1, VOICE_BYTES)
        voiced = sum(self._detector.is_speech(heard[start : start + VOICE_BYTES], RATE_HZ) for start in starts)
        self._rest = heard[VOICE_BYTES * len(starts) :]
        return voiced > self.share * len(starts)


def as_pcm(audio: np.ndarray) -> bytes:
    """Samples within -1..1 as 16-bit little-endian ones."""
    return (audio * FULL_SCALE).astype("<i2").tobytes()
