"""Adaptive networks small enough for a test, with gates that open and shut as they hear, and their exported files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import exported
import torch
from torch import nn

from exporters.adaptive import mode_names, to_adaptive_onnx
from exporters.metadata import ListenerMetadata
from exporters.onnx import state_shapes, with_properties
from exporters.verify_adaptive import streams
from toolkit.adaptive import AdaptiveNetwork
from toolkit.controller import Controller, HearingController, RecurrentController
from toolkit.features import LogMel, log_mel_of
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, RecentColumns, Separable, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

HOP_MS = 160
HOP = 16 * HOP_MS
LABELS = ["_silence_", "_unknown_", "up", "down"]
CHANNELS = 6
GATED = ("wide", "deep", "now")


def hearing(seed: int = 0) -> AdaptiveNetwork:
    """A trunk of 4 columns a hop, a branch that always runs, two gated ones with streaming state, and one without."""
    torch.manual_seed(seed)
    operations = {
        "trunk": CausalConv(1, 4, (5, 9), (4, 4)),
        "always": nn.Sequential(_all_bands(4), WindowMean(10, 4)),
        "wide": nn.Sequential(Separable(4, 5, (3, 3)), nn.Identity(), _all_bands(5), WindowMean(6, 4)),
        "deep": nn.Sequential(
            CausalConv(4, 5, (3, 4), (1, 2)), CausalConv(5, 5, (1, 1)), CausalConv(5, 4, (3, 3)), _all_bands(4),
            WindowMean(9, 2),
        ),
        "now": nn.Sequential(_all_bands(4), WindowMean(3, 4)),
    }  # fmt: skip
    edges = [Edge("trunk", "mel", "trunk"), *(Edge(name, "trunk", "sum") for name in list(operations)[1:])]
    network = SuperNetwork(Graph(tuple(edges), "mel", "sum"), operations, LogMel(), _head())
    return _as_if_trained(network, GATED, HearingController(CHANNELS, len(GATED)))


def recurrent(seed: int = 0) -> AdaptiveNetwork:
    """As `kws-cnn`: two convolutions and two dense layers with a shortcut from every map, all of them gated."""
    torch.manual_seed(seed)
    operations: dict[str, nn.Module] = {
        "conv0": nn.Sequential(nn.Conv2d(1, 3, (8, 5)), nn.MaxPool2d((3, 1)), nn.ReLU()),
        "conv1": nn.Sequential(nn.Conv2d(3, 3, (4, 4)), nn.ReLU()),
        "lin0": _dense(3, (8, 13), 4),
        "lin1": _dense(4, (1, 1), CHANNELS),
        "from-mel": _dense(1, (40, 20), CHANNELS),
        "from-conv0": _dense(3, (11, 16), CHANNELS),
        "from-conv1": _dense(3, (8, 13), CHANNELS),
        "from-lin0": _dense(4, (1, 1), CHANNELS),
    }
    nodes = ["mel", "conv0", "conv1", "lin0"]
    path = zip(operations, nodes, [*nodes[1:], "sum"], strict=False)
    edges = [Edge(*each) for each in path] + [Edge(f"from-{node}", node, "sum") for node in nodes]
    stem = nn.Sequential(LogMel(), RecentColumns(20, 16))
    network = SuperNetwork(Graph(tuple(edges), "mel", "sum"), operations, stem, _head())
    return _as_if_trained(network, tuple(operations), RecurrentController(CHANNELS, len(operations), memory_size=7))


def _all_bands(channels: int) -> nn.Module:
    return CausalConv(channels, CHANNELS, (10, 1), padding=0)


def _dense(channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, outputs, size, (1, 16 if size[1] > 1 else 1)), nn.ReLU())


def _head() -> nn.Module:
    return WindowHead(CHANNELS, len(LABELS), window_columns=1, hop_columns=1)


def _as_if_trained(network: SuperNetwork, gated: tuple[str, ...], controller: Controller) -> AdaptiveNetwork:
    """Gates that are about as often open as shut, and silence that is heard as silence whatever they are."""
    exported.randomise(network)
    adaptive = AdaptiveNetwork(network, gated, controller).eval()
    with torch.no_grad():
        audio = torch.from_numpy(next(streams(200, HOP, seed=7)))[None]
        sinks = adaptive.sink_values(network.stem(audio))
        for layer in (next(controller.parameters()), network.head.linear.weight):
            layer.div_(sinks[:, :, 1:].std())
        assert isinstance(controller.linear, nn.Linear)
        controller.linear.weight.mul_(8)
        if controller.looks:
            controller.linear.bias -= adaptive.roll(sinks).log_odds[0].mean(0)
        else:  # what is off for long opens, or nothing would ever change
            controller.linear.bias += 0.2 - adaptive.roll(torch.zeros_like(sinks)).log_odds[0, -1]
        silent = adaptive.sink_values(network.stem(torch.zeros(1, 20 * HOP))).flatten(0, 2)
        logits = adaptive.classify(silent[None])[0]
        network.head.linear.bias[0] += (logits[:, 1:].max(1).values - logits[:, 0]).max() + 0.3
    return adaptive


def content(adaptive: AdaptiveNetwork, forced: Mapping[str, str] | None = None, opset: int = 17) -> bytes:
    """The exported file with its metadata."""
    model = to_adaptive_onnx(adaptive, (1, HOP), opset, forced=forced)
    front_end = log_mel_of(adaptive.network.stem)
    assert front_end is not None
    metadata = ListenerMetadata(
        labels=LABELS,
        hop_samples=HOP,
        states=state_shapes(model),
        modes=[{"name": name, "predicted_ms": 1.0} for name in mode_names(adaptive)],
        front_end=front_end.spec.describe(),
        front_end_sha256=front_end.spec.sha256(),
    )
    return with_properties(model, metadata.to_properties())


def written(folder: Path, adaptive: AdaptiveNetwork, forced: Mapping[str, str] | None = None) -> Path:
    """The same in a file."""
    path = folder / "adaptive.onnx"
    path.write_bytes(content(adaptive, forced))
    return path
