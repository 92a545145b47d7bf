"""The device-profile file: its arithmetic, its round trip, what it refuses, and junk."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.budget import Budget
from toolkit.costs import price
from toolkit.errors import MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.graph import Graph
from toolkit.profile import Bound, DeviceProfile, HeldOut

BOUND = Bound(0.95, 1.1, 100, 0.96)


def complete() -> DeviceProfile:
    """The toy's, with all that a profile may have: an edge that failed, a bound, and what disturbed it."""
    profile = toy.profile(noisy=True, noisy_because=("others used 30 % of the machine",), clock="paced")
    edges = {
        **profile.edges,
        "conv3": replace(profile.edges["conv3"], latency_ms=None, isolated_ms=None, failed="it crashed"),
        "late": replace(profile.edges["late"], same_as="early", isolated_ms=0.14, uncounted=("aten::tanh",)),
        "mix": replace(profile.edges["mix"], error_ms=0.01),
    }
    return replace(profile, edges=edges, latency=replace(profile.latency, bound=BOUND))


def test_latency_by_hand() -> None:
    profile = toy.profile()
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_TIGHT_MS)
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST, front_end=False) == pytest.approx(0.25)
    assert profile.table_ms(toy.GRAPH, toy.GRAPH.full) == pytest.approx(toy.FULL_TIGHT_MS)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_P95_MS)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, "p50") == pytest.approx(0.37)  # 0.1 + 0.27
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, "p99") == pytest.approx(1.11)  # 0.3 + 3 × 0.27


def test_nothing_unmeasured_counts_as_zero() -> None:
    rows = {name: row for name, row in toy.profile().edges.items() if name not in ("mix", "early")}
    with pytest.raises(UnpricedEdge, match=r"early, mix.*milliwise profile toy"):
        toy.profile(edges=rows).table_ms(toy.GRAPH, ["entry", "mix", "early"])


def test_what_it_was_made_for_is_compared_and_both_values_are_shown() -> None:
    profile = toy.profile()
    profile.require(toy.GRAPH, threads=1, hop_ms=40)
    profile.require(toy.GRAPH)
    other = Graph(toy.EDGES[:-1], "mel", "out")
    with pytest.raises(ProfileMismatch, match=f"{toy.GRAPH.digest()}.*{other.digest()}"):
        profile.require(other)
    with pytest.raises(ProfileMismatch, match="run milliwise profile kws-coarse"):
        profile.require(other, space="kws-coarse")
    with pytest.raises(ProfileMismatch, match="thread count 1, not 2"):
        profile.require(toy.GRAPH, threads=2)
    with pytest.raises(ProfileMismatch, match="hop in ms 40, not 200"):
        profile.require(toy.GRAPH, hop_ms=200)


def test_a_bound_raises_the_table_but_not_the_front_end() -> None:
    """1.1 × the 0.25 ms of base and edges, beside the 0.02 ms of the front-end; then the line to the pace."""
    profile = complete()
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST, bound=True) == pytest.approx(0.02 + 1.1 * 0.25)
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST, bound=True, front_end=False) == pytest.approx(1.1 * 0.25)
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_TIGHT_MS)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, bound=True) == pytest.approx(0.2 + 2 * 0.295)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, "p50", bound=True) == pytest.approx(0.1 + 0.295)


def test_without_a_bound_none_is_made_up() -> None:
    for ask in (toy.profile().table_ms, toy.profile().paced_ms):
        with pytest.raises(UnpricedEdge, match="the profile of toy has no bound, for too few networks calibrated it"):
            ask(toy.GRAPH, toy.CHEAPEST, bound=True)


def test_prices_can_be_bounds() -> None:
    profile = replace(toy.profile(), latency=replace(toy.profile().latency, bound=BOUND))
    likely, bound = (price(toy.GRAPH, profile, Budget.parse("2 ms"), bound=each) for each in (False, True))
    assert likely(toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_P95_MS)
    assert bound(toy.CHEAPEST) == pytest.approx(0.2 + 2 * 0.295)
    assert bound.cheapest() == toy.CHEAPEST
    for budget in ("9 kparams", "8 steps@2"):  # what is counted has no bound
        first, second = (price(toy.GRAPH, profile, Budget.parse(budget), bound=each) for each in (False, True))
        assert first(toy.GRAPH.full) == second(toy.GRAPH.full)
    with pytest.raises(UnpricedEdge, match="no bound"):
        price(toy.GRAPH, toy.profile(), Budget.parse("2 ms"), bound=True)(toy.CHEAPEST)


def test_an_edge_that_could_not_be_measured_has_no_price() -> None:
    profile = complete()
    assert profile.table_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_TIGHT_MS)
    for ask in (
        lambda: profile.table_ms(toy.GRAPH, [*toy.CHEAPEST, "conv3"]),
        lambda: profile.paced_ms(toy.GRAPH, [*toy.CHEAPEST, "conv3"]),
        lambda: price(toy.GRAPH, profile, Budget.parse("2 ms")),
    ):
        with pytest.raises(
            UnpricedEdge, match=r"edge conv3 could not be measured \(it crashed\), .*: run milliwise profile toy again"
        ):
            ask()


