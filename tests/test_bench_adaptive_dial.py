"""The dial in `milliwise bench adaptive`: what it takes to be run is what an exported listener runs."""

import copy
from dataclasses import replace
from pathlib import Path

import gated_trial
import numpy as np
import pytest
import torch
from gated_trial import HOP, NAMED_MS

from exporters.adaptive import to_adaptive_onnx
from exporters.listener import Listener
from exporters.onnx import with_properties
from kws_demo.bench import adaptive_dial as bench
from kws_demo.bench.adaptive_gated import Trial
from kws_demo.decide import Decider
from kws_demo.dial import Dial
from kws_demo.gates import Learned
from kws_demo.operating_points import spent_ms
from kws_demo.stream import Hop, listen
from profilers.listener_metadata import listener_metadata


@pytest.fixture(scope="module")
def trial() -> Trial:
    """Its gates open and shut: each is as often wanted as not, the dear one less surely."""
    torch.set_num_threads(1)
    made = gated_trial.trial()
    linear = made.adaptive.controller.linear
    assert isinstance(linear, torch.nn.Linear)
    with torch.no_grad():
        torch.nn.init.normal_(linear.weight, 0, 1, generator=torch.manual_seed(2))
        odds = made.adaptive.roll(made.heard.sinks[None].float()).log_odds[0]
        linear.weight.div_(odds.std(0)[:, None] / 4)
        linear.bias.copy_((linear.bias - odds.median(0).values) / odds.std(0) * 4)
    return made


def listener(trial: Trial, folder: Path) -> Listener:
    model = to_adaptive_onnx(trial.adaptive, (1, HOP))
    metadata = listener_metadata(trial.selected, model, None, trial.profile, 1.0, NAMED_MS)
    (folder / "own.onnx").write_bytes(with_properties(model, metadata.to_properties()))
    return Listener.open(folder / "own.onnx")


def test_the_dial_does_to_the_stream_what_it_does_to_the_exported_listener(trial: Trial, tmp_path: Path) -> None:
    heard_by, names = listener(trial, tmp_path), list(NAMED_MS)
    table = trial.costs.table(trial.adaptive).numpy()
    for budget_ms in (0.5, 1.0, 2.5):
        hops: list[Hop] = []
        decider, dial = Decider(heard_by.labels, 200), Dial.of(heard_by, budget_ms)
        blocks = list(trial.stream.audio.reshape(-1, HOP))
        listen(heard_by, blocks, decider, lambda _found: None, hops.append, dial=dial)
        [modes] = bench.turned(trial, [budget_ms])
        billed_ms = [NAMED_MS[names[hop.scores.mode or 0]] for hop in hops]
        np.testing.assert_allclose(spent_ms(modes, table), billed_ms, rtol=1e-6)
        assert np.mean(billed_ms) <= budget_ms + 1e-9 and (len(set(billed_ms)) > 3) == (budget_ms > 0.5)


def test_the_settings_go_from_the_cheapest_mode_to_as_taught(trial: Trial) -> None:
    rows = bench.dial_settings(trial)
    assert [row["budget_ms"] for row in rows] == pytest.approx([0.5 + share * 3.5 for share in bench.SHARES])
    table = trial.costs.table(trial.adaptive).numpy()
    taught = spent_ms(Learned(0, trial.adaptive)(trial.heard), table).mean()
    assert rows[0]["ms_per_second"] == pytest.approx(2.5) and rows[-1]["ms_per_second"] == pytest.approx(5 * taught)
    assert not any(row["costs_more"] for row in rows)


def test_what_costs_or_misses_more_is_found(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four settings: off, all open, the second gate alone, off again; the scores of that which is off are right."""
    said = np.zeros((trial.heard.hops, 4, 4), np.float32)
    said[..., 0] = 1
    for truth in trial.stream.truths:
        if truth.word in trial.data.labels[2:]:
            first = int(truth.start_ms / 200)
            said[first : first + 6, 0] = np.eye(4)[trial.data.labels.index(truth.word)]
    made, hops = copy.copy(trial), trial.heard.hops
    made.__dict__["heard"] = replace(trial.heard, scores=said)
    monkeypatch.setattr(bench, "SHARES", (0.0, 0.1, 0.5, 1.0))
    monkeypatch.setattr(bench, "turned", lambda _trial, _budgets: [np.full(hops, mode) for mode in (0, 3, 2, 0)])
    rows = bench.dial_settings(made)
    assert [row["costs_more"] for row in rows] == [False, True, True, False]
    assert rows[0]["misses"] == rows[3]["misses"] < 0.2 and rows[1]["misses"] == rows[2]["misses"] == 1
    assert [row["misses_more"] for row in rows] == [False, True, True, False]
