"""What is checked before an adaptive listener is written: an export passes, and what differs from torch is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import adaptive_listener
import pytest
import torch

from exporters import verify_adaptive as verification
from exporters.adaptive import mode_names
from exporters.verify_adaptive import verify_adaptive
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError

Make = Callable[[], AdaptiveNetwork]
BOTH = pytest.mark.parametrize("make", [adaptive_listener.hearing, adaptive_listener.recurrent])


@BOTH
def test_choices_and_scores_are_torchs(make: Make, tmp_path: Path) -> None:
    adaptive = make()
    found = verify_adaptive(adaptive_listener.written(tmp_path, adaptive), adaptive, hops=700)
    assert found.hops == sum(found.modes.values()) == 700 and found.exempt < 7
    assert found.scores == found.max_abs_diff < 1e-6
    assert tuple(found.modes) == mode_names(adaptive)
    assert sum(hops > 0 for hops in found.modes.values()) > 15, found.modes


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = adaptive_listener.written(tmp_path, adaptive_listener.hearing())
    other = adaptive_listener.hearing()
    with torch.no_grad():
        other.network.operations["deep"][2].conv.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(MilliwiseError, match="export refused: the graph is not"):
        verify_adaptive(path, other, hops=50)


def change_a_choice(adaptive: AdaptiveNetwork) -> None:
    adaptive.controller.linear.bias += 0.5


def change_a_score(adaptive: AdaptiveNetwork) -> None:
    adaptive.network.head.linear.bias[1] += 1e-3


def change_the_silence(adaptive: AdaptiveNetwork) -> None:
    adaptive.network.head.linear.bias[2] += 9


@pytest.mark.parametrize(
    ("change", "reason"),
    [(change_a_choice, r"\d+ of \d+ choices differ from torch"), (change_a_score, "scores differ from torch by 0.000")],
)
@BOTH
def test_a_file_that_computes_otherwise_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[AdaptiveNetwork], None], reason: str
) -> None:
    monkeypatch.setattr(verification, "_check_same", lambda _model, _adaptive: None)
    path, other = adaptive_listener.written(tmp_path, make()), make()
    with torch.no_grad():
        change(other)
    with pytest.raises(MilliwiseError, match=reason):
        verify_adaptive(path, other, hops=250)


@BOTH
def test_a_controller_whose_choices_rounding_makes_is_refused(make: Make, tmp_path: Path) -> None:
    adaptive = make()
    with torch.no_grad():
        adaptive.controller.linear.weight.zero_()
        adaptive.controller.linear.bias.zero_()
    with pytest.raises(MilliwiseError, match="in 20 of 20 hops a gate is so near one half that rounding decides"):
        verify_adaptive(adaptive_listener.written(tmp_path, adaptive), adaptive, hops=20)


def test_silence_heard_as_a_word_is_refused(tmp_path: Path) -> None:
    adaptive = adaptive_listener.hearing()
    with torch.no_grad():
        change_the_silence(adaptive)
    with pytest.raises(MilliwiseError, match="silence is heard as 'up'"):
        verify_adaptive(adaptive_listener.written(tmp_path, adaptive), adaptive, hops=20)