@pytest.mark.parametrize("profile", [toy.profile, complete])
def test_round_trip(tmp_path: Path, profile: Callable[[], DeviceProfile]) -> None:
    profile().save(tmp_path / "profile.json")
    assert DeviceProfile.load(tmp_path / "profile.json") == profile()


@pytest.mark.parametrize("held_out", [HeldOut(0, None, None, None, None, ()), HeldOut(1, 0.1, 0.0, 1.0, 0.0, ())])
def test_a_space_without_networks_to_judge_by_has_a_profile(tmp_path: Path, held_out: HeldOut) -> None:
    toy.profile(held_out=held_out).save(tmp_path / "profile.json")
    assert DeviceProfile.load(tmp_path / "profile.json").held_out == held_out


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 1),
        (("format",), 3),
        (("format",), "1"),
        (("edges", "mix", "latency_ms"), -0.1),
        (("edges", "mix", "latency_ms"), "0.1"),
        (("edges", "mix", "latency_ms"), True),
        (("edges", "mix", "latency_ms"), math.nan),
        (("edges", "mix", "latency_ms"), math.inf),
        pytest.param(("edges", "mix", "latency_ms"), 10**400, id="huge"),
        (("edges", "mix", "steps"), 1.5),
        (("edges", "mix", "multiply_adds"), -1),
        (("edges", "mix"), [1, 2]),
        (("edges",), []),
        (("digest",), None),
        (("threads",), "1"),
        (("latency", "paced", "p95", "slope"), -1.0),
        (("latency", "paced", "p95"), 3),
        (("latency", "shortened_gap_ms"), 0),
        (("held_out", "rows"), [1]),
        (("fingerprint",), "cpu"),
        (("noisy",), "no"),
        (("clock",), None),
        (("clock",), 1),
        (("noisy_because",), "busy"),
        (("noisy_because",), None),
        (("edges", "late", "uncounted"), "aten::tanh"),
        (("noisy_because",), [1]),
        (("latency", "bound", "factor"), -0.1),
        (("latency", "bound", "factor"), None),
        (("latency", "bound", "factor"), math.inf),
        (("latency", "bound", "coverage"), "0.95"),
        (("latency", "bound", "nets"), 19.5),
        (("latency", "bound", "nets"), -1),
        (("latency", "bound", "held_out_coverage"), True),
        (("latency", "bound"), []),
        (("edges", "mix", "latency_ms"), None),  # without a reason
        (("edges", "mix", "failed"), "it crashed"),  # and with a cost
        (("edges", "conv3", "failed"), None),
        (("edges", "conv3", "failed"), 1),
        (("edges", "conv3", "latency_ms"), 0.3),
        (("edges", "mix", "error_ms"), -0.1),
        (("edges", "mix", "error_ms"), "0.1"),
        (("edges", "mix", "weight_bytes"), 1.5),
        (("held_out", "mape"), "0.01"),
        (("held_out", "nets"), None),
    ],
)
def test_a_hand_edited_value_is_refused(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    content = saved(tmp_path)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(MilliwiseError) as error:
        loaded(tmp_path, json.dumps(content).encode())
    assert "\n" not in str(error.value) and "profile" in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        ("edges", "mix", "parameters"),
        ("edges", "mix", "failed"),
        ("edges", "conv3", "error_ms"),
        ("clock",),
        ("noisy_because",),
        ("latency", "bound"),
        ("latency", "bound", "held_out_coverage"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, path: tuple[str, ...]) -> None:
    content = holder = saved(tmp_path)
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    with pytest.raises(MilliwiseError, match=path[-1]):
        loaded(tmp_path, json.dumps(content).encode())


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="No such file"):
        DeviceProfile.load(tmp_path / "nowhere.json")
    with pytest.raises(MilliwiseError, match="it is not a file"):
        DeviceProfile.load(tmp_path)


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([10**400, -(10**400), "\ud800", [], {}, [[]], {"base": 1}, [{"a": 1}]]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_is_refused_or_leaves_a_whole_profile(tmp_path: Path, data: st.DataObject) -> None:
    content = saved(tmp_path)
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(places(content)))
        if data.draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(data.draw(junk))
    refused_or_whole(tmp_path, json.dumps(content).encode())


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_or_leaves_a_whole_profile(tmp_path: Path, data: st.DataObject) -> None:
    complete().save(tmp_path / "profile.json")
    content = bytearray((tmp_path / "profile.json").read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()):
        content = content[:cut]
    else:
        content[min(cut, len(content) - 1)] = data.draw(st.integers(0, 255))
    refused_or_whole(tmp_path, bytes(content))


def saved(folder: Path) -> Any:
    complete().save(folder / "profile.json")
    return json.loads((folder / "profile.json").read_text())


def loaded(folder: Path, content: bytes) -> DeviceProfile:
    (folder / "edited.json").write_bytes(content)
    return DeviceProfile.load(folder / "edited.json")


def refused_or_whole(folder: Path, content: bytes) -> None:
    try:
        profile = loaded(folder, content)
    except MilliwiseError as error:
        assert "\n" not in str(error)
    else:
        profile.save(folder / "again.json")
        assert DeviceProfile.load(folder / "again.json") == profile


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]
