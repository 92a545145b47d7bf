"""What cannot be an edge is refused in one line that says why, and nothing is printed."""

from __future__ import annotations

import warnings

import pytest
import torch
from test_traced import SHAPE, network_of
from torch import Tensor, nn

from exporters.onnx import to_onnx
from toolkit.errors import MilliwiseError


class Branching(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.mean() > 0 else -inputs


class Counting(nn.Module):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs * self.calls


class Noisy(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)


class Several(nn.Module):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, inputs


class Unbatched(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[0]


class Spectrum(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.fft.rfft(inputs).real


def step(inputs: Tensor) -> Tensor:
    if bool(inputs.sum() > 0):
        return inputs + 1
    return inputs - 1


class Compiled(nn.Module):
    """Its control flow becomes an If with sub-graphs."""

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = scripted_step(inputs)
        return result


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated, and yet in use
    scripted_step = torch.jit.script(step)


class Failing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise KeyError("a\nb" + "c" * 500)


REFUSED = [
    (Branching(), "depends on the values"),
    (Counting(), "differently the second time"),
    (Noisy(), "differently the second time"),
    (Several(), "a tuple, not one tensor"),
    (nn.MaxPool2d(2, return_indices=True), "a tuple, not one tensor"),
    (Unbatched(), "batch of one"),
    (Spectrum(), "fft_rfft"),
    (Compiled(), "::If"),
    (Failing(), "a"),
    (nn.ReLU(inplace=True), "in place"),
    (nn.Conv2d(3, 3, 1), "channels"),
    (nn.Conv2d(4, 4, 1).double(), "type"),
    (nn.Bilinear(8, 8, 2), "argument"),
]


@pytest.mark.parametrize(("module", "reason"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_cannot_be_an_edge_is_refused_in_one_line(
    module: nn.Module, reason: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(MilliwiseError, match=reason) as error:
        to_onnx(network_of(module), SHAPE)
    text = str(error.value)
    assert f"cannot export {type(module).__name__} at 'edge0'" in text and "register a writer" in text
    assert "\n" not in text and len(text) < 400
    assert capfd.readouterr() == ("", ""), "a library does not print, nor does the exporter"
    assert not recwarn.list
