"""From `milliwise search --strategy sanas` to `export`: a small space of its own; only the clock is not real."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gated_space
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from word_clips import word_clips, word_data

from exporters import verify_adaptive
from exporters.listener import Listener
from kws_demo import adaptive_search as search_module
from kws_demo.data import SpeechData
from profilers import check, export_adaptive, measured_file, modes
from profilers.clock import PacedTiming
from toolkit.cli import main
from toolkit.controller_training import ControllerTraining
from toolkit.errors import MilliwiseError, Unreachable
from toolkit.profile import DeviceProfile
from toolkit.run import load_selected
from toolkit.spaces import find_space
from toolkit.strategies.sanas import Objective

HOP, BUDGET = 3200, "6 ms mean"
SPACE = Path(gated_space.__file__)
EPOCHS, TAUGHT = 40, 3


class Clock:
    """Stands in for the real one: a call takes 1 ms, and half a ms for every place of the mode that ran."""

    def __init__(self) -> None:
        self.modes: list[int] = []

    def __call__(self, content: bytes, _target: Any, *, calls: int, gap_ms: float, **_options: Any) -> PacedTiming:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        states = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs()[1:]}
        names, mode = [item.name for item in session.get_outputs()], 0
        for _hop in range(3 if "mode" in names else 0):
            told = dict(zip(names, session.run(None, {"audio": np.ones((1, HOP), np.float32), **states}), strict=True))
            states = {name: told[name.replace("state_in_", "state_out_", 1)] for name in states}
            mode = int(told["mode"][0])
        self.modes.append(mode)
        return PacedTiming(((1 + mode / 2,) * (calls // 2), (1 + mode / 2,) * (calls - calls // 2)), gap_ms, False)


def tones() -> SpeechData:
    """Words that are easily told apart: each label has a pitch of its own."""
    clips = word_clips([0, 1, 2, 3] * 8)
    time_s = np.arange(clips.audio.shape[1]) / 16_000
    pitches = 300 * 2.0 ** clips.label[:, None]
    audio = np.where(clips.audio != 0, 0.2 * np.sin(2 * np.pi * pitches * time_s), 0).astype(np.float32)
    clips = replace(clips, audio=audio)
    return replace(word_data([0]), train=clips, validation=clips, test=clips)


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[Clock]:
    """No time is measured, the words are tones, and training is short, but to the end whatever the time."""
    clock, data = Clock(), tones()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(modes, "time_paced", clock)
        patched.setattr(check, "time_paced", clock)
        patched.setattr(search_module, "data_of", lambda _settings: data)
        patched.setattr(search_module, "MOST_EPOCHS", EPOCHS)
        patched.setattr(search_module, "LEARNING_RATE", 2e-2)
        patched.setattr(search_module, "STREAM_EPOCHS", 1)
        patched.setattr(search_module, "CONTROLLER_EPOCHS", TAUGHT)
        shorter = partial(verify_adaptive.verify_adaptive, hops=300)
        patched.setattr(export_adaptive, "verify_adaptive", shorter)
        yield clock


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "device.json"
    gated_space.profile(gated_space.space()).save(path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(result: Result) -> dict[str, Any]:
    """The JSON of a command that answered yes or no."""
    assert result.exit_code in (0, 1), result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if told["budget_kept"] else 1)
    return told


def search(profile: Path, output: Path, *further: object, space: object = SPACE, budget: str = BUDGET) -> Result:
    options = ("--strategy", "sanas", "--data", "a-folder", "--minutes", 100, "--profile", profile)
    return run("search", space, *options, "--budget", budget, "-o", output, *further)


def refusal(result: Result) -> str:
    """The one line of an error with exit code 2."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 2 and len(lines) == 1 and "Traceback" not in result.output, result.output
    return lines[0]


