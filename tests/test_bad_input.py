"""Bad input of every kind: one line with the cure, exit code 2, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exporters.onnx import state_shapes, to_onnx
from kws_demo.bench.rows import Results
from kws_demo.candidate import Candidate, load_candidates, save_candidates
from profilers.counts import count
from profilers.latency import edge_work, features_only, spearman
from profilers.partial import Partial
from toolkit.budget import Budget
from toolkit.cli import main, report
from toolkit.errors import MilliwiseError
from toolkit.files import read_json, remove_file, require_writable, write_json
from toolkit.graph import Edge, Graph
from toolkit.progress import progress
from toolkit.spaces import find_space
from toolkit.strategies import find_strategy
from toolkit.supernet import SuperNetwork
from toolkit.training import Plan
from toolkit.weights import read_tensors


def refusal(*arguments: object) -> str:
    """The one line of an error with exit code 2."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 2 and len(lines) == 1 and "Traceback" not in result.output, result.output
    return lines[0]


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("option", ["--minutes", "--penalty"])
def test_numbers_that_are_none_are_refused(option: str, number: str) -> None:
    search = ("search", "kws-ds", "--profile", "p.json", "--budget", "1 ms", "--data", "synth:yes,no", "-o", "run")
    assert number in refusal(*search, option, number)


@pytest.mark.parametrize("seed", ["-1", str(2**32), str(2**200)])
def test_seeds_out_of_range_are_refused(seed: str) -> None:
    assert "range" in refusal("profile", "kws-ds", "-o", "p.json", "--seed", seed)


@pytest.mark.parametrize(
    "arguments",
    [
        ("stream", "", "--wav", "a.wav"),
        ("profile", "kws-ds", "-o", ""),
        ("search", "kws-ds", "--profile", "p", "--budget", "1 ms", "--data", "synth:a,b", "-o", "r", "--noise", ""),
    ],
)
def test_an_empty_path_is_not_the_working_folder(arguments: tuple[str, ...]) -> None:
    assert "the path is empty" in refusal(*arguments)


