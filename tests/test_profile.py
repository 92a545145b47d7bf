"""The device-profile file: its arithmetic, its round trip, what it refuses, and junk."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.graph import Graph
from toolkit.profile import DeviceProfile


def test_latency_by_hand() -> None:
    profile = toy.profile()
    assert profile.tight_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_TIGHT_MS)
    assert profile.tight_ms(toy.GRAPH, toy.CHEAPEST, front_end=False) == pytest.approx(0.25)
    assert profile.tight_ms(toy.GRAPH, toy.GRAPH.full) == pytest.approx(toy.FULL_TIGHT_MS)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST) == pytest.approx(toy.CHEAPEST_P95_MS)
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, "p50") == pytest.approx(0.37)  # 0.1 + 0.27
    assert profile.paced_ms(toy.GRAPH, toy.CHEAPEST, "p99") == pytest.approx(1.11)  # 0.3 + 3 × 0.27


def test_nothing_unmeasured_counts_as_zero() -> None:
    rows = {name: row for name, row in toy.profile().edges.items() if name not in ("mix", "early")}
    with pytest.raises(UnpricedEdge, match=r"early, mix.*milliwise profile toy"):
        toy.profile(edges=rows).tight_ms(toy.GRAPH, ["entry", "mix", "early"])


def test_what_it_was_made_for_is_compared_and_both_values_are_shown() -> None:
    profile = toy.profile()
    profile.require(toy.GRAPH, threads=1, hop_ms=40)
    profile.require(toy.GRAPH)
    other = Graph(toy.EDGES[:-1], "mel", "out")
    with pytest.raises(ProfileMismatch, match=f"{toy.GRAPH.digest()}.*{other.digest()}"):
        profile.require(other)
    with pytest.raises(ProfileMismatch, match="thread count 1, not 2"):
        profile.require(toy.GRAPH, threads=2)
    with pytest.raises(ProfileMismatch, match="hop in ms 40, not 200"):
        profile.require(toy.GRAPH, hop_ms=200)


def test_round_trip(tmp_path: Path) -> None:
    profile = toy.profile()
    rows = {
        **profile.edges,
        "late": replace(profile.edges["late"], same_as="early", isolated_ms=0.14, uncounted=("aten::tanh",)),
    }
    profile = toy.profile(edges=rows)
    profile.save(tmp_path / "profile.json")
    assert DeviceProfile.load(tmp_path / "profile.json") == profile


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
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


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    content = saved(tmp_path)
    del content["edges"]["mix"]["parameters"]
    with pytest.raises(MilliwiseError, match="parameters"):
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
    toy.profile().save(tmp_path / "profile.json")
    content = bytearray((tmp_path / "profile.json").read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()):
        content = content[:cut]
    else:
        content[min(cut, len(content) - 1)] = data.draw(st.integers(0, 255))
    refused_or_whole(tmp_path, bytes(content))


def saved(folder: Path) -> Any:
    toy.profile().save(folder / "profile.json")
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
