"""Scores that mean the same for every word and every listener, by voices that did not train.

A scale and a bias per label make the scores probabilities; then all keywords are lowered together until the usual
threshold lets through the same small share of unknown words whatever the listener was taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kws_demo.train import Speech
from toolkit.layers import WindowHead
from toolkit.supernet import SuperNetwork

PULL = 0.02  # on the bias: few clips do not move it far
ACCEPTED = 0.05  # of the unknown clips, by the threshold
LOWERED = -2.0, 8.0  # logits of keywords may be raised a little, and lowered as far as needed
HALVINGS = 30
NEWTON_STEPS = 20
LEAST_SCALE, MOST_SCALE = 0.1, 3.0  # few clips that are easily told apart would make every score 0 or 1


@dataclass(frozen=True)
class Calibration:
    """What was done to the logits, and what it brought.

    Attributes:
        scale, bias: logits become `scale` · logits + `bias` [labels] (vector scaling, Guo et al. 2017).
        before, after: mean negative log-likelihood of the validation clips, before the keywords are lowered.
        lowered: what was then taken off the logits of all keywords.
        accepted: the share of the unknown validation clips whose averaged score exceeds the threshold; about 5 %.
        missed: the share of the keywords that do not exceed it, or are taken for others.
    """

    scale: float
    bias: tuple[float, ...]
    before: float
    after: float
    lowered: float
    accepted: float
    missed: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}


def calibrate(network: SuperNetwork, speech: Speech, average_hops: int, threshold: float) -> Calibration:
    """Fold a calibration into the last layer of a listener.

    Args:
        network: with a `WindowHead`.
        speech: its validation clips are heard in a stream, augmented.
        average_hops: scores that a decision averages.
        threshold: what an averaged score has to exceed.
    """
    heard = [(logits.cpu(), labels.cpu()) for logits, labels in speech.heard(network)]
    logits, labels = (torch.cat([pair[place] for pair in heard]) for place in (0, 1))
    spoken = logits[:, speech.clip_end_hop]
    scale, bias = fitted(spoken, labels)
    before, after = (functional.cross_entropy(value, labels).item() for value in (spoken, scale * spoken + bias))
    keywords = torch.arange(len(bias)) >= 2
    lowered = lowering(scale * logits + bias, labels, average_hops, threshold)
    bias = bias - lowered * keywords
    assert isinstance(network.head, WindowHead)
    fold(network.head.linear, scale, bias)
    accepted, missed = shares(scale * logits + bias, labels, average_hops, threshold)
    return Calibration(scale, tuple(bias.tolist()), before, after, lowered, accepted, missed)


def fitted(logits: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """The scale and bias [labels] that make logits [N, labels] most likely for `labels` [N].

    The likelihood is concave in both, so a few Newton steps, halved where one is too long, find its only maximum.
    """
    count = logits.shape[1]
    # Each logit is the scalar product of the parameters (the scale, then the biases) with a row of this.
    biases = torch.eye(count, dtype=torch.double).expand(len(logits), -1, -1)
    inputs = torch.cat([logits.double()[..., None], biases], 2)
    pull = torch.tensor([0.0] + [2 * PULL / count] * count, dtype=torch.double)
    found = torch.tensor([1.0] + [0.0] * count, dtype=torch.double)

    def loss(parameters: Tensor) -> Tensor:
        return functional.cross_entropy(inputs @ parameters, labels) + (pull * parameters.square()).sum() / 2

    for _ in range(NEWTON_STEPS):
        chances = (inputs @ found).softmax(1)
        mean = torch.einsum("nl,nlp->np", chances, inputs)
        right = inputs[torch.arange(len(labels)), labels]
        gradient = (mean - right).mean(0) + pull * found
        second = torch.einsum("nl,nlp,nlq->pq", chances, inputs, inputs) - mean.T @ mean
        step = torch.linalg.solve(second / len(labels) + torch.diag(pull + 1e-9), gradient)
        while loss(found - step) > loss(found) and step.abs().max() > 1e-9:
            step = step / 2
        found = found - step
    return min(MOST_SCALE, max(LEAST_SCALE, float(found[0]))), found[1:].float()


def fold(linear: nn.Linear, scale: float, bias: Tensor) -> None:
    """Put a calibration into the layer that makes the logits: the exported graph stays as it is."""
    with torch.no_grad():
        linear.weight.mul_(scale)
        linear.bias.mul_(scale).add_(bias.to(linear.bias.device))


def lowering(logits: Tensor, labels: Tensor, average_hops: int, threshold: float) -> float:
    """What to take off the logits of all keywords, so that 5 % of the unknown clips exceed the threshold.

    Args:
        logits: [N, hops, labels], hops from before the clip to when its last average is over.
        labels: [N].
    """
    keywords = torch.arange(logits.shape[2]) >= 2
    low, high = LOWERED
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        accepted, _missed = shares(logits - middle * keywords, labels, average_hops, threshold)
        low, high = (middle, high) if accepted > ACCEPTED else (low, middle)
    return high


def shares(logits: Tensor, labels: Tensor, average_hops: int, threshold: float) -> tuple[float, float]:
    """The share of unknown clips whose averaged score exceeds the threshold, and the share of keywords missed."""
    averaged = functional.avg_pool1d(logits.softmax(-1).transpose(1, 2), average_hops, 1)  # [N, labels, hops]
    peaks, words = averaged[:, 2:].amax(2).max(1)
    keywords = labels >= 2
    right = (words[keywords] + 2 == labels[keywords]) & (peaks[keywords] > threshold)
    return float((peaks[labels == 1] > threshold).double().mean()), float(1 - right.double().mean())
