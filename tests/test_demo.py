"""The demo leaves everything it promises, from little training and a quick profile; how it lays out words."""

import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from exporters.listener import Listener
from kws_demo import demo as module
from kws_demo import search
from kws_demo.data import Clips
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile


@pytest.fixture
def quick(this_machine: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "profile_device", lambda *_, **__: this_machine)
    monkeypatch.setattr(module, "Settings", partial(module.Settings, calls=59, clips_per_word=60))
    monkeypatch.setattr(module, "export_run", partial(module.export_run, calls=59))
    monkeypatch.setattr(search, "MOST_EPOCHS", 6)  # by the clock, a busy machine would train less


def test_demo_leaves_what_it_promises(quick: None, tmp_path: Path) -> None:
    result = module.run_demo(tmp_path, minutes=100, data="synth:yes,no", budget="80 ms", seed=0)
    assert {"profile", "model", "budget_kept", "accuracy", "report"} <= result.keys()
    assert result["budget_kept"] is True and 0 < result["measured_p95_ms"] < 80
    assert Listener.open(Path(result["model"])).labels == ["_silence_", "_unknown_", "yes", "no"]
    page = Path(result["report"]).read_text()
    assert "80 ms" in page and "<script" not in page and page.count("<svg") >= 6
    heard = json.loads((tmp_path / "stream.json").read_text())
    audio, rate_hz = soundfile.read(result["wav"])
    assert rate_hz == 16_000 and heard["hops"] == len(heard["scores"]) == -(-len(audio) // 3200)
    assert [row["keyword"] for row in heard["truth"]].count("yes") > 0


def clips(labels: list[int]) -> Clips:
    audio = np.stack([np.full(16_000, 0.1 * label, np.float32) for label in labels])
    return Clips(audio, np.array(labels), tuple(str(place) for place in range(len(labels))), np.ones(len(labels), bool))


def test_words_are_laid_out_where_the_truth_says() -> None:
    audio, truth = module.lay_out(clips([0, 1, 2, 3, 2, 3]), ["_silence_", "_unknown_", "a", "b"], seed=1)
    assert len(truth) == 4 and sorted(row["keyword"] for row in truth) == ["a", "a", "b", "b"]
    for row in truth:
        start = round(row["start_s"] * 16_000)
        level = {"a": 0.2, "b": 0.3}[row["keyword"]]
        assert audio[start : start + 16_000].mean() == pytest.approx(level, abs=0.001)
        assert abs(audio[start - 8000 : start].mean()) < 0.001
    assert all(later["start_s"] - row["start_s"] == pytest.approx(2.2) for row, later in itertools.pairwise(truth))


def test_recordings_without_the_words_are_refused(tmp_path: Path) -> None:
    for word in ("dog", "cat"):
        (tmp_path / word).mkdir()
        soundfile.write(tmp_path / word / "anna_0.wav", np.zeros(16_000), 16_000)
    with pytest.raises(MilliwiseError, match="yes"):
        module._read(tmp_path, ["_silence_", "_unknown_", "yes"])


def test_a_budget_of_networks_that_change_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="write '1 ms'"):
        module.run_demo(tmp_path / "demo", minutes=3.5, data="synth:yes,no", budget="1 ms mean", seed=0)
    assert not (tmp_path / "demo").exists()
