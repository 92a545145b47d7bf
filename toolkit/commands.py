"""The commands `spaces` and `feasible`."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli import FILE, cost_option, json_option, report

ANY = 10**12  # of a cost whose unit nobody knows: it limits nothing


@click.command()
@json_option
def spaces(as_json: bool) -> None:
    """List the search spaces.

    Instead of one of these, every command also takes your own: a Python file (or an installed module, such as
    package.space) with build(labels, hop_ms), which returns a SuperNetwork.
    """
    from toolkit.spaces import SPACES

    rows = []
    for space in SPACES.values():
        graph = space.build().graph
        row = {
            "name": space.name,
            "nodes": len(graph.nodes),
            "edges": len(graph.edges),
            "input_shape": [space.values.get(str(size), size) for size in space.input_shape],
            "settings": space.values,
        }
        rows.append({**row, "summary": space.summary})
    lines = [f"{row['name']:14} {row['nodes']} nodes, {row['edges']} edges: {row['summary']}" for row in rows]
    for space in (space for space in SPACES.values() if space.settings):
        settings = ",".join(f"{name}={value}" for name, value in space.values.items())
        lines.append(f"with other settings, as in {space.name}:{settings}")
    lines.append("or your own: a Python file with build(labels, hop_ms) -> SuperNetwork")
    report(as_json, {"spaces": rows}, "\n".join(lines))


@click.command()
@click.argument("space")
@click.option("--profile", "profile_file", type=FILE, required=True, help="The device profile.")
@click.option("--budget", help="Such as '2 ms': say whether any network fits (exit code 1 if none does).")
@click.option(
    "--bound",
    is_flag=True,
    help="Price by the bound that 95 % of networks stay below, not by the prediction. It is calibrated on the network "
    "itself by the clock of the profile's table, not on its percentile when called once per hop.",
)
@cost_option
@json_option
@click.pass_context
def feasible(
    context: click.Context,
    space: str,
    profile_file: Path,
    budget: str | None,
    bound: bool,
    cost: str | None,
    as_json: bool,
) -> None:
    """What the cheapest, the median and the dearest network of SPACE cost on the profiled device."""
    from toolkit.budget import Budget, show
    from toolkit.costs import ACCOUNTING, price
    from toolkit.own_cost import own_cost
    from toolkit.profile import DeviceProfile
    from toolkit.spaces import find_space

    limit = Budget.parse(budget) if budget is not None else Budget.parse("2 s" if cost is None else f"{ANY} cost")
    limit.require_fixed()
    profile = DeviceProfile.load(profile_file)
    graph = find_space(space).build(hop_ms=profile.hop_ms).graph
    priced = price(graph, profile, limit, bound=bound, own=own_cost(cost, graph, profile.weightless))
    least, median, most = priced.spread_of_space()
    unit = "ms" if limit.metric == "latency_ms" else limit.metric
    fits = least <= limit.limit
    verdict = (
        "" if budget is None else f"; {limit} is {'feasible' if fits else 'NOT feasible: allow at least the cheapest'}"
    )
    text = ", ".join(
        f"{name} {show(limit.metric, value)}"
        for name, value in (("cheapest", least), ("median", median), ("dearest", most))
    )
    costs = {f"min_{unit}": least, f"median_{unit}": median, f"max_{unit}": most}
    told = {**costs, "feasible": fits, "accounting": ACCOUNTING}
    report(as_json, told, f"{text}, billed on {ACCOUNTING}{verdict}")
    context.exit(0 if fits else 1)
