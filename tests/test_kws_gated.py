"""`kws-gated`: hops that fit, the exported form from the first hop on, and branches that are most of the work."""

from __future__ import annotations

import exported
import numpy as np
import onnx
import pytest
import torch

from exporters.onnx import state_shapes, to_onnx
from profilers.counts import count
from profilers.latency import edge_work
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space

TRUNK = frozenset({"trunk", "second", "moment"})
HOP = 3200


def test_its_edges_and_gates() -> None:
    adaptive = find_space("kws-gated").adaptive(5)
    assert adaptive.graph.full == TRUNK | {"wide", "deep"} and (adaptive.graph.source, adaptive.graph.sink) == (
        "mel",
        "features",
    )
    assert adaptive.kind == "hearing" and set(adaptive.gated) == {"wide", "deep"} and adaptive.modes[0] == TRUNK
    assert adaptive.eval()(torch.zeros(2, 3 * HOP)).shape == (2, 3, 5)


@pytest.mark.parametrize("hop_ms", [0, -40, 30, 100, 1040, 10_000])
def test_a_hop_that_does_not_fit_is_refused_with_one_that_does(hop_ms: int) -> None:
    space = find_space("kws-gated")
    with pytest.raises(MilliwiseError, match=rf"hop of {hop_ms} ms .* such as (\d+)") as error:
        space.build(3, hop_ms)
    space.build(3, int(str(error.value).split()[-1]))


def test_most_of_the_work_is_behind_gates() -> None:
    adaptive = find_space("kws-gated").adaptive()
    with torch.no_grad():
        features = adaptive.network.stem(torch.zeros(1, HOP))
    work = edge_work(adaptive.network, tuple(features.shape))
    counts = {name: count(item.module, item.input_shape) for name, item in work.items()}
    assert not any(each.uncounted for each in counts.values())
    macs = [sum(counts[name].multiply_adds for name in live) for live in adaptive.modes]
    trunk, wide, deep, both = macs
    assert 5 * trunk < wide and 5 * wide < deep and both == wide + deep - trunk
    # Columns of 10 bands, 5 of them a hop: a separable layer, 64 features of all bands, the mean of 25 columns.
    separable = 10 * 5 * (32 * 15 + 32 * 32)
    assert counts["second"].multiply_adds == separable + 5 * 64 * 32 * 10 + 64 * 25
    assert counts["moment"].multiply_adds == 5 * 64 * 32 * 10 + 64 * 10


@pytest.mark.parametrize("kept", [TRUNK, TRUNK | {"wide"}, TRUNK | {"wide", "deep"}], ids=len)
@pytest.mark.parametrize("hop_ms", [40, 200, 1000])
def test_the_exported_listener_hears_the_same_hop_by_hop(hop_ms: int, kept: frozenset[str]) -> None:
    torch.manual_seed(0)
    network = find_space("kws-gated").build(4, hop_ms).select(kept)
    exported.randomise(network)
    content = exported.listener_bytes(network, hop_ms)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    samples = 16 * hop_ms
    for audio in list(exported.sounds(samples * max(3, 1600 // hop_ms)))[1:3]:
        expected = exported.expected_scores(network, audio)
        assert np.ptp(expected, axis=0).max() > 1e-3, "a test of constant scores would show nothing"
        np.testing.assert_allclose(exported.scores(content, audio, samples), expected, atol=1e-5, rtol=0)


def test_nothing_is_pooled_that_is_not_remembered() -> None:
    """The mean of a second keeps 20 columns beside the 5 of a hop, the moment 5; a hop of a second keeps none."""
    shapes = {
        hop_ms: state_shapes(to_onnx(find_space("kws-gated").build(3, hop_ms).eval(), (1, 16 * hop_ms)))
        for hop_ms in (200, 1000)
    }
    pools = {name: item["shape"] for name, item in shapes[200].items() if item["shape"][1:3] == [64, 1]}
    assert sorted(shape[3] for shape in pools.values()) == [5, 20, 20, 20]
    assert not any(item["shape"][1:3] == [64, 1] for item in shapes[1000].values())
