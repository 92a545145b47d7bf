"""The listening loop: blocks of audio through a listener and a decider, in flat memory, and what it cost."""

from __future__ import annotations

import io
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from exporters.listener import Listener, Scores
from kws_demo.audio import is_clipped
from kws_demo.decide import Decider, Detection, Result, detection
from kws_demo.dial import Dial, Ran, start_anew, turn
from toolkit.errors import MilliwiseError
from toolkit.files import write_bytes

SAVED_SECONDS = 2


class Hop(NamedTuple):
    """What is known after one hop, for a meter or a log."""

    block: np.ndarray  # float32 [hop_samples]
    scores: Scores
    result: Result
    late: int  # so far
    overflows: int  # so far
    ran: Ran | None = None  # what an adaptive listener did, if a dial was given


@dataclass(frozen=True)
class Summary:
    """What listening cost; processing is scoring and deciding, without waiting for audio and drawing."""

    hops: int
    late: int  # hops that took longer, all told, than the audio in them
    overflows: int  # gaps the source reported
    ms_per_second: float  # of processing, per second of audio
    p99_ms: float  # of the processing of a hop, within 1 %
    seconds: float  # of audio
    interrupted: bool = False  # by Ctrl-C
    modes: dict[str, int] | None = None  # hops in each mode of an adaptive listener
    invalid_samples: int = 0  # that the source replaced: they were no numbers
    clipped: int = 0  # hops that were too loud for the microphone, or for its gain
    network_ms: float = 0.0  # a hop, of the network alone, which is what a mode was measured as


class Histogram:
    """Percentiles of any number of durations in bounded memory: bins of 1 % from a microsecond to 100 seconds."""

    LOWEST_MS, RATIO, BINS = 1e-3, 1.01, 1856

    def __init__(self) -> None:
        self.counts = np.zeros(self.BINS, np.int64)

    def add(self, duration_ms: float) -> None:
        """Count one duration."""
        place = math.log(max(duration_ms, self.LOWEST_MS) / self.LOWEST_MS, self.RATIO)
        self.counts[min(int(place), self.BINS - 1)] += 1

    def percentile_ms(self, share: float) -> float:
        """The smallest duration that at least `share` (0-1) of them do not exceed, within 1 %; 0 of none."""
        total = int(self.counts.sum())
        if total == 0:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(share * total)))
        return float(self.LOWEST_MS * self.RATIO ** (place + 0.5))


class Tally:
    """Adds up what the hops cost."""

    def __init__(self, hop_ms: float) -> None:
        self.hop_ms = hop_ms
        self.modes: Counter[int] = Counter()
        self.hops = self.late = self.clipped = 0
        self.total_ms = self.network_ms = 0.0
        self.histogram = Histogram()

    def add(self, processing_ms: float, is_late: bool, mode: int | None = None, network_ms: float = 0.0) -> None:
        """Count one hop of audio, its processing (of that the network's) and the mode that ran."""
        self.network_ms += network_ms
        if mode is not None:
            self.modes[mode] += 1
        self.hops += 1
        self.late += is_late
        self.total_ms += processing_ms
        self.histogram.add(processing_ms)

    def summary(self, overflows: int, interrupted: bool) -> Summary:
        """All of it."""
        seconds = self.hops * self.hop_ms / 1000
        per_second = self.total_ms / seconds if seconds else 0.0
        p99_ms = self.histogram.percentile_ms(0.99)
        network_ms = self.network_ms / self.hops if self.hops else 0.0
        cost = (per_second, p99_ms, seconds)
        return Summary(self.hops, self.late, overflows, *cost, interrupted, clipped=self.clipped, network_ms=network_ms)


class Keeper:
    """Keeps what led to each detection as a WAV file; a disk that is full is said to, and listening goes on."""

    def __init__(self, folder: Path, rate_hz: int, hop: int, say: Callable[[str], None] = lambda line: None) -> None:
        """Into `folder`, for blocks of `hop` samples; `say` is called with a line at the first failure of several."""
        self.folder, self.rate_hz, self.say = Path(folder), rate_hz, say
        self._recent: deque[np.ndarray] = deque(maxlen=math.ceil(SAVED_SECONDS * rate_hz / hop))
        self._failing = False

    def hear(self, block: np.ndarray) -> None:
        """Remember a block for a while."""
        self._recent.append(block)

    def forget(self) -> None:
        """Nothing was heard just now: there was a gap in time."""
        self._recent.clear()

    def keep(self, found: Detection) -> None:
        """Save the last 2 s, or what there is since the last gap."""
        try:
            save(self.folder, found, np.concatenate(self._recent), self.rate_hz)
            self._failing = False
        except MilliwiseError as error:
            if not self._failing:
                self.say(f"not saved, listening goes on: {error}")
            self._failing = True


