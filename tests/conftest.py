"""What all tests share: one torch thread, fixed seeds, repeatable property tests, and where the recordings are."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from profilers.plan import Effort
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SHARED = Path(__file__).resolve().parents[2] / "shared"
SMALL = Effort(fitted=24, calibrating=0, held_out=8, paced=3, short_calls=12, hop_calls=2, rounds=4, weighed=0)

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
def this_machine() -> DeviceProfile:
    """A profile of `kws-ds` on this machine, made with little effort, for whoever only needs one."""
    return profile_device(find_space("kws-ds"), LocalTarget(), effort=SMALL)


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
