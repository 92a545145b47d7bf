"""The metadata that travels inside an exported listener: written, read back and checked without torch or onnx."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from toolkit.errors import MilliwiseError
from toolkit.files import MAX_JSON_BYTES

PREFIX = "milliwise."
RATE_HZ = 16000
MAX_HOP_SECONDS = 2
MAX_STATE_BYTES = 64_000_000
MAX_MODES = 3**8  # of 8 gates: shut, cold or warm
SILENCE, UNKNOWN = "_silence_", "_unknown_"
ITEM_BYTES = {"float32": 4, "int32": 4, "int64": 8, "bool": 1}
DEFAULT_DECISION = {"average_ms": 500, "threshold": 0.7, "suppression_ms": 1500, "minimum_count": 3}


@dataclass(frozen=True)
class ListenerMetadata:
    """What a program needs to know to run a listener and to trust it; every value is plain JSON.

    Raises:
        MilliwiseError: a value has the wrong type or is out of range.
    """

    labels: list[str]  # _silence_, _unknown_, then the keywords
    hop_samples: int
    states: dict[str, dict[str, Any]]  # name without state_in_ -> {"shape": [...], "dtype": "float32"}
    front_end: dict[str, Any]
    front_end_sha256: str
    sample_rate_hz: int = RATE_HZ
    window_ms: float = 1000
    modes: list[dict[str, Any]] = field(default_factory=list)  # {"name", "predicted_ms"} of each, adaptive models only
    decision: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_DECISION))
    budget: str | None = None
    predicted_ms: float | None = None
    measured_ms: dict[str, float] | None = None  # p50, p95, p99 and the hop_ms they were paced at
    device: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    min_onnxruntime: str = "1.17"
    license: str = "Apache-2.0"
    format: int = 1

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, _plain(name, getattr(self, name)))
            valid, must_be = RULES[name]
            if not valid(getattr(self, name)):
                raise MilliwiseError(f"{PREFIX}{name} is {_shown(getattr(self, name))}; it must be {must_be}")

    def to_properties(self) -> dict[str, str]:
        """The ONNX `metadata_props`: every field as `milliwise.NAME` with a JSON value.

        Raises:
            MilliwiseError: together they exceed 16 MB.
        """
        properties = {PREFIX + name: json.dumps(getattr(self, name), allow_nan=False) for name in FIELDS}
        _check_size(properties)
        return properties

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ListenerMetadata:
        """Read what `to_properties` wrote; properties of others are ignored.

        Raises:
            MilliwiseError: a key is missing, is not JSON, or holds a wrong value; or they exceed 16 MB.
        """
        missing = [PREFIX + name for name in FIELDS if not isinstance(properties.get(PREFIX + name), str)]
        if len(missing) == len(FIELDS):
            raise MilliwiseError("it has no milliwise metadata: it is not a listener, make one with milliwise export")
        if missing:
            raise MilliwiseError(f"metadata {', '.join(missing)} missing: export the listener again")
        ours = {PREFIX + name: properties[PREFIX + name] for name in FIELDS}
        _check_size(ours)
        return cls(**{name: _parsed(name, ours[PREFIX + name]) for name in FIELDS})


FIELDS = tuple(entry.name for entry in fields(ListenerMetadata))


def check_decision(value: Any) -> bool:
    """Whether the settings of the decision are complete and in range (times in ms, threshold a share)."""
    return (
        isinstance(value, dict)
        and value.keys() == DEFAULT_DECISION.keys()
        and _number(value["average_ms"], 1, 60_000)
        and _number(value["threshold"], 0, 1)
        and _number(value["suppression_ms"], 0, 3_600_000)
        and _whole(value["minimum_count"], 1, 10_000)
    )


def default_decision(hop_ms: float) -> dict[str, Any]:
    """The settings of the decision for scores that come every `hop_ms`: at long hops the average holds two of them."""
    average_ms = max(DEFAULT_DECISION["average_ms"], hop_ms)
    most = int(average_ms // hop_ms) + 1  # no more scores fall into the average
    return {
        **DEFAULT_DECISION,
        "average_ms": average_ms,
        "minimum_count": min(int(DEFAULT_DECISION["minimum_count"]), most),
    }


DECISION_RANGES = "average_ms 1-60000, threshold 0-1, suppression_ms 0-3600000 and minimum_count 1-10000"


def _plain(name: str, value: Any) -> Any:
    """A copy as JSON would give it back: tuples become lists; NaN, infinity and objects are refused."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise MilliwiseError(f"{PREFIX}{name} does not fit into JSON ({error})") from None


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MilliwiseError(
            f"metadata {PREFIX}{name} is not JSON ({_shown(text)}): export the listener again"
        ) from None


