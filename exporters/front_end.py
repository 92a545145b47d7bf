"""The log-mel front-end as ONNX nodes whose matrices are generated in the graph instead of stored.

The windowed DFT matrix would take 1 MB as an initialiser; generated from index vectors it takes some bytes, and
onnxruntime folds it to a constant when it loads the model. Angles are exact: the product of indices is reduced modulo
the window before it becomes a float64 angle. The Hann window is symmetric about its middle, so the cosine transform
needs only x[n] + x[N−n] and the sine transform x[n] − x[N−n]: half the multiplications and half the memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.features import FrontEndSpec


class Writer(Protocol):
    """What is needed of a graph writer."""

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node."""

    def constant(self, value: NDArray[Any] | Sequence[int] | float, dtype: type) -> str:
        """Append a constant."""


def write_log_mel(writer: Writer, spec: FrontEndSpec, audio: str, frames: int) -> str:
    """Nodes from `audio` [1, history + frames · hop] to log-mel features above the floor [1, 1, mels, frames].

    The window is a whole number of hops, and even.
    """
    half = spec.window_samples // 2
    low, high = _bins_with_weight(spec)
    rows = _frames(writer, spec, audio, frames)
    first = _slice(writer, rows, 1, half + 1, 1)  # x[1] … x[N/2]; x[0] has window weight zero
    mirrored = _slice(writer, rows, spec.window_samples - 1, half - 1, -1)  # x[N−1] … x[N/2]
    angle, window = _angles(writer, spec, low, high)
    cosine = _matrix(writer, writer.node("Add", [angle, writer.constant(math.pi / 2, np.float64)]), window)
    sine = _matrix(writer, angle, window)
    real = writer.node("MatMul", [writer.node("Add", [first, mirrored]), cosine])
    imaginary = writer.node("MatMul", [writer.node("Sub", [first, mirrored]), sine])
    power = writer.node("Add", [writer.node("Mul", [real, real]), writer.node("Mul", [imaginary, imaginary])])
    mel = writer.node("MatMul", [power, _filters(writer, spec, low, high)])
    log = writer.node("Log", [writer.node("Add", [mel, writer.constant(spec.floor, np.float32)])], "log_mel")
    above_floor = writer.node("Sub", [log, writer.constant(math.log(spec.floor), np.float32)])
    turned = writer.node("Transpose", [above_floor], perm=[1, 0])
    return writer.node("Reshape", [turned, writer.constant([1, 1, spec.mels, frames], np.int64)])


def log_mel_counts(spec: FrontEndSpec, frames: int) -> tuple[int, int]:
    """Multiply-adds of a hop of so many frames, and values in the matrices: of what `write_log_mel` writes."""
    half = spec.window_samples // 2
    low, high = _bins_with_weight(spec)
    bins = high - low
    per_frame = 2 * half * bins + 2 * bins + bins * spec.mels
    return frames * per_frame, 2 * half * bins + bins * spec.mels


def _bins_with_weight(spec: FrontEndSpec) -> tuple[int, int]:
    """The range of spectrum bins on which some mel filter is not zero."""
    bin_hz = spec.rate_hz / spec.window_samples
    return math.floor(spec.low_hz / bin_hz) + 1, math.ceil(spec.high_hz / bin_hz)


def _frames(writer: Writer, spec: FrontEndSpec, audio: str, frames: int) -> str:
    """Overlapping frames [frames, window] as neighbouring hops laid side by side."""
    parts = spec.window_samples // spec.hop_samples
    hops = writer.node("Reshape", [audio, writer.constant([frames + parts - 1, spec.hop_samples], np.int64)])
    shifted = [_slice(writer, hops, part, part + frames, 1, axis=0) for part in range(parts)]
    return writer.node("Concat", shifted, axis=1)


def _slice(writer: Writer, value: str, start: int, end: int, step: int, axis: int = 1) -> str:
    return writer.node("Slice", [value, *(writer.constant([number], np.int64) for number in (start, end, axis, step))])


def _range(writer: Writer, start: int, end: int, shape: list[int]) -> str:
    numbers = writer.node("Range", [writer.constant(number, np.int64) for number in (start, end, 1)])
    return writer.node("Reshape", [numbers, writer.constant(shape, np.int64)])


def _angles(writer: Writer, spec: FrontEndSpec, low: int, high: int) -> tuple[str, str]:
    """2π·n·k / N as float64 [N/2, bins], and the Hann window of the rows n = 1 … N/2 as float64 [N/2, 1]."""
    size, half = spec.window_samples, spec.window_samples // 2
    time, frequency = _range(writer, 1, half + 1, [half, 1]), _range(writer, low, high, [1, high - low])
    turn = writer.constant(2 * math.pi / size, np.float64)
    product = writer.node("Mod", [writer.node("Mul", [time, frequency]), writer.constant(size, np.int64)])
    angle = writer.node("Mul", [writer.node("Cast", [product], to=11), turn])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, half + 1) / size)
    hann[-1] /= 2  # the middle sample is its own mirror image: first + mirrored counts it twice
    return angle, writer.constant(hann[:, None], np.float64)


def _matrix(writer: Writer, angle: str, window: str) -> str:
    # Sine of a shifted angle serves as cosine: onnxruntime has a float64 kernel for Sin, not for Cos.
    return writer.node("Cast", [writer.node("Mul", [writer.node("Sin", [angle]), window])], to=1)


def _filters(writer: Writer, spec: FrontEndSpec, low: int, high: int) -> str:
    """The triangular mel filters, float32 [bins, mels]."""
    edges = np.asarray(spec.mel_edges_hz())
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = writer.node("Cast", [_range(writer, low, high, [high - low, 1])], to=11)
    hz = writer.node("Mul", [bins, writer.constant(spec.rate_hz / spec.window_samples, np.float64)])
    slopes = [
        writer.node("Div", [writer.node("Sub", pair), writer.constant(width, np.float64)])
        for pair, width in (
            ([hz, writer.constant(left, np.float64)], centre - left),
            ([writer.constant(right, np.float64), hz], right - centre),
        )
    ]
    inside = writer.node("Max", [writer.node("Min", slopes), writer.constant(0.0, np.float64)])
    return writer.node("Cast", [inside], to=1)
