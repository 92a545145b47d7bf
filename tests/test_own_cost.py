"""A cost of one's own, as a table or a function: searched for, exported, reported and swept; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sweeping
import toy
from click.testing import CliRunner, Result

from toolkit.budget import Budget
from toolkit.cli import main
from toolkit.costs import price
from toolkit.errors import MilliwiseError
from toolkit.own_cost import own_cost
from toolkit.spaces import find_space

TABLE = {edge.name: float(number) for number, edge in enumerate(toy.EDGES, 1)}
FUNCTION = """\
def edges(live, told=[]):
    if not told:
        told.append(print("asked"))
    return len(live)


TEN = 10
"""
GRAPH = find_space(sweeping.SPACE).build().graph


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with images, the profile of a space, and two costs."""
    sweeping.pictures(tmp_path)
    sweeping.profile().save(tmp_path / "profile.json")
    (tmp_path / "table.json").write_text(json.dumps({edge.name: 1.0 for edge in GRAPH.edges}))
    (tmp_path / "mine.py").write_text(FUNCTION)
    return tmp_path


def milliwise(command: str, made: Path, *further: object) -> Result:
    return CliRunner().invoke(main, [command, sweeping.SPACE, "--profile", f"{made}/profile.json", *map(str, further)])


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_a_table_and_a_function_price_live_edges(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps(TABLE))
    (tmp_path / "mine.py").write_text("def cost(live):\n    return 2 * len(live)\n")
    table, function = (own_cost(f"{tmp_path}/{name}", toy.GRAPH) for name in ("table.json", "mine.py:cost"))
    assert table is not None and function is not None and own_cost(None, toy.GRAPH) is None
    assert table({"entry", "pass", "late"}) == TABLE["entry"] + TABLE["pass"], "dead edges cost nothing"
    assert function(toy.BY_HAND) == 6 and function.metric == "cost"


@pytest.mark.parametrize("cost", ["table.json", "mine.py:edges"])
def test_a_search_keeps_it(cost: str, made: Path) -> None:
    data = ("--data", made / "colours.npz", "--minutes", "0.05", "-o", made / "run", "--json")
    result = told(milliwise("search", made, "--budget", "9 cost", "--cost", made / cost, *data))
    assert result["budget_kept"] and len(result["live_edges"]) <= 9
    chosen = next(row for row in result["pareto"] if row["chosen"])
    assert chosen["cost"] == len(result["live_edges"]) and all(row["cost"] <= 9 for row in result["pareto"])
    exported = CliRunner().invoke(main, ["export", str(made / "run"), "-o", str(made / "seen.onnx"), "--calls", "59"])
    assert exported.exit_code == 0 and "budget 9 cost is kept" in exported.output, exported.output
    (made / "mine.py").write_text("raise SystemExit('a report runs no program')\n")
    report = CliRunner().invoke(main, ["report", str(made / "run"), "-o", str(made / "report.html")])
    assert report.exit_code == 0, report.output
    page = (made / "report.html").read_text()
    assert ("By the cost it was limited in" in page) is (cost == "table.json")
    assert (f"{len(result['live_edges'])} cost by the table" in page) is (cost == "table.json")


def test_a_sweep_takes_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    data = ("--data", "colours.npz", "--minutes", "0.05", "--seeds", "1", "-o", "swept", "--json")
    result = told(milliwise("sweep", made, "--budget", "7 cost,9 cost", "--cost", "mine.py:edges", *data))
    assert result["metric"] == "cost" and [row["budget_kept"] for row in result["points"]] == [True, True]
    assert "cost" in (made / "swept" / "front.svg").read_text()


def test_another_table_is_another_search(made: Path) -> None:
    given = ("--budget", "9 cost", "--cost", made / "table.json", "--data", made / "colours.npz", "--minutes", "0.05")
    told(milliwise("search", made, *given, "-o", made / "run", "--json"))
    told(milliwise("search", made, *given, "-o", made / "run", "--json", "--resume"))
    told(milliwise("sweep", made, *given, "--seeds", "1", "-o", made / "swept", "--json"))
    (made / "table.json").write_text(json.dumps({edge.name: 1.1 for edge in GRAPH.edges}))
    again = milliwise("search", made, *given, "-o", made / "run", "--resume")
    assert again.exit_code == 2 and "was begun with other arguments" in again.stderr
    again = milliwise("sweep", made, *given, "--seeds", "1", "-o", made / "swept", "--resume")
    assert again.exit_code == 2 and "was begun with another content of --cost" in again.stderr


