"""The file of thresholds: it comes back as it was written, and to its own listener alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_listener import metadata, model, write

from exporters.listener import Listener
from kws_demo.thresholds import load_thresholds, save_thresholds
from toolkit.errors import MilliwiseError


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    return Listener.open(write(tmp_path_factory.mktemp("listener") / "tiny.onnx"))


@pytest.fixture
def saved(listener: Listener, tmp_path: Path) -> Path:
    save_thresholds(tmp_path / "thresholds.json", listener, {"loud": 0.8}, {"hours": 6.0, "synthetic": True})
    return tmp_path / "thresholds.json"


def spoilt(path: Path, **changes: Any) -> Path:
    """The file with changes; None removes a key."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def test_what_was_saved_comes_back(listener: Listener, saved: Path) -> None:
    assert load_thresholds(saved, listener) == {"loud": 0.8}
    content = json.loads(saved.read_text())
    assert content["measured"] == {"hours": 6.0, "synthetic": True}
    assert content["labels"] == listener.labels and content["decision"]["suppression_ms"] == 1500
    assert load_thresholds(spoilt(saved, thresholds={"loud": 1}), listener) == {"loud": 1.0}
    assert load_thresholds(spoilt(saved, thresholds={}), listener) == {}  # unlisted words keep the listener's own


def test_a_listener_is_known_by_the_content_of_its_file(listener: Listener, tmp_path: Path) -> None:
    path = write(tmp_path / "copy.onnx")
    assert Listener.open(path).sha256 == listener.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_model_with_the_same_labels_is_refused(saved: Path, tmp_path: Path) -> None:
    other = Listener.open(write(tmp_path / "other.onnx", model(metadata(seed=1).to_properties())))
    with pytest.raises(MilliwiseError, match=r"thresholds\.json: they are of another listener.*model_sha256"):
        load_thresholds(saved, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_sha256": "0" * 64}, "another listener"),
        ({"model_sha256": None}, "it has no model_sha256"),
        ({"labels": ["_silence_", "_unknown_", "quiet"]}, "another listener .its labels"),
        ({"decision": {"average_ms": 100}}, "another listener .its decision"),
        ({"format": 2}, "its format is 2, not 1"),
        ({"thresholds": None}, "it has no thresholds"),
        ({"thresholds": [0.5]}, "not an object"),
        ({"thresholds": {"\x1b[31mloud": 0.5}}, r"threshold of '\\x1b\[31mloud', which the listener does not know"),
        ({"thresholds": {"_silence_": 0.5}}, "does not know"),
        ({"thresholds": {"loud": 1.01}}, "a number from 0 to 1"),
        ({"thresholds": {"loud": "0.5"}}, "a number from 0 to 1"),
        ({"thresholds": {"loud": True}}, "a number from 0 to 1"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    changes: dict[str, Any], message: str, listener: Listener, saved: Path
) -> None:
    with pytest.raises(MilliwiseError, match=message) as error:
        load_thresholds(spoilt(saved, **changes), listener)
    assert str(error.value).isprintable() and "thresholds.json" in str(error.value)


def test_a_file_that_is_missing_or_no_json_is_refused(listener: Listener, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="cannot read thresholds"):
        load_thresholds(tmp_path / "none.json", listener)
    saved.write_bytes(saved.read_bytes()[:-20])
    with pytest.raises(MilliwiseError, match="truncated or not JSON"):
        load_thresholds(saved, listener)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["format", "model_sha256", "labels", "decision", "thresholds", "measured"]), JSON)
def test_any_value_anywhere_gives_thresholds_or_one_line(
    listener: Listener, tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "any.json"
    save_thresholds(path, listener, {"loud": 0.8}, {})
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    try:
        loaded = load_thresholds(path, listener)
    except MilliwiseError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert key in ("measured", "thresholds", "format") and set(loaded) <= {"loud"}


def test_thresholds_that_nobody_could_load_are_not_saved(listener: Listener, tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="a number from 0 to 1"):
        save_thresholds(tmp_path / "new.json", listener, {"loud": 2.0}, {})
    assert not (tmp_path / "new.json").exists()
