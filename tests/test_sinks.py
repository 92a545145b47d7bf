"""What all modes give the sink over a long stream, in pieces: the same as at once."""

from __future__ import annotations

import gated_space
import pytest
import torch
from exported import randomise

from kws_demo import sinks as module
from kws_demo.sinks import sinks_of
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError


def network(hop_ms: int) -> AdaptiveNetwork:
    adaptive = gated_space.space().adaptive(4, hop_ms)
    randomise(adaptive.network)
    return adaptive


@pytest.mark.parametrize("hop_ms", [40, 200])
def test_pieces_equal_the_whole(hop_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adaptive, hop = network(hop_ms), 16 * hop_ms
    hops = 6000 // hop_ms
    audio = 0.2 * torch.randn(hops * hop + hop // 3)  # the rest is no whole hop
    with torch.no_grad():
        whole = adaptive.sink_values(adaptive.network.stem(audio[None, : hops * hop]))[0]
    assert whole.shape == (hops, 4, 8) and float(whole.std(0).amax(1).min()) > 1e-3
    monkeypatch.setattr(module, "PIECE_HOPS", hops // 4 + 1)
    torch.testing.assert_close(sinks_of(adaptive.train(), audio, hop), whole, atol=1e-5, rtol=0)
    monkeypatch.setattr(module, "CONTEXT_SAMPLES", 0)
    assert float((sinks_of(adaptive, audio, hop) - whole).abs().max()) > 1e-3, "what was before a piece matters"


def test_less_than_a_hop_is_refused() -> None:
    with pytest.raises(MilliwiseError, match="100 samples are no hop of 3200"):
        sinks_of(network(200), torch.zeros(100), 3200)
