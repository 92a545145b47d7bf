"""A cost that no device profile knows: a JSON table, one of the published kinds, or a function in a Python file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from toolkit.budget import OWN
from toolkit.costs import CACHED, Price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json
from toolkit.graph import Architecture, Graph
from toolkit.infrastructure import cloud_costs, random_costs, table_price
from toolkit.programs import loaded, neighbours, running

FORMS = "table.json, random:SEED, cloud:DEPTH or my_cost.py:function"
NAMED = {"random": random_costs, "cloud": cloud_costs}  # tables, each made of a number (see `infrastructure`)
MOST_DIGITS = 9


def own_cost(given: str | None, graph: Graph, free: Collection[str] = ()) -> Price | None:
    """What `given` says that a network costs, if anything is given.

    Args:
        given: `table.json` has an object with a number for every edge, summed over the live ones; `random:SEED` and
            `cloud:DEPTH` are such tables, too. Of
            `my_cost.py:function`, which is a program and is run, the function takes the names of the live edges, a
            frozenset, and returns a number.
        free: edges that cost nothing in those tables, such as the ReLU of a sum.

    Raises:
        MilliwiseError: it is neither; there is no such file or function; or see `table_price`.
    """
    if given is None:
        return None
    if (named := named_cost(given)) is not None:
        kind, number = named
        return table_price(graph, NAMED[kind](graph, number, free), OWN)
    path, name = _parts(given)
    if name is not None:
        return _of_function(path, name, graph)
    try:
        return table_price(graph, read_json(path, "cost table"), OWN)
    except MilliwiseError as error:
        raise MilliwiseError(f"--cost {printable(given)}: {error}") from None


def cost_digest(given: str | None) -> str | None:
    """Of the table's or the program's content, by which it is known again; None if there is none to read.

    Raises:
        MilliwiseError: it cannot be read.
    """
    if given is None or named_cost(given) is not None:
        return None
    path, _name = _parts(given)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise MilliwiseError(f"cannot read --cost {printable(given)} ({error.strerror}): give {FORMS}") from None


def named_cost(given: str) -> tuple[str, int] | None:
    """The published kind of table that is meant, and its number; None where it is a file.

    Raises:
        MilliwiseError: it lacks its number.
    """
    kind, colon, text = given.partition(":")
    if kind not in NAMED or not colon:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise MilliwiseError(f"--cost {printable(given)[:60]} has no number behind {kind}: write {kind}:3")
    return kind, int(text)


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
