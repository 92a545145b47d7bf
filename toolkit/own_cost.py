"""A cost of the user's own: a JSON table of a number for every edge, or a function in a Python file."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from toolkit.budget import OWN
from toolkit.costs import Price
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json
from toolkit.graph import Architecture, Graph
from toolkit.infrastructure import table_price
from toolkit.programs import loaded, running

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
    path, _colon, name = given.rpartition(":")
    if path.endswith(".py"):
        return _of_function(Path(path), name, graph)
    if not given.endswith(".json"):
        raise MilliwiseError(f"--cost {printable(given)} is neither a table nor a function: give {FORMS}")
    try:
        return table_price(graph, read_json(Path(given), "cost table"), OWN)
    except MilliwiseError as error:
        raise MilliwiseError(f"--cost {printable(given)}: {error}") from None


def _of_function(path: Path, name: str, graph: Graph) -> Price:
    if not path.is_file():
        raise MilliwiseError(f"there is no file {printable(path)} with a cost: give {FORMS}")
    shown = str(path.resolve())
    with running("cost", shown):
        function = getattr(loaded(Path(shown)), name, None)
        if not callable(function):
            raise MilliwiseError(f"it has no function {name!r}: define {name}(live_edges), which returns a number")

    def cost(live: Architecture) -> float:
        with redirect_stdout(sys.stderr):  # what our own commands print is read by programs
            return function(live)

    return Price(graph, OWN, cost)
