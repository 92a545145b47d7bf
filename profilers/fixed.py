"""What every network of a space contains beside its edges: the counts of its stem and its head."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from exporters.front_end import log_mel_counts
from profilers.counts import count
from profilers.latency import features_only
from toolkit.features import LogMel
from toolkit.profile import DeviceProfile, EdgeCost
from toolkit.spaces import Space

FEWEST_LABELS = 2  # that anything is told apart by


def stem_cost(stem: nn.Module, input_shape: tuple[int, ...]) -> EdgeCost:
    """Counts of a stem for one call. Its latency is in the latency model.

    `activation_bytes` is what the source node holds, also where the stem hands its input on.
    """
    if isinstance(stem, nn.Sequential):
        return _sequence(stem, input_shape)
    if isinstance(stem, LogMel):
        return _log_mel(stem, input_shape)
    cost = _counted(stem, input_shape)
    return dataclasses.replace(cost, activation_bytes=cost.activation_bytes or 4 * math.prod(input_shape))


def _sequence(stem: nn.Sequential, shape: tuple[int, ...]) -> EdgeCost:
    costs = []
    for part in stem:
        costs.append(stem_cost(part, shape))
        with torch.no_grad():
            shape = tuple(part(torch.zeros(shape)).shape)
    return dataclasses.replace(
        costs[-1],
        weight_bytes=sum(cost.weight_bytes for cost in costs),
        state_bytes=sum(cost.state_bytes for cost in costs),
        multiply_adds=sum(cost.multiply_adds for cost in costs),
        parameters=sum(cost.parameters for cost in costs),
        uncounted=tuple(sorted({name for cost in costs for name in cost.uncounted})),
    )


def _log_mel(stem: LogMel, input_shape: tuple[int, ...]) -> EdgeCost:
    """In its exported form: the matrices are made at load, so their bytes are memory but not parameters."""
    spec = stem.spec
    frames = input_shape[1] // spec.hop_samples
    multiply_adds, matrix_values = log_mel_counts(spec, frames)
    held_bytes = (4 * matrix_values, 4 * spec.history_samples, 4 * spec.mels * frames)
    return EdgeCost(0.0, None, 0.0, *held_bytes, steps=0, multiply_adds=multiply_adds, parameters=0)


def with_classifier(profile: DeviceProfile, space: Space, labels: int) -> DeviceProfile:
    """A profile of a space with what the classifier of so many labels counts; it was made with that of others."""
    with torch.random.fork_rng(devices=[]):
        network = space.build(labels, profile.hop_ms).eval()
    _bare, features_shape = features_only(network, space.shape(profile.hop_ms))
    head = head_cost(network.head, network.sink_shape(features_shape))
    return dataclasses.replace(profile, fixed={**profile.fixed, "head": head})


def head_cost(head: nn.Module, sink_shape: tuple[int, ...]) -> EdgeCost:
    """Counts of a head for one call. Its latency is in the latency model, in `base_ms`.

    Args:
        sink_shape: of what it is given, batch of one included.
    """
    return _counted(head, sink_shape)


def _counted(module: nn.Module, input_shape: tuple[int, ...]) -> EdgeCost:
    return EdgeCost(0.0, None, 0.0, steps=0, **dataclasses.asdict(count(module, input_shape)))
