"""Policies that choose the mode of every hop of a stream: ours, and the gates it has to beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kws_demo.detectors import EnergyDetector, VoiceDetector, as_pcm
from kws_demo.voices import SILENCE_LABEL, UNKNOWN_LABEL
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError

SCORED_AT_ONCE = 4096  # hops
Policy = Callable[["Heard"], np.ndarray]
"""From a stream to the index of the mode of every hop, int64 [hops]."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A stream, and what every mode would make of it.

    Attributes:
        audio: float32 [samples] at 16 kHz, a multiple of the hop or more.
        sinks: [hops, modes, channels], as `AdaptiveNetwork.sink_values` gives them; any floating type.
        scores: float32 [hops, modes, labels], probabilities; the labels are silence, unknown, keywords.
        labels: int64 [hops], for the oracle.

    Raises:
        MilliwiseError: the hops of these do not agree.
    """

    audio: np.ndarray
    hop_samples: int
    sinks: Tensor
    scores: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = {len(self.audio) // self.hop_samples, len(self.sinks), len(self.scores)}
        if len(counts | ({self.hops} if self.labels is None else {len(self.labels)})) > 1:
            raise MilliwiseError(f"audio, sinks, scores and labels of {sorted(counts)} hops: give those of one stream")

    @staticmethod
    def by(
        adaptive: AdaptiveNetwork, audio: np.ndarray, hop_samples: int, sinks: Tensor, labels: np.ndarray | None = None
    ) -> Heard:
        """With the scores that the network's classifier makes of the sinks."""
        with torch.no_grad():
            parts = [adaptive.classify(part.float()).softmax(-1) for part in sinks.split(SCORED_AT_ONCE)]
        return Heard(audio, hop_samples, sinks, torch.cat(parts).cpu().numpy(), labels)

    @property
    def hops(self) -> int:
        """How long it is."""
        return len(self.scores)

    @property
    def modes(self) -> int:
        """How many there are to choose from."""
        return self.scores.shape[1]

    @property
    def sound(self) -> np.ndarray:
        """The audio, float32 [hops, hop_samples], within -1..1 and with zeros for NaN."""
        sound = np.clip(np.nan_to_num(self.audio[: self.hops * self.hop_samples]), -1, 1)
        return sound.reshape(self.hops, self.hop_samples)

    def scores_of(self, modes: np.ndarray) -> np.ndarray:
        """The scores [hops, labels] of the modes [hops] that ran: none remembers what ran before."""
        return self.scores[np.arange(self.hops), modes]


@dataclass(frozen=True)
class Static:
    """Always the same mode."""

    mode: int

    tried: ClassVar[Sequence[float]] = ()  # those there are

    def __call__(self, heard: Heard) -> np.ndarray:
        """See `Policy`."""
        return np.full(heard.hops, range(heard.modes)[self.mode])


@dataclass(frozen=True, kw_only=True)
class Gate(ABC):
    """Runs one mode or another; what a kind of gate is swept over is its first field, `tried` by default.

    Attributes:
        shut, open: the two modes, counted from the end below 0; all gates of a network are open in its last mode.
        hangover: hops for which it stays open.
    """

    shut: int = 0
    open: int = -1
    hangover: int = 0

    tried: ClassVar[Sequence[float]]

    @abstractmethod
    def opens(self, heard: Heard) -> np.ndarray:
        """At which hops there is a reason to open, bool [hops]."""

    def __call__(self, heard: Heard) -> np.ndarray:
        """See `Policy`."""
        places = range(heard.modes)
        return np.where(held(self.opens(heard), self.hangover), places[self.open], places[self.shut])


@dataclass(frozen=True)
class Energy(Gate):
    """Opens when the energy of a hop is so far above the noise floor of the last ten seconds."""

    above_db: float
    hangover: int = field(default=4, kw_only=True)

    tried: ClassVar[Sequence[float]] = (2, 3, 4, 5, 6, 7.5, 9, 12, 15)

    def opens(self, heard: Heard) -> np.ndarray:
        """See `Gate`."""
        detector = self.detector(heard.hop_samples)
        return np.fromiter(map(detector.push, heard.sound), bool, heard.hops)

    def detector(self, hop_samples: int) -> EnergyDetector:
        """What it is on a device."""
        return EnergyDetector(self.above_db, hop_samples)


