"""The benchmarks: one file each, and a row in this table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from toolkit.errors import MilliwiseError

BENCHES = {
    "adaptive": "kws_demo.bench.adaptive",
    "spine": "kws_demo.bench.spine",
    "listener": "kws_demo.bench.listener",
    "shipped": "kws_demo.bench.shipped",
    "listening": "kws_demo.bench.listening",
    "profile": "kws_demo.bench.profile",
    "search": "kws_demo.bench.search",
}


def find_bench(name: str) -> Callable[..., dict[str, Any]]:
    """The `run` function of the benchmark of that name.

    Raises:
        MilliwiseError: there is none; the message lists those there are.
    """
    if name not in BENCHES:
        raise MilliwiseError(f"no benchmark {name!r}: choose {' or '.join(BENCHES)}")
    run: Callable[..., dict[str, Any]] = importlib.import_module(BENCHES[name]).run
    return run
