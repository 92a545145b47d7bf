"""Google's speech embedding: what a network that heard very many people makes of every moment of speech.

Lin et al. 2020, "Training Keyword Spotters with Limited and Synthesized Speech Data" (https://arxiv.org/abs/2002.01322).
Its two files come with openwakeword 0.4.0, Apache-2.0; they are read, and nothing of that package is run.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from toolkit.errors import MilliwiseError, MissingExtra, printable

PACKAGE, EXTRA = "openwakeword", "teacher"
MELS, EMBEDDING = (
    ("melspectrogram.onnx", "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f"),
    ("embedding_model.onnx", "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51"),
)
SIZE = 96  # numbers of an embedding
BANDS, FRAMES, STRIDE = 32, 76, 8  # mel bands; frames of 10 ms that an embedding is of, and from one to the next
STRIDE_SAMPLES = STRIDE * 160
FULL_SCALE = 32_767.0  # it was taught with 16-bit samples


class SpeechEmbedding:
    """Audio to embeddings of 775 ms each, one every 80 ms.

    Raises:
        MilliwiseError: the package is not installed, or its files are not those of 0.4.0.
    """

    def __init__(self) -> None:
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise MissingExtra(PACKAGE, EXTRA)
        folder = Path(found.origin).parent / "resources" / "models"
        self._mels = _session(_read(folder, *MELS))
        self._embed = _session(_over_time(_read(folder, *EMBEDDING)))

    def __call__(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Audio [batch, samples] at 16 kHz in -1..1, of 0.8 s or more, to all its embeddings [batch, windows, 96]."""
        samples = (FULL_SCALE * np.clip(audio, -1, 1)).astype(np.float32)
        mels = self._mels.run(None, {self._mels.get_inputs()[0].name: samples})[0]
        mels = mels.reshape(len(audio), -1, BANDS, 1) / 10 + 2  # as the embedding was taught
        frames = FRAMES + (mels.shape[1] - FRAMES) // STRIDE * STRIDE
        # The last embedding ends with the audio.
        found = self._embed.run(None, {self._embed.get_inputs()[0].name: mels[:, -frames:]})[0]
        return np.asarray(found[..., 0].transpose(0, 2, 1), np.float32)


def _read(folder: Path, name: str, sha256: str) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise MilliwiseError(
            f"cannot read {printable(folder / name)} ({error.strerror}): pip install 'milliwise[{EXTRA}]' again"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise MilliwiseError(
            f"{printable(folder / name)} is not that of {PACKAGE} 0.4.0: pip install 'milliwise[{EXTRA}]' again"
        )
    return content


def _over_time(content: bytes) -> bytes:
    """The embedding of one window as one of every window of a longer input: nothing in it is padded in time.

    So what neighbouring windows share is computed once. Its first reshape names the frames, its last one drops them.
    """
    model = onnx.load_from_string(content)
    first, last = (node for node in model.graph.node if node.op_type == "Reshape")
    shape = next(each for each in model.graph.initializer if each.name == first.input[1])
    shape.CopyFrom(numpy_helper.from_array(np.array([0, 1, -1, BANDS + 2], np.int64), shape.name))
    unused = next(each for each in model.graph.initializer if each.name == last.input[1])
    value = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, ["batch", SIZE, "windows", 1])
    model.graph.node.remove(last)
    model.graph.initializer.remove(unused)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "frames"
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.append(value)
    return bytes(model.SerializeToString())


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the other cores train meanwhile
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
