"""What fails or dies on a device that is carried by hand is told when it is collected; all else is measured."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from abacus import EFFORT, SPACE, UNIT, Abacus, edges_of
from tiny_onnx import counter, crashing

from profilers import device, host
from profilers.bundle import BundleTarget
from profilers.clock import CannotTime, measure_tight, time_paces
from profilers.profile import profile_device
from profilers.target import PutOff

Asks = Callable[[BundleTarget], Any]
MODELS = {"a": counter(), "b": crashing(), "c": counter(16)}
JOB = {"folder": "0001", "threads": 1}
# A runner that says what the test has it say of its models, as often as it is started, and then does `END`.
RUNNER = """
import json, os, pathlib, sys, time
print(json.dumps({"event": "environment", "onnxruntime": "1.0"}))
for name in json.loads((pathlib.Path(sys.argv[1]) / "job.json").read_text())["tasks"][0]["models"]:
    print(json.dumps({"event": "opening", "model": name}), flush=True)
    if name == DEADLY:
        END
blocks = {"event": "blocks", "model": "0.onnx", "blocks_ms": [1.0], "rejected_ms": [], "calls_per_block": 3}
print(json.dumps(blocks) + '\\n{"event": "blo', end="", flush=True)
if DEADLY is None:
    END
"""


def write(folder: Path, *asked: Asks) -> BundleTarget:
    target = BundleTarget(folder)
    with target.writing():
        for ask in asked:
            with pytest.raises(PutOff):
                ask(target)
    return target


def carried(folder: Path, abacus: Abacus) -> BundleTarget:
    """The bundle, answered by an abacus instead of by its own run.py."""
    plan = json.loads((folder / "bundle.json").read_text())
    for job in plan["jobs"]:
        asked = json.loads((folder / job["folder"] / "job.json").read_text())
        files = {name: (folder / job["folder"] / name).read_bytes() for name in asked["tasks"][0]["models"]}
        said = abacus.run(asked, files, lambda event: None)
        job["events"] = [{"rejected_ms": [], **event} for event in said]
    seen = {"event": "fingerprint", **device.fingerprint()}
    (folder / "results.json").write_text(json.dumps({"format": 1, "fingerprint": seen, "jobs": plan["jobs"]}))
    return BundleTarget(folder, folder / "results.json")


@pytest.mark.parametrize("clock", ["tight", "paced"])
@pytest.mark.parametrize("everywhere", [False, True], ids=["alone", "in networks and anchors, too"])
def test_a_bundle_with_an_edge_that_fails_is_collected(tmp_path: Path, clock: str, everywhere: bool) -> None:
    def fails(model: bytes) -> bool:
        return "conv3" in edges_of(model) if everywhere else set(edges_of(model)) == {"conv3"}

    def ask(target: BundleTarget) -> Any:
        return profile_device(SPACE, target, hop_ms=40, clock=clock, effort=replace(EFFORT, paced=12))

    write(tmp_path / "bundle", ask)
    profile = ask(carried(tmp_path / "bundle", Abacus(fails=fails)))
    assert {name for name, row in profile.edges.items() if row.failed} == {"conv3"}
    assert "it is not for the abacus" in str(profile.edges["conv3"].failed)
    assert profile.held_out.nets > 0 and all("conv3" not in row["kept"] for row in profile.held_out.rows)
    for name, row in profile.edges.items():
        assert name == "conv3" or row.latency_ms == pytest.approx(UNIT * toy.LATENCY_MS[name], abs=0.004), name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere such a division does not trap: run it on x86-64")
def test_a_model_that_kills_the_runner_does_not_stop_the_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    asks: list[Asks] = [
        lambda target: measure_tight(MODELS, target, rounds=2, block_ms=0.2),
        lambda target: time_paces(crashing(), target, [(1.0, 3)]),
        lambda target: time_paces(counter(), target, [(1.0, 3)]),
    ]
    write(folder, *asks)
    program = [sys.executable, str(folder / "run.py")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    target = BundleTarget(folder, folder / "results.json")
    tight = asks[0](target)
    assert list(tight.timings) == ["a", "c"] and set(tight.failures) == {"b"}
    assert "the measuring process ended with" in tight.failures["b"]
    with pytest.raises(CannotTime, match="the measuring process ended with"):
        asks[1](target)
    assert len(asks[2](target)[0].values_ms) == 3


def bundle_of(folder: Path, deadly: str | None, end: str) -> Asks:
    """A bundle of one tight job whose runner stands in for ours."""

    def ask(target: BundleTarget) -> Any:
        return measure_tight(MODELS, target, rounds=2)

    write(folder, ask)
    (folder / "runner.py").write_text(RUNNER.replace("DEADLY", repr(deadly)).replace("END", end))
    return ask


def collected(folder: Path, ask: Asks) -> Any:
    (job,) = json.loads((folder / "bundle.json").read_text())["jobs"]
    row = {**job, "events": host.measured(folder, job)}
    seen = {"event": "fingerprint", **device.fingerprint()}
    (folder / "results.json").write_text(json.dumps({"format": 1, "fingerprint": seen, "jobs": [row]}))
    return ask(BundleTarget(folder, folder / "results.json"))


def test_a_runner_that_dies_over_no_model_leaves_what_it_said(tmp_path: Path) -> None:
    ask = bundle_of(tmp_path / "bundle", None, "os.kill(os.getpid(), 9)")
    found = collected(tmp_path / "bundle", ask)
    assert list(found.timings) == ["a"] and set(found.failures) == {"b", "c"}
    assert all(
        why.startswith("not measured: the measuring process ended with exit code -9") for why in found.failures.values()
    )


def test_a_model_that_silences_the_runner_is_left_out_even_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "SILENCE_S", 3.0)  # a busy machine takes a second to begin
    folder = tmp_path / "bundle"
    bundle_of(folder, "1.onnx", "time.sleep(60)")
    answers, tries = host.answers, []

    def interrupted(*arguments: Any) -> Any:
        tries.append(arguments)
        if len(tries) == 2:
            raise KeyboardInterrupt
        return answers(*arguments)

    monkeypatch.setattr(host, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.measured(folder, JOB)
    monkeypatch.setattr(host, "SILENCE_S", 60.0)
    first, *others = host.measured(folder, JOB)
    assert len(tries) == 3 and (first["event"], first["model"]) == ("failed", "1.onnx")
    assert first["reason"] == "the measuring process said nothing for 3 s: is a model stuck?"
    assert [event["model"] for event in others if event["event"] == "opening"] == ["0.onnx", "2.onnx"]


def test_a_device_on_which_every_model_dies_is_given_up_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    models = {str(index): counter(1 + index) for index in range(host.MAX_DEATHS + 3)}
    write(folder, lambda target: measure_tight(models, target))
    (folder / "runner.py").write_text(RUNNER.replace("if name == DEADLY", "if True").replace("END", "os.abort()"))
    events = host.measured(folder, JOB)
    assert [event["event"] for event in events].count("failed") == host.MAX_DEATHS and events[-1]["event"] == "died"
    write(tmp_path / "two", lambda target: measure_tight({"a": counter(), "b": counter(2)}, target))
    (tmp_path / "two" / "runner.py").write_text((folder / "runner.py").read_text())
    events = host.measured(tmp_path / "two", JOB)
    assert [event["model"] for event in events if event["event"] == "failed"] == ["0.onnx", "1.onnx"]
