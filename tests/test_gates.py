"""The policies that choose a mode of every hop: what opens them, when they close, and that none hears the future."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_demo.gates import (
    GATES,
    Cascade,
    Energy,
    Heard,
    Learned,
    Oracle,
    Policy,
    Random,
    Static,
    Voiced,
    dialled,
    held,
)
from toolkit.adaptive import AdaptiveNetwork, gate
from toolkit.errors import MilliwiseError, MissingExtra
from toolkit.spaces import kws_gated

HOP, HOPS, LABELS = 3200, 40, 4
SPOKEN = range(20, 25)  # hops
NETWORK_HOP = 640  # 40 ms: the shortest


def heard(audio: np.ndarray | None = None, **changed: Any) -> Heard:
    """A stream of four modes on faint noise, louder in the hops of SPOKEN, of which the second mode is sure."""
    rng = np.random.default_rng(3)
    if audio is None:
        audio = rng.normal(0, 0.001, HOP * HOPS).astype(np.float32)
        audio[HOP * SPOKEN.start : HOP * SPOKEN.stop] *= 100
    scores = rng.dirichlet(np.ones(LABELS), (HOPS, 4)).astype(np.float32)
    given_ = {"audio": audio, "hop_samples": HOP, "sinks": torch.zeros(HOPS, 4, 2), "scores": scores}
    return Heard(**{**given_, **changed})


def buzz(hops: int, seed: int = 0) -> np.ndarray:
    """What sounds like a voice: a pulse train at 120 Hz through two formants, [samples]."""
    time = np.arange(hops * HOP) / 16_000
    wave = sum(np.sin(2 * np.pi * 120 * k * time) * np.exp(-((120 * k - 700) ** 2) / 2e5) for k in range(1, 30))
    return np.asarray(0.3 * wave / np.abs(wave).max() * (1 + 0.5 * np.sin(2 * np.pi * 4 * time)), np.float32)


@pytest.fixture(scope="module", params=["hearing", "recurrent"])
def adaptive(request: pytest.FixtureRequest) -> AdaptiveNetwork:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = gate(kws_gated.build(LABELS, hop_ms=40), kws_gated.GATED, request.param).eval()
    for linear in (each for each in network.controller.modules() if isinstance(each, torch.nn.Linear)):
        torch.nn.init.normal_(linear.weight, 0, 2.0)
        torch.nn.init.zeros_(linear.bias)
    return network


def roll(adaptive: AdaptiveNetwork, hops: int = 30) -> Heard:
    audio = np.random.default_rng(5).normal(0, 0.1, NETWORK_HOP * hops).astype(np.float32)
    sinks = torch.randn(hops, len(adaptive.modes), adaptive.controller.channels, generator=torch.manual_seed(6))
    return Heard.by(adaptive, audio, NETWORK_HOP, sinks.half())


def test_a_static_policy_is_one_mode_from_either_end() -> None:
    assert Static(2)(heard()).tolist() == [2] * HOPS and Static(-1)(heard()).tolist() == [3] * HOPS
    assert Static(0)(heard()).dtype == np.int64


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 6))
def test_a_gate_is_held_for_its_hangover(opened: list[bool], hops: int) -> None:
    expected = [any(opened[max(0, hop - hops) : hop + 1]) for hop in range(len(opened))]
    assert held(np.array(opened, bool), hops).tolist() == expected


def test_the_energy_gate_opens_when_it_gets_louder_and_closes_after_its_hangover() -> None:
    modes = Energy(20, hangover=3)(heard())
    assert np.flatnonzero(modes == 3).tolist() == list(range(SPOKEN.start, SPOKEN.stop + 3)) and modes.dtype == np.int64
    assert set(modes.tolist()) == {0, 3}
    assert not Energy(41, hangover=3)(heard()).any()  # it is 40 dB louder
    assert (Energy(20, shut=1, open=2)(heard())[[0, 20]] == [1, 2]).all()


def test_the_noise_floor_follows_the_noise() -> None:
    """A louder room opens the gate for a while, not for ever; a level alone opens nothing."""
    rng = np.random.default_rng(2)
    audio = rng.normal(0, 0.001, 400 * HOP).astype(np.float32)
    audio[100 * HOP :] *= 30
    stream = heard(audio, sinks=torch.zeros(400, 4, 2), scores=np.zeros((400, 4, LABELS), np.float32))
    modes = Energy(15, hangover=0)(stream)
    assert modes[100:140].all() and not modes[:100].any() and not modes[160:].any()
    assert not Energy(15)(heard(np.full(HOP * HOPS, 0.5, np.float32))).any()
    silent = Energy(15)(heard(np.pad(rng.normal(0, 2e-5, 20 * HOP), (20 * HOP, 0)).astype(np.float32)))
    assert not silent.any()  # digital silence is no quieter than the noise of a microphone


def test_the_voice_gate_opens_for_voices_only() -> None:
    pytest.importorskip("webrtcvad", reason="webrtcvad-wheels is not installed")
    audio = np.random.default_rng(1).normal(0, 0.001, HOP * HOPS).astype(np.float32)
    audio[HOP * 20 : HOP * 30] += buzz(10)
    for aggressiveness in range(4):
        modes = Voiced(0.5, aggressiveness=aggressiveness, hangover=0)(heard(audio))
        assert modes[22:30].all() and not modes[1:20].any() and not modes[-3:].any()  # it learns in the first hop
    opened = [Voiced(share, aggressiveness=1)(heard(audio)).sum() for share in Voiced.tried]
    assert opened == sorted(opened, reverse=True) and not Voiced(1.0)(heard(audio)).any()


def test_the_frames_of_the_voice_gate_go_on_over_the_ends_of_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a detector that says whether any sample is above 0: the frame that ends in a hop opens it."""

    class Detector:
        def __init__(self, _aggressiveness: int) -> None:
            pass

        def is_speech(self, frame: bytes, rate_hz: int) -> bool:
            assert rate_hz == 16_000 and len(frame) == 960
            return bool(np.frombuffer(frame, "<i2").any())

    monkeypatch.setattr(importlib, "import_module", lambda _name: type("module", (), {"Vad": Detector}))
    for sample in (0, 3199, 3200, 3360, 50_000, 121_000):
        audio = np.zeros(HOP * HOPS, np.float32)
        audio[sample] = 2.0  # too loud, and a gap
        audio[0 if sample else 1] = np.nan
        end = (sample // 480 + 1) * 480 - 1
        assert np.flatnonzero(Voiced(0, hangover=0)(heard(audio))).tolist() == [end // HOP]


def test_without_webrtcvad_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"webrtcvad-wheels: pip install 'milliwise\[dev\]'"):
        Voiced(0.5)(heard())
    with pytest.raises(MilliwiseError, match="aggressiveness of 4"):
        Voiced(0.5, aggressiveness=4)


def test_the_cascade_runs_the_big_network_between_its_thresholds() -> None:
    scores = np.zeros((HOPS, 4, LABELS), np.float32)
    scores[:, 0] = [0.9, 0.08, 0.01, 0.01]
    scores[5, 0] = [0.3, 0.3, 0.15, 0.25]
    scores[6, 0] = [0.03, 0.02, 0.9, 0.05]
    scores[7, 3] = [0, 0, 1, 0]  # what the big one would say decides nothing
    stream = heard(scores=scores)
    assert np.flatnonzero(Cascade(0.2, high=0.8)(stream)).tolist() == [5]
    assert np.flatnonzero(Cascade(0.2)(stream)).tolist() == [5, 6]
    assert np.flatnonzero(Cascade(0.3)(stream)).tolist() == [6]
    assert np.flatnonzero(Cascade(0.3, summed=True)(stream)).tolist() == [5, 6]  # 0.15 + 0.25 is 0.4
    assert np.flatnonzero(Cascade(0.2, high=0.8, hangover=1)(stream)).tolist() == [5, 6]
    assert np.flatnonzero(Cascade(0.5, shut=3)(stream) == 0).tolist() == []


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 3))
def test_chance_does_as_often_and_as_long_what_another_policy_does(modes: list[int], seed: int) -> None:
    def stretches(values: list[int]) -> list[tuple[int, int]]:
        return [(mode, len(list(hops))) for mode, hops in groupby(values)]

    drawn = Random(lambda _heard: np.array(modes, np.int64), seed=seed)(heard()).tolist()
    assert sorted(stretches(drawn)) == sorted(stretches(modes))
    assert Counter(pairwise(drawn)) == Counter(pairwise(modes))  # what it costs to begin


