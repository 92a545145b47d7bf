"""The file of thresholds: one for each keyword of one listener, with what was measured when they were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporters.listener import Listener
from kws_demo.decide import check_thresholds
from toolkit.errors import MilliwiseError, printable
from toolkit.files import read_json, write_json

FORMAT = 1


def save_thresholds(
    path: Path, listener: Listener, thresholds: Mapping[str, float], measured: Mapping[str, Any]
) -> None:
    """Write the thresholds of a listener's keywords (scores, 0-1) and the measurement that they rest on.

    Raises:
        MilliwiseError: a threshold is out of range or of no keyword, or the file cannot be written.
    """
    check_thresholds(thresholds, listener.labels)
    write_json(path, {**_owner(listener), "thresholds": dict(thresholds), "measured": dict(measured)})


def load_thresholds(path: Path, listener: Listener) -> dict[str, float]:
    """The threshold (0-1) of each keyword in a file; a keyword that is not in it keeps the listener's own.

    Raises:
        MilliwiseError: no such file, not one of thresholds, made for another listener, or a value is no threshold.
    """
    content = read_json(path, "thresholds")
    try:
        _check(content, listener)
    except MilliwiseError as error:
        raise MilliwiseError(f"cannot use the thresholds {printable(path)}: {error}") from None
    return {word: float(value) for word, value in content["thresholds"].items()}


def _owner(listener: Listener) -> dict[str, Any]:
    """What tells whose thresholds they are: another model, or another way of averaging, needs others."""
    return {
        "format": FORMAT,
        "model_sha256": listener.sha256,
        "labels": listener.labels,
        "decision": listener.metadata.decision,
    }


def _check(content: Mapping[str, Any], listener: Listener) -> None:
    owner = _owner(listener)
    if missing := sorted({*owner, "thresholds"} - content.keys()):
        raise MilliwiseError(f"it has no {missing[0]}: make it with milliwise tune")
    if content["format"] != FORMAT:
        raise MilliwiseError(f"its format is {content['format']!a:.40}, not {FORMAT}: make it with this milliwise")
    for name, expected in owner.items():
        if content[name] != expected:
            seen, wanted = (f"{value!a:.20}" for value in (content[name], expected))
            raise MilliwiseError(
                f"they are of another listener (its {name} is {seen}, here {wanted}): make them with milliwise tune"
            )
    if not isinstance(content["thresholds"], dict):
        raise MilliwiseError("its thresholds are not an object {word: number}: make it with milliwise tune")
    check_thresholds(content["thresholds"], listener.labels)
