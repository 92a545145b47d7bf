"""Everything that is checked of an adaptive listener before it is written: every choice and score, against torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporters.adaptive import file_modes, mode_names, modes_after, to_adaptive_onnx
from exporters.adaptive_bundle import to_bundle
from exporters.bundle_manifest import TRUNK
from exporters.listener import Listener
from exporters.verify import SCORE_TOLERANCE, check_silence, check_valid, signals
from toolkit.adaptive import AdaptiveNetwork, Rollout
from toolkit.errors import MilliwiseError
from toolkit.progress import progress

HOPS = 10_000
STREAM_HOPS = 250  # each heard from its start; torch computes all modes of all its hops at once
ALWAYS = 1e6  # log-odds that no gate has
EXEMPT = 1e-4  # of a probability from one half: rounding decides
MAX_EXEMPT = 0.01  # share of hops


@dataclass(frozen=True)
class AdaptiveVerification:
    """How an exported file differs from torch.

    Attributes:
        hops: compared.
        exempt: those in which a gate's probability was so near one half that rounding decides.
        scores: largest absolute difference of a score.
        modes: how many hops each mode of the file ran, by its name.
    """

    hops: int
    exempt: int
    scores: float
    modes: dict[str, int]

    @property
    def max_abs_diff(self) -> float:
        """Of the scores."""
        return self.scores


def verify_adaptive(path: Path, adaptive: AdaptiveNetwork, hops: int = HOPS, seed: int = 0) -> AdaptiveVerification:
    """Check a file, or a bundle's folder: the checker, its weights, and every choice and score over hard audio.

    In every second stream the dial is turned all the time, so that modes are reached from modes whatever the controller
    would choose of this audio.

    Raises:
        MilliwiseError: a check fails; the message says which and by how much.
    """
    _check_same(Path(path), adaptive)
    listener = Listener.open(path)
    adaptive = adaptive.eval().cpu()
    names, seen = mode_names(adaptive), np.zeros(len(mode_names(adaptive)), np.int64)
    exempt, worst, done = 0, 0.0, 0
    with progress("verifying the export", hops) as advance:
        for place, audio in enumerate(streams(hops, listener.hop_samples, seed)):
            turning = np.random.default_rng((seed, place)) if place % 2 else None
            modes, difference, spared = _compare(listener, adaptive, audio, turning)
            seen += np.bincount(modes, minlength=len(names))
            exempt, worst, done = exempt + spared, max(worst, difference), done + len(modes)
            advance(len(modes))
    if exempt > MAX_EXEMPT * done:
        raise MilliwiseError(
            f"export refused: in {exempt} of {done} hops a gate is so near one half that rounding decides, more than "
            f"{MAX_EXEMPT:.0%}, so its choices cannot be checked; train the controller longer"
        )
    check_silence(listener)
    return AdaptiveVerification(done, exempt, worst, dict(zip(names, seen.tolist(), strict=True)))


def streams(hops: int, hop_samples: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Hard audio of so many hops in streams of at most 250: pieces of silence, noise and chirps that come and go."""
    rng = np.random.default_rng(seed)
    for first in range(0, hops, STREAM_HOPS):
        samples = min(STREAM_HOPS, hops - first) * hop_samples
        pieces: list[NDArray[np.float32]] = []
        while sum(map(len, pieces)) < samples:
            length = int(rng.integers(1, 12) * hop_samples * rng.uniform(0.3, 1))
            kind = list(signals(length, int(rng.integers(2**31))))[rng.integers(4)]
            syllables = np.abs(np.sin(np.pi * rng.uniform(2, 6) * np.arange(length) / 16_000))
            loudness = 10 ** rng.uniform(-2, 0) * (syllables if rng.random() < 0.5 else 1)
            pieces.append((kind * loudness).astype(np.float32))
        yield np.concatenate(pieces)[:samples]


