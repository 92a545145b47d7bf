"""Scores that mean the same for every word: a scale and a bias per label, fitted on voices that did not train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kws_demo.task import Batch
from kws_demo.train import Speech
from kws_demo.voices import UNKNOWN_LABEL
from toolkit.adaptive import Network
from toolkit.layers import WindowHead

PULL = 0.02  # on the bias: few clips do not move it far
ACCEPTED = 0.05  # of the unknown clips, by the threshold that a listener is given
# Threshold: above it real people, and the silence after a word, are often missed; less so where splices of real people
# taught it (bed, cat and happy, three seeds: 94.7 % heard and 10 % of other words accepted at 0.8, 96.4 and 17 at 0.7).
LOWEST, HIGHEST, HIGHEST_SPLICED = 0.3, 0.7, 0.8
NEWTON_STEPS = 20
SILENCE_LEAD = 0.1  # of its logit in digital silence, where the bias is raised for it: no rounding takes that away
MOST_RAISED = 3.0  # what needs more has not learnt what silence is
LEAST_SCALE, MOST_SCALE = 0.1, 3.0  # few clips that are easily told apart would make every score 0 or 1


@dataclass(frozen=True)
class Calibration:
    """What was done to the logits, and what it brought.

    Attributes:
        scale, bias: logits become `scale` · logits + `bias` [labels] (vector scaling, Guo et al. 2017). The bias of
            silence is raised where digital silence would be taken for something else, if little is lacking.
        before, after: mean negative log-likelihood of the validation clips.
        threshold: of the averaged score, that at most 5 % of the unknown validation clips exceed, within 0.3 to 0.7;
            where keywords are of people who say nothing else, splices of them are among these, and it is within 0.8.
        accepted: that share.
        missed: the share of the keywords that do not exceed it, or are taken for others.
    """

    scale: float
    bias: tuple[float, ...]
    before: float
    after: float
    threshold: float
    accepted: float
    missed: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}


def calibrate(network: Network, speech: Speech, average_hops: int) -> Calibration:
    """Fold a calibration into the last layer of a listener, and find its threshold.

    Args:
        network: with a `WindowHead`.
        speech: its validation clips are heard in a stream, augmented.
        average_hops: scores that a decision averages.
    """
    logits, labels = _together(speech.heard(network))
    lead = speech.silence_lead(network)
    spoken = logits[:, speech.clip_end_hop]
    scale, bias = fitted(spoken, labels)
    assert isinstance(network.head, WindowHead)
    fold(network.head.linear, scale, bias)
    if lead > -MOST_RAISED and not speech.hears_silence(network):  # which no export would take
        raised = torch.zeros_like(bias)
        raised[0] = SILENCE_LEAD - speech.silence_lead(network)
        fold(network.head.linear, 1.0, raised)
        bias = bias + raised
    before, after = (functional.cross_entropy(value, labels).item() for value in (spoken, scale * spoken + bias))
    harder = list(speech.heard(network, splices=True))
    highest = HIGHEST_SPLICED if harder else HIGHEST
    heard = _together([(scale * logits + bias, labels), *harder])
    threshold, accepted, missed = decide(*heard, average_hops, highest)
    return Calibration(scale, tuple(bias.tolist()), before, after, threshold, accepted, missed)


def _together(heard: Iterable[Batch]) -> Batch:
    pairs = [(logits.cpu(), labels.cpu()) for logits, labels in heard]
    return torch.cat([logits for logits, _labels in pairs]), torch.cat([labels for _logits, labels in pairs])


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


def decide(logits: Tensor, labels: Tensor, average_hops: int, highest: float = HIGHEST) -> tuple[float, float, float]:
    """The threshold for averaged scores, the share of unknown clips above it, and the share of keywords missed.

    Args:
        logits: [N, hops, labels], hops from before the clip to when its last average is over.
        labels: [N].
        highest: threshold.
    """
    averaged = functional.avg_pool1d(logits.softmax(-1).transpose(1, 2), average_hops, 1)  # [N, labels, hops]
    peaks, words = averaged[:, 2:].amax(2).max(1)
    unknown = peaks[labels == UNKNOWN_LABEL]
    allowed = torch.quantile(unknown, 1 - ACCEPTED).item() if len(unknown) else highest
    threshold = round(min(highest, max(LOWEST, allowed)), 3)
    keywords = labels > UNKNOWN_LABEL
    right = (words[keywords] + 2 == labels[keywords]) & (peaks[keywords] > threshold)
    return threshold, float((unknown > threshold).double().mean()), float(1 - right.double().mean())
