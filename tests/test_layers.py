"""The streaming layers: causal, and the same hop by hop with caches as all at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from toolkit.layers import CausalConv, Expanded, Separable, WindowHead, WindowMean


class Stream:
    """A layer as a device runs it: every convolution sees its cache, then the new columns. Caches start as zeros."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.caches: dict[nn.Module, Tensor] = {}

    def push(self, columns: Tensor) -> Tensor:
        parts = list(self.layer) if isinstance(self.layer, nn.Sequential) else [self.layer]
        for part in parts:
            assert isinstance(part, CausalConv)
            zeros = columns.new_zeros(*columns.shape[:3], part.conv.kernel_size[1] - part.conv.stride[1])
            seen = torch.cat([self.caches.get(part, zeros), columns], 3)
            self.caches[part] = seen[..., seen.shape[3] - zeros.shape[3] :]
            columns = part.norm(part.conv(seen))
            columns = columns.relu() if part.relu else columns
        return columns


def settled(layer: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics as training would leave them."""
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return layer.eval()


LAYERS = {
    "pointwise": lambda: CausalConv(3, 5),
    "conv": lambda: CausalConv(3, 4, (3, 3)),
    "no relu": lambda: CausalConv(3, 4, (3, 3), relu=False),
    "strided": lambda: CausalConv(3, 4, (5, 9), (4, 4)),
    "kernel as long as the stride": lambda: CausalConv(3, 4, (3, 2), (2, 2)),
    "all bands": lambda: CausalConv(3, 4, (8, 1), padding=0),
    "separable": lambda: Separable(3, 6, (3, 5)),
    "separable strided": lambda: Separable(3, 6, (3, 3), (2, 2)),
    "expanded": lambda: Expanded(3, 9, (3, 3)),
}
TIME_STRIDES = {"strided": 4, "kernel as long as the stride": 2, "separable strided": 2}


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("hop", [4, 8, 20])
def test_streaming_equals_offline(name: str, hop: int) -> None:
    layer = settled(LAYERS[name]())
    inputs = torch.randn(2, 3, 8, 40)
    stream = Stream(layer)
    with torch.no_grad():
        whole = layer(inputs)
        parts = torch.cat([stream.push(inputs[..., at : at + hop]) for at in range(0, 40, hop)], 3)
    assert whole.shape[3] == 40 // TIME_STRIDES.get(name, 1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@settings(max_examples=60)
@given(st.data())
def test_the_future_never_changes_the_past(data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, 4))
    kernel = (data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(stride, 9)))
    layer = settled(CausalConv(2, 3, kernel, (data.draw(st.integers(1, 2)), stride)))
    outputs = data.draw(st.integers(2, 6))
    past = data.draw(st.integers(1, outputs - 1))
    inputs = torch.randn(1, 2, 6, outputs * stride)
    changed = inputs.clone()
    changed[..., past * stride :] += 1.0
    with torch.no_grad():
        before, after = layer(inputs), layer(changed)
    assert before.shape[3] == outputs
    torch.testing.assert_close(before[..., :past], after[..., :past], atol=1e-6, rtol=0)
    assert layer.cached_columns == kernel[1] - stride


def test_the_latest_column_is_heard_at_once() -> None:
    layer = settled(CausalConv(1, 1, (1, 3), relu=False))
    inputs = torch.zeros(1, 1, 1, 6)
    with torch.no_grad():
        before = layer(inputs)
        inputs[..., 3] = 1.0
        after = layer(inputs)
    assert (before != after).flatten().tolist() == [False, False, False, True, True, True]


def test_a_kernel_shorter_than_the_stride_would_skip_columns() -> None:
    with pytest.raises(ValueError, match="shorter"):
        CausalConv(1, 1, (1, 1), (1, 2))


@pytest.mark.parametrize(("window", "hop", "hops"), [(4, 2, 6), (25, 5, 12), (3, 3, 4), (2, 5, 4)])
def test_the_head_averages_the_last_columns_of_the_window(window: int, hop: int, hops: int) -> None:
    head = WindowHead(3, 4, window, hop).eval()
    inputs = torch.randn(2, 3, 1, hop * hops)
    with torch.no_grad():
        logits = head(inputs)
        assert logits.shape == (2, hops, 4)
        for index in range(hops):
            end = (index + 1) * hop
            mean = inputs[:, :, 0, max(0, end - window) : end].sum(2) / window  # before the start there are zeros
            torch.testing.assert_close(logits[:, index], head.linear(mean), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("window", "hop", "hops"), [(4, 2, 6), (25, 5, 12), (3, 3, 4), (2, 5, 4), (1, 1, 3)])
def test_the_mean_is_of_the_last_columns_of_every_hop(window: int, hop: int, hops: int) -> None:
    inputs = torch.randn(2, 3, 1, hop * hops)
    means = WindowMean(window, hop)(inputs)
    assert means.shape == (2, 3, 1, hops)
    for index in range(hops):
        end = (index + 1) * hop
        mean = inputs[..., max(0, end - window) : end].sum(3) / window  # before the start there are zeros
        torch.testing.assert_close(means[..., index], mean, atol=1e-6, rtol=1e-6)


def test_two_means_are_told_apart() -> None:
    assert str(WindowMean(4, 2)) == "WindowMean(4, 2)" != str(WindowMean(4, 1))
