"""What all tests share: one torch thread, fixed seeds, repeatable property tests, and where the recordings are."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(1)
# A background job of a shell ignores Ctrl-C, and its children would, too: the tests that send it need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings beside the repository, which is not part of it."""
    return _beside(SHARED / "data")


@pytest.fixture(scope="session")
def contract_checker() -> Path:
    """The independent checker of exported listeners beside the repository."""
    return _beside(SHARED / "tools" / "check_listener.py")


def _beside(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.parent.name}/{path.name} is not there: put it beside the repository to run this test")
    return path
