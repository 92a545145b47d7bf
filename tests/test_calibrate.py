"""Calibration: the most likely scale and bias, folded into the network; the threshold leaves few unknown clips."""

import math

import numpy as np
import pytest
import torch
from exported import listener_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kws_demo import calibrate as module
from kws_demo.data import Clips, SpeechData
from kws_demo.train import Speech


def drawn(seed: int, count: int = 400, labels: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, labels, generator=generator)
    truth = 0.5 * logits + torch.linspace(-1, 1, labels)
    return logits, torch.multinomial(truth.softmax(1), 1, generator=generator)[:, 0]


def test_the_fit_is_the_one_that_an_optimiser_finds() -> None:
    logits, labels = drawn(0)
    scale, bias = module.fitted(logits, labels)
    parameters = [torch.ones((), dtype=torch.double, requires_grad=True)]
    parameters.append(torch.zeros(5, dtype=torch.double, requires_grad=True))
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(parameters[0] * logits.double() + parameters[1], labels)
        loss = loss + module.PULL * parameters[1].square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert scale == pytest.approx(parameters[0].item(), abs=2e-3)
    assert bias.tolist() == pytest.approx(parameters[1].tolist(), abs=2e-3)


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_no_fit_makes_the_labels_less_likely(seed: int, count: int) -> None:
    logits, labels = drawn(seed, count)
    scale, bias = module.fitted(logits, labels)
    pull = module.PULL * float(bias.square().mean())
    after = float(functional.cross_entropy(scale * logits + bias, labels)) + pull
    assert after <= float(functional.cross_entropy(logits, labels)) + 1e-4


def test_separable_clips_do_not_break_the_fit() -> None:
    labels = torch.arange(5).repeat(10)
    scale, bias = module.fitted(20 * functional.one_hot(labels, 5).float(), labels)
    assert module.LEAST_SCALE <= scale <= module.MOST_SCALE and bias.isfinite().all()


def test_folding_gives_the_scaled_logits() -> None:
    network = listener_network(1)
    audio = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    bias = torch.tensor([0.5, -1.0, 0.0, 2.0])
    with torch.no_grad():
        before = network(audio)
        module.fold(network.head.linear, 0.7, bias)
        assert torch.allclose(network(audio), 0.7 * before + bias, atol=1e-5)


def test_the_threshold_lets_few_unknown_clips_through() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(4).repeat(200)
    logits = torch.randn(800, 9, 4, generator=generator) + 3 * functional.one_hot(labels, 4)[:, None]
    threshold, accepted, missed = module.decide(logits, labels, 3)
    averaged = torch.stack([logits.softmax(-1)[:, at : at + 3].mean(1) for at in range(7)], 1)[..., 2:]
    peaks = averaged.amax(1)
    assert accepted == pytest.approx(float((peaks[labels == 1].amax(1) > threshold).float().mean()))
    assert accepted <= module.ACCEPTED + 1 / 200 or threshold == module.HIGHEST
    sure = 10 * functional.one_hot(2 + labels % 2, 4)[:, None].expand(-1, 9, -1).float()  # a keyword, whatever is said
    for highest in (module.HIGHEST, module.HIGHEST_SPLICED):
        assert module.decide(sure, labels, 3, highest)[0] == highest
    words = peaks[labels >= 2]
    right = (words.argmax(1) + 2 == labels[labels >= 2]) & (words.amax(1) > threshold)
    assert missed == pytest.approx(1 - float(right.float().mean()))


def test_splices_that_sound_like_keywords_raise_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(4).repeat(50)
    natural = [(6.0 * functional.one_hot(labels, 4)[:, None].expand(-1, 9, -1), labels)]
    sure = 9.0 * functional.one_hot(torch.full((50,), 2), 4)[:, None].expand(-1, 9, -1)
    clips = Clips(np.zeros((1, 16_000), np.float32), np.array([2]), ("a",), np.ones(1, bool))
    known = SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {})
    monkeypatch.setattr(Speech, "clip_end_hop", 8)
    found = []
    for splices in ([], [(sure, torch.ones(50, dtype=torch.long))]):
        network = listener_network(1)
        speech = Speech(known, network.stem, 3200, seed=0)
        heard = {False: natural, True: splices}
        monkeypatch.setattr(speech, "heard", lambda network, splices=False, heard=heard: heard[splices])
        found.append(module.calibrate(network, speech, 3))
    assert [each.threshold for each in found] == [module.LOWEST, module.HIGHEST_SPLICED]
    assert found[0].missed == found[1].missed == 0 and found[0].bias == found[1].bias


@pytest.mark.parametrize("seed", range(4))
def test_a_single_recorded_keyword_is_enough(seed: int) -> None:
    """Its copies may all be drawn to be spliced."""
    audio = (0.1 * np.random.default_rng(0).standard_normal((7, 16_000))).astype(np.float32)
    label = np.array([0, 0, 1, 1, 1, 1, 2])
    clips = Clips(audio, label, tuple("abcdefg"), np.ones(7, bool))
    network = listener_network(1)
    speech = Speech(
        SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {}), network.stem, 3200, seed
    )
    found = module.calibrate(network, speech, 3)
    assert all(map(math.isfinite, (found.accepted, found.missed, found.threshold, found.after)))


def test_a_network_is_calibrated_on_its_validation_clips() -> None:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((12, 16_000))).astype(np.float32)
    clips = Clips(audio, np.arange(12) % 4, tuple(str(one) for one in range(12)), np.ones(12, bool))
    data = SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {})
    network = listener_network(2)
    found = module.calibrate(network, Speech(data, network.stem, 3200, seed=0), 3)
    assert found.after <= found.before + 1e-4
    assert module.LOWEST <= found.threshold <= module.HIGHEST_SPLICED
    again = listener_network(2)
    assert module.calibrate(again, Speech(data, again.stem, 3200, seed=0), 3) == found


@pytest.mark.parametrize(("lead", "heard"), [(0.05, True), (-1.0, True), (-10.0, False)])
def test_silence_is_silence_whatever_the_clips_say(lead: float, heard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bias is as large as that takes, for no listener would be exported else; what lacks too much is left alone."""
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((12, 16_000))).astype(np.float32)
    clips = Clips(audio, np.full(12, 2), tuple(str(one) for one in range(12)), np.ones(12, bool))
    data = SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {})
    network = listener_network(2)
    speech = Speech(data, network.stem, 3200, seed=0)
    with torch.no_grad():
        silent = network(torch.zeros(1, 20 * 3200))[0]
        network.head.linear.bias[0] += (silent[:, 1:].max(1).values - silent[:, 0]).max() + lead
    assert speech.silence_lead(network) == pytest.approx(lead, abs=1e-4)
    assert speech.hears_silence(network) == (lead > 0)
    monkeypatch.setattr(module, "fitted", lambda _logits, _labels: (1.5, torch.tensor([-5.0, 0, 1, 0])))
    found = module.calibrate(network, speech, 3)
    assert found.scale == 1.5 and found.bias[1:] == (0.0, 1.0, 0.0)
    assert speech.hears_silence(network) == heard
    if heard:
        assert speech.silence_lead(network) == pytest.approx(module.SILENCE_LEAD, abs=1e-4)
    else:
        assert found.bias[0] == -5.0