def _check_size(properties: Mapping[str, str]) -> None:
    size = sum(len(value) for value in properties.values())
    if size > MAX_JSON_BYTES:
        raise MilliwiseError(f"the metadata has {size} bytes, more than {MAX_JSON_BYTES}: it is not a listener of ours")


def _shown(value: Any) -> str:
    """The value in ASCII, cut short: safe on a terminal, whatever is in it."""
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= 100 and value.isprintable()


def _labels(value: Any) -> bool:
    if not isinstance(value, list) or not 3 <= len(value) <= 10_000 or not all(map(_word, value)):
        return False
    return value[:2] == [SILENCE, UNKNOWN] and len(set(value)) == len(value)


def _state(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"shape", "dtype"} or not isinstance(value["dtype"], str):
        return False
    shape = value["shape"]
    return (
        value["dtype"] in ITEM_BYTES
        and isinstance(shape, list)
        and len(shape) <= 8
        and all(_whole(size, 1, MAX_STATE_BYTES) for size in shape)
    )


def _states(value: Any) -> bool:
    if not isinstance(value, dict) or not all(map(_word, value)) or not all(map(_state, value.values())):
        return False
    return sum(math.prod(state["shape"]) * ITEM_BYTES[state["dtype"]] for state in value.values()) <= MAX_STATE_BYTES


def _modes(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAX_MODES or not all(map(_mode, value)):
        return False
    return len({mode["name"] for mode in value}) == len(value)


def _mode(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() >= {"name", "predicted_ms"} or not _word(value["name"]):
        return False
    return value["predicted_ms"] is None or _number(value["predicted_ms"], 0, 1e9)


def _measured(value: Any) -> bool:
    keys = {"p50", "p95", "p99", "hop_ms"}
    return value is None or (
        isinstance(value, dict) and value.keys() >= keys and all(_number(value[key], 0, 1e9) for key in keys)
    )


def _object(value: Any) -> bool:
    return isinstance(value, dict)


MAX_HOP = MAX_HOP_SECONDS * RATE_HZ
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "labels": (_labels, f"unique printable words that start with {SILENCE}, {UNKNOWN} and hold a keyword"),
    "hop_samples": (lambda value: _whole(value, 1, MAX_HOP), f"a whole number of samples up to {MAX_HOP} (2 s)"),
    "states": (_states, f"name: {{shape, dtype}} with fixed sizes, {MAX_STATE_BYTES} bytes at most in total"),
    "front_end": (_object, "an object"),
    "front_end_sha256": (lambda value: _matches("[0-9a-f]{64}", value), "64 hex digits"),
    "sample_rate_hz": (lambda value: _whole(value, RATE_HZ, RATE_HZ), f"{RATE_HZ}, the rate of every listener so far"),
    "window_ms": (lambda value: _number(value, 10, 10_000), "10 to 10000 ms"),
    "modes": (_modes, "a list of {name, predicted_ms}"),
    "decision": (check_decision, DECISION_RANGES),
    "budget": (lambda value: value is None or _word(value), 'null or a budget such as "2 ms"'),
    "predicted_ms": (lambda value: value is None or _number(value, 0, 1e9), "null or milliseconds"),
    "measured_ms": (_measured, "null or {p50, p95, p99, hop_ms} in milliseconds"),
    "device": (_object, "an object"),
    "versions": (_object, "an object"),
    "seed": (lambda value: _whole(value, 0, 2**64), "a whole number from 0"),
    "min_onnxruntime": (lambda value: _matches(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", value), 'a version such as "1.17"'),
    "license": (_word, "the name of a licence"),
    "format": (lambda value: _whole(value, 1, 1), "1: the file is from another milliwise, export it again"),
}