def test_chance_is_another_one_with_another_seed() -> None:
    modes = np.repeat([0, 1, 0, 2] * 20, np.arange(80) + 1)
    drawn = [Random(lambda _heard: modes, seed=seed)(heard()).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and modes.tolist() not in drawn


def test_the_oracle_opens_around_words() -> None:
    labels = np.zeros(HOPS, np.int64)
    labels[10:12], labels[30], labels[-1] = 2, 1, -7  # a keyword, an unknown word, padding
    stream = heard(labels=labels)
    assert np.flatnonzero(Oracle(0)(stream)).tolist() == [10, 11, 30]
    assert np.flatnonzero(Oracle(1)(stream)).tolist() == [9, 10, 11, 12, 29, 30, 31]
    assert np.flatnonzero(Oracle(1, unknown=False)(stream)).tolist() == [9, 10, 11, 12]
    with pytest.raises(MilliwiseError, match="needs the labels"):
        Oracle(0)(heard())


def test_the_controller_of_a_network_chooses_as_the_network_does(adaptive: AdaptiveNetwork) -> None:
    stream = roll(adaptive)
    with torch.no_grad():
        rolled = adaptive.roll(stream.sinks[None].float())
    modes = Learned(0, adaptive)(stream)
    assert modes.tolist() == rolled.modes[0].tolist() and len(set(modes.tolist())) > 1
    np.testing.assert_allclose(stream.scores_of(modes), rolled.logits[0].softmax(-1).numpy(), atol=1e-6)


def test_a_gate_opens_when_its_log_odds_exceed_the_dial(adaptive: AdaptiveNetwork) -> None:
    stream = roll(adaptive)
    chosen = dialled(adaptive, stream, [-1e9, -1.0, 0.5, 1e9])
    assert (chosen[0] == stream.modes - 1).all() and (chosen[-1] == 0).all()
    dial = torch.tensor([0.5, -0.5])
    with torch.no_grad():
        rolled = adaptive.roll(stream.sinks[None].float(), dial=dial)
    assert torch.equal(rolled.decisions, rolled.log_odds > dial)
    assert chosen[2].tolist() == Learned(0.5, adaptive)(stream).tolist()
    if adaptive.kind == "hearing":  # what it decided does not change what it hears
        gates = np.array(adaptive.choices).sum(1)[adaptive.mode_of.argsort()]
        assert (np.diff(gates[chosen], axis=0) <= 0).all()


CAUSAL: dict[str, Callable[[AdaptiveNetwork], Policy]] = {
    "energy": lambda _: Energy(1),
    "vad": lambda _: Voiced(0.1),
    "cascade": lambda _: Cascade(0.3),
    "learned": lambda network: Learned(0.2, network),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_what_comes_later_changes_no_choice(name: str, adaptive: AdaptiveNetwork) -> None:
    if name == "vad":
        pytest.importorskip("webrtcvad", reason="webrtcvad-wheels is not installed")
    policy, whole = CAUSAL[name](adaptive), roll(adaptive)
    half = Heard(whole.audio[: 15 * NETWORK_HOP], NETWORK_HOP, whole.sinks[:15], whole.scores[:15])
    assert policy(whole)[:15].tolist() == policy(half).tolist()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(set(GATES) - {"learned", "random", "vad"})), st.integers(0, 3))
def test_every_gate_of_the_table_takes_what_it_is_swept_over_first(name: str, place: int) -> None:
    parameter = ([*GATES[name].tried] or [0, 1, 2, 3])[place]  # type: ignore[attr-defined]
    modes = GATES[name](parameter)(heard(labels=np.zeros(HOPS, np.int64)))
    assert modes.shape == (HOPS,) and modes.dtype == np.int64 and set(modes.tolist()) <= set(range(4))


def test_parts_of_different_streams_are_refused() -> None:
    with pytest.raises(MilliwiseError, match=r"\[39, 40\] hops"):
        heard(sinks=torch.zeros(39, 4, 2))
    with pytest.raises(MilliwiseError, match="those of one stream"):
        heard(labels=np.zeros(39, np.int64))
