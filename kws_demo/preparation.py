"""The data of a search, and the super-network for its labels."""

from __future__ import annotations

import os

import torch

from kws_demo.hearing import Hearing
from kws_demo.hints import require_teacher
from kws_demo.seeing import Seeing
from kws_demo.settings import Settings, data_of, images_of
from kws_demo.task import Task
from toolkit.spaces import Space
from toolkit.supernet import SuperNetwork


def prepare(settings: Settings, space: Space, hop_ms: int) -> tuple[Task, SuperNetwork]:
    """Read or make the data, and build the super-network, its weights by the seed.

    Raises:
        MilliwiseError: bad data, or data of another kind than the space is for; or the teacher is missing.
    """
    if space.sees:
        seen = images_of(settings, space)
        return Seeing(seen, settings.seed, settings.device), _built(settings, space, hop_ms, seen.labels)
    if settings.teacher:
        require_teacher()  # before the data are made, which takes long
        # One core is the teacher's: threads that share it would wait for each other all the time.
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - 1)))
    heard = data_of(settings)
    network = _built(settings, space, hop_ms, heard.labels)
    return Hearing(heard, network, hop_ms, settings.seed, settings.device, settings.teacher), network


def _built(settings: Settings, space: Space, hop_ms: int, labels: tuple[str, ...]) -> SuperNetwork:
    torch.manual_seed(settings.seed)
    return space.build(len(labels), hop_ms)
