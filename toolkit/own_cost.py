"""A cost of the user's own: a JSON table of a number for every edge, or a function in a Python file."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from toolkit.budget import OWN
from toolkit.costs import CACHED, Price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json
from toolkit.graph import Architecture, Graph
from toolkit.infrastructure import table_price
from toolkit.programs import loaded, neighbours, running

FORMS = "table.json or my_cost.py:function"


def own_cost(given: str | None, graph: Graph) -> Price | None:
    """What `given` says that a network costs, if anything is given.

    Args:
        given: `table.json` has an object with a number for every edge, summed over the live ones. Of
            `my_cost.py:function`, which is a program and is run, the function takes the names of the live edges, a
            frozenset, and returns a number.

    Raises:
        MilliwiseError: it is neither; there is no such file or function; or see `table_price`.
    """
    if given is None:
        return None
    path, name = _parts(given)
    if name is not None:
        return _of_function(path, name, graph)
    try:
        return table_price(graph, read_json(path, "cost table"), OWN)
    except MilliwiseError as error:
        raise MilliwiseError(f"--cost {printable(given)}: {error}") from None


def cost_digest(given: str | None) -> str | None:
    """Of the table's or the program's content, by which it is known again; None if nothing is given.

    Raises:
        MilliwiseError: it cannot be read.
    """
    if given is None:
        return None
    path, _name = _parts(given)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise MilliwiseError(f"cannot read --cost {printable(given)} ({error.strerror}): give {FORMS}") from None


def _parts(given: str) -> tuple[Path, str | None]:
    """The file, and the function in it if it is a program."""
    path, _colon, name = given.rpartition(":")
    if path.endswith(".py"):
        return Path(path), name
    if not given.endswith(".json"):
        raise MilliwiseError(f"--cost {printable(given)} is neither a table nor a function: give {FORMS}")
    return Path(given), None


def _of_function(path: Path, name: str, graph: Graph) -> Price:
    if not path.is_file():
        raise MilliwiseError(f"there is no file {printable(path)} with a cost: give {FORMS}")
    path = path.resolve()
    with running("cost", str(path)):
        function = getattr(loaded(path), name, None)
        if not callable(function):
            raise MilliwiseError(f"it has no function {name!r}: define {name}(live_edges), which returns a number")

    @lru_cache(CACHED)  # it may take its time, and a strategy comes back to the same networks
    def cost(live: Architecture) -> float:
        with running("cost", str(path)), neighbours(path):
            return function(live)

    return Price(graph, OWN, cost)
