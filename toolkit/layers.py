"""The building blocks of streaming networks: causal, so that hop by hop with caches equals the whole clip at once."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn


class CausalConv(nn.Module):
    """Convolution, BatchNorm and (optionally) ReLU over [batch, channels, frequency, time]: one unit a runtime fuses.

    Time is causal: with kernel k and stride s, column j sees the input columns js − (k − s) … js + s − 1. Columns
    before the start are zeros, so a stream that starts from a cache of k − s zero columns computes the same values.

    Args:
        channels_in, channels_out: channels.
        kernel, stride: (frequency, time); the time kernel is at least the time stride.
        groups: as in `torch.nn.Conv2d`.
        padding: zeros on either side of the frequency axis; half the kernel by default.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
        padding: int | None = None,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.cached_columns = kernel[1] - stride[1]
        if self.cached_columns < 0:
            raise ValueError(f"time kernel {kernel[1]} is shorter than time stride {stride[1]}")
        frequency_padding = kernel[0] // 2 if padding is None else padding
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, (frequency_padding, 0), groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out)
        self.relu = relu

    def extra_repr(self) -> str:
        """Part of what tells two layers apart when the same work is measured once."""
        return f"relu={self.relu}"

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, channels_in, frequency, time] to [batch, channels_out, frequency', time / stride]."""
        if self.cached_columns:
            inputs = functional.pad(inputs, (self.cached_columns, 0))
        outputs: Tensor = self.norm(self.conv(inputs))
        return functional.relu(outputs) if self.relu else outputs


class Separable(nn.Sequential):
    """Depthwise then pointwise convolution, each with BatchNorm and ReLU (MobileNet, DS-CNN)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__(
            CausalConv(channels_in, channels_in, kernel, stride, groups=channels_in),
            CausalConv(channels_in, channels_out),
        )


class Expanded(nn.Sequential):
    """Pointwise widening, depthwise convolution, pointwise narrowing (the inverted bottleneck of MobileNetV2)."""

    def __init__(self, channels: int, widened: int, kernel: tuple[int, int]) -> None:
        super().__init__(
            CausalConv(channels, widened),
            CausalConv(widened, widened, kernel, groups=widened),
            CausalConv(widened, channels),
        )


class RecentColumns(nn.Module):
    """The columns of a window that ends with each hop: of a stream, the last `window_columns` at every hop.

    Of a clip of many hops the windows overlap in one tensor, and an operation that spans a window moves on by
    `hop_columns`. Columns before the start are zeros.
    """

    def __init__(self, window_columns: int, hop_columns: int) -> None:
        super().__init__()
        if not 1 <= hop_columns <= window_columns:
            raise ValueError(f"a hop of {hop_columns} columns does not fit a window of {window_columns}")
        self.window_columns = window_columns
        self.hop_columns = hop_columns

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., time] to [..., window_columns − hop_columns + time]."""
        return functional.pad(inputs, (self.window_columns - self.hop_columns, 0))


class WindowMean(nn.Module):
    """The mean of the last `window_columns` columns at every hop.

    The columns of the window are added anew at every hop (never a running sum, whose rounding errors would grow), and
    columns before the start are zeros.
    """

    def __init__(self, window_columns: int, hop_columns: int) -> None:
        super().__init__()
        self.window_columns = window_columns
        self.hop_columns = hop_columns

    def extra_repr(self) -> str:
        """What tells two of them apart."""
        return f"{self.window_columns}, {self.hop_columns}"

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, channels, 1, time] to [batch, channels, 1, hops]; time is a multiple of the hop."""
        spare = self.window_columns - self.hop_columns  # negative: the first columns of a hop are not in its window
        columns = functional.pad(inputs.squeeze(2), (spare, 0))
        return functional.avg_pool1d(columns, self.window_columns, self.hop_columns).unsqueeze(2)


class WindowHead(nn.Module):
    """Scores at every hop: the mean of the last `window_columns` columns (see `WindowMean`), through a linear layer."""

    def __init__(self, channels: int, labels: int, window_columns: int, hop_columns: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.window_columns = window_columns
        self.hop_columns = hop_columns
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, labels)

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, channels, 1, time] to logits [batch, hops, labels]; time is a multiple of the hop."""
        means = WindowMean(self.window_columns, self.hop_columns)(inputs).squeeze(2)
        logits: Tensor = self.linear(self.dropout(means.transpose(1, 2)))
        return logits
