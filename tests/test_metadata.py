"""The listener's metadata: round trip, the contract's keys, and junk."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_listener import metadata

from exporters.metadata import DEFAULT_DECISION, ListenerMetadata, default_decision
from toolkit.errors import MilliwiseError

# The keys other programs read, as the contract lists them.
KEYS = [
    "format",
    "labels",
    "sample_rate_hz",
    "hop_samples",
    "window_ms",
    "front_end",
    "front_end_sha256",
    "states",
    "decision",
    "budget",
    "predicted_ms",
    "measured_ms",
    "device",
    "versions",
    "seed",
    "min_onnxruntime",
    "license",
    "modes",
]

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
shapes = st.lists(st.integers(1, 20), max_size=4)
valid = st.fixed_dictionaries(
    {
        "labels": st.lists(words, min_size=1, max_size=5, unique=True).map(
            lambda extra: ["_silence_", "_unknown_", *extra]
        ),
        "hop_samples": st.integers(1, 32000),
        "states": st.dictionaries(
            words, st.fixed_dictionaries({"shape": shapes, "dtype": st.just("float32")}), max_size=3
        ),
        "front_end": st.dictionaries(st.text(max_size=5), json_values, max_size=3),
        "seed": st.integers(0, 2**64),
        "budget": st.none() | st.just("2 ms"),
        "predicted_ms": st.none() | st.floats(0, 100),
        "modes": st.lists(
            st.fixed_dictionaries({"name": words, "predicted_ms": st.floats(0, 9)}),
            max_size=2,
            unique_by=lambda mode: mode["name"],
        ),
    }
)


@given(valid)
def test_round_trip(values: dict) -> None:
    made = metadata(**values)
    properties = made.to_properties()
    assert ListenerMetadata.from_properties(properties) == made
    assert all(text.isascii() for text in properties.values())


def test_every_key_of_the_contract_is_there_even_if_null() -> None:
    properties = metadata(budget=None, predicted_ms=None, measured_ms=None).to_properties()
    assert sorted(properties) == sorted("milliwise." + key for key in KEYS)
    assert properties["milliwise.budget"] == "null"


def test_tuples_become_lists_and_nothing_is_shared() -> None:
    shape = [1, 2]
    made = metadata(states={"a": {"shape": shape, "dtype": "float32"}}, labels=("_silence_", "_unknown_", "yes"))
    shape.append(3)
    assert made.states["a"]["shape"] == [1, 2] and made.labels == ["_silence_", "_unknown_", "yes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", ["_silence_", "_unknown_"]),
        ("labels", ["_unknown_", "_silence_", "yes"]),
        ("labels", ["_silence_", "_unknown_", "yes", "yes"]),
        ("labels", ["_silence_", "_unknown_", "\x1b[2J"]),
        ("labels", ["_silence_", "_unknown_", "‮yes"]),
        ("labels", ["_silence_", "_unknown_", " "]),
        ("labels", "_silence_"),
        ("hop_samples", 32001),
        ("hop_samples", 0),
        ("hop_samples", True),
        ("hop_samples", 3200.0),
        ("sample_rate_hz", 8000),
        ("window_ms", math.nan),
        ("window_ms", math.inf),
        ("states", {"a": {"shape": [16_000_001], "dtype": "float32"}}),
        ("states", {"a": {"shape": [4000, 4001], "dtype": "float32"}}),
        ("states", {"a": {"shape": [-1], "dtype": "float32"}}),
        ("states", {"a": {"shape": ["n"], "dtype": "float32"}}),
        ("states", {"a": {"shape": [1], "dtype": "object"}}),
        ("states", {"a": {"shape": [1], "dtype": []}}),
        ("decision", {"average_ms": 500}),
        ("decision", {"average_ms": 500, "threshold": 1.1, "suppression_ms": 1500, "minimum_count": 3}),
        ("modes", [{"name": "small"}]),
        ("modes", [{"name": "small", "predicted_ms": 1.0}] * 2),
        ("modes", [{"name": str(number), "predicted_ms": 1.0} for number in range(3**8 + 1)]),
        ("measured_ms", {"p50": 1}),
        ("front_end", []),
        ("front_end", {"a": {1, 2}}),
        ("front_end_sha256", "0" * 63 + "G"),
        ("min_onnxruntime", "latest"),
        ("seed", -1),
        ("license", None),
        ("format", 2),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(MilliwiseError, match=f"milliwise.{name}") as error:
        metadata(**{name: value})
    assert str(error.value).isprintable()


def test_missing_keys_are_named() -> None:
    properties = metadata().to_properties()
    del properties["milliwise.hop_samples"]
    with pytest.raises(MilliwiseError, match=r"milliwise\.hop_samples missing"):
        ListenerMetadata.from_properties(properties)
    with pytest.raises(MilliwiseError, match="not a listener"):
        ListenerMetadata.from_properties({"author": "somebody"})


def test_more_than_16_megabytes_are_refused() -> None:
    properties = metadata().to_properties()
    properties["milliwise.device"] = json.dumps({"note": "x" * 16_000_000})
    with pytest.raises(MilliwiseError, match="more than 16000000"):
        ListenerMetadata.from_properties(properties)


junk_text = (
    st.text(max_size=30) | json_values.map(json.dumps) | st.sampled_from(["NaN", "1e999", "[" * 100_000, "9" * 5000])
)


@given(st.dictionaries(st.sampled_from(KEYS), junk_text, max_size=4))
def test_junk_raises_only_our_error(junk: dict) -> None:
    properties = {**metadata().to_properties(), **{"milliwise." + key: value for key, value in junk.items()}}
    try:
        read = ListenerMetadata.from_properties(properties)
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert ListenerMetadata.from_properties(read.to_properties()) == read


@pytest.mark.parametrize(
    ("hop_ms", "average_ms", "minimum_count"),
    [(40, 500, 3), (250, 500, 3), (500, 500, 2), (520, 520, 2), (2000, 2000, 2)],
)
def test_the_default_decision_averages_two_scores_at_least(hop_ms: int, average_ms: int, minimum_count: int) -> None:
    expected = {**DEFAULT_DECISION, "average_ms": average_ms, "minimum_count": minimum_count}
    assert default_decision(hop_ms) == expected == metadata(decision=expected).decision
