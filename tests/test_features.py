"""The log-mel front-end against torchaudio, on silence, and hop by hop."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from kws_demo.torchaudio_compat import import_torchaudio
from toolkit.features import FrontEndSpec, LogMel, mel_filters


def sounds() -> dict[str, Tensor]:
    seconds = torch.arange(16_000) / 16_000
    return {
        "noise": 0.1 * torch.randn(1, 16_000),
        "full scale": (2 * torch.randn(1, 16_000)).clamp(-1, 1),
        "chirp": (0.9 * torch.sin(2 * torch.pi * (100 + 3500 * seconds) * seconds))[None],
        "click": torch.eye(1, 16_000),
        "silence": torch.zeros(1, 16_000),
    }


@pytest.mark.parametrize("name", sorted(sounds()))
def test_equal_to_torchaudio(name: str) -> None:
    transforms = import_torchaudio().transforms
    oracle = transforms.MelSpectrogram(
        sample_rate=16_000,
        n_fft=480,
        hop_length=160,
        f_min=20,
        f_max=7600,
        n_mels=40,
        power=2,
        center=False,
        norm=None,
        mel_scale="htk",
    )
    audio = sounds()[name]
    expected = torch.log(oracle(torch.nn.functional.pad(audio, (320, 0))) + 1e-3)  # [1, mels, frames]
    layer = LogMel()
    torch.testing.assert_close(layer.log_mel(audio).transpose(1, 2), expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(layer(audio)[:, 0], expected - torch.log(torch.tensor(1e-3)), atol=2e-4, rtol=0)


def test_the_filters_are_torchaudios() -> None:
    expected = import_torchaudio().functional.melscale_fbanks(241, 20.0, 7600.0, 40, 16_000, norm=None, mel_scale="htk")
    torch.testing.assert_close(mel_filters(FrontEndSpec()).float(), expected, atol=1e-4, rtol=0)


def test_digital_silence_is_exactly_zero() -> None:
    features = LogMel()(torch.zeros(2, 4800))
    assert features.shape == (2, 1, 40, 30)
    assert torch.equal(features, torch.zeros_like(features))


@pytest.mark.parametrize("hop", [160, 640, 3200])
def test_hop_by_hop_equals_the_whole(hop: int) -> None:
    layer, audio = LogMel(), torch.randn(1, 9600).clamp(-1, 1)
    heard, parts = torch.zeros(1, layer.spec.history_samples), []
    for start in range(0, audio.shape[1], hop):
        heard = torch.cat([heard, audio[:, start : start + hop]], 1)
        parts.append(layer(heard)[..., -(hop // 160) :])
    torch.testing.assert_close(torch.cat(parts, -1), layer(audio), atol=1e-5, rtol=0)


def test_the_future_is_not_heard() -> None:
    layer, audio = LogMel(), torch.randn(1, 3200)
    changed = audio.clone()
    changed[:, 1600:] = 0
    assert torch.equal(layer(audio)[..., :10], layer(changed)[..., :10])
    assert not torch.equal(layer(audio)[..., 10], layer(changed)[..., 10])


def test_the_hash_names_the_specification() -> None:
    spec = FrontEndSpec()
    assert spec.sha256() == FrontEndSpec().sha256() and len(spec.sha256()) == 64
    changed = [replace(spec, **{field.name: getattr(spec, field.name) * 2}) for field in fields(spec)]
    assert len({spec.sha256(), *(other.sha256() for other in changed)}) == 1 + len(changed)
    described = spec.describe()
    assert (described["mels"], described["window_samples"], described["hop_samples"], described["floor"]) == (
        40,
        480,
        160,
        1e-3,
    )
    assert spec.bins == 241 and spec.history_samples == 320
