"""The speech embedding: longer audio gives what its own file gives window by window; damaged files are refused."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from kws_demo import speech_embedding as module
from kws_demo.speech_embedding import FRAMES, STRIDE, SpeechEmbedding
from toolkit.errors import MilliwiseError, MissingExtra


@pytest.fixture(scope="module")
def models() -> Path:
    found = find_spec("openwakeword")
    if found is None or found.origin is None:
        pytest.skip("openwakeword is not installed: pip install 'milliwise[teacher]' to run this test")
    return Path(found.origin).parent / "resources" / "models"


def test_every_window_is_embedded_as_by_the_file_itself(models: Path) -> None:
    audio = (0.1 * np.random.default_rng(0).standard_normal((3, 25_600))).astype(np.float32)
    mels = onnxruntime.InferenceSession(models / "melspectrogram.onnx")
    features = mels.run(None, {mels.get_inputs()[0].name: 32_767 * audio})[0].reshape(3, -1, 32, 1) / 10 + 2
    single = onnxruntime.InferenceSession(models / "embedding_model.onnx")
    found = SpeechEmbedding()(audio)
    assert found.shape == (3, 11, 96) and found.dtype == np.float32
    for back in range(11):
        stop = features.shape[1] - STRIDE * back
        (expected,) = single.run(None, {single.get_inputs()[0].name: features[:, stop - FRAMES : stop]})
        assert np.abs(found[:, 10 - back] - expected.reshape(3, 96)).max() < 1e-3
    assert np.abs(found).mean() > 1 and np.abs(found[0] - found[1]).max() > 1


def _installed_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: ModuleSpec(name, None, origin=str(folder / "__init__.py")))


def test_files_that_are_not_those_of_the_release_are_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed_in(tmp_path, monkeypatch)
    with pytest.raises(MilliwiseError, match=r"cannot read .*melspectrogram.onnx .*'milliwise\[teacher\]' again"):
        SpeechEmbedding()
    copy = tmp_path / "resources" / "models"
    copy.mkdir(parents=True)
    for name in ("melspectrogram.onnx", "embedding_model.onnx"):
        (copy / name).write_bytes((models / name).read_bytes())
    SpeechEmbedding()
    damaged = bytearray((copy / "embedding_model.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / "embedding_model.onnx").write_bytes(damaged)
    with pytest.raises(MilliwiseError, match=r"embedding_model.onnx is not that of openwakeword 0.4.0"):
        SpeechEmbedding()


def test_without_the_package_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs the package openwakeword: pip install 'milliwise\[teacher\]'"):
        SpeechEmbedding()
