"""Model cards: what a shipped listener hears, where it comes from, how well real people fare, and what is open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.metadata import ListenerMetadata
from exporters.wire import read_model
from kws_demo.decide import is_keyword
from toolkit.errors import MilliwiseError, printable
from toolkit.files import require_regular, write_bytes

HEADINGS = (
    "What it hears",
    "The command that trained it",
    "Data and attribution",
    "Accuracy on real people",
    "What it was not tested on",
    "Cost on the device",
    "Decision settings",
    "Licence",
)
FENCE = "---"
MAX_BYTES = 1_000_000
Fact = Mapping[str, Any]


@dataclass(frozen=True)
class ModelCard:
    """A card that was read; the front block says which file it is the card of."""

    name: str
    words: list[str]
    accuracy: str  # in a line
    license: str
    sha256: str  # of the ONNX file
    sections: dict[str, str]  # heading -> markdown


def make_card(model: Path, facts: Fact) -> str:
    """The card of an ONNX file as markdown. What the file itself says (words, cost, decision, licence) is read from it.

    Args:
        model: the listener's file; its stem is its name.
        facts: `hears` (a sentence), `command` (lines of shell), `accuracy_line` (a sentence), `accuracy` (a list of
            test, share (0-1) or per_hour, interval [low, high] of the same unit, and of: how many of what), `data` (a
            list of name, license, attribution) and `not_tested` (a list of sentences).

    Raises:
        MilliwiseError: the file is no listener, or a fact is missing or of another kind.
    """
    content, metadata = _read_listener(model)
    _check_facts(facts)
    front = {
        "name": model.stem,
        "words": _words(metadata),
        "accuracy": _line(facts["accuracy_line"]),
        "license": metadata.license,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    lines = [FENCE, *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()), FENCE]
    sections = zip(HEADINGS, _bodies(facts, metadata, len(content)), strict=True)
    parts = [f"# {_line(model.stem)}", *(f"## {heading}\n\n{body}" for heading, body in sections)]
    return "\n".join(lines) + "\n\n" + "\n\n".join(parts) + "\n"


def write_card(path: Path, model: Path, facts: Fact) -> None:
    """Write what `make_card` makes."""
    write_bytes(path, make_card(model, facts).encode())


def read_card(path: Path) -> ModelCard:
    """Read a card back.

    Raises:
        MilliwiseError: it cannot be read, or has no front block or not the standard headings.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode()
        front, body = _split(text)
        values = {name: json.loads(value) for name, _, value in (line.partition(": ") for line in front)}
        return ModelCard(**_checked(values), sections=_sections(body))
    except OSError as error:
        raise MilliwiseError(f"cannot read the card {printable(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise MilliwiseError(f"{printable(path)} is no model card ({error}): make it again") from None


def describe(name: str, model: Path) -> dict[str, Any]:
    """What `milliwise models` says of a shipped listener: name, words, kb, accuracy, license, path.

    Raises:
        MilliwiseError: the file is no listener, or its card cannot be read.
    """
    content, metadata = _read_listener(model)
    card = model.with_suffix(".md")
    accuracy = read_card(card).accuracy if card.exists() else "it has no card"
    facts = {"accuracy": accuracy, "license": metadata.license, "path": str(model)}
    return {"name": name, "words": _words(metadata), "kb": len(content) / 1000, **facts}


def _read_listener(model: Path) -> tuple[bytes, ListenerMetadata]:
    try:
        content = model.read_bytes()
    except OSError as error:
        raise MilliwiseError(f"cannot open the listener {printable(model)}: {error.strerror}") from None
    return content, ListenerMetadata.from_properties(read_model(content).properties)


def _words(metadata: ListenerMetadata) -> list[str]:
    return [label for label in metadata.labels if is_keyword(label)]


def _bodies(facts: Fact, metadata: ListenerMetadata, size: int) -> tuple[str, ...]:
    """The text of each section, in the order of HEADINGS."""
    data = [(each["name"], each["license"], each["attribution"]) for each in facts["data"]]
    tested = [(each["test"], *_measured(each), each["of"]) for each in facts["accuracy"]]
    return (
        f"{_line(facts['hears'])}\n\n{_bullets(_words(metadata))}",
        "\n".join(f"    {printable(line)}" for line in facts["command"].strip().splitlines()),
        _table(("data", "licence", "attribution"), data),
        _table(("test", "measured", "95 % interval", "of"), tested),
        _bullets(facts["not_tested"]),
        _cost(metadata, size),
        _table(("setting", "value"), [(name, f"{value:g}") for name, value in metadata.decision.items()]),
        f"{_line(metadata.license)}, the weights and this card.",
    )


def _check_facts(facts: Fact) -> None:
    for name, valid in FACTS.items():
        if name not in facts or not valid(facts[name]):
            seen = f"{facts[name]!a:.60}" if name in facts else "missing"
            raise MilliwiseError(f"the fact {name} of the model card is {seen}; see make_card for what it must be")


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and 0 <= value <= most


def _tested(row: Fact) -> bool:
    most, interval = 1.0 if "share" in row else 1e9, row.get("interval")
    if not isinstance(interval, (list, tuple)) or len(interval) != 2:
        return False
    values = (row.get("share", row.get("per_hour")), *interval)
    return _text(row.get("test")) and _text(row.get("of")) and all(_number(value, most) for value in values)


def _list_of(valid: Callable[[Any], bool], kind: type) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and bool(value) and all(isinstance(each, kind) and valid(each) for each in value)
    )


