"""What ships is measured, and its card says what was measured."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_listener

from kws_demo.bench import shipped as module
from kws_demo.bench.rows import Results
from kws_demo.model_card import read_card


def test_the_card_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_listener.write(tmp_path / "loud.onnx")
    for word, level in (("loud", 0.5), ("quiet", 0.0)):
        (tmp_path / "words" / word).mkdir(parents=True)
        for number in range(4):
            soundfile.write(tmp_path / "words" / word / f"ann{number}_0.wav", np.full(16_000, level), 16_000)

    def tested(path: Path, recordings: Path) -> module.Row:
        found = module.word_recordings(recordings / "words")
        groups = ([each for each in found if (each.label == "loud") == wanted] for wanted in (True, False))
        return module.keyword_figures(path, *groups, accepted=0)

    known = module.Shipped(
        "Loudness.", "--data words -o run", (module.ESPEAK,), "en", tested, (("detected", "loud"),), ("x",)
    )
    monkeypatch.setattr(module, "SHIPPED", {"loud": known})
    monkeypatch.setattr(module, "shipped", lambda: {"loud": model})
    monkeypatch.setattr(module, "HOURS", 1 / 60)
    outcome = module.run(Results(tmp_path / "rows.jsonl", resume=False), quick=False, recordings=tmp_path, seed=0)
    assert outcome["rows"][0]["measured"] == 1.0
    card = read_card(model.with_suffix(".md"))
    assert card.name == "loud" and "100 %" in card.accuracy
    assert (
        "loud" in card.sections["Accuracy on real people"]
        and "--data words" in card.sections["The command that trained it"]
    )
    even, alarms = outcome["rows"][1:3]
    assert "loud" in even["reason"] and even["interval"][0] <= even["measured"] <= even["interval"][1]
    assert alarms["interval"][0] <= alarms["measured"] <= alarms["interval"][1]


def test_without_recordings_nothing_is_measured_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "shipped", lambda: {"english": tmp_path / "none.onnx"})
    outcome = module.run(Results(tmp_path / "r.jsonl", resume=False), quick=True, recordings=tmp_path / "no", seed=0)
    assert outcome["rows"][0]["met"] is None and "no recordings" in outcome["rows"][0]["reason"]


def test_quick_leaves_the_talk_out_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_listener.write(tmp_path / "loud.onnx")

    def tested(_path: Path, _recordings: Path) -> module.Row:
        return {"detected": {"share": 0.5, "low": 0.4, "high": 0.6, "clips": 9}, "overconfidence": {"loud": 0.1}}

    known = module.Shipped("Loudness.", "", (module.ESPEAK,), "en", tested, (("detected", "loud"),), ("x",))
    monkeypatch.setattr(module, "SHIPPED", {"loud": known})
    monkeypatch.setattr(module, "shipped", lambda: {"loud": model})
    outcome = module.run(Results(tmp_path / "r.jsonl", resume=False), quick=True, recordings=tmp_path, seed=0)
    measured = {row["name"]: (row["measured"], row["reason"]) for row in outcome["rows"]}
    assert measured["loud, loud"][0] == 0.5
    assert measured["loud, synthetic talk: false alarms an hour"] == (None, "left out by --quick")
    assert not model.with_suffix(".md").exists()  # no card without all of its figures
