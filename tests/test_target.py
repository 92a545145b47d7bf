"""Targets: the measuring process is started, heard, ended and cleaned up after, whatever happens."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from tiny_onnx import counter

from profilers import target
from profilers.device import fingerprint
from profilers.target import LocalTarget, RunnerEnded, parse_target
from toolkit.errors import MilliwiseError

JOB = {"format": 1, "tasks": [{"task": "tight", "models": ["a.onnx"], "rounds": 2, "block_ms": 0.2}]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary folders are made; nothing may be left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.fixture
def as_runner(tmp_path_factory, monkeypatch):
    """Let a short program stand in for the runner."""

    def put(code: str) -> None:
        path = tmp_path_factory.mktemp("runner") / "runner.py"
        path.write_text(f"import json, os, signal, subprocess, sys, time\n{code}")
        monkeypatch.setattr(target, "RUNNER", path)

    return put


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_local_runs_the_job_and_streams_the_events(folder):
    told: list[dict] = []
    events = LocalTarget().run(JOB, {"a.onnx": counter()}, told.append)
    assert told == events
    assert events[0]["event"] == "environment"
    assert {event["model"] for event in events if event["event"] == "blocks"} == {"a.onnx"}


def test_a_file_is_taken_by_path_too(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "some model.onnx"
    path.write_bytes(counter())
    events = LocalTarget().run(JOB, {"a.onnx": path}, lambda event: None)
    assert "blocks" in {event["event"] for event in events}
    with pytest.raises(MilliwiseError, match=r"gone\.onnx"):
        LocalTarget().run(JOB, {"a.onnx": path.with_name("gone.onnx")}, lambda event: None)


@pytest.mark.parametrize("name", ["../a.onnx", "b/a.onnx", "..", "", "job.json"])
def test_a_name_that_leaves_the_folder_is_refused(folder, name):
    with pytest.raises(ValueError, match="cannot name a model"):
        LocalTarget().run(JOB, {name: b""}, lambda event: None)


def test_a_crash_gives_the_last_line_of_its_errors(folder, as_runner):
    as_runner("sys.exit('first line\\nno module named onnxruntime')")
    with pytest.raises(RunnerEnded, match=r"exit code 1: no module named onnxruntime$"):
        LocalTarget().run(JOB, {}, lambda event: None)


def test_a_killed_runner_is_named_as_killed(folder, as_runner):
    as_runner("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RunnerEnded, match="SIGKILL"):
        LocalTarget().run(JOB, {}, lambda event: None)


def test_a_silent_runner_is_ended(folder, as_runner):
    as_runner("print(json.dumps({'event': 'pid', 'pid': os.getpid()}), flush=True); time.sleep(60)")
    told: list[dict] = []
    begun = time.monotonic()
    with pytest.raises(RunnerEnded, match="said nothing for 3 s"):
        LocalTarget(silence_s=3.0).run(JOB, {}, told.append)
    assert time.monotonic() - begun < 30  # it did not wait for the sleeper
    assert not is_running(told[0]["pid"])


def test_ctrl_c_ends_the_process_and_its_children(folder, as_runner):
    as_runner(
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(json.dumps({'event': 'pids', 'pids': [os.getpid(), child.pid]}), flush=True); time.sleep(60)"
    )
    pids: list[int] = []

    def interrupt(event: dict) -> None:
        pids.extend(event["pids"])
        assert all(is_running(pid) for pid in pids)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTarget().run(JOB, {}, interrupt)
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)  # the child's end is told to its new parent
    assert len(pids) == 2 and not any(is_running(pid) for pid in pids)


def test_what_is_no_event_is_passed_over(folder, as_runner):
    as_runner("print('a driver says hello'); print('[1]'); print('{\"x\": 1}'); print('{\"event\": \"load\"}')")
    assert LocalTarget().run(JOB, {}, lambda event: None) == [{"event": "load"}]


def test_the_process_is_isolated_and_its_threads_are_limited(folder, as_runner, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    as_runner(
        "print(json.dumps({'event': 'seen', 'isolated': sys.flags.isolated, 'group': os.getpgid(0) == os.getpid(),"
        " 'omp': os.environ['OMP_NUM_THREADS'], 'wait': os.environ['OMP_WAIT_POLICY']}))"
    )
    (seen,) = LocalTarget().run({**JOB, "threads": 2}, {}, lambda event: None)
    assert seen == {"event": "seen", "isolated": 1, "group": True, "omp": "2", "wait": "PASSIVE"}


def test_no_place_for_the_models_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(MilliwiseError, match="TMPDIR"):
        LocalTarget().run(JOB, {}, lambda event: None)


def test_what_a_library_leaves_behind_goes_with_the_folder(folder, as_runner):
    as_runner("import tempfile; open(os.path.join(tempfile.gettempdir(), 'left'), 'w').close()")
    assert LocalTarget().run(JOB, {}, lambda event: None) == []


def test_targets_are_parsed():
    for text in ("local", "ssh://pi@kitchen:2200", "bundle:out"):
        assert parse_target(text).name == text
    assert parse_target("local").fingerprint() == fingerprint()
    for text in ("", "Local", "pi@kitchen", "http://x"):
        with pytest.raises(MilliwiseError, match="use local, ssh://"):
            parse_target(text)
