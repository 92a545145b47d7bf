"""Showing device profiles: figures worked out by hand on the toy network, the table, hostile profiles, the picture."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import toy
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from profilers.drawing import MOST_BARS, draw_profile
from profilers.show import (
    COLUMNS,
    facts,
    in_ms,
    markdown,
    missing,
    networks_bytes,
    networks_makespan_ms,
    networks_ms,
    short,
)
from toolkit import spaces
from toolkit.cli import main
from toolkit.makespan import HEAD, OperationCost, ParallelModel
from toolkit.memory import MemoryModel
from toolkit.profile import Bound, DeviceProfile, HeldOut

README = (Path(__file__).parent.parent / "README.md").read_text()
HERE = {"cpu_model": "abacus", "os": "Linux", "onnxruntime": "1.31.1", "governor": None}
BOUND = Bound(0.95, 1.25, 120, 0.96)
LATENCY = replace(toy.profile().latency, bound=BOUND)
# Names as a hostile file may have them; JSON holds no lone surrogates.
NAMES = st.text(st.characters(codec="utf-8"), max_size=120)


def profile(**changes: Any) -> DeviceProfile:
    return toy.profile(**{"fingerprint": HERE, "held_out": judged((0.30, 0.31), (0.50, 0.40)), **changes})


def judged(*times: tuple[Any, Any]) -> HeldOut:
    rows = tuple({"kept": [], "predicted_ms": predicted, "measured_ms": measured} for predicted, measured in times)
    return HeldOut(len(rows), 0.014, 1.0, 1.0, 0.99, rows)


def edges(**rows: Any) -> dict[str, Any]:
    """The toy's edges, some of them changed."""
    given = toy.profile().edges
    return {**given, **{name: replace(given[name], **changes) for name, changes in rows.items()}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)])


