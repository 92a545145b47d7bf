"""`resnet-fabric`: the figures of Budgeted Super Networks, where its shortcuts lead, and its exported form."""

from __future__ import annotations

import random
from functools import cache

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from exporters.onnx import to_onnx, with_properties
from profilers.published import published_multiply_adds
from toolkit.costs import random_architecture
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space
from toolkit.spaces.resnet_fabric import fabric, resnet
from toolkit.supernet import SuperNetwork

IMAGE = (1, 3, 32, 32)
RESNETS = {3: (40.899, 0.2733), 5: (69.268, 0.4681), 7: (97.637, 0.6630), 9: (126.006, 0.8579), 18: (253.666, 1.7349)}


@cache
def built(blocks: int, shift: str = "slr") -> SuperNetwork:
    torch.manual_seed(0)
    return fabric(blocks, 10, shift).eval()


def steps(network: SuperNetwork, workers: int) -> int:
    """The published count: an identity takes no step, and the classifier, which is our head, takes the last one."""
    free = {name: 0 for name, module in network.operations.items() if isinstance(module, nn.Identity)}
    return len(network.graph.schedule(network.graph.full, workers, free)) + 1


@pytest.mark.parametrize(("blocks", "nodes", "mega"), [(3, 59, 91.1), (18, 374, 635.3)])
def test_the_published_fabrics(blocks: int, nodes: int, mega: float) -> None:
    network = built(blocks)
    # A node of the published graph is what an edge computes: every block, skip, sum and entry; and the classifier.
    assert len(network.graph.edges) + 1 == nodes
    assert network.graph.live(network.graph.full) == network.graph.full
    assert round(published_multiply_adds(network, IMAGE) / 1e6, 1) == mega


@pytest.mark.parametrize(
    ("blocks", "shift", "published"),
    [
        (3, "slr", (50, 29, 20)),
        (18, "slr", (320, 179, 110)),
        (3, "", (22, 20, 20)),
        (5, "", (34, 32, 32)),
        (7, "", (46, 44, 44)),
        (9, "", (58, 56, 56)),
        (18, "", (112, 110, 110)),
    ],
)
def test_the_published_steps(blocks: int, shift: str, published: tuple[int, ...]) -> None:
    assert tuple(steps(built(blocks, shift), workers) for workers in (1, 2, 4)) == published


@pytest.mark.parametrize("blocks", sorted(RESNETS))
def test_without_shortcuts_it_is_the_published_resnet(blocks: int) -> None:
    network = built(blocks, "")
    values = sum(parameter.numel() for parameter in network.parameters())
    assert (round(published_multiply_adds(network, IMAGE) / 1e6, 3), round(values / 1e6, 4)) == RESNETS[blocks]


@pytest.mark.parametrize(("layers", "blocks"), [(20, 3), (8, 3), (14, 4)])
def test_a_resnet_is_part_of_the_fabric(layers: int, blocks: int) -> None:
    """A shallower one by the blocks it lacks: their maps are handed on."""
    network, depth = built(blocks), (layers - 2) // 6
    kept = resnet(layers, blocks)
    assert network.graph.live(kept) == kept
    plain = fabric(depth, 10, "").eval()
    exported.randomise(plain)
    for name, operation in plain.operations.items():
        network.operations[name].load_state_dict(operation.state_dict())
    network.head.load_state_dict(plain.head.state_dict())
    images = torch.randn(2, *IMAGE[1:])
    with torch.no_grad():
        torch.testing.assert_close(network(images, kept), plain(images))
    if depth == blocks:
        assert kept == plain.graph.full


@pytest.mark.parametrize("layers", [2, 21, 26])
def test_what_is_no_resnet_of_the_fabric_is_refused(layers: int) -> None:
    with pytest.raises(MilliwiseError, match=f"no ResNet-{layers} in a fabric of 3 blocks: take 8, 14, 20, … 20"):
        resnet(layers, 3)


def test_the_plain_resnet_by_hand() -> None:
    network = fabric(2, 5, "")
    exported.randomise(network)
    part = network.operations
    images = torch.randn(2, *IMAGE[1:])
    with torch.no_grad():
        values = part["conv"](images)
        for group in range(3):
            for block in range(2):
                name = f"{group}-{block}"
                values = functional.relu(part[f"block{name}"](values) + part[f"skip{name}"](values))
        assert values.shape == (2, 64, 8, 8)
        torch.testing.assert_close(network(images), network.head[-1](values.mean((2, 3))))


def test_the_shortcuts_are_folded_back() -> None:
    graph = built(3).graph
    sources = {edge.name: edge.source for edge in graph.edges if "-block" in edge.name}
    assert sources == {
        "straight-block1-0": "map0-1",
        "right-block1-0": "map0-0",
        "straight-block1-1": "map0-0",
        "left-block1-1": "map0-1",
        "right-block1-1": "entry0",
        "straight-block1-2": "entry0",
        "left-block1-2": "map0-0",
        "straight-block2-0": "map1-1",
        "right-block2-0": "map1-0",
        "straight-block2-1": "map1-0",
        "left-block2-1": "map1-1",
        "right-block2-1": "entry1",
        "straight-block2-2": "entry1",
        "left-block2-2": "map1-0",
    }
    skips = {edge.name: edge.source for edge in graph.edges if "-skip" in edge.name}
    assert skips == {name.replace("block", "skip"): source for name, source in sources.items()}
    assert {edge.name for edge in built(3, "sr").graph.edges} == {
        name for name in graph.full if not name.startswith("left")
    }


@pytest.mark.parametrize(("blocks", "shift"), [(0, "slr"), (-1, ""), (3, "x"), (3, "slrd")])
def test_what_is_no_fabric_is_refused(blocks: int, shift: str) -> None:
    with pytest.raises(MilliwiseError, match="no ResNet fabric"):
        fabric(blocks, 10, shift)


@pytest.mark.parametrize(("blocks", "seed", "keep"), [(1, 0, 0.5), (3, 1, 0.2), (3, 2, 0.6), (4, 3, 0.9)])
def test_any_part_runs_and_all_its_edges_learn(blocks: int, seed: int, keep: float) -> None:
    torch.manual_seed(seed)
    network = fabric(blocks, 4)
    kept = random_architecture(network.graph, random.Random(seed), keep)
    images = torch.randn(3, *IMAGE[1:])
    logits = network(images, kept)
    assert logits.shape == (3, 4)
    logits.square().sum().backward()
    for name, operation in network.operations.items():
        weights = [value.grad for value in operation.parameters() if value.dim() == 4]
        assert all((grad is not None and bool(grad.any())) == (name in kept) for grad in weights)
    torch.manual_seed(seed)
    again = fabric(blocks, 4)
    assert torch.equal(again(images, kept), logits)


@pytest.mark.parametrize(("seed", "keep"), [(0, 0.1), (1, 0.4), (2, 0.8)])
def test_the_exported_network_is_torchs(seed: int, keep: float) -> None:
    space = find_space("resnet-fabric")
    assert space.shape(200) == IMAGE
    torch.manual_seed(seed)
    whole = space.build(10)
    network = whole.select(random_architecture(whole.graph, random.Random(seed), keep))
    exported.randomise(network)
    model = to_onnx(network, IMAGE)
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node), "they are folded"
    session = onnxruntime.InferenceSession(with_properties(model, {}), providers=["CPUExecutionProvider"])
    for _ in range(3):
        images = torch.randn(IMAGE)
        with torch.no_grad():
            expected = network(images).numpy()
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(session.run(None, {"features": images.numpy()})[0], expected, atol=1e-4, rtol=1e-4)