@dataclass(frozen=True)
class Voiced(Gate):
    """Opens when more than a share of a hop's frames of 30 ms are voiced, as WebRTC's detector says (webrtcvad).

    Attributes:
        aggressiveness: of the detector against all that is not speech, 0 to 3.

    Raises:
        MilliwiseError: there is no such aggressiveness, or webrtcvad is not installed (when it opens).
    """

    share: float
    aggressiveness: int = field(default=3, kw_only=True)
    hangover: int = field(default=4, kw_only=True)

    tried: ClassVar[Sequence[float]] = (0, 0.2, 0.4, 0.6, 0.8, 0.99)

    def __post_init__(self) -> None:
        if self.aggressiveness not in range(4):
            raise MilliwiseError(f"an aggressiveness of {self.aggressiveness} for webrtcvad: give 0, 1, 2 or 3")

    def opens(self, heard: Heard) -> np.ndarray:
        """See `Gate`."""
        detector = self.detector()
        return np.fromiter((detector.push(as_pcm(hop)) for hop in heard.sound), bool, heard.hops)

    def detector(self) -> VoiceDetector:
        """What it is on a device."""
        return VoiceDetector(self.share, self.aggressiveness)


@dataclass(frozen=True)
class Cascade(Gate):
    """Opens when the scores of mode `shut` are neither below `low` (it was quiet) nor above `high` (it was a keyword).

    That mode runs at every hop: where it is no part of the other, its cost comes on top of the other's.

    Attributes:
        summed: all that is neither silence nor unknown, instead of the best keyword.
    """

    low: float
    high: float = field(default=1.0, kw_only=True)
    summed: bool = field(default=False, kw_only=True)

    tried: ClassVar[Sequence[float]] = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)

    def opens(self, heard: Heard) -> np.ndarray:
        """See `Gate`."""
        scores = heard.scores[:, range(heard.modes)[self.shut]]
        keywords = scores[:, UNKNOWN_LABEL + 1 :]
        sure = 1 - scores[:, [SILENCE_LABEL, UNKNOWN_LABEL]].sum(1) if self.summed else keywords.max(1)
        return np.asarray((sure > self.low) & (sure <= self.high))


@dataclass(frozen=True)
class Random:
    """What another policy does, at other times: every mode follows the same mode, as often and for as many hops.

    How long a mode stays is drawn, without putting back, from how long it stays there. So it costs the same.
    """

    policy: Policy
    seed: int = field(default=0, kw_only=True)

    def __call__(self, heard: Heard) -> np.ndarray:
        """See `Policy`."""
        modes, rng = self.policy(heard), np.random.default_rng([self.seed, 31])
        starts = np.flatnonzero(np.diff(modes, prepend=-1))
        kinds, hops = modes[starts], np.diff(starts, append=len(modes))
        for kind in np.unique(kinds):
            hops[kinds == kind] = rng.permutation(hops[kinds == kind])
        return np.repeat(kinds, hops)


@dataclass(frozen=True)
class Oracle(Gate):
    """Opens when a hop that is at most `within` hops away, before or after, is labelled with a word.

    Attributes:
        unknown: whether unknown words open it, too.

    Raises:
        MilliwiseError: the stream has no labels (when it opens).
    """

    within: int
    unknown: bool = field(default=True, kw_only=True)

    tried: ClassVar[Sequence[int]] = (0, 1, 2, 4)

    def opens(self, heard: Heard) -> np.ndarray:
        """See `Gate`."""
        if heard.labels is None:
            raise MilliwiseError("the oracle needs the labels of the stream's hops")
        said = heard.labels > (SILENCE_LABEL if self.unknown else UNKNOWN_LABEL)
        return held(held(said, int(self.within))[::-1], int(self.within))[::-1]


@dataclass(frozen=True)
class Learned:
    """The network's own controller, doing what it finds more likely; its log-odds have to exceed the dial."""

    dial: float
    adaptive: AdaptiveNetwork

    tried: ClassVar[Sequence[float]] = (-6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 6)

    def __call__(self, heard: Heard) -> np.ndarray:
        """See `Policy`."""
        return np.asarray(dialled(self.adaptive, heard, (self.dial,))[0])


GATES: dict[str, Callable[..., Policy]] = {
    "static": Static,
    "energy": Energy,
    "vad": Voiced,
    "cascade": Cascade,
    "random": Random,
    "oracle": Oracle,
    "learned": Learned,
}


def dialled(adaptive: AdaptiveNetwork, heard: Heard, dials: Sequence[float]) -> np.ndarray:
    """What `Learned` chooses at every one of the dials, int64 [dials, hops], in about the time of one."""
    sinks = heard.sinks.float().expand(len(dials), *heard.sinks.shape)
    dial = torch.tensor(dials, dtype=torch.float32, device=sinks.device)[:, None].expand(-1, len(adaptive.gated))
    with torch.no_grad():
        return np.asarray(adaptive.roll(sinks, dial=dial).modes.cpu().numpy())


def held(opened: np.ndarray, hops: int) -> np.ndarray:
    """Open, and for so many hops after it: bool [hops]."""
    places = np.arange(len(opened))
    last = np.maximum.accumulate(np.where(opened, places, -hops - 1)) if len(opened) else places
    return np.asarray(places - last <= hops)