def listen(
    listener: Listener,
    blocks: Iterable[np.ndarray],
    decider: Decider,
    on_detection: Callable[[Detection], None],
    on_hop: Callable[[Hop], None] | None = None,
    keeper: Keeper | None = None,
    dial: Dial | None = None,
) -> Summary:
    """Listen to blocks float32 [hop_samples] until they end, or until Ctrl-C.

    Where blocks have a gap in time before them (see `Live`), all is forgotten that was heard until then.

    A result belongs to the window that ends with the audio consumed so far, so a word at the very beginning has a
    negative `start_s`. After the last block a window of silence follows, so that the last word is decided too; it
    counts as no audio.

    Raises:
        MilliwiseError: the source or the listener fails.
    """
    _start(listener, decider, dial)
    tally = Tally(1000 * listener.hop_samples / listener.rate)
    interrupted = False
    try:
        for count, (block, is_audio) in enumerate(_with_silence(blocks, listener), 1):
            begun = time.perf_counter()
            if is_audio and _told(blocks, "after_gap"):
                _start(listener, decider, dial)
                if keeper is not None:
                    keeper.forget()
            start_ms = count * tally.hop_ms - listener.metadata.window_ms
            scores = listener.push(block)
            result = decider.update(start_ms, scores.probabilities)
            ran = turn(listener, dial, scores)
            processing_ms = _since_ms(begun)
            if keeper is not None:
                keeper.hear(block)
            if found := detection(start_ms, result):
                on_detection(found)
                if keeper is not None:
                    keeper.keep(found)
            if is_audio and on_hop is not None:
                on_hop(Hop(block, scores, result, tally.late, _told(blocks, "overflows"), ran))
            if is_audio:
                tally.clipped += is_clipped(block)
                tally.add(processing_ms, _since_ms(begun) > tally.hop_ms, scores.mode, scores.elapsed_ms)
    except KeyboardInterrupt:
        interrupted = True
    summary = tally.summary(_told(blocks, "overflows"), interrupted)
    return replace(summary, modes=_named(listener, tally.modes), invalid_samples=_told(blocks, "invalid_samples"))


def save(folder: Path, found: Detection, audio: np.ndarray, rate_hz: int) -> Path:
    """Write what led to a detection as 16-bit WAV, named by the time, the keyword and the score; returns its path.

    Raises:
        MilliwiseError: the folder cannot be written, or the disk is full.
    """
    word = "".join(c if c.isalnum() or c in "-_" else "_" for c in found.keyword)[:40]
    path = Path(folder) / f"{datetime.now():%Y%m%d-%H%M%S.%f}_{found.start_s:.3f}s_{word}_{found.score:.2f}.wav"
    content = io.BytesIO()
    soundfile.write(content, audio, rate_hz, format="WAV", subtype="PCM_16")
    write_bytes(path, content.getvalue())
    return path


def _with_silence(blocks: Iterable[np.ndarray], listener: Listener) -> Iterator[tuple[np.ndarray, bool]]:
    for block in blocks:
        yield block, True
    silence = np.zeros(listener.hop_samples, np.float32)
    for _ in range(math.ceil(listener.metadata.window_ms / 1000 * listener.rate / listener.hop_samples)):
        yield silence, False


def _start(listener: Listener, decider: Decider, dial: Dial | None) -> None:
    """Nothing has been heard yet."""
    decider.reset()
    start_anew(listener, dial)


def _named(listener: Listener, modes: Counter[int]) -> dict[str, int] | None:
    """The hops of every mode the listener declares, and, by number, of those it does not; None if it has no modes."""
    names = [str(mode["name"]) for mode in listener.metadata.modes]
    counted = dict.fromkeys(names, 0)
    for place, hops in sorted(modes.items()):
        name = names[place] if 0 <= place < len(names) else str(place)
        counted[name] = counted.get(name, 0) + hops
    return counted or None


def _since_ms(begun: float) -> float:
    return 1000 * (time.perf_counter() - begun)


def _told(blocks: Iterable[np.ndarray], what: str) -> int:
    """A whole number that a source knows of itself, if it does."""
    return int(getattr(blocks, what, 0))