def _check_same(path: Path, adaptive: AdaptiveNetwork) -> None:
    """Whether a file, or every file of a bundle, is what this network gives."""
    first = onnx.load(path / TRUNK if path.is_dir() else path)
    shape = tuple(size.dim_value for size in first.graph.input[0].type.tensor_type.shape.dim)
    opset = first.opset_import[0].version
    if path.is_dir():
        expected = {path / name: model for name, model in to_bundle(adaptive, shape, opset)[1].items()}
    else:
        expected = {path: to_adaptive_onnx(adaptive, shape, opset)}
    for file, again in expected.items():
        model = onnx.load(file)
        check_valid(model)
        if again.graph != model.graph:
            raise MilliwiseError("export refused: the graph is not what this network gives, or its weights are others")


def _compare(
    listener: Listener, adaptive: AdaptiveNetwork, audio: NDArray[np.float32], turning: np.random.Generator | None
) -> tuple[NDArray[np.int64], float, int]:
    """The file's modes of a stream, the largest difference of a score, and how many hops were exempt."""
    with torch.no_grad():
        sinks = adaptive.sink_values(adaptive.network.stem(torch.from_numpy(audio)[None]))
        odds = adaptive.roll(sinks).log_odds[0]
        dials = torch.zeros_like(odds) if turning is None else _turned(odds, turning)
        modes, scores = _heard(listener, audio, dials)
        ran = torch.tensor([file_modes(adaptive)[mode][0] for mode in modes])
        rollout = adaptive.roll(sinks, modes=ran[None])
    near = ((rollout.log_odds[0] - dials).sigmoid() - 0.5).abs().lt(EXEMPT).any(1).numpy()
    expected = _expected(adaptive, rollout, dials)
    if (wrong := np.flatnonzero((modes != expected) & ~near)).size:
        names = mode_names(adaptive)
        raise MilliwiseError(
            f"export refused: {wrong.size} of {len(modes)} choices differ from torch, the first in hop {wrong[0]}: "
            f"{names[modes[wrong[0]]]!r} instead of {names[expected[wrong[0]]]!r}; please report this network"
        )
    difference = float(np.abs(scores - rollout.logits[0].softmax(-1).numpy()).max())
    if not difference <= SCORE_TOLERANCE:
        raise MilliwiseError(
            f"export refused: scores differ from torch by {difference:.2g}, more than {SCORE_TOLERANCE:g}; "
            "please report this network"
        )
    return modes, difference, int(near.sum())


def _expected(adaptive: AdaptiveNetwork, rollout: Rollout, dials: Tensor) -> NDArray[np.int64]:
    """What torch would choose at every hop after what the file ran before, as the file counts modes."""
    places = 2 ** torch.arange(len(adaptive.gated))
    chosen = adaptive.mode_of[((rollout.log_odds[0] > dials) * places).sum(1)].tolist()
    table = modes_after(adaptive)
    before = [0, *rollout.modes[0, :-1].tolist()]
    return np.array([table[pair] for pair in zip(before, chosen, strict=True)])


def _turned(odds: Tensor, turning: np.random.Generator) -> Tensor:
    """A dial for every hop, [hops, gates]: each gate is shut, open or decided about, for some hops each."""
    hops, gates = odds.shape
    middle = [(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2 for values in map(torch.unique, odds.T)]
    positions = torch.stack([torch.full((gates,), ALWAYS), torch.stack(middle), torch.full((gates,), -ALWAYS)])
    chosen = turning.integers(3, size=(hops, gates))
    for hop in np.flatnonzero(turning.random(hops) < 0.6)[1:]:
        chosen[hop] = chosen[hop - 1]
    return positions.gather(0, torch.from_numpy(chosen))


def _heard(
    listener: Listener, audio: NDArray[np.float32], dials: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    listener.reset()
    modes, scores = [], []
    for hop, dial in zip(audio.reshape(-1, listener.hop_samples), dials.numpy(), strict=True):
        listener.set_dial(dial)
        heard = listener.push(hop)
        modes.append(heard.mode)
        scores.append(heard.probabilities)
    listener.set_dial(np.zeros_like(dial))
    listener.reset()
    return np.array(modes, np.int64), np.stack(scores)
