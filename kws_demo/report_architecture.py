"""The architecture of a run in its fabric: by multiply-adds, memory, milliseconds, and steps on some workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kws_demo.drawings.fabric import Setting, by_cost, by_step
from kws_demo.drawings.svg import plain
from kws_demo.drawings.values import show_bytes
from toolkit.budget import OWN, Budget, show
from toolkit.costs import ACCOUNTING, planned_memory, price
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Graph
from toolkit.profile import DeviceProfile, EdgeCost

WORKERS = (1, 2, 4)
BILLED = f"Costs are of {ACCOUNTING}: what lies on no way from input to output is not in the network."
LEAD = (
    "Every edge of the super-network, those in use coloured. Maps of one size share a row; a ReLU belongs to the node "
    f"before it. {BILLED} A step runs as many edges as there are workers."
)


@dataclass(frozen=True)
class View:
    """One drawing of an architecture.

    Attributes:
        name: short, for a file.
        heading: for people.
        markup: None where it cannot be drawn.
        reason: why it cannot.
    """

    name: str
    heading: str
    markup: str | None
    reason: str = ""


def setting_of(graph: Graph, profile: DeviceProfile) -> Setting:
    """How a space is laid out, by the size of what its edges give: rows are maps of one size."""
    sizes = {graph.source: float(profile.fixed["stem"].activation_bytes)}
    for edge in graph.ordered:
        row = profile.edges.get(edge.name)
        if row is not None:
            sizes.setdefault(edge.target, float(row.activation_bytes or sizes.get(edge.source, 0.0)))
    joints = profile.weightless
    return Setting(graph, sizes, joints, show_bytes)


def views(
    graph: Graph, kept: Architecture, profile: DeviceProfile, own: Mapping[str, float] | None = None
) -> list[View]:
    """Every drawing of an architecture; `kept` are edges of the graph, and the profile is of it.

    Args:
        own: the user's own cost of edges, if the search was limited in that.
    """
    live = graph.live(kept)
    setting, rows = setting_of(graph, profile), profile.edges

    def costs(of: Callable[[EdgeCost], float | None]) -> dict[str, float]:
        return {name: float(of(rows[name]) or 0.0) for name in live if name in rows}

    def in_all(metric: str, budget: str) -> str:
        return show(metric, price(graph, profile, Budget.parse(budget))(live))

    def multiply_adds() -> str | None:
        title = f"{in_all('multiply_adds', '1 FLOPs')}, head included; {_of(graph, live)}"
        return by_cost(
            setting, live, costs(lambda row: row.multiply_adds), lambda each: show("multiply_adds", each), title
        )

    def memory() -> str | None:
        planned = planned_memory(graph, profile, live)
        title = f"{in_all('memory_bytes', '1 B')}, {show_bytes(planned.activation_bytes)} of them activations at their "
        title += f"peak, which are of no one edge; {_of(graph, live)}"
        return by_cost(setting, live, costs(lambda row: row.weight_bytes + row.state_bytes), show_bytes, title)

    def milliseconds() -> str | None:
        title = f"{show('latency_ms', profile.paced_ms(graph, live))} (p95, predicted); {_of(graph, live)}"
        return by_cost(setting, live, costs(lambda row: row.latency_ms), lambda each: show("latency_ms", each), title)

    def own_cost() -> str | None:
        spent = {name: cost for name, cost in (own or {}).items() if name in live}
        title = f"{show(OWN, sum(spent.values()))} by the table; {_of(graph, live)}"
        return by_cost(setting, live, spent, lambda each: show(OWN, each), title)

    def on(workers: int) -> str | None:
        steps = graph.schedule(live, workers, {name: row.steps for name, row in rows.items()})
        several = f"{workers} worker{'s' * (workers > 1)}"
        return by_step(setting, live, steps, f"{len(steps)} steps on {several}; {_of(graph, live)}")

    return [
        *([_view("cost", "By the cost it was limited in", own_cost)] if own else []),
        _view("multiply-adds", "By multiply-adds", multiply_adds),
        _view("memory", "By memory: weights and state", memory),
        _view("ms", "By milliseconds", milliseconds),
        *(_view(f"steps-{n}", f"By steps on {n} worker{'s' * (n > 1)}", lambda n=n: on(n)) for n in WORKERS),  # type: ignore[misc]
    ]


def _of(graph: Graph, live: Architecture) -> str:
    return f"{len(live)} of {len(graph.edges)} edges"


def _view(name: str, heading: str, draw: Callable[[], str | None]) -> View:
    """The drawing, or why the profile does not allow it."""
    try:
        markup = draw()
    except MilliwiseError as error:
        return View(name, heading, None, str(error))
    return View(name, heading, markup, "" if markup else "no edge is live")


def figures(found: Iterable[View]) -> str:
    """The drawings as HTML; of those that cannot be made, why."""
    shown = []
    for view in found:
        body = view.markup or f'<p class="absent-note">not drawn: {plain(view.reason, 300)}</p>'
        shown.append(f"<figure><figcaption>{plain(view.heading)}</figcaption>{body}</figure>")
    return "".join(shown)
