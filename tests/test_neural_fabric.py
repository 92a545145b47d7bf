"""`neural-fabric`: the printed figures of Convolutional Neural Fabrics, its paths by hand, and its exported form."""

from __future__ import annotations

import random

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from exporters.onnx import to_onnx, with_properties
from profilers.counts import count
from profilers.published import published_multiply_adds
from toolkit.costs import random_architecture
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space
from toolkit.spaces.neural_fabric import fabric

IMAGE = (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("columns", "parameters", "mega", "printed", "steps"),
    [
        (1, 0.744, 53.8, 53.82, (12, 12, 12)),
        (2, 3.849, 557, 406.21, (39, 26, 19)),
        (4, 8.580, 1463, 1010.33, (83, 47, 31)),
        (8, 18.042, 3275, 2218.57, (171, 90, 53)),
    ],
)
def test_the_published_fabrics(
    columns: int, parameters: float, mega: float, printed: float, steps: tuple[int, ...]
) -> None:
    """Of 128 channels and six scales; what is printed bills convolutions behind an upsampling for the map before it."""
    network = fabric(10, columns, 128, 6).eval()
    assert round(sum(value.numel() for value in network.parameters()) / 1e6, 3) == parameters
    assert round(published_multiply_adds(network, IMAGE, legacy=True) / 1e6, 2) == printed
    assert published_multiply_adds(network, IMAGE) / 1e6 == pytest.approx(mega, abs=0.5 if mega > 100 else 0.05)
    # The classifier, which is our head, takes the last step.
    assert tuple(len(network.graph.schedule(network.graph.full, each)) + 1 for each in (1, 2, 4)) == steps


def test_an_upsampling_is_billed_for_what_it_computes() -> None:
    operation = fabric(2, 2, 8, 3).operations["conv1-1-0"]
    assert count(operation, (1, 8, 2, 2)).multiply_adds == 8 * 8 * 9 * 4 * 4
    assert count(operation, (1, 8, 2, 2)).uncounted == ()


def test_a_small_one_by_hand() -> None:
    network = fabric(5, 2, 4, 2)  # images of 2 x 2
    exported.randomise(network)
    part = network.operations
    images = torch.randn(3, 3, 2, 2)
    with torch.no_grad():
        fine = part["conv"](images)
        coarse = functional.relu(part["zip0-0-1"](fine))
        finer = functional.relu(part["conv1-0-0"](fine) + part["conv1-1-0"](coarse))
        last = functional.relu(part["conv1-0-1"](fine) + part["conv1-1-1"](coarse) + part["zip1-0-1"](finer))
        assert last.shape == (3, 4, 1, 1)
        expected = last.flatten(1) @ network.head[0].weight.flatten(1).T + network.head[0].bias
        torch.testing.assert_close(network(images), expected)
        doubled = fine.new_zeros((*coarse.shape[:2], 2, 2)) + coarse  # of one value, four
        torch.testing.assert_close(part["conv1-1-0"](coarse), part["conv1-1-0"][1:](doubled))


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_fabrics_of_fewer_columns_are_known_by_name(task: str) -> None:
    network = fabric(10, 4, 2, 4, task).eval()
    known = network.graph.made_by_hand
    assert [name.split(",")[0] for name in known] == [f"fabric of {count} columns" for count in (1, 2, 3, 4)]
    live = [network.graph.live(kept) for kept in known.values()]
    assert 0 < len(live[0]) < len(live[1]) < len(live[2]) < len(live[3]) == len(network.graph.edges)
    image = torch.rand(1, 3, 8, 8)
    shape = (1, 10) if task == "classify" else (1, 10, 8, 8)
    assert all(network.select(kept)(image).shape == shape for kept in live)
    if task == "classify":  # of the first column all, then a convolution and a ReLU a column
        assert len(live[0]) == 1 + 2 * 3 + 2 * 3


def test_it_segments_at_the_size_of_the_image() -> None:
    network = find_space("neural-fabric:columns=2,channels=4,size=8,task=segment").build(labels=3).eval()
    graph = network.graph
    assert graph.live(graph.full) == graph.full
    assert graph.sink == "map1-0" and "zip1-1-0" in graph.full and "zip1-0-1" not in graph.full
    with torch.no_grad():
        assert network(torch.randn(2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("columns", "channels", "scales", "task"),
    [
        (0, 4, 3, "classify"),
        (2, 0, 3, "classify"),
        (2, 4, 0, "classify"),
        (2, 4, 3, "guess"),
        (1, 4, 3, "segment"),
        (1, 4, 1, "segment"),
    ],
)
def test_what_is_no_fabric_is_refused(columns: int, channels: int, scales: int, task: str) -> None:
    with pytest.raises(MilliwiseError, match="neural fabric of") as error:
        fabric(10, columns, channels, scales, task)
    assert "\n" not in str(error.value)


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(MilliwiseError, match="24 x 24 cannot be halved"):
        find_space("neural-fabric:size=24").build()
    with pytest.raises(MilliwiseError, match="30 x 30 cannot be halved"):
        find_space("resnet-fabric:size=30").build()


@pytest.mark.parametrize(("settings", "seed", "keep"), [("", 0, 0.2), ("", 1, 0.7), ("task=segment", 2, 0.6)])
def test_the_exported_network_is_torchs(settings: str, seed: int, keep: float) -> None:
    space = find_space(f"neural-fabric:columns=3,channels=6,size=16{settings and ','}{settings}")
    shape = space.shape(200)
    assert shape == (1, 3, 16, 16)
    torch.manual_seed(seed)
    whole = space.build(10)
    network = whole.select(random_architecture(whole.graph, random.Random(seed), keep))
    exported.randomise(network)
    model = to_onnx(network, shape)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(with_properties(model, {}), providers=["CPUExecutionProvider"])
    images = torch.randn(shape)
    with torch.no_grad():
        expected = network(images).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(session.run(None, {"features": images.numpy()})[0], expected, atol=1e-4, rtol=1e-4)
