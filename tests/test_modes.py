"""Measured modes: which file is timed for each, what one costs after another, and what is refused of a stored table."""

from __future__ import annotations

import json
import math
from typing import Any

import gated_space
import numpy as np
import onnxruntime
import pytest

from profilers import modes as module
from profilers.clock import PacedTiming
from profilers.modes import ModeCosts, forced, measure_modes
from profilers.target import LocalTarget
from toolkit.adaptive import AdaptiveNetwork
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space

NAMED_MS = {name: 1.0 + place / 8 for place, name in enumerate(gated_space.MODES)}
HOP = 3200


@pytest.fixture(scope="module")
def adaptive() -> AdaptiveNetwork:
    return gated_space.space().adaptive(4).eval()


def test_a_mode_is_cold_where_its_gate_was_shut_before(adaptive: AdaptiveNetwork) -> None:
    found = ModeCosts(NAMED_MS, 200).table(adaptive)
    gates = [set(live) & set(gated_space.GATED) for live in adaptive.modes]
    assert gates == [set(), {"wide"}, {"deep"}, {"wide", "deep"}] and found.shape == (4, 4)
    for before, opened in enumerate(gates):
        for after, opens in enumerate(gates):
            states = [f"{name} {'warm' if name in opened else 'cold'}" for name in gated_space.GATED if name in opens]
            assert float(found[before, after]) == NAMED_MS["+".join(states) or "off"], (opened, opens)


def test_every_mode_is_timed_as_a_file_that_runs_it_at_every_hop(
    adaptive: AdaptiveNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third hop of each file runs the mode that is to be timed, also where a gate has to stay cold or be warm."""
    asked: list[dict[str, Any]] = []

    def clock(content: bytes, _target: LocalTarget, **options: Any) -> PacedTiming:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        states = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs()[1:]}
        names = [item.name for item in session.get_outputs()]
        for _hop in range(3):
            told = dict(zip(names, session.run(None, {"audio": np.ones((1, HOP), np.float32), **states}), strict=True))
            states = {name: told[name.replace("state_in_", "state_out_", 1)] for name in states}
        asked.append({**options, "mode": int(told["mode"][0])})
        return PacedTiming(((1.0 + len(asked), 3.0 + len(asked)), (2.0 + len(asked),)), 50.0, False)

    monkeypatch.setattr(module, "time_paced", clock)
    found = measure_modes(adaptive, (1, HOP), LocalTarget(), hop_ms=200, threads=2, calls=3)
    assert [each["mode"] for each in asked] == list(range(9))
    paces = {(each["calls"], each["threads"], each["hop_ms"], each["gap_ms"]) for each in asked}
    assert paces == {(3, 2, 200, 200)}, "at the pace of a stream"
    medians_ms = [3.0 + place for place in range(9)]
    assert found.named_ms == dict(zip(gated_space.MODES, medians_ms, strict=True)) and found.hop_ms == 200


def test_edges_without_states_are_on_or_off() -> None:
    adaptive = find_space("kws-cnn").adaptive(3)
    assert forced(adaptive, 0) == dict.fromkeys(adaptive.gated, "off")
    assert forced(adaptive, 31) == dict.fromkeys(adaptive.gated, "on")
    alone = next(place for place, live in enumerate(adaptive.modes) if live == {"shortcut-mel"})
    assert [gate for gate, state in forced(adaptive, alone).items() if state == "on"] == ["shortcut-mel"]


def test_a_stored_table_comes_back(adaptive: AdaptiveNetwork) -> None:
    costs = ModeCosts(NAMED_MS, 200)
    assert ModeCosts.from_facts(json.loads(json.dumps(costs.facts())), adaptive) == costs


OTHERS = dict(list(NAMED_MS.items())[1:])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"named_ms": OTHERS}, "of another network"),
        ({"named_ms": {**NAMED_MS, "long": 1.0}}, "of another network"),
        ({"named_ms": dict(reversed(NAMED_MS.items()))}, "of another network"),
        ({"named_ms": list(NAMED_MS)}, "of another network"),
        ({"named_ms": None}, "of another network"),
        ({"hop_ms": None}, "of another network"),
        ({"hop_ms": True}, "of another network"),
        *(
            ({"named_ms": {**NAMED_MS, "deep cold": value}}, f"'deep cold' was measured as {value} ms")
            for value in (0.0, -1.0, math.nan, math.inf, None, "1.0")
        ),
    ],
)
def test_a_table_that_is_damaged_or_of_others_is_refused(
    adaptive: AdaptiveNetwork, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(MilliwiseError, match=f"{told}.*: measure again") as error:
        ModeCosts.from_facts({"named_ms": NAMED_MS, "hop_ms": 200, **change}, adaptive)
    assert "\n" not in str(error.value)
