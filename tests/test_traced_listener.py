"""A listener with a head in plain modules gives probabilities of its scores, and is verified."""

from __future__ import annotations

from pathlib import Path

import exported
import numpy as np
import onnx
import pytest
import torch
from test_traced import network_of, run
from torch import Tensor, nn

from exporters.onnx import to_onnx, with_properties
from exporters.verify import verify
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv
from toolkit.supernet import SuperNetwork


class PlainHead(nn.Module):
    """Logits of every column, [batch, columns, labels]."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(40, labels)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.linear(inputs.squeeze(1).transpose(1, 2))
        return result


def plain_listener() -> SuperNetwork:
    """One column a hop, a streaming layer and traced ones, a head in plain modules."""
    edges = (Edge("causal", "mel", "middle"), Edge("traced", "middle", "out"), Edge("skip", "mel", "out"))
    operations = {
        "causal": CausalConv(1, 1, (3, 3)),
        "traced": nn.Sequential(nn.Conv2d(1, 1, (3, 1), padding=(1, 0)), nn.BatchNorm2d(1), nn.Sigmoid()),
        "skip": nn.Dropout(),
    }
    network = SuperNetwork(Graph(edges, "mel", "out"), operations, LogMel(), PlainHead(4))
    exported.randomise(network)
    with torch.no_grad():
        network.head.linear.weight.mul_(0.1)
        silence = network(torch.zeros(1, 1600))[0]
        network.head.linear.bias[0] += (silence[:, 1:].max(1).values - silence[:, 0]).max() + 0.3
    return network


def test_a_listener_with_a_plain_head_gives_scores_and_is_verified(tmp_path: Path) -> None:
    network = plain_listener()
    path = tmp_path / "plain.onnx"
    path.write_bytes(exported.listener_bytes(network, hop_ms=10))
    model = onnx.load(path)
    assert model.graph.input[0].name == "audio"
    scores = model.graph.output[0]
    assert scores.name == "scores" and [size.dim_value for size in scores.type.tensor_type.shape.dim] == [1, 4]
    found = verify(path, network, hops=40)
    assert found.initializers == len(model.graph.initializer) == 6
    other = network.select(network.graph.full).eval()
    with torch.no_grad():
        other.operations["traced"][0].weight.add_(0.1)
    with pytest.raises(MilliwiseError, match=r"initialiser traced\.folded_\d differs"):
        verify(path, other, hops=40)


def test_only_scores_of_audio_are_made_probabilities() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    output = to_onnx(network_of(nn.Identity(), head=head), (1, 1, 2, 2)).graph.output[0]
    assert output.name == "output"
    for shape in ((1, 3), (1, 1, 3)):
        model = to_onnx(
            network_of(nn.Identity(), head=nn.Sequential(nn.Linear(4, 3), nn.Unflatten(0, shape[:-1]))),
            (1, 4),
            listener=True,
        )
        seen = run(with_properties(model, {}), torch.randn(1, 4))
        assert model.graph.output[0].name == "scores" and seen.shape == (1, 3)
        np.testing.assert_allclose(seen.sum(), 1, atol=1e-6)
