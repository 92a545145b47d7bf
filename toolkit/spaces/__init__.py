"""The search spaces: one file each, and a row in this table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import MilliwiseError

if TYPE_CHECKING:
    from toolkit.supernet import SuperNetwork


@dataclass(frozen=True)
class Space:
    """A search space: its module has `build(labels, hop_ms) -> SuperNetwork`."""

    name: str
    module: str
    summary: str
    input_shape: tuple[int | str, ...]

    def build(self, labels: int = 12, hop_ms: int = 200) -> SuperNetwork:
        """The super-network with fresh weights."""
        builder: Callable[[int, int], SuperNetwork] = importlib.import_module(self.module).build
        return builder(labels, hop_ms)


SPACES = {
    space.name: space
    for space in (
        Space(
            "kws-ds", "toolkit.spaces.kws_ds", "streaming keyword listener, separable convolutions", (1, "hop_samples")
        ),
        Space("kws-coarse", "toolkit.spaces.kws_coarse", "the part of kws-ds for synthetic voices", (1, "hop_samples")),
    )
}


def find_space(name: str) -> Space:
    """The space of that name.

    Raises:
        MilliwiseError: there is none; the message lists those there are.
    """
    if name not in SPACES:
        raise MilliwiseError(f"no search space {name!r}: choose {' or '.join(SPACES)}")
    return SPACES[name]
