"""What a device says: anything at all is either a plain, bounded event or refused in one short line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers import device
from profilers.events import KNOWN, LONGEST_MS, MAX_ELEMENTS, MAX_TEXT, checked_event, parse_line

MODELS = ("a.onnx", "b.onnx")
BLOCKS = {"event": "blocks", "model": "a.onnx", "blocks_ms": [0.1], "rejected_ms": [], "calls_per_block": 3}
LOAD = {"event": "load", "foreign": [0.0, 1.0], "probes_ms": [0.01]}
PACED = {"event": "paced", "model": "b.onnx", "values_ms": [1.0], "gap_ms": 2.0}

numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**18), 5e-324, math.nan, math.inf, 1e999])
texts = st.text(max_size=30) | st.sampled_from([*MODELS, "\x1b[2J" * 400, "x" * (MAX_TEXT + 1), "\ud800"])
fields = sorted({name for rules in KNOWN.values() for name in rules} | {"event", "host"})
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(fields), inner, max_size=4),
    max_leaves=12,
)
events = st.fixed_dictionaries(
    {"event": st.sampled_from(sorted(KNOWN)) | values},
    optional=dict.fromkeys([n for n in fields if n != "event"], values),
)
changed = st.tuples(
    st.sampled_from([BLOCKS, LOAD, PACED, {"event": "fingerprint", **device.fingerprint()}]),
    st.dictionaries(st.sampled_from(fields), values, max_size=2),
).map(lambda pair: {**pair[0], **pair[1]})


def require_plain(value: Any, depth: int = 5) -> None:
    assert depth >= 0
    if isinstance(value, dict):
        for name, each in value.items():
            require_plain(name)
            require_plain(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            require_plain(each, depth - 1)
    elif isinstance(value, str):
        assert value.isprintable() and len(value) <= 10 * MAX_TEXT  # an escape has up to ten characters
    elif value is not None:
        assert type(value) in (bool, int, float) and -1e18 < value < 1e18


def require_short(error: ValueError) -> None:
    assert str(error).isprintable() and 0 < len(str(error)) < 150


@given(events | changed | values)
def test_any_value_is_a_plain_event_or_refused(value: object) -> None:
    try:
        event = checked_event(value, MODELS)
    except ValueError as error:
        require_short(error)
        return
    require_plain(event)
    assert event.get("model", "a.onnx") in MODELS
    times = event.get("values_ms" if event["event"] == "paced" else "blocks_ms", [])
    assert event["event"] not in ("paced", "blocks") or (times and all(1e-6 <= each < LONGEST_MS for each in times))
    assert event["event"] != "fingerprint" or set(event) == {"event", *device.fingerprint()}


@given(st.binary(max_size=60) | events.map(lambda event: json.dumps(event).encode()) | st.binary().map(b"{".__add__))
def test_any_line_is_an_object_or_none_or_refused(line: bytes) -> None:
    try:
        found = parse_line(line)
    except ValueError as error:
        require_short(error)
    else:
        assert found is None or (isinstance(found, dict) and line.lstrip().startswith(b"{"))


@pytest.mark.parametrize("value", [5e-324, 0, 0.0, 9e-7, -1.0, math.nan, math.inf, LONGEST_MS, "1", True, None, [1.0]])
def test_what_is_no_time_is_refused(value: object) -> None:
    for event in (
        {**PACED, "values_ms": [1.0, value]},
        {**PACED, "gap_ms": value},
        {**BLOCKS, "blocks_ms": [value]},
        {**BLOCKS, "rejected_ms": [value]},
        {**LOAD, "probes_ms": [value]},
    ):
        with pytest.raises(ValueError, match=r"wrong|the number|too long"):
            checked_event(event, MODELS)
    assert checked_event({**PACED, "values_ms": [1e-6, 9e6, 1]}, MODELS)["values_ms"] == [1e-6, 9e6, 1]


@pytest.mark.parametrize("model", [None, 1, [], ["a.onnx"], {}, "c.onnx", "\x1b" * 900, "", "a"])
def test_a_model_is_one_of_the_job(model: object) -> None:
    for event in ({**PACED, "model": model}, {**LOAD, "model": model}, {"event": "opening", "model": model}):
        with pytest.raises(ValueError) as error:
            checked_event(event, MODELS)
        require_short(error.value)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, True, "0", None])
def test_what_is_no_share_is_refused(share: object) -> None:
    assert checked_event(LOAD, MODELS) == LOAD
    assert checked_event({**LOAD, "foreign": [], "probes_ms": []}, MODELS)["foreign"] == []
    with pytest.raises(ValueError, match=r"wrong foreign|the number"):
        checked_event({**LOAD, "foreign": [0.5, share]}, MODELS)


@pytest.mark.parametrize("event", [BLOCKS, LOAD, PACED, {"event": "opening", "model": "a.onnx"}])
def test_an_event_without_what_we_rely_on_is_refused(event: dict[str, Any]) -> None:
    for name in set(event) - {"event"}:
        with pytest.raises(ValueError, match=f"wrong {name}"):
            checked_event({key: value for key, value in event.items() if key != name}, MODELS)


def test_an_event_is_bounded_as_a_whole() -> None:
    half = [1.0] * (MAX_ELEMENTS // 2)
    assert len(checked_event({**PACED, "values_ms": half}, MODELS)["values_ms"]) == len(half)
    for event in ({**PACED, "values_ms": [*half, *half]}, {**PACED, "more": {"a": [half], "b": [half]}}):
        with pytest.raises(ValueError, match=f"'paced' of more than {MAX_ELEMENTS} elements"):
            checked_event(event, MODELS)


def test_a_fingerprint_is_what_this_machine_would_say_and_no_more() -> None:
    own = {"event": "fingerprint", **device.fingerprint()}
    assert checked_event({**own, "target": "local", "threads": 9, "identity": "0"}, ()) == own
    for name in device.fingerprint():
        for value in ("x" * 201, -1, [], {"L1": "large"}):
            with pytest.raises(ValueError, match=f"wrong {name}"):
                checked_event({**own, name: value}, ())
        with pytest.raises(ValueError, match=f"wrong {name}"):
            checked_event({key: value for key, value in own.items() if key != name}, ())


def test_a_line_that_is_no_event_is_passed_over() -> None:
    for line in (b"", b"Welcome", b"[1]", b'{"event": "load"', b'{"\xff": 1}', b"\x00{}"):
        assert parse_line(line) is None
    assert parse_line(b' {"event": "load"}\r') == {"event": "load"}
    for line in (b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": ' + b"9" * 100_000 + b"}", b'{"a":' + b"[" * 100_000):
        with pytest.raises(ValueError) as error:
            parse_line(line)
        require_short(error.value)