def shown(folder: Path, *arguments: object, **changes: Any) -> str:
    profile(**changes).save(folder / "device.json")
    result = run(folder / "device.json", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def drawn(folder: Path, **changes: Any) -> list[str]:
    """The texts in the picture of a profile, with its networks at 0.30 → 0.31 and 0.50 → 0.40 ms."""
    path = folder / "profile.svg"
    draw_profile(profile(**changes), [(0.30, 0.31), (0.50, 0.40)], path)
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def test_the_facts_by_hand(tmp_path: Path) -> None:
    rows = edges(late={"same_as": "early"}, mix={"error_ms": 0.02}, conv3={"latency_ms": None, "failed": "too slow"})
    (told,) = json.loads(shown(tmp_path, "--json", edges=rows, latency=LATENCY))["profiles"]
    assert (told["space"], told["threads"], told["hop_ms"], told["clock"]) == ("toy", 1, 40, "tight")
    assert told["device"] == HERE and told["noisy"] is False and told["noisy_because"] == []
    found = {row["name"]: row for row in told["edges"]}
    assert [*found][:2] == ["separable", "mix"] and [*found][-1] == "conv3"
    assert found["separable"]["uncertainty_ms"] == pytest.approx(0.004)  # a spread of 1 % of 0.4 ms
    assert found["mix"]["uncertainty_ms"] == pytest.approx(0.04)  # two standard errors
    assert found["late"]["same_as"] == "early" and found["conv3"]["failed"] == "too slow"
    assert told["held_out"] == {"nets": 2, "mape": 0.014, "within_5": 1.0, "within_10": 1.0, "spearman": 0.99}
    assert told["latency"]["bound"] == {"coverage": 0.95, "factor": 1.25, "nets": 120, "held_out_coverage": 0.96}
    assert told["missing"] == [
        "conv3 could not be measured: too slow",
        "the memory of networks: too few were measured",
        "the device does not tell its governor",
    ]


def test_memory_and_parallel_steps_by_hand(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert re.search(r"^memory +not told \(see missing\)$", text, re.M)
    assert re.search(r"^parallel +not asked for \(--workers 2\)$", text, re.M)
    (told,) = json.loads(shown(tmp_path, "--json"))["profiles"]
    assert told["memory"] is None and told["parallel"] is None
    row = {"weight_bytes": 400, "predicted_bytes": 2_400_000, "measured_bytes": 2_500_000}
    memory = MemoryModel(2.5e6, 2.125, 0.0, 12, 0.03, 8, 0.04, 0.875, (row,))
    parallel = ParallelModel(2, 0.0305, 0.005, {HEAD: OperationCost(0.04, 0.05, 0.01)}, 20, 9, 0.055, 0.95)
    changes = {"memory": memory, "parallel": parallel}
    flat = " ".join(shown(tmp_path, **changes).split())
    assert "takes 2.5 MB + 2.12 B for each byte of weights + activations more; on 8 networks" in flat
    assert "4 % off on average, within 10 % for 87.5 %" in flat
    assert "2 workers; handing a value over takes 30.5 µs; on 20 networks" in flat
    assert "5.5 % off on average (9 of them on several workers), within 15 % for 95 %" in flat
    (told,) = json.loads(shown(tmp_path, "--json", **changes))["profiles"]
    assert (told["memory"]["base_bytes"], told["memory"]["per_weight_byte"]) == (2.5e6, 2.125)
    assert told["memory"]["held_out_error"] == 0.04 and "rows" not in told["memory"]
    assert (told["parallel"]["workers"], told["parallel"]["handoff_ms"], told["parallel"]["mape"]) == (2, 0.0305, 0.055)
    largest = MemoryModel(2.5e6, 1.0, 1.5, 3, 0.0)
    assert "+ 1.5 B for each of the largest part +" in " ".join(shown(tmp_path, memory=largest).split())


def test_people_read_the_dearest_edges_first_and_what_is_the_same(tmp_path: Path) -> None:
    text = shown(tmp_path, "--edges", 3, edges=edges(late={"same_as": "early"}), latency=LATENCY)
    lines = [line for line in text.splitlines() if re.match(r"(conv|entry|separable|early|late|mix|skip|pass)", line)]
    assert [line.split()[:2] for line in lines] == [["separable", "0.4000"], ["conv3", "0.3000"], ["mix", "0.2500"]]
    assert "and 3 cheaper distinct edges: --edges 6 lists them" in text and "and 2 edges that add nothing" in text
    assert "the same: late" in shown(tmp_path, edges=edges(late={"same_as": "early"}))
    flat = " ".join(text.split())
    assert "1.4 % on average" in flat and "95 % of networks stay below 1.25 × their prediction" in flat
    assert "tight ms = 0.02 for the front-end + 0.05 for the call" in flat and "p95 = 0.2 + 2;" in flat
    assert "no bound" in shown(tmp_path) and "quiet" in flat


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    rows = edges(conv3={"latency_ms": None, "failed": "no kernel"}, mix={"uncounted": ("aten::odd",)})
    changes = {"edges": rows, "noisy": True, "noisy_because": ("others used 52 % of the machine",)}
    changes["measured"] = {"no_memory": "no /proc", "no_parallel": "no threads"}
    assert missing(profile(**changes)) == [
        "conv3 could not be measured: no kernel",
        "multiply-adds of aten::odd in mix",
        "a bound: too few networks calibrated one",
        "the memory of networks: no /proc",
        "networks on several workers: no threads",
        "the device does not tell its governor",
    ]
    text = shown(tmp_path, **changes)
    assert all(line in text for line in missing(profile(**changes))) and "≥ 32" in text
    assert "noisy: others used 52 % of the machine" in " ".join(text.split())
    whole = {"latency": LATENCY, "memory": MemoryModel(2.5e6, 1.0, 1.5, 3, 0.0)}
    assert "nothing of what was asked for" in shown(tmp_path, fingerprint={"cpu_model": "abacus"}, **whole)
    assert "–" in shown(tmp_path, held_out=HeldOut(0, None, None, None, None, ()))


def test_networks_of_a_space_that_is_known_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert networks_ms(profile()) is None
    monkeypatch.setitem(spaces.SPACES, "toy", SimpleNamespace(build=lambda hop_ms: SimpleNamespace(graph=toy.GRAPH)))
    least, median, whole = networks_ms(profile()) or (0.0, 0.0, 0.0)
    assert least == pytest.approx(toy.CHEAPEST_P95_MS) and whole == pytest.approx(toy.FULL_P95_MS)
    assert least < median < whole
    assert f"| {least:.2g} / {median:.2g} / {whole:.2g} ms |" in markdown([profile()])
    assert networks_ms(profile(digest="0123")) is None
    assert networks_ms(profile(edges=edges(mix={"latency_ms": None, "failed": "no kernel"}))) is None


def test_memory_and_makespan_of_networks_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryModel(1e6, 2.0, 0.0, 3, 0.0)
    costs = {name: OperationCost(ms, ms, 0.0, ms == 0) for name, ms in toy.LATENCY_MS.items()}
    parallel = ParallelModel(1, 0.0, 0.0, {**costs, HEAD: OperationCost(0.05, 0.05, 0.0)})
    told = {"memory": memory, "parallel": parallel}
    assert networks_bytes(profile(**told)) is networks_makespan_ms(profile(**told)) is None
    monkeypatch.setitem(spaces.SPACES, "toy", SimpleNamespace(build=lambda hop_ms: SimpleNamespace(graph=toy.GRAPH)))
    assert networks_bytes(profile()) is networks_makespan_ms(profile()) is None
    # a megabyte, twice the weights, and the activations (worked out in test_memory.py)
    assert networks_bytes(profile(**told)) == (1e6 + 2 * 160 + 64, 1e6 + 2 * 4 * 174 + 192)
    assert networks_makespan_ms(profile(**told)) == pytest.approx((0.25, 0.05 + sum(toy.LATENCY_MS.values())))
    flat = " ".join(shown(tmp_path, **told).split())
    assert "memory 1 MB for the smallest, 1 MB for the whole one; a process" in flat
    assert "1 workers: 0.25 ms for the smallest, 1.6 for the whole, no front-end; handing" in flat
    partly = replace(parallel, costs={"mix": costs["mix"]})
    assert networks_makespan_ms(profile(parallel=partly)) is None


def test_several_profiles_are_a_table_a_row_for_each(tmp_path: Path) -> None:
    profile().save(tmp_path / "a.json")
    profile(fingerprint={**HERE, "cpu_model": "slide rule"}, noisy=True, threads=2).save(tmp_path / "b.json")
    result = run(tmp_path / "a.json", tmp_path / "b.json")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 6
    assert lines[1].split() == ["a.json", "1", "40", "ms", "toy", "9", "–", "1.4", "%", "12", "s", "no"]
    assert lines[2].strip() == "abacus, Linux, onnxruntime 1.31.1"
    assert lines[3].split()[-1] == "yes" and "slide rule" in lines[4]
    told = json.loads(run(tmp_path / "a.json", tmp_path / "b.json", "--json").stdout)["profiles"]
    assert [Path(row["profile"]).name for row in told] == ["a.json", "b.json"]


@settings(max_examples=60)
@given(NAMES, NAMES)
def test_a_row_for_the_readme_reads_as_it_was_meant_whatever_a_profile_holds(device: str, system: str) -> None:
    text = markdown([profile(), profile(fingerprint={**HERE, "cpu_model": f"a{device}|z", "os": f"b{system}`"})])
    assert len(text.splitlines()) == 4
    table = ElementTree.fromstring(MarkdownIt("js-default", {"html": True, "linkify": False}).render(text))
    rows = [[*row] for row in table.iter("tr")]
    assert [cell.text for cell in rows[0]] == [*COLUMNS]
    assert all(len(row) == len(COLUMNS) for row in rows) and not any(len(cell) for row in rows for cell in row)
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in f"a{device}|z")
    assert rows[2][0].text == short(plain, 80)


def test_a_row_for_the_readme_does_not_say_where_a_device_is(tmp_path: Path) -> None:
    where = {"target": "ssh://me@my-host:2222", "space": str(tmp_path / "own.py"), "measured": {"host": "my-host"}}
    text = shown(tmp_path, "--markdown", **where)
    assert not any(secret in text for secret in ("ssh:", "me@", "my-host", "device.json", str(tmp_path)))
    assert "| own.py |" in text


def test_the_readme_has_such_a_table() -> None:
    table = README.partition("## Devices that were profiled")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert rows[:2] == markdown([]).splitlines() and len(rows) > 2
    assert {row.replace("\\|", "").count("|") for row in rows} == {len(COLUMNS) + 1}


def test_a_profile_that_somebody_sent_runs_nothing(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    assert "not told" in shown(tmp_path, space=str(own)) and not (tmp_path / "run").exists()


@settings(max_examples=25)
@given(name=NAMES, value=NAMES)
def test_a_hostile_profile_is_shown_in_printable_lines_of_100_columns(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    hostile = f"{name}\x1b[31m\n\r| {'x' * 200}"
    row = replace(toy.profile().edges["mix"], latency_ms=1e300, spread=1e300, uncounted=(hostile,))
    rows = {
        **edges(late={"same_as": hostile}),
        hostile: row,
        f"b{hostile}": replace(row, latency_ms=None, failed=value),
    }
    odd = {"fingerprint": {"cpu_model": value, "os": hostile, hostile: value}, "measured": {name: hostile}}
    folder = tmp_path_factory.mktemp("hostile")
    texts = [shown(folder, edges=rows, seconds=1e300, held_out=judged((1e300, 0.0)), **odd)]
    texts += [shown(folder, *more, edges=rows, **odd) for more in (["--markdown"], [folder / "device.json"])]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    for text in (texts[0], texts[2]):
        assert max(map(len, text.split("\n")[1:])) <= 100
    json.loads(shown(folder, "--json", edges=rows, **odd))


@pytest.mark.parametrize("pair", [(-1.0, 1.0), (1.0, "1"), (True, 1.0), (1.0, None)])
def test_a_network_that_milliwise_did_not_write_is_refused(tmp_path: Path, pair: tuple[Any, Any]) -> None:
    profile(held_out=judged(pair)).save(tmp_path / "device.json")
    result = run(tmp_path / "device.json", "--plot", tmp_path / "profile.png")
    assert result.exit_code == 2 and "held-out network" in result.stderr and len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["device.json"]


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    for path in (a, b):
        profile().save(path)
    refused = [run(a, "--plot", tmp_path / "a.jpg"), run(a, b, "--plot", tmp_path / "a.png"), run(tmp_path / "no.json")]
    assert [result.exit_code for result in refused] == [2, 2, 2]
    assert ".png or .svg" in refused[0].stderr and "one profile, not 2" in refused[1].stderr
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_the_picture_has_every_distinct_edge_the_dearest_first(tmp_path: Path) -> None:
    texts = drawn(tmp_path, edges=edges(late={"same_as": "early"}, mix={"error_ms": 0.025}))
    names = [text for text in texts if text in toy.LATENCY_MS]
    assert names == ["separable", "conv3", "mix", "entry", "early", "conv1"]
    assert "0.4000 ms ± 1 %" in texts and "0.2500 ms ± 20 %" in texts
    assert "toy on abacus: 2 networks that took no part in the fit" in texts
    assert not any("bound" in text for text in texts)
    assert "bound: 95 % stay above" in drawn(tmp_path, latency=LATENCY)
    first = (tmp_path / "profile.svg").read_bytes()
    drawn(tmp_path, latency=LATENCY)
    assert (tmp_path / "profile.svg").read_bytes() == first
    assert shown(tmp_path, "--plot", tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_points_stand_where_the_networks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    monkeypatch.setattr("profilers.drawing.write_figure", lambda figure, path: figures.append(figure))
    draw_profile(profile(latency=LATENCY), [(0.30, 0.31), (0.50, 0.40)], tmp_path / "profile.png")
    plane, strip, *_bars = figures[0].axes
    assert np.asarray(plane.collections[-1].get_offsets()).tolist() == [[0.31, 0.30], [0.40, 0.50]]
    errors = np.asarray(strip.collections[-1].get_offsets()).tolist()
    assert errors == [pytest.approx([0.31, -100 / 31]), pytest.approx([0.40, 25.0])]
    bound = [np.asarray(line.get_ydata())[0] for line in strip.lines if line.get_linestyle() == "--"]
    assert bound == [pytest.approx(-20)]  # a network that takes 1.25 times its prediction


def test_any_profile_can_be_drawn(tmp_path: Path) -> None:
    row = replace(toy.profile().edges["mix"], same_as=None)
    odd = ["$\\frac{", "<script>", "a\nb\x1b[31m", "n" * 300, ""]
    dear = {name: replace(row, latency_ms=2.0 + index) for index, name in enumerate(odd)}
    dear["<script>"] = replace(row, latency_ms=1e300, spread=1e300)
    many = {**dear, **{f"edge{index}": row for index in range(2 * MOST_BARS)}}
    texts = drawn(tmp_path, edges=many, space="$x^", latency=replace(LATENCY, bound=replace(BOUND, factor=1e300)))
    assert "$\\frac{" in texts and "a?b?[31m" in texts and f"{'n' * 26}…{'n' * 13}" in texts
    assert any(f"the dearest {MOST_BARS} of {len(many)}" in text for text in texts)
    nothing = profile(edges={"skip": toy.NOTHING}, latency=replace(LATENCY, bound=replace(BOUND, factor=0.0)))
    for times in ([], [(0.0, 0.0), (1e300, 1e-300), (1.0, 0.0)], [(1e-6, 1e6)], [(1.0, 1.0)]):
        draw_profile(nothing, times, tmp_path / "nothing.png")
        assert (tmp_path / "nothing.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@given(st.floats(1e-6, 1e5), st.floats(0, 1))
def test_a_column_of_times_has_four_digits_of_its_largest(most_ms: float, share: float) -> None:
    assert float(in_ms(most_ms, most_ms)) == pytest.approx(most_ms, rel=6e-4)
    assert float(in_ms(share * most_ms, most_ms)) == pytest.approx(share * most_ms, abs=6e-4 * most_ms)


def test_facts_are_json() -> None:
    json.dumps(facts(profile(edges=edges(mix={"latency_ms": 1e300, "spread": 1e300}))), allow_nan=False)
