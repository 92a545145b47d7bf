"""Static listeners in `milliwise bench adaptive`: their exported files on the trial's stream, at their own hops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import exported
import gated_trial
import numpy as np
import pytest
import torch

from kws_demo.bench import adaptive_gated as gated
from kws_demo.bench import adaptive_static as bench
from kws_demo.bench.adaptive_gated import Trial
from kws_demo.decide import Decider, Decision
from kws_demo.operating_points import at_false_alarms
from profilers.timing import PacedTiming
from toolkit.run import load_selected, read_log

EPOCH = 1e-6  # minutes: the first batch is the last
TRIED = tuple(replace(bench.COMPETITORS[0], hop_ms=hop_ms, minutes=EPOCH) for hop_ms in (120, 400))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    torch.set_num_threads(1)
    made = gated_trial.trial()
    made.folder = tmp_path_factory.mktemp("trial")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: a call takes a hundredth of its pace."""

    def timed(model: Path, _target: Any, *, hop_ms: float, gap_ms: float, calls: int, title: str) -> PacedTiming:
        assert model.is_file() and gap_ms == hop_ms and calls == bench.CALLS and title
        return PacedTiming(((hop_ms / 100, 1000.0, 0.0),), gap_ms, False)

    monkeypatch.setattr(bench, "time_paced", timed)


def test_static_listeners_are_compared_as_all_others_are(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "COMPETITORS", TRIED)
    rows = bench.static_points(trial)["rows"]
    big = trial.sweep(trial.heard.scores[:, -1])
    missed = big.missed[at_false_alarms(big, gated.ALARMS_PER_HOUR)].mean()
    for row, static in zip(rows, TRIED, strict=True):
        assert (row["name"], row["parameter"]) == ("static network", f"kws-ds small, hop {static.hop_ms} ms")
        assert row["ms_per_second"] == row["talk_ms_per_second"] == pytest.approx(10.0)
        assert row["false_alarms_per_hour"] <= gated.ALARMS_PER_HOUR and row["modes"] == {"always": 1.0}
        assert row["more_missed"][0] == pytest.approx(row["misses"] - missed)
        assert row["misses_low"] <= row["misses"] <= row["misses_high"]
    choice = gated.Choice("static", "off", ["off"] * 600, trial.heard.scores[:, 0], np.ones(600), np.ones(300))
    monkeypatch.setattr(gated, "choices", lambda *_given: iter([choice, replace(choice, kind="learned", parameter=0)]))
    assert rows[0].keys() == gated.points(trial, {})["rows"][0].keys()


@pytest.mark.parametrize(
    "static", [*TRIED, replace(bench.COMPETITORS[-1], minutes=EPOCH)], ids=lambda static: static.parameter
)
def test_the_exported_file_says_what_the_trained_network_does(trial: Trial, static: bench.Static) -> None:
    selected = bench.trained(trial, static)
    assert selected.hop_ms == static.hop_ms and selected.architecture == (static.kept or selected.network.graph.full)
    listener = bench.Listener.open(bench.exported(trial, static, selected))
    audio = trial.stream.audio[: 20 * 16_000 + 5]
    found = bench.heard_by(listener, audio, "it")
    hops = 20_000 // static.hop_ms
    assert tuple(listener.labels) == trial.data.labels and found.shape == (hops, 4)
    expected = exported.expected_scores(selected.network, audio[: hops * 16 * static.hop_ms])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(expected, axis=0).max() > 1e-3
    settings = Decision(**selected.facts["decision"])
    Decider(listener.labels, static.hop_ms, settings)  # it finds something at this hop


def test_a_finished_listener_is_not_trained_again_and_an_unfinished_one_is(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = replace(TRIED[0], size="other")
    folder = trial.folder / static.folder
    first = bench.trained(trial, static)
    epochs = len(read_log(folder))
    assert epochs == 1 and load_selected(folder).facts == first.facts
    monkeypatch.setattr(bench, "train", lambda *_given, **_named: pytest.fail("trained again"))
    again = bench.trained(trial, static).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.network.state_dict().items())
    monkeypatch.undo()
    (folder / "run.json").unlink()
    bench.trained(trial, static)
    assert len(read_log(folder)) == epochs, "the checkpoint is of all its minutes"


@pytest.mark.parametrize("static", bench.COMPETITORS, ids=lambda static: static.parameter)
def test_every_competitor_fits_its_hop(static: bench.Static) -> None:
    network = bench.find_space(static.space).build(4, static.hop_ms)
    kept = static.kept or network.graph.full
    assert network.graph.live(kept) == kept, "no edge is named in vain"
    assert 7_200_000 % static.hop_ms == 0, "all hear the same stream to its end"


def test_competitors_are_told_apart() -> None:
    assert len({each.folder for each in bench.COMPETITORS}) == len(bench.COMPETITORS)
    assert len({(each.kind, each.parameter) for each in bench.COMPETITORS}) == len(bench.COMPETITORS)
    hops = {each.hop_ms for each in bench.COMPETITORS if each.kind == bench.NETWORK}
    assert min(hops) < gated.HOP_MS < max(hops)
