"""torchaudio can be imported beside any torch, and is left alone where it imports plainly."""

import sys
from types import ModuleType

import pytest
import torch

from kws_demo.torchaudio_compat import import_torchaudio


def test_what_is_used_of_torchaudio_works() -> None:
    torchaudio = import_torchaudio()
    mels = torchaudio.transforms.MelSpectrogram(16000, n_fft=480, hop_length=160, n_mels=40)(torch.ones(16000))
    assert mels.shape == (40, 101) and hasattr(torchaudio.datasets, "SPEECHCOMMANDS")
    assert import_torchaudio() is torchaudio


def test_a_plain_import_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ModuleType("torchaudio")
    monkeypatch.setitem(sys.modules, "torchaudio", plain)
    assert import_torchaudio() is plain
