"""Model cards: what is written is read back, whatever the texts hold, and what is no card is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_listener import metadata, model, write

from exporters.listener import Listener
from kws_demo.model_card import HEADINGS, make_card, read_card, write_card
from toolkit.errors import MilliwiseError

FACTS: dict[str, Any] = {
    "hears": "Loud sounds.",
    "command": "milliwise search kws-ds --data synth:loud -o run\nmilliwise export run -o loud.onnx",
    "accuracy_line": "detects 85.0 % (80.0 to 90.0) of 40 real shouts",
    "accuracy": [
        {"test": "shouts", "share": 0.85, "interval": [0.8, 0.9], "of": "40 clips of 12 speakers"},
        {"test": "false alarms in talk | radio", "per_hour": 0.5, "interval": (0, 1.5), "of": "6 h, synthetic"},
    ],
    "data": [{"name": "Shouts", "license": "CC BY 4.0", "attribution": "A. Shouter"}],
    "not_tested": ["whispering", "children"],
}


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "loud.onnx")


def test_a_card_says_what_the_file_and_the_facts_say(loud: Path) -> None:
    write_card(loud.with_suffix(".md"), loud, FACTS)
    card = read_card(loud.with_suffix(".md"))
    assert (card.name, card.words, card.license) == ("loud", ["loud"], "Apache-2.0")
    assert card.accuracy == FACTS["accuracy_line"] and card.sha256 == Listener.open(loud).sha256
    assert tuple(card.sections) == HEADINGS
    for heading, expected in {
        "What it hears": ["Loud sounds.", "- loud"],
        "The command that trained it": [f"    {line}" for line in FACTS["command"].splitlines()],
        "Data and attribution": ["| Shouts | CC BY 4.0 | A. Shouter |"],
        "Accuracy on real people": [
            "| shouts | 85.0 % | 80.0 to 90.0 % | 40 clips of 12 speakers |",
            "| false alarms in talk \\| radio | 0.50 an hour | 0.00 to 1.50 | 6 h, synthetic |",
        ],
        "What it was not tested on": ["- whispering", "- children"],
        "Cost on the device": ["| budget | 2 ms |", "| p95 of a call, paced | 0.400 ms |", "| called | every 200 ms |"],
        "Decision settings": ["| threshold | 0.7 |", "| suppression_ms | 1500 |"],
        "Licence": ["Apache-2.0, the weights and this card."],
    }.items():
        lines = ("    " if heading.startswith("The command") else "") + card.sections[heading]
        assert set(expected) <= set(lines.splitlines()), heading


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_no_text_breaks_a_card(loud: Path, first: str, second: str) -> None:
    facts = {
        **FACTS,
        "hears": first,
        "command": second,
        "accuracy_line": second,
        "not_tested": [first, second],
        "data": [{"name": first, "license": second, "attribution": first}],
    }
    path = loud.with_name("any.md")
    path.write_bytes(make_card(loud, facts).encode())
    card = read_card(path)
    assert tuple(card.sections) == HEADINGS and card.words == ["loud"]
    text = path.read_text()
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_labels_and_names_of_any_letters(tmp_path: Path) -> None:
    words = ["_silence_", "_unknown_", "—## نعم |"]
    path = write(tmp_path / "a\nb.onnx", model(metadata(labels=words).to_properties()))
    write_card(path.with_suffix(".md"), path, FACTS)
    card = read_card(path.with_suffix(".md"))
    assert card.words == words[2:] and card.name == "a\nb"


@pytest.mark.parametrize(
    "change",
    [
        {"hears": " "},
        {"command": 3},
        {"accuracy": []},
        {"accuracy": [{"test": "a", "share": 85, "interval": [0, 1], "of": "b"}]},
        {"accuracy": [{"test": "a", "share": float("nan"), "interval": [0, 1], "of": "b"}]},
        {"accuracy": [{"test": "a", "share": 0.5, "interval": 3, "of": "b"}]},
        {"accuracy": [{"test": "a", "interval": [0, 1], "of": "b"}]},
        {"accuracy": ["85 %"]},
        {"data": [{"name": "Shouts", "license": "CC BY 4.0"}]},
        {"not_tested": "nothing"},
    ],
)
def test_a_wrong_fact_is_named(loud: Path, change: dict[str, Any]) -> None:
    with pytest.raises(MilliwiseError, match=f"the fact {next(iter(change))} of the model card"):
        make_card(loud, {**FACTS, **change})


def test_a_missing_fact_is_named(loud: Path) -> None:
    with pytest.raises(MilliwiseError, match="not_tested of the model card is missing"):
        make_card(loud, {name: fact for name, fact in FACTS.items() if name != "not_tested"})


def test_a_card_of_no_listener(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no")
    for name in ("no.onnx", "missing.onnx"):
        with pytest.raises(MilliwiseError):
            make_card(tmp_path / name, FACTS)


@given(st.data())
def test_a_damaged_card_is_refused_or_read(loud: Path, data: st.DataObject) -> None:
    """A card with a piece cut out of it: only our error comes."""
    content = make_card(loud, FACTS).encode()
    start = data.draw(st.integers(0, len(content) - 1))
    piece = data.draw(st.binary(max_size=20))
    path = loud.with_name("damaged.md")
    path.write_bytes(content[:start] + piece + content[start + data.draw(st.integers(0, 300)) :])
    try:
        card = read_card(path)
    except MilliwiseError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert card.words and set(HEADINGS) <= set(card.sections)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no front block"),
        (b"---\nname: 1\n", "no front block"),
        (b"---\nname: \n---\n", "is no model card"),
        (b"---\nname: 1\n---\n", "its front block is not"),
        (b'---\nname: "a"\nwords: []\naccuracy: "a"\nlicense: "a"\nsha256: "a"\n---\n', "not a list of words"),
        (b'---\nname: "a"\nwords: ["a"]\naccuracy: "a"\nlicense: "a"\nsha256: "a"\n---\n# a\n', "no section 'What it"),
        (b"---\nname: " + b"[" * 100_000 + b"\n---\n", "is no model card"),
        (b"\xff", "is no model card"),
    ],
)
def test_what_is_no_card(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "card.md").write_bytes(content)
    with pytest.raises(MilliwiseError, match=message):
        read_card(tmp_path / "card.md")
    with pytest.raises(MilliwiseError, match="cannot read the card"):
        read_card(tmp_path)