@pytest.mark.parametrize("text", ["１ ms", "٣ ms", "2", "", "1e3 ms", "nan ms", "-1 ms"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(MilliwiseError, match="write '2 ms'"):
        Budget.parse(text)


@pytest.mark.parametrize("path", ["file/p.json", "file/deep/p.json", "folder", "/proc/self/nothing/p.json"])
def test_places_that_cannot_be_written_are_refused_before_measuring(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    begun = time.monotonic()
    assert "cannot write" in refusal("profile", "kws-ds", "-o", path) and time.monotonic() - begun < 5
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and (tmp_path / "file").read_text() == "mine"


def test_a_place_to_write_is_not_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "deep" / "file")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_removed_as_a_file(tmp_path: Path) -> None:
    remove_file(tmp_path / "nothing")
    with pytest.raises(MilliwiseError, match="cannot replace"):
        remove_file(tmp_path)


@pytest.mark.parametrize("what", ["fifo", "zero"])
def test_pipes_and_devices_are_no_files(what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    os.mkfifo(path) if what == "fifo" else path.symlink_to("/dev/zero")
    for read in (lambda: read_json(path, "device profile"), lambda: read_tensors(path)):
        with pytest.raises(MilliwiseError, match="not a file"):
            read()
    assert "not a file" in refusal("feasible", "kws-ds", "--profile", path)
    assert "not a file" in refusal("check", path, "--budget", "1 ms")


def test_a_name_that_is_not_text_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="not UTF-8"):
        write_json(tmp_path / "a.json", {"name": "\udcff"})
    assert not list(tmp_path.iterdir())


def test_a_name_too_long_is_no_run() -> None:
    assert "holds no finished run" in refusal("export", "x" * 5000, "-o", "m.onnx")


@pytest.mark.parametrize("plan", [{"minutes": 0}, {"minutes": -1}, {"minutes": float("nan")}, {"epochs": 0}])
def test_a_plan_of_nothing(plan: dict[str, Any]) -> None:
    with pytest.raises(MilliwiseError, match="more than 0"):
        Plan(**{"epochs": 1, **plan})


@pytest.mark.parametrize(
    "change",
    [
        {"kept": None},
        {"kept": []},
        {"kept": [1]},
        {"predicted_ms": None},
        {"accuracy": "0.9"},
        {"fits": "no"},
        {"measured_upper_ms": "1"},
        {"check": None},
        {"unknown": 1},
    ],
)
def test_candidates_edited_by_hand(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "candidates.json"
    strategy = find_strategy("uniform")(toy.pricing(), 1.5, 0)
    save_candidates(path, [Candidate(["a"], 1.0, 1.1, 0.9, 7)], strategy, measured=False)
    assert load_candidates(path, strategy) == ([Candidate(["a"], 1.0, 1.1, 0.9, 7)], False)
    whole = path.read_text()
    edited(path, lambda content: content["candidates"][0].update(change))
    with pytest.raises(MilliwiseError, match="not as milliwise wrote them"):
        load_candidates(path, strategy)
    path.write_text(whole)
    edited(path, lambda content: content.update(strategy={"chance": [3, [1, 2], None]}))
    with pytest.raises(MilliwiseError, match="not as milliwise wrote them"):
        load_candidates(path, strategy)


def test_an_unfinished_profile_edited_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "p.partial"
    Partial(path, {"seed": 0}).keep("tight", lambda: {"a": [1.5, 2.5]})
    assert Partial(path, {"seed": 0}).keep("tight", lambda: pytest.fail("measured again")) == {"a": [1.5, 2.5]}
    assert Partial(path, {"seed": 1}).keep("tight", lambda: {"a": [3.5]}) == {"a": [3.5]}
    path.write_text(path.read_text().replace("3.5", "0.0"))
    with pytest.raises(MilliwiseError, match="without --resume"):
        Partial(path, {"seed": 1})


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda part: st.lists(part)))
def test_bench_results_edited_by_hand(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text(json.dumps({"key": "a", "value": 1}) + "\n" + json.dumps(value) + "\n")
        with pytest.raises(MilliwiseError, match="leave out --resume"):
            Results(path, resume=True)


def test_ranks_of_constant_values_do_not_agree() -> None:
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == spearman([1.0], [2.0]) == 0.0
    assert spearman([1.0, 2.0, 3.0], [2.0, 4.0, 9.0]) == pytest.approx(1.0)


def test_memory_counts_the_state_that_the_written_edge_declares() -> None:
    network = find_space("kws-ds").build(4, 200)
    _bare, shape = features_only(network, (1, 3200))
    seen = set()
    for name, work in edge_work(network, shape).items():
        counts = count(work.module, work.input_shape)
        edge = SuperNetwork(
            Graph((Edge(name, "in", "out"),), "in", "out"),
            {name: work.module},
            torch.nn.Identity(),
            torch.nn.Identity(),
        )
        states = state_shapes(to_onnx(edge.eval(), work.input_shape))
        cached = sum(int(torch.Size(state["shape"]).numel()) for state in states.values())
        with torch.no_grad():
            activations = work.module(torch.zeros(work.input_shape)).numel()
        assert (counts.weight_bytes, counts.state_bytes) == (4 * counts.parameters, 4 * cached)
        assert counts.activation_bytes == (0 if isinstance(work.module, torch.nn.Identity) else 4 * activations)
        seen.add(cached > 0)
    assert seen == {True, False}


def test_a_full_disk_behind_standard_output_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "toolkit", "spaces"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2 and done.stderr.startswith("Error: cannot write the result: No space left"), done.stderr


def test_what_is_printed_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    report(False, {}, "a\x1b[2J\udcff\nb")
    assert capsys.readouterr().out == "a\\x1b[2J\\udcff\nb\n"


def test_progress_that_nobody_can_read_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def isatty(self) -> bool:
            return False

        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    for stream in (Full(), None):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            with progress("working", 1.0) as advance:
                advance(1.0)


@pytest.mark.parametrize(("command", "goes_on"), [("profile", True), ("stream", False)])
def test_ctrl_c_says_how_to_go_on(command: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Command, "invoke", interrupted)
    done = CliRunner().invoke(main, [command, *(["kws-ds", "-o", "p.json"] if goes_on else [])])
    way_on = ": the same command with --resume goes on; without, it begins anew"
    assert (done.exit_code, done.stderr) == (130, f"interrupted{way_on if goes_on else ''}\n")


@pytest.mark.parametrize("delay_s", [0.03, 0.08, 0.15])
def test_ctrl_c_while_python_still_imports(delay_s: float) -> None:
    program = "from toolkit.__main__ import main; print(flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "spaces"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
