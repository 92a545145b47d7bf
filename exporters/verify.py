"""Everything that is checked of a listener before it is written, against the torch network it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from exporters.listener import Listener, session_options
from exporters.onnx import folded, to_onnx, with_properties
from toolkit.errors import MilliwiseError
from toolkit.features import log_mel_of
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv, WindowHead
from toolkit.progress import progress
from toolkit.supernet import SuperNetwork

SCORE_TOLERANCE = 1e-5  # over single clips
FEATURE_TOLERANCE = 1e-3
STREAM_TOLERANCE = 1e-4  # after a thousand hops
STREAM_HOPS = 1000


@dataclass(frozen=True)
class Verification:
    """Largest absolute differences between the exported file and torch."""

    scores: float
    features: float
    stream: float
    hops: int
    initializers: int

    @property
    def max_abs_diff(self) -> float:
        """Of the scores, over clips and the long stream."""
        return max(self.scores, self.stream)


def verify(path: Path, network: SuperNetwork, hops: int = STREAM_HOPS) -> Verification:
    """Check a written listener file: the checker, its initialisers, parity, streaming against offline, silence.

    Raises:
        MilliwiseError: a check fails; the message says which and by how much.
    """
    model = onnx.load(path)
    check_valid(model)
    counted = check_initializers(model, network)
    listener = Listener.open(path)
    hop = listener.hop_samples
    network = network.eval().cpu()
    pieces = list(signals(hops // 4 * hop, hop))
    with progress("verifying the export", 4 * 8 + hops) as advance:
        scores = 0.0
        for signal in signals(8 * hop, hop):
            scores = max(scores, _difference(listener, network, signal))
            advance(8)
        features = _feature_difference(network, hop)
        stream = _difference(listener, network, np.concatenate(pieces))
        advance(hops)
    for what, value, limit in (
        ("scores differ from torch", scores, SCORE_TOLERANCE),
        ("features differ from torch", features, FEATURE_TOLERANCE),
        (f"scores of a stream of {hops} hops differ from the whole at once", stream, STREAM_TOLERANCE),
    ):
        if not value <= limit:
            raise MilliwiseError(
                f"export refused: {what} by {value:.2g}, more than {limit:g}; please report this network"
            )
    check_silence(listener)
    return Verification(scores, features, stream, hops // 4 * 4, counted)


def signals(samples: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Hard audio of that length, float32 in −1…1: digital silence, noise, a loud chirp, noise at full scale."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(samples) / 16_000
    yield np.zeros(samples, np.float32)
    yield rng.normal(0, 0.1, samples).astype(np.float32)
    yield (0.9 * np.sin(2 * np.pi * (200 + 2000 * seconds % 7000) * seconds)).astype(np.float32)
    yield np.clip(rng.normal(0, 2, samples), -1, 1).astype(np.float32)


def check_initializers(model: onnx.ModelProto, network: SuperNetwork) -> int:
    """Every initialiser is the (folded) parameter of a live layer, and every such parameter is there; their number.

    Raises:
        MilliwiseError: one is missing, superfluous or of another value.
    """
    shape = tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim)
    again = to_onnx(network, shape, model.opset_import[0].version)
    # What a trace or a writer of others makes of a layer is known to it alone; ours are computed here, too.
    expected = {**_initializers(again), **dict(_parameters(network))}
    found = _initializers(model)
    if odd := sorted(expected.keys() ^ found.keys()):
        raise MilliwiseError(
            f"export refused: initialiser {odd[0]} is {'missing' if odd[0] in expected else 'of no live layer'}"
        )
    for name, array in expected.items():
        if not np.array_equal(array, found[name]):
            raise MilliwiseError(f"export refused: initialiser {name} differs from the layer it was folded from")
    return len(found)


def _initializers(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _parameters(network: SuperNetwork) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for root, part in [*network.operations.items(), ("head", network.head)]:
        for name, module in part.named_modules(prefix=root):
            if isinstance(module, CausalConv):
                weight, bias = folded(module)
            elif isinstance(module, WindowHead):
                weight, bias = (value.detach().numpy() for value in (module.linear.weight.T, module.linear.bias))
            else:
                continue
            yield f"{name}.weight", weight
            yield f"{name}.bias", bias


def stream(listener: Listener, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [hops, labels] of a fresh listener over audio [samples]."""
    listener.reset()
    hops = audio[: len(audio) // listener.hop_samples * listener.hop_samples].reshape(-1, listener.hop_samples)
    return np.stack([listener.push(hop).probabilities for hop in hops])


def offline(network: SuperNetwork, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [hops, labels] of the torch network over the whole audio [samples] at once."""
    with torch.no_grad():
        result: NDArray[np.float32] = network(torch.from_numpy(audio)[None])[0].softmax(-1).numpy()
    return result


def _difference(listener: Listener, network: SuperNetwork, audio: NDArray[np.float32]) -> float:
    return float(np.abs(stream(listener, audio) - offline(network, audio)).max())


def _feature_difference(network: SuperNetwork, hop: int) -> float:
    """Of the log-mel features alone, hop by hop with explicit state, against the torch front-end."""
    stem = log_mel_of(network.stem)
    if stem is None:
        return 0.0
    graph = Graph((Edge("stem", "audio", "features"),), "audio", "features")
    alone = SuperNetwork(graph, {"stem": nn.Identity()}, stem, nn.Identity())
    session = onnxruntime.InferenceSession(with_properties(to_onnx(alone, (1, hop)), {}), session_options())
    worst = 0.0
    for signal in signals(8 * hop):
        state = np.zeros((1, stem.spec.history_samples), np.float32)
        parts = []
        for start in range(0, len(signal), hop):
            part, state = session.run(None, {"audio": signal[None, start : start + hop], "state_in_audio": state})
            parts.append(part)
        whole = stem(torch.from_numpy(signal)[None]).numpy()
        worst = max(worst, float(np.abs(np.concatenate(parts, 3) - whole).max()))
    return worst


def check_valid(model: onnx.ModelProto) -> None:
    """Whether onnx's own checker passes it.

    Raises:
        MilliwiseError: it does not; with its reason.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise MilliwiseError(f"the exported graph is not valid ONNX ({error}): please report this network") from None


def check_silence(listener: Listener) -> None:
    """Whether digital silence is heard as silence from the first hop.

    Raises:
        MilliwiseError: it is not; with the label.
    """
    heard = stream(listener, np.zeros(20 * listener.hop_samples, np.float32)).argmax(1)
    if heard.any():
        label = listener.labels[int(heard[heard != 0][0])]
        raise MilliwiseError(f"export refused: digital silence is heard as {label!r}; train longer, or on more silence")
