"""The listeners that ship: found by a short name, listed, and each of them what its card says."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from conftest import SHARED
from test_model_card import FACTS
from tiny_listener import tone, write

from exporters.listener import Listener
from kws_demo import shipped
from kws_demo.model_card import read_card, write_card
from kws_demo.models_cli import models
from kws_demo.shipped import MAX_BYTES, resolve_model
from kws_demo.stream_cli import stream
from toolkit.cli import Commands
from toolkit.errors import MilliwiseError


class Some(Commands):
    """The command group with these two commands alone, wherever they are registered."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return {"stream": stream, "models": models}.get(name)


def milliwise(*arguments: object) -> Result:
    return CliRunner().invoke(Some(), [str(each) for each in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three listeners that ship, one with a card, and an empty working folder."""
    place, work = tmp_path / "models", tmp_path / "work"
    place.mkdir()
    work.mkdir()
    for name in ("arabic", "computer", "english"):
        write(place / f"{name}.onnx")
    write_card(place / "english.md", place / "english.onnx", FACTS)
    monkeypatch.setattr(shipped, "FOLDER", place)
    monkeypatch.chdir(work)
    return place


@pytest.fixture
def nothing_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "none")


def test_a_name_is_a_file_first_then_a_shipped_listener(folder: Path) -> None:
    assert list(shipped.shipped()) == ["english", "arabic", "computer"]
    assert resolve_model(None) == resolve_model("english") == folder / "english.onnx"
    Path("arabic").mkdir()  # a folder of recordings, say, is no listener
    assert resolve_model("arabic") == folder / "arabic.onnx"
    write(Path("computer"))
    assert resolve_model("computer") == Path("computer")
    for text in ("mine.onnx", "./arabic", "runs/arabic"):
        assert resolve_model(text) == Path(text)


def test_a_name_that_is_neither_says_what_there_is(folder: Path) -> None:
    with pytest.raises(MilliwiseError, match="'klingon': choose english or arabic or computer"):
        resolve_model("klingon")
    done = milliwise("stream", "kling\x1bon")
    assert done.exit_code == 2 and "\x1b" not in done.stderr and "choose english" in done.stderr


def test_without_a_name_the_default_listens_and_says_so(folder: Path) -> None:
    soundfile.write("words.wav", tone(3, [(1, 2)]), 16000)
    done = milliwise("stream", "--wav", "words.wav", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[0])["keyword"] == "loud"
    assert [line for line in done.stderr.splitlines() if "shipped" in line] == [
        "listening with the shipped listener english: loud"
    ]
    named = milliwise("stream", "arabic", "--wav", "words.wav", "--json")
    assert named.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1] and "shipped" not in named.stderr


def test_where_nothing_ships_a_listener_has_to_be_named(nothing_ships: None) -> None:
    done = milliwise("stream")
    assert done.exit_code == 2 and "no listener is named: make one with milliwise demo" in done.stderr
    assert resolve_model("english") == Path("english")
    assert json.loads(milliwise("models", "--json").stdout) == {"models": []}
    assert "no listener ships" in milliwise("models").stdout


def test_they_are_listed(folder: Path) -> None:
    found = json.loads(milliwise("models", "--json").stdout)["models"]
    assert [each["name"] for each in found] == ["english", "arabic", "computer"]
    assert found[0] == {
        "name": "english",
        "words": ["loud"],
        "kb": pytest.approx((folder / "english.onnx").stat().st_size / 1000),
        "accuracy": FACTS["accuracy_line"],
        "license": "Apache-2.0",
        "path": str(folder / "english.onnx"),
    }
    assert found[1]["accuracy"] == "it has no card"
    text = milliwise("models").stdout
    assert FACTS["accuracy_line"] in text and "loud" in text and str(folder) in text


def test_a_listener_that_is_damaged_is_one_line(folder: Path) -> None:
    (folder / "arabic.onnx").write_bytes(b"no")
    done = milliwise("models")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", shipped.shipped())
def test_what_ships_is_small_opens_and_has_its_card(name: str) -> None:
    path = shipped.shipped()[name]
    assert path.stat().st_size <= MAX_BYTES
    listener, card = Listener.open(path), read_card(path.with_suffix(".md"))
    assert card.name == name and card.words == listener.labels[2:] and card.license == listener.metadata.license
    assert card.sha256 == listener.sha256, "the card is of another file: make it again"
    assert all(word in card.sections["What it hears"] for word in card.words)
    heard = [listener.push(np.zeros(listener.hop_samples, np.float32)).probabilities for _ in range(20)]
    assert np.argmax(heard, axis=1).tolist() == [0] * 20


@pytest.mark.parametrize("name", shipped.shipped())
def test_what_ships_keeps_the_contract(name: str) -> None:
    checker = SHARED / "tools" / "check_listener.py"
    if not checker.exists():
        pytest.skip("tools/check_listener.py is not there: put it beside the repository to run this test")
    command = [sys.executable, str(checker), str(shipped.shipped()[name]), "--hops", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_three_listeners_ship() -> None:
    assert set(shipped.shipped()) == {"english", "arabic", "computer"}