FACTS: dict[str, Callable[[Any], bool]] = {
    "hears": _text,
    "command": _text,
    "accuracy_line": _text,
    "accuracy": _list_of(_tested, dict),
    "data": _list_of(lambda value: all(_text(value.get(name)) for name in ("name", "license", "attribution")), dict),
    "not_tested": _list_of(_text, str),
}


def _cost(metadata: ListenerMetadata, size: int) -> str:
    hop_ms = 1000 * metadata.hop_samples / metadata.sample_rate_hz
    rows = [("file", f"{size / 1000:.0f} kB"), ("called", f"every {hop_ms:g} ms")]
    if metadata.budget is not None:
        rows.append(("budget", metadata.budget))
    if measured := metadata.measured_ms:
        rows += [(f"{name} of a call, paced", f"{measured[name]:.3f} ms") for name in ("p50", "p95", "p99")]
    if device := metadata.device.get("cpu_model"):
        rows.append(("measured on", str(device)))
    return _table(("what", "value"), rows)


def _measured(row: Fact) -> tuple[str, str]:
    low, high = row["interval"]
    if "share" in row:
        return f"{100 * row['share']:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %"
    return f"{row['per_hour']:.2f} an hour", f"{low:.2f} to {high:.2f}"


def _line(text: str) -> str:
    return " ".join(printable(text.replace("\n", " ")).split())


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_line(each)}" for each in sentences)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in cells)


def _split(text: str) -> tuple[list[str], str]:
    first, *lines = text.split("\n")
    if first != FENCE or FENCE not in lines:
        raise ValueError("it has no front block")
    end = lines.index(FENCE)
    return lines[:end], text.split(f"\n{FENCE}\n", 1)[-1]


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    words = values.get("words")
    names = ("name", "accuracy", "license", "sha256")
    if values.keys() != {*names, "words"} or not all(_text(values[name]) for name in names):
        raise ValueError("its front block is not name, words, accuracy, license and sha256")
    if not isinstance(words, list) or not words or not all(map(_text, words)):
        raise ValueError("its words are not a list of words")
    return values


def _sections(body: str) -> dict[str, str]:
    parts = [part.partition("\n") for part in ("\n" + body).split("\n## ")[1:]]
    sections = {heading.strip(): text.strip() for heading, _, text in parts}
    missing = [heading for heading in HEADINGS if not sections.get(heading)]
    if missing:
        raise ValueError(f"it has no section {missing[0]!r}")
    return sections
