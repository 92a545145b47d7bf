"""Reading the memory and the parallel steps of a device profile: their round trip, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import MilliwiseError
from toolkit.makespan import HEAD, OperationCost, ParallelModel
from toolkit.memory import MemoryModel
from toolkit.profile import DeviceProfile
from toolkit.profile_json import parse_profile

ROW = {"weight_bytes": 400, "predicted_bytes": 2_400_000, "measured_bytes": 2_500_000}
MEMORY = MemoryModel(2e6, 2.1, 0.0, 12, 0.03, 8, 0.04, 1.0, (ROW,))
COSTS = {"mix": OperationCost(0.25, 0.3, 0.01), "skip": OperationCost(0.0, 0.0, 0.01, passes=True)}
PARALLEL = ParallelModel(2, 0.03, 0.005, {**COSTS, HEAD: OperationCost(0.04, 0.05, 0.01)}, 20, 9, 0.05, 0.95)
JUNK = st.sampled_from([None, True, -1, 2, 0.5, math.nan, math.inf, 10**400, "", "\ud800", [], {}, [[]], [{"a": 1}]])
BROKEN = (KeyError, TypeError, ValueError, AttributeError)  # which DeviceProfile.load makes one line of


def content() -> Any:
    """The JSON of a profile with both."""
    return json.loads(json.dumps(asdict(toy.profile(memory=MEMORY, parallel=PARALLEL))))


@pytest.mark.parametrize("memory", [None, MEMORY, MemoryModel(2e6, 2.1, 0.5, 3, 0.0)])
@pytest.mark.parametrize("parallel", [None, PARALLEL, ParallelModel(1, 0.0, 0.0, {})])
def test_round_trip(tmp_path: Path, memory: MemoryModel | None, parallel: ParallelModel | None) -> None:
    profile = toy.profile(memory=memory, parallel=parallel)
    profile.save(tmp_path / "profile.json")
    assert DeviceProfile.load(tmp_path / "profile.json") == profile


def test_what_was_not_measured_may_be_left_out() -> None:
    found = content()
    del found["memory"], found["parallel"]
    assert parse_profile(found) == toy.profile()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("memory",), [1]),
        (("memory",), "none"),
        (("memory", "base_bytes"), -1.0),
        (("memory", "base_bytes"), math.nan),
        (("memory", "per_weight_byte"), "2"),
        (("memory", "per_largest_byte"), None),
        (("memory", "held_out_nets"), 1.5),
        (("memory", "held_out_error"), -0.1),
        (("memory", "rows"), 3),
        (("memory", "rows", 0), 3),
        (("parallel",), 2),
        (("parallel", "workers"), 0),
        (("parallel", "workers"), 65),
        (("parallel", "workers"), 1.5),
        (("parallel", "handoff_ms"), -1),
        (("parallel", "wake_ms"), math.inf),
        (("parallel", "costs"), []),
        (("parallel", "costs", "mix"), {}),
        (("parallel", "costs", "mix", "alone_ms"), True),
        (("parallel", "costs", "mix", "passes"), 1),
        (("parallel", "nets"), True),
        (("parallel", "mape"), "small"),
    ],
)
def test_a_hand_edited_value_is_refused(tmp_path: Path, path: tuple[Any, ...], value: object) -> None:
    found = content()
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    (tmp_path / "edited.json").write_text(json.dumps({"format": saved_format(tmp_path), **found}))
    with pytest.raises(MilliwiseError, match=r"is not as milliwise wrote it|not JSON") as error:
        DeviceProfile.load(tmp_path / "edited.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("fingerprint", "memory_bytes"), 10**400),
        (("fingerprint", "memory_bytes"), "much"),
        (("fingerprint", "cores"), -1),
        (("fingerprint", "cache_bytes"), 3),
        (("fingerprint", "cache_bytes"), {"L1": 10**400}),
        (("fingerprint", "cpu_model"), ["a"]),
        (("fingerprint", "other"), 10**400),
        (("fingerprint",), "x"),
        (("clock",), "auto"),
    ],
)
def test_a_device_that_cannot_be_is_refused(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    test_a_hand_edited_value_is_refused(tmp_path, path, value)


def test_a_fingerprint_is_kept_whole() -> None:
    told = {"cpu_model": "a", "cores": 4, "memory_bytes": 10**10, "cache_bytes": {"L1": 1}, "governor": None, "x": 0.5}
    assert parse_profile({**content(), "fingerprint": told}).fingerprint == told


def saved_format(folder: Path) -> int:
    toy.profile().save(folder / "saved.json")
    return int(json.loads((folder / "saved.json").read_text())["format"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_is_refused_or_leaves_a_whole_profile(data: st.DataObject) -> None:
    found = content()
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from([*places(found["memory"]), *places(found["parallel"])]))
        if data.draw(st.booleans()) and key in holder:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(data.draw(JUNK))
    try:
        profile = parse_profile(found)
    except BROKEN as error:
        assert "\n" not in str(error)
    else:
        assert profile.memory is not None and profile.parallel is not None
        assert profile.memory.base_bytes >= 0 and 1 <= profile.parallel.workers <= 64
        assert all(cost.alone_ms >= 0 for cost in profile.parallel.costs.values())


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (dictionary, key) in a JSON value."""
    if not isinstance(value, dict):
        return []
    return [place for key in value for place in [(value, key), *places(value[key])]]
