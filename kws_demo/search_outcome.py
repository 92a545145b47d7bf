"""What a finished search tells on the command line: as JSON, and as a line for people."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from toolkit.budget import AVERAGED, Budget, show
from toolkit.spaces import built_in

Outcome = tuple[dict[str, Any], str]
"""The keys of `milliwise search --json`, and the line."""


def outcome(run: dict[str, Any], output: Path) -> Outcome:
    """Of a run whose network does not change; whether it keeps the budget is None where that was not measured.

    Args:
        run: the content of `run.json`.
        output: its folder.
    """
    measured, chosen = run["measured"], next(row for row in run["pareto"] if row["chosen"])
    timed = Budget.parse(run["budget"]).timed
    kept = None if timed and not measured else bool(chosen["fits"])
    said = {None: "not measured: check it on the device", True: "kept", False: "NOT kept"}[kept]
    held_against = chosen["measured_makespan_upper_ms"] or chosen["measured_upper_ms"]
    if kept is not None and held_against is not None:
        said += f" (at most {show('latency_ms', held_against)} measured)"
    result = {
        **_common(run, output),
        "predicted_ms": run["predicted_ms"],
        "measured_p95_ms": measured.get("p95_ms"),
        "measured_makespan_ms": measured.get("makespan_ms"),
        "budget_kept": kept,
        "pareto": run["pareto"],
    }
    things = {"classify": "images", "segment": "images' pixels"}.get(run.get("task", ""), "clips")
    return result, (
        f"{output}: {len(run['kept'])} live edges, {run['cost']} predicted for {run['budget']}, "
        f"billed on {run['accounting']}, {said}; {_right(run)} of the test {things}. {_next(run, output)}"
    )


def adaptive_outcome(run: dict[str, Any], output: Path) -> Outcome:
    """Of a run of an adaptive listener; the budget is kept if the mean over its test streams is within it.

    Args:
        run: the content of `run.json`.
        output: its folder.
    """
    streams, budget = run["streams"], Budget.parse(run["budget"])
    spent = streams[AVERAGED[budget.metric]]
    kept = spent <= budget.limit
    result = {
        **_common(run, output),
        "predicted_ms": streams["mean_ms"],
        "measured_p95_ms": None,
        "budget_kept": kept,
        "modes": run["modes"],
        "prices": run.get("prices"),
        "streams": streams,
        "pareto": [],
    }
    named = run["modes"]["named_ms"] if "prices" not in run else run["prices"]["named_multiply_adds"]
    return result, (
        f"{output}: {show(budget.metric, spent)} a hop on average ({show(budget.metric, max(named.values()))} at most) "
        f"for {budget}, billed on {run['accounting']}, {'kept' if kept else 'NOT kept'}; "
        f"{_right(run)} of the test clips. {_next(run, output)}"
    )


def _common(run: dict[str, Any], output: Path) -> dict[str, Any]:
    right = run["accuracy"]
    return {
        "run": str(output),
        "strategy": run["strategy"],
        "accounting": run["accounting"],
        "accuracy": right["test"],
        "accuracy_error": right["test_error"],
        "between_words": right["between_words"],
        "live_edges": run["kept"],
        "seconds": run["seconds"],
    }


def _right(run: dict[str, Any]) -> str:
    right = run["accuracy"]
    return f"right for {100 * right['test']:.1f} % (± {100 * right['test_error']:.1f})"


def _next(run: dict[str, Any], output: Path) -> str:
    space = "" if built_in(run["space"]) else f" --space {shlex.quote(run['space'])}"
    made = "network" if "task" in run else "listener"
    return f"Next: milliwise export {output} -o {made}.onnx{space}"