def test_feasible_takes_it(made: Path) -> None:
    assert told(milliwise("feasible", made, "--cost", made / "table.json", "--json"))["feasible"]
    result = told(milliwise("feasible", made, "--budget", "9 cost", "--cost", made / "table.json", "--json"))
    assert result["max_cost"] == len(GRAPH.live(GRAPH.full)) and result["feasible"]


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        ("mine.py:nothing", "has no function 'nothing'"),
        ("mine.py:TEN", "has no function 'TEN'"),
        ("mine.py", "neither a table nor a function"),
        ("none.py:edges", "there is no file"),
        ("none.json", "cannot read cost table"),
        ("table.txt", "neither a table nor a function"),
        ("odd.json", "the table has no cost of edge"),
        ("broken.py:edges", "line 1: ZeroDivisionError: division by zero; correct it"),
        ("failing.py:edges", "failing.py, line 2: KeyError: 'price'; correct it"),
        ("leaving.py:edges", "leaving.py, line 2: SystemExit: 0; correct it"),
        ("huge.py:edges", "it must be a number of 0 or more"),
        ("negative.py:edges", "is -1: it must be a number of 0 or more"),
    ],
)
def test_what_is_no_cost_is_refused(cost: str, reason: str, made: Path) -> None:
    (made / "odd.json").write_text("{}")
    (made / "broken.py").write_text("1 / 0\n")
    (made / "failing.py").write_text("def edges(live):\n    return {}['price']\n")
    (made / "leaving.py").write_text("def edges(live):\n    raise SystemExit(0)\n")
    (made / "huge.py").write_text("def edges(live):\n    return 10**400\n")
    (made / "negative.py").write_text("def edges(live):\n    return -1\n")
    data = ("--data", made / "colours.npz", "-o", made / "run")
    result = milliwise("search", made, "--budget", "9 cost", "--cost", made / cost, *data)
    assert result.exit_code == 2 and reason in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not (made / "run").exists()


def test_a_function_that_is_no_sum_is_said_to_be_searched_only(made: Path) -> None:
    """For more edges may cost less: nobody knows the cheapest network then."""
    (made / "odd.py").write_text("def edges(live):\n    return 100 - len(live)\n")
    data = ("--data", made / "colours.npz", "-o", made / "run")
    result = milliwise("search", made, "--budget", "9 cost", "--cost", f"{made}/odd.py:edges", *data)
    assert result.exit_code == 2 and "the cheapest that was found costs 89 cost" in result.stderr, result.stderr


def test_a_budget_and_a_cost_belong_together() -> None:
    with pytest.raises(MilliwiseError, match="is of a cost of your own: give --cost"):
        price(toy.GRAPH, toy.profile(), Budget.parse("9 cost"))
    own = toy.pricing("1 ms")
    with pytest.raises(MilliwiseError, match="--cost is for a budget of it, such as '12 cost', not 1 ms"):
        price(toy.GRAPH, toy.profile(), Budget.parse("1 ms"), own=own)


@pytest.mark.parametrize("number", ["np.float32(2.5)", "np.int64(2)", "np.float64(2.5)"])
def test_a_number_of_numpy_is_a_cost(number: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"import numpy as np\n\n\ndef cost(live):\n    return {number}\n")
    found = own_cost(f"{tmp_path}/mine.py:cost", toy.GRAPH)
    assert found is not None and found(toy.GRAPH.full) in (2.0, 2.5) and type(found(toy.GRAPH.full)) is float


def test_a_function_is_asked_once_for_a_network(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("told = []\n\n\ndef cost(live):\n    told.append(live)\n    return len(told)\n")
    found = own_cost(f"{tmp_path}/mine.py:cost", toy.GRAPH)
    assert found is not None
    assert [found(toy.GRAPH.full), found(found.cheapest()), found(toy.GRAPH.full)][::2] == [1, 1]


def test_published_kinds_of_tables_have_names(made: Path) -> None:
    """At random, of every edge but a free one; and of a server behind one dear link, which cannot be gone round."""
    free = {edge.name for edge in GRAPH.edges if edge.name.startswith("relu")}
    chance, again, other = (own_cost(f"random:{seed}", GRAPH, free) for seed in (3, 3, 4))
    assert chance is not None and again is not None and other is not None
    assert chance.of_edges == again.of_edges != other.of_edges
    assert {name for name, cost in (chance.of_edges or {}).items() if cost == 0} == free
    cloud = own_cost("cloud:1", GRAPH, free)
    assert cloud is not None and 100 <= cloud(cloud.cheapest()) < 200, "one link"
    result = told(milliwise("feasible", made, "--cost", "cloud:1", "--json"))
    assert result["min_cost"] == pytest.approx(cloud(cloud.cheapest())) and result["feasible"]
    data = ("--data", made / "colours.npz", "--minutes", "0.05", "--seeds", "1", "-o", made / "swept", "--json")
    swept = told(milliwise("sweep", made, "--budget", "150 cost", "--cost", "cloud:1", *data))
    (point,) = swept["points"]
    assert point["budget_kept"] and json.loads((made / "swept" / point["point"] / "run.json").read_text())["edge_costs"]


@pytest.mark.parametrize("given", ["random:", "cloud:x", "cloud:-1", "random:1.5", "cloud:" + "9" * 5000, "random:²"])
def test_a_kind_without_its_number_is_refused(given: str) -> None:
    with pytest.raises(MilliwiseError, match="has no number behind"):
        own_cost(given, GRAPH)