@pytest.mark.parametrize("given", [["--bound"], ["--calls", "400"], ["--fine-tune", "2"], ["--cost", "a.json"]])
def test_what_this_search_has_no_use_for_is_refused(given: list[str], profile_file: Path, tmp_path: Path) -> None:
    told = refusal(search(profile_file, tmp_path / "run", *given))
    assert told == f"Error: {given[0]} is of no use to --strategy sanas: leave it out"
    assert not (tmp_path / "run").exists()


def test_the_branch_with_most_of_the_weights_is_trained_last() -> None:
    adaptive = find_space("kws-gated").adaptive()
    growth = search_module.small_first(adaptive)
    assert growth(0.1) == adaptive.graph.full - {"deep"} and growth(0.5) == growth(1.0) == adaptive.graph.full


def test_feasible_asks_for_a_budget_of_networks_that_do_not_change(profile_file: Path) -> None:
    told = refusal(run("feasible", SPACE, "--profile", profile_file, "--budget", "900 us mean"))
    assert "a budget of 900 us mean is for networks that change" in told and "write '0.9 ms'" in told
    assert run("feasible", SPACE, "--profile", profile_file, "--budget", "0.9 ms").exit_code in (0, 1)


@pytest.fixture(scope="module")
def found(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder, and what the command told."""
    folder = tmp_path_factory.mktemp("search") / "run"
    return folder, answer(search(profile_file, folder, "--json"))


@pytest.fixture(scope="module")
def exported(found: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The listener, and what the command told."""
    path = found[0].parent / "listener.onnx"
    return path, answer(run("export", found[0], "-o", path, "--space", SPACE, "--calls", 59, "--json"))


def test_the_search_tells_what_it_measured_and_predicts(
    found: tuple[Path, dict[str, Any]], profile_file: Path, clock: Clock
) -> None:
    folder, told = found
    expected = {name: 1 + place / 2 for place, name in enumerate(gated_space.MODES)}
    assert told["modes"] == {"named_ms": pytest.approx(expected), "hop_ms": 200} and clock.modes[:9] == list(range(9))
    assert min(expected.values()) <= told["predicted_ms"] == told["streams"]["mean_ms"] <= max(expected.values())
    assert told["budget_kept"] is True
    assert len(told["streams"]["right_by_mode"]) == 4 and told["streams"]["hops"] > 100
    assert told["accuracy"] > 0.8 and set(told["live_edges"]) == {"trunk", "always", "wide", "deep"}
    stages = [json.loads(line)["stage"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert stages == ["training all modes"] * EPOCHS + ["teaching the controller"] * TAUGHT
    adaptive = load_selected(folder, gated_space.space()).adaptive
    assert adaptive is not None and adaptive.gated == gated_space.GATED and adaptive.kind == "hearing"


def test_an_interrupted_search_ends_as_if_it_had_not_been(
    found: tuple[Path, dict[str, Any]],
    profile_file: Path,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep: Callable[..., None] = search_module.append_log

    def interrupted(folder: Path, row: dict[str, Any]) -> None:
        keep(folder, row)
        if row["stage"] == "teaching the controller":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(search_module, "append_log", interrupted)
        assert search(profile_file, tmp_path / "run").exit_code == 130
    assert not (tmp_path / "run" / "run.json").exists()
    timed = len(clock.modes)
    told = answer(search(profile_file, tmp_path / "run", "--resume", "--json"))
    assert len(clock.modes) == timed, "what was measured is not measured again"
    assert {**told, "run": "", "seconds": {}} == {**found[1], "run": "", "seconds": {}}
    first, second = (load_selected(each, gated_space.space()).adaptive for each in (found[0], tmp_path / "run"))
    assert first is not None and second is not None
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert "other arguments" in refusal(search(profile_file, tmp_path / "run", "--resume", budget="3 ms mean"))


def test_a_discount_teaches_by_reinforce_as_published(
    profile_file: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Objective] = []

    class Watched(ControllerTraining):
        def __init__(self, adaptive: Any, costs: Any, objective: Objective, seed: int) -> None:
            asked.append(objective)
            super().__init__(adaptive, costs, objective, seed)

    monkeypatch.setattr(search_module, "ControllerTraining", Watched)
    told = answer(search(profile_file, tmp_path / "run", "--discount", 0.5, "--json"))
    (objective,) = asked
    assert not objective.exact and objective.discount == 0.5 and objective.restraint == 0
    assert objective.run_hops == 1, "the return has what later hops bring: a cold start is billed in full"
    weights = objective.class_weights
    assert weights is not None and weights[0] == min(weights) < 1, "most hops are silence"
    assert told["streams"]["hops"] > 100
    options = ("--data", "a-folder", "--profile", profile_file, "--budget", "1 ms", "-o", tmp_path / "other")
    assert "--discount is of no use to --strategy bsn" in refusal(run("search", SPACE, *options, "--discount", 0.5))


def test_modes_of_a_run_before_are_not_taken_for_those_of_this(
    profile_file: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun anew in the same folder, they are measured; gone on with, what is not theirs is refused."""
    stopped: Any = MilliwiseError("far enough")

    def stop(_run: object) -> None:
        raise stopped

    monkeypatch.setattr(search_module._AdaptiveRun, "train_edges", stop)
    path, timed = tmp_path / "run" / "modes.json", len(clock.modes)
    assert "far enough" in refusal(search(profile_file, tmp_path / "run"))
    assert len(clock.modes) == timed + 9 and path.exists()
    assert "far enough" in refusal(search(profile_file, tmp_path / "run"))
    assert len(clock.modes) == timed + 18
    path.write_text(path.read_text().replace("deep cold", "deeper cold"))
    assert "the measured modes are of another network" in refusal(search(profile_file, tmp_path / "run", "--resume"))


@pytest.mark.parametrize("budget", ["1 ms", "0.9 ms p50", "300 kparams"])
def test_a_budget_that_is_no_mean_is_refused(budget: str, profile_file: Path, tmp_path: Path) -> None:
    line = refusal(search(profile_file, tmp_path / "run", budget=budget))
    assert f"not {budget}: write it as '1 ms mean'" in line and not (tmp_path / "run").exists()


def test_a_budget_below_the_cheapest_mode_is_refused_before_training(profile_file: Path, tmp_path: Path) -> None:
    line = refusal(search(profile_file, tmp_path / "run", budget="0.9 ms mean"))
    assert "no listener of this space fits 0.9 ms mean" in line and "costs 1 ms" in line
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_space_without_gates_is_refused(tmp_path: Path) -> None:
    gated_space.profile(find_space("kws-coarse")).save(tmp_path / "device.json")
    line = refusal(search(tmp_path / "device.json", tmp_path / "run", space="kws-coarse"))
    assert "kws-coarse has no gated edges: take kws-gated or kws-cnn" in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("gates", "told"), [("('sharp',)", "no edge 'sharp'"), ("3", "TypeError"), ("()", "0 gated")])
def test_gates_that_are_none_are_one_line_of_error(gates: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(SPACE.read_text().replace('GATED = ("wide", "deep")', f"GATED = {gates}"))
    space = find_space(str(path))
    with pytest.raises(MilliwiseError, match=f"own.py.*{told}") as error:
        space.adaptive(4)
    assert "\n" not in str(error.value)


def test_the_export_says_what_its_modes_cost(
    found: tuple[Path, dict[str, Any]], exported: tuple[Path, dict[str, Any]], profile_file: Path, clock: Clock
) -> None:
    path, told = exported
    assert told["predicted_ms"] == found[1]["predicted_ms"] and told["budget_kept"] == found[1]["budget_kept"]
    assert told["modes"] == found[1]["modes"]["named_ms"] and told["budget"] == BUDGET
    assert told["verified"]["hops"] == 300 and told["max_abs_diff"] < 1e-5
    dearest_ms = DeviceProfile.load(profile_file).latency.shortened(max(told["modes"].values()))
    assert clock.modes[-1] == 8 and told["measured"]["p50_ms"] == dearest_ms, "forced"
    listener = Listener.open(path)
    assert [(mode["name"], mode["predicted_ms"]) for mode in listener.metadata.modes] == [*told["modes"].items()]
    assert (listener.metadata.budget, listener.metadata.predicted_ms) == (BUDGET, told["predicted_ms"])
    assert listener.metadata.measured_ms is not None and listener.gates == 2
    assert listener.push(np.zeros(HOP, np.float32)).mode in range(9)


def test_if_is_the_default(found: tuple[Path, dict[str, Any]], exported: tuple[Path, Any], tmp_path: Path) -> None:
    path = tmp_path / "again.onnx"
    done = run("export", found[0], "-o", path, "--space", SPACE, "--calls", 59, "--control", "if")
    assert done.exit_code in (0, 1) and path.read_bytes() == exported[0].read_bytes()
    assert f"the budget {BUDGET} is" in done.stdout


def test_what_was_not_measured_is_not_said_to_be_kept(
    found: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise Unreachable("pi cannot be reached")

    monkeypatch.setattr(measured_file, "check_budget", away)
    done = run("export", found[0], "-o", tmp_path / "m.onnx", "--space", SPACE, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["budget_kept"] is told["measured"] is None
    assert told["reason"] == "local cannot be reached: export again when it can"
    assert f"the budget {BUDGET} is not measured: local cannot" in done.stderr and (tmp_path / "m.onnx").exists()


def test_a_device_that_is_carried_by_hand_is_refused_before_any_work(profile_file: Path, tmp_path: Path) -> None:
    done = search(profile_file, tmp_path / "run", "--on", f"bundle:{tmp_path / 'pi'}")
    assert "is carried by hand: use --on ssh://HOST" in refusal(done) and not (tmp_path / "run").exists()


def test_static_has_all_edges_and_no_modes(found: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "static.onnx"
    told = answer(run("export", found[0], "-o", path, "--space", SPACE, "--calls", 59, "--control", "static", "--json"))
    assert told["budget_kept"] is True and "modes" not in told
    listener = Listener.open(path)
    assert listener.metadata.modes == [] and listener.push(np.zeros(HOP, np.float32)).mode is None


def damaged(folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the run whose figures are others."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = json.loads((copy / "run.json").read_text())
    change(content)
    (copy / "run.json").write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run: run.pop("streams"), "no figures of its modes: search again"),
        (lambda run: run.update(streams=[]), "no figures of its modes: search again"),
        (lambda run: run.pop("modes"), "no figures of its modes: search again"),
        (lambda run: run.update(modes=["off"]), "no figures of its modes: search again"),
        (lambda run: run["modes"]["named_ms"].pop("off"), "of another network"),
        (lambda run: run["modes"]["named_ms"].update(off=0.0), "'off' was measured as 0.0 ms"),
        (lambda run: run["streams"].update(mean_ms=-1.0), "costs -1.0 ms on average: search again"),
        (lambda run: run["streams"].update(mean_ms="1"), "costs 1 ms on average: search again"),
        (lambda run: run["streams"].update(mean_ms=math.nan), "truncated or not JSON"),
        (lambda run: run.update(budget="fast"), "cannot read the budget"),
    ],
)
def test_a_run_without_figures_is_not_exported(
    found: tuple[Path, dict[str, Any]], tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    folder = damaged(found[0], tmp_path, change)
    assert told in refusal(run("export", folder, "-o", tmp_path / "m.onnx", "--space", SPACE))
    assert not (tmp_path / "m.onnx").exists()


def test_a_mean_above_the_budget_is_said(found: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = damaged(found[0], tmp_path, lambda run: run["streams"].update(mean_ms=6.1))
    done = run("export", folder, "-o", tmp_path / "m.onnx", "--space", SPACE, "--calls", 59)
    assert done.exit_code == 1 and "the budget 6 ms mean is NOT kept" in done.stdout
