"""Small adaptive networks as bundles, each beside the single file of the same network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import adaptive_listener
from adaptive_listener import HOP
from torch import nn

from exporters.adaptive_bundle import bundle_states, to_bundle, write_bundle, write_manifest
from exporters.listener import Listener
from exporters.onnx import with_properties
from toolkit.adaptive import AdaptiveNetwork
from toolkit.controller import RecurrentController
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead, WindowMean
from toolkit.supernet import SuperNetwork

MAKERS = {"hearing": adaptive_listener.hearing, "recurrent": adaptive_listener.recurrent}


def in_the_middle() -> AdaptiveNetwork:
    """mel → middle by `plain` and, gated, by `first`; middle → sum by `second`, which remembers nothing."""
    channels = adaptive_listener.CHANNELS
    operations: dict[str, nn.Module] = {name: CausalConv(1, 4, (4, 1), (4, 1)) for name in ("plain", "first")}
    operations["second"] = nn.Sequential(CausalConv(4, channels, (11, 1), padding=0), WindowMean(16, 16))
    edges = (Edge("plain", "mel", "middle"), Edge("first", "mel", "middle"), Edge("second", "middle", "sum"))
    head = WindowHead(channels, len(adaptive_listener.LABELS), 1, 1)
    network = SuperNetwork(Graph(edges, "mel", "sum"), operations, LogMel(), head)
    return AdaptiveNetwork(network, ["first"], RecurrentController(channels, 1)).eval()


def written(folder: Path, adaptive: AdaptiveNetwork) -> Path:
    """The bundle of a network, with what the file of the same network says of itself, which is beside it."""
    one = Listener.open(adaptive_listener.written(folder, adaptive))
    plan, models = to_bundle(adaptive, (1, HOP))
    metadata = replace(one.metadata, states=bundle_states(models, len(adaptive.gated)))

    def write(aside: Path) -> None:
        for name, model in models.items():
            (aside / name).write_bytes(with_properties(model, {}))
        write_manifest(aside, plan, metadata)

    write_bundle(folder / "bundle", write)
    return folder / "bundle"


def flip(path: Path) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
