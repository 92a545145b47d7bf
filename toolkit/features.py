"""The log-mel front-end, from one specification shared by training and export."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from toolkit.errors import MilliwiseError


@dataclass(frozen=True)
class FrontEndSpec:
    """Log-mel features: periodic Hann window, power spectrum, HTK mels, log(mel + floor), no centring."""

    rate_hz: int = 16_000
    window_samples: int = 480
    hop_samples: int = 160
    mels: int = 40
    low_hz: float = 20.0
    high_hz: float = 7_600.0
    floor: float = 1e-3

    @property
    def history_samples(self) -> int:
        """Samples before the first new one that the first new frame needs."""
        return self.window_samples - self.hop_samples

    @property
    def bins(self) -> int:
        """Bins of the power spectrum."""
        return self.window_samples // 2 + 1

    def mel_edges_hz(self) -> list[float]:
        """The `mels` + 2 corner frequencies of the triangles, equally far apart on the HTK mel scale."""
        low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (self.low_hz, self.high_hz))
        steps = self.mels + 1
        return [700.0 * (10.0 ** ((low + (high - low) * i / steps) / 2595.0) - 1.0) for i in range(steps + 1)]

    def describe(self) -> dict[str, object]:
        """The specification as it is stored in an exported listener."""
        return {"kind": "log-mel", "window": "hann-periodic", "mel_scale": "htk", "spectrum": "power", **asdict(self)}

    def sha256(self) -> str:
        """Hash of the description."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


class LogMel(nn.Module):
    """Audio [batch, samples] in −1…1 to log-mel features above the floor [batch, 1, mels, samples / hop_samples].

    The log of the floor is subtracted, so that digital silence is exactly zero: the zeros that causal layers see before
    the start of a stream mean "it was silent". The signal, too, is preceded by zeros.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: FrontEndSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or FrontEndSpec()
        window = torch.hann_window(self.spec.window_samples, periodic=True)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(self.spec).float(), persistent=False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """log(mel + floor): [batch, samples] to [batch, frames, mels]."""
        padded = nn.functional.pad(audio, (self.spec.history_samples, 0))
        frames = padded.unfold(-1, self.spec.window_samples, self.spec.hop_samples) * self.window
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power @ self.filters + self.spec.floor)

    def forward(self, audio: Tensor) -> Tensor:
        """See the class."""
        return (self.log_mel(audio) - math.log(self.spec.floor)).transpose(1, 2).unsqueeze(1)


def log_mel_of(stem: nn.Module) -> LogMel | None:
    """The front-end in a stem; None in that of a network which hears no audio."""
    return next((part for part in stem.modules() if isinstance(part, LogMel)), None)


def front_end_of(stem: nn.Module, space: str) -> FrontEndSpec:
    """What a network of that search space hears.

    Raises:
        MilliwiseError: it does not hear audio.
    """
    found = log_mel_of(stem)
    if found is None:
        raise MilliwiseError(
            f"{space} does not hear audio, nor take images [1, 3, n, n]: search and export are for these; a listener "
            "has toolkit.features.LogMel in its stem (exporters.onnx.to_onnx writes any network)"
        )
    return found.spec


def mel_filters(spec: FrontEndSpec) -> Tensor:
    """Triangular filters of height one, float64 [bins, mels]; the same as torchaudio's with `norm=None`."""
    edges = torch.tensor(spec.mel_edges_hz(), dtype=torch.float64)
    hz = torch.arange(spec.bins, dtype=torch.float64)[:, None] * (spec.rate_hz / spec.window_samples)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (hz - left) / (centre - left)
    falling = (right - hz) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)
