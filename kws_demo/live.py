"""A live source of audio, watched for gaps in time: a machine that slept, a microphone that was away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

GAP_SECONDS = 2.0  # shorter ones may be a machine that is busy, and the audio of them is still to come


def wall_s() -> float:
    """A clock that goes on while the machine sleeps, and is not set by anybody where there is such a one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def awake_s() -> float:
    """A clock that stands still while the machine sleeps, where there is such a one."""
    return time.monotonic()


class Live:
    """Blocks of a live source as they are. What was heard before a gap is stale: `listen` then starts anew.

    Attributes:
        after_gap: whether time that nobody heard lies before the block that was given last.
    """

    def __init__(
        self, blocks: Iterable[np.ndarray], hop_s: float, say: Callable[[str], None], waits: bool = False
    ) -> None:
        """Watch blocks of `hop_s` each; `say` is called with a line at every gap that the source does not tell of.

        Of a source that `waits`, such as a pipe, nothing is lost while no block comes, but when the machine sleeps.
        """
        self._blocks, self._hop_s, self._say, self._waits = blocks, hop_s, say, waits
        self.after_gap = False

    def __iter__(self) -> Iterator[np.ndarray]:
        returns = self._told("returns")
        done_awake_s = 0.0
        done_s: float | None = None  # when the hop before was, by the wall; the first one is waited for without limit
        for block in self._blocks:
            lost_s = 0.0 if done_s is None else wall_s() - done_s - self._hop_s
            if self._waits and done_s is not None:
                lost_s = wall_s() - done_s - (awake_s() - done_awake_s)
            before, returns = returns, self._told("returns")
            self.after_gap = lost_s > GAP_SECONDS or returns > before
            if self.after_gap and returns == before:
                self._say(f"a gap of {lost_s:.0f} s in the audio: what was heard before it is forgotten")
            given_s, awake_before_s = wall_s(), awake_s()
            yield block
            done_awake_s = awake_s()
            done_s = given_s + done_awake_s - awake_before_s  # if the machine slept in between, that is waiting too

    @property
    def overflows(self) -> int:
        """Gaps the source reported."""
        return self._told("overflows")

    @property
    def invalid_samples(self) -> int:
        """Samples the source had to replace."""
        return self._told("invalid_samples")

    def _told(self, what: str) -> int:
        return int(getattr(self._blocks, what, 0))
