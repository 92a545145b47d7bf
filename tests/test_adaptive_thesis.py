"""The thesis' protocol on a few tones: the streams that controllers hear, and controllers that are trained once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from word_clips import LABELS, word_data

from exporters.adaptive import mode_names
from kws_demo.bench import adaptive_thesis as thesis
from profilers.modes import ModeCosts
from toolkit.adaptive import AdaptiveNetwork
from toolkit.spaces import find_space
from toolkit.strategies.sanas import IGNORED
from toolkit.weights import save_tensors


@pytest.fixture
def protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> thesis.Protocol:
    """Its edges are done: they were never trained."""
    monkeypatch.setattr(thesis, "STREAM_EPOCHS", 1)
    monkeypatch.setattr(thesis, "CONTROLLER_EPOCHS", 2)
    monkeypatch.setattr(thesis, "TOGETHER_EPOCHS", 1)
    made = thesis.Protocol(Path(), tmp_path, seed=0)
    made.__dict__["data"] = word_data([0, 1, 2, 3] * 2)
    torch.manual_seed(3)
    save_tensors(tmp_path / "edges.safetensors", network().state_dict())
    return made


def network() -> AdaptiveNetwork:
    return find_space(thesis.SPACE).adaptive(len(LABELS), thesis.HOP_MS)


def test_controllers_hear_words_after_a_silence(protocol: thesis.Protocol) -> None:
    """A stream of the thesis has one word, and nothing after it that would reward a gate for opening again."""
    ((sinks, labels),) = protocol.sinks(protocol.edges())
    assert sinks.shape == (*labels.shape, 32, 128) and sinks.dtype == torch.float16 and labels.shape[1] > 15
    again = []
    for row in labels:
        row = row[row != IGNORED]
        starts = (row[1:] > 0) & (row[:-1] == 0)
        again.append(int(starts.sum()) + int(row[0] > 0) > 1)
    assert any(again)


def test_what_is_trained_is_kept(protocol: thesis.Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = ModeCosts({name: 1.0 + place for place, name in enumerate(mode_names(network()))}, thesis.HOP_MS)
    first = protocol.controllers(costs, penalties=(0.1, 1000.0))
    edges = protocol.edges().network.operations.state_dict()
    for each in first:
        assert not each.training
        assert all(torch.equal(value, edges[name]) for name, value in each.network.operations.state_dict().items())
        assert each.controller.state_dict()["linear.bias"].abs().max() < 0.1, "the first hop of a stream is not settled"
    one, other = (each.controller.state_dict()["linear.weight"] for each in first)
    assert not torch.equal(one, other)

    def again(*_arguments: Any) -> None:
        raise AssertionError("this was heard before")

    monkeypatch.setattr(thesis.Protocol, "sinks", again)
    second = protocol.controllers(costs, penalties=(0.1, 1000.0))
    for before, after in zip(first, second, strict=True):
        assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_edges_learn_with_their_controller(protocol: thesis.Protocol) -> None:
    costs = ModeCosts({name: 1.0 + place for place, name in enumerate(mode_names(network()))}, thesis.HOP_MS)
    alone = protocol.controllers(costs, penalties=(thesis.TOGETHER,))[0]
    together = protocol.together(costs)
    assert not together.training
    before, after = (each.network.operations.state_dict() for each in (alone, together))
    assert not all(torch.equal(value, after[name]) for name, value in before.items())
    again = protocol.together(costs)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in together.state_dict().items())


def test_the_sentinel_counts_for_more_than_one_mode_of_many() -> None:
    modes, shares = network().modes, thesis._shares(network())
    assert sum(shares) == pytest.approx(1) and shares[modes.index(thesis.SENTINEL)] == max(shares)
