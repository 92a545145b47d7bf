"""Networks as training would leave them, and running an exported file with a loop of our own (onnxruntime alone)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.metadata import ListenerMetadata
from exporters.onnx import state_shapes, to_onnx, with_properties
from toolkit.costs import random_architecture
from toolkit.features import LogMel
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork

Audio = NDArray[np.float32]


def listener_network(seed: int | None = 0, keep: float = 0.5, labels: int = 4, hop_ms: int = 200) -> SuperNetwork:
    """A `kws-ds` network as if trained: it hears digital silence as silence. `seed` None keeps every edge."""
    torch.manual_seed(seed or 0)
    network = find_space("kws-ds").build(labels, hop_ms)
    graph = network.graph
    kept = graph.full if seed is None else random_architecture(graph, random.Random(seed), keep)
    network = network.select(kept)
    randomise(network)
    with torch.no_grad():
        silence = network(torch.zeros(1, 20 * 16 * hop_ms))[0]
        network.head.linear.bias[0] += (silence[:, 1:].max(1).values - silence[:, 0]).max() + 0.3
    return network


def randomise(network: nn.Module) -> None:
    """BatchNorm statistics and affine parameters far from their initial ones; evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    network.eval()


def listener_bytes(network: SuperNetwork, hop_ms: int = 200, labels: int = 4) -> bytes:
    """The exported file with its metadata."""
    model = to_onnx(network, (1, 16 * hop_ms))
    stem = network.stem
    assert isinstance(stem, LogMel)
    metadata = ListenerMetadata(
        labels=["_silence_", "_unknown_", *(f"word{i}" for i in range(labels - 2))],
        hop_samples=16 * hop_ms,
        states=state_shapes(model),
        front_end=stem.spec.describe(),
        front_end_sha256=stem.spec.sha256(),
    )
    return with_properties(model, metadata.to_properties())


def streamed(content: bytes | Path, inputs: Audio, hop: int, axis: int, name: str) -> list[list[Audio]]:
    """The outputs of every hop (without the states), the states carried from zeros."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    states = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs() if item.name != name}
    outputs = [item.name for item in session.get_outputs()]
    rows = []
    for part in np.split(inputs, inputs.shape[axis] // hop, axis):
        values = dict(zip(outputs, session.run(outputs, {name: part, **states}), strict=True))
        states = {state: values.pop(state.replace("state_in_", "state_out_", 1)) for state in states}
        rows.append(list(values.values()))
    return rows


def scores(content: bytes | Path, audio: Audio, hop: int) -> Audio:
    """[hops, labels] of an exported listener over audio [samples]."""
    return np.concatenate([row[0] for row in streamed(content, audio[None], hop, 1, "audio")])


def expected_scores(network: SuperNetwork, audio: Audio) -> Audio:
    """The same of the torch network over the whole audio at once."""
    with torch.no_grad():
        result: Audio = network(torch.from_numpy(audio)[None])[0].softmax(-1).numpy()
    return result


def sounds(samples: int) -> Iterator[Audio]:
    """Digital silence, noise, a chirp, noise at full scale, a click after silence."""
    rng = np.random.default_rng(5)
    seconds = np.arange(samples) / 16_000
    yield np.zeros(samples, np.float32)
    yield rng.normal(0, 0.1, samples).astype(np.float32)
    yield (0.9 * np.sin(2 * np.pi * (150 + 900 * seconds) * seconds)).astype(np.float32)
    yield rng.uniform(-1, 1, samples).round().astype(np.float32)
    yield np.eye(1, samples, samples // 2, dtype=np.float32)[0]
