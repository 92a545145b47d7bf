"""The stand-alone measuring file: what it calls, how often, in which order, and what it says about failures."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from tiny_onnx import copying, counter, endless

from exporters.listener import session_options
from profilers import runner

JOB = {"format": 1, "threads": 1, "seed": 0, "provider": "CPUExecutionProvider"}


def run(folder: Path, *tasks: dict[str, Any], models: dict[str, bytes], **job: Any) -> list[dict[str, Any]]:
    """The events of a job run as a device runs it: a process that knows nothing of ours."""
    for name, content in models.items():
        (folder / name).write_bytes(content)
    (folder / "job.json").write_text(json.dumps({**JOB, "tasks": tasks, **job}))
    done = subprocess.run(
        [sys.executable, "-I", runner.__file__, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def blocks_of(events: list[dict[str, Any]]) -> dict[str, list[float]]:
    """All blocks of every model, which are told as they come."""
    found: dict[str, list[float]] = {}
    for event in of(events, "blocks"):
        found.setdefault(event["model"], []).extend(event["blocks_ms"])
    return found


class Clock:
    """A listener that takes the times it is told, the last one for ever."""

    def __init__(self, *times_ms: float) -> None:
        self.times_ms, self.calls = list(times_ms), 0

    def call(self) -> float:
        self.calls += 1
        return self.times_ms.pop(0) if len(self.times_ms) > 1 else self.times_ms[0]


def test_needs_only_standard_library_numpy_and_onnxruntime():
    tree = ast.parse(Path(runner.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= {*sys.stdlib_module_names, "numpy", "onnxruntime"}


def test_tight_and_paced_events_keep_every_raw_value(tmp_path):
    tight = {"task": "tight", "models": ["a.onnx", "b.onnx"], "rounds": 4, "block_ms": 0.5}
    paced = {"task": "paced", "models": ["b.onnx", "a.onnx"], "gap_ms": 2.0, "calls": 7}
    events = run(tmp_path, tight, paced, models={"a.onnx": counter(), "b.onnx": counter(16)})
    assert events[0]["event"] == "environment"
    assert events[0]["onnxruntime"] == onnxruntime.__version__
    order = [event["event"] for event in events if event["event"] in ("opening", "opened", "blocks", "paced")]
    assert list(dict.fromkeys(order)) == ["opening", "opened", "blocks", "paced"]
    assert [event["model"] for event in of(events, "opening")] == ["a.onnx", "b.onnx", "b.onnx", "a.onnx"]
    assert {event["model"] for event in of(events, "blocks")} == {"a.onnx", "b.onnx"}
    for name, told in blocks_of(events).items():
        assert 4 <= len(told) <= 4 * runner.MAX_EXTENSION and min(told) > 0, name
    for event in of(events, "blocks"):
        assert len(event["blocks_ms"]) == len(event["means_ms"]) > 0
        assert event["calls_per_block"] >= runner.MIN_CALLS <= event["warm_up_calls"]
        assert len(event["rejected_ms"]) <= len(event["blocks_ms"]) * (runner.TRIES - 1)
    assert [event["model"] for event in of(events, "paced")] == ["b.onnx", "a.onnx"]
    for event in of(events, "paced"):
        assert (len(event["values_ms"]), len(event["warm_up_ms"]), event["gap_ms"]) == (7, runner.COLD_CALLS, 2.0)
        assert min(event["values_ms"]) > 0
    for event in of(events, "load"):
        assert len(event["foreign"]) == len(event["probes_ms"]) > 0
        assert all(0 <= share <= 1 for share in event["foreign"]) and min(event["probes_ms"]) > 0
    told = [event["done"] / event["total"] for event in of(events, "progress")]
    assert told and told == sorted(told) and told[-1] <= 1


def test_state_is_fed_back_and_counts_every_call(tmp_path):
    (tmp_path / "a.onnx").write_bytes(counter())
    listener = runner.Listener(tmp_path / "a.onnx", JOB, limit_s=10)
    for _ in range(4):
        assert listener.call() > 0
    assert listener.states["state_in_calls"].tolist() == [5.0]  # the first call is made when it is opened


@pytest.mark.parametrize(("models", "calls", "cold"), [(["a"], 6, None), (["a", "b"], 3, None), (["a"], 4, 1)])
def test_paced_calls_each_model_as_often_as_asked(tmp_path, monkeypatch, capsys, models, calls, cold):
    opened: list[runner.Listener] = []

    class Recorded(runner.Listener):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(runner, "Listener", Recorded)
    for name in models:
        (tmp_path / name).write_bytes(counter())
    task = {
        "models": models,
        "gap_ms": 1,
        "calls": calls,
        "limit_s": 10,
        **({} if cold is None else {"cold_calls": cold}),
    }
    runner.time_paced(tmp_path, JOB, task, runner.Progress(1))
    counted = [listener.states["state_in_calls"][0] for listener in opened]
    kept_apart = runner.COLD_CALLS if cold is None else cold
    assert counted == [1 + kept_apart + calls] * len(models)
    for event in of([json.loads(line) for line in capsys.readouterr().out.splitlines()], "paced"):
        assert (len(event["values_ms"]), len(event["warm_up_ms"])) == (calls, kept_apart)


def test_paced_ticks_are_start_to_start_and_late_calls_do_not_queue(tmp_path, monkeypatch):
    now, slept, starts = [0.0], [], []

    class Slow:
        def call(self) -> float:
            starts.append(now[0])
            now[0] += 0.075 if len(starts) == 3 else 0.010  # the third call takes longer than a tick
            return 1.0

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(runner.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(runner.time, "sleep", sleep)
    monkeypatch.setattr(runner, "Listener", lambda *_: Slow())
    monkeypatch.setattr(runner, "COLD_CALLS", 0)
    task = {"models": ["a"], "gap_ms": 50, "calls": 5, "limit_s": 1}
    runner.time_paced(tmp_path, JOB, task, runner.Progress(1))
    assert starts == pytest.approx([0.050, 0.100, 0.150, 0.225, 0.275])
    assert slept == pytest.approx([0.050, 0.040, 0.040, 0.0, 0.040])


def test_blocks_are_interleaved_in_a_new_seeded_order_each_round(tmp_path, monkeypatch):
    order: list[str] = []

    def block(self: runner.Blocks) -> tuple[list[float], bool]:
        order.append(self.listener)
        return [1.0], False

    monkeypatch.setattr(runner, "Listener", lambda path, *_: path.name)
    monkeypatch.setattr(runner, "warm_up", lambda *_: (3, 3))
    monkeypatch.setattr(runner.Blocks, "_block", block)
    names = ["a", "b", "c", "d"]
    runner.time_tight(tmp_path, JOB, {"models": names, "rounds": 6, "limit_s": 1}, runner.Progress(1))
    rounds = [tuple(order[start : start + 4]) for start in range(0, len(order), 4)]
    assert len(rounds) == 6
    assert all(sorted(names_of) == names for names_of in rounds)
    assert len(set(rounds)) > 1
    assert order == list(runner.interleaved(names, 6, seed=0))
    assert order != list(runner.interleaved(names, 6, seed=1))


@pytest.fixture
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The events of a tight task over listeners that take prepared times, with blocks of one call."""
    monkeypatch.setattr(runner, "Listener", lambda path, *_: clocks[path.name])
    monkeypatch.setattr(runner, "warm_up", lambda *_: (3, 3))
    monkeypatch.setattr(runner.Blocks, "_block", lambda self: ([self.listener.call()], False))
    clocks: dict[str, Clock] = {}

    def run(listeners: dict[str, Clock], **task: Any) -> list[dict[str, Any]]:
        clocks.update(listeners)
        runner.time_tight(tmp_path, JOB, {"models": list(listeners), "limit_s": 1, **task}, runner.Progress(1))
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.mark.parametrize(
    ("medians", "expected"), [([1.0], 4), ([1.0, 2.0, 2.0, 2.0, 1.0], 5), ([2.0**-k for k in range(40)], 12)]
)
def test_rounds_are_extended_until_the_floor_is_seen_twice_and_capped(timed, medians, expected):
    found = blocks_of(timed({"a": Clock(*medians)}, rounds=4))["a"]
    assert found == [medians[min(turn, len(medians) - 1)] for turn in range(expected)]


@pytest.mark.parametrize(
    ("known", "more"),
    [
        ([], 4),
        ([1.0], 3),
        ([1.0] * 4, 0),
        ([3.0, 2.0, 1.5, 1.2], 2),  # its floor had not been seen at all, and is to be seen twice
        ([2.0**-k for k in range(11)], 1),
        ([2.0**-k for k in range(12)], 0),  # and this one's never was
    ],
)
def test_what_an_interrupted_run_measured_is_not_measured_again(timed, known, more):
    clocks = {"a": Clock(min([1.0, *known])), "b": Clock(1.0)}
    events = timed(clocks, rounds=4, known={"a": known})
    assert clocks["a"].calls == len(blocks_of(events).get("a", [])) == more
    assert len(blocks_of(events)["b"]) == 4
    assert all(event["model"] != "a" for event in of(events, "blocks")) is (more == 0)


def test_blocks_are_told_as_they_come_and_once(timed, monkeypatch):
    """A moment after they were measured, not at the end: here every second block, by a clock that the test moves."""
    now = [0.0]

    class Moves(Clock):
        def call(self) -> float:
            now[0] += 0.2
            return 1.0 + 0.001 * super().call()

    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    events = timed({"a": Moves(*range(40))}, rounds=12)
    assert blocks_of(events)["a"] == [1.0 + 0.001 * turn for turn in range(12)]
    assert max(len(event["blocks_ms"]) for event in of(events, "blocks")) == 2


@pytest.mark.parametrize(
    ("dirty", "kept", "rejected"),
    [([False], 1.0, []), ([True, False], 2.0, [1.0]), ([True] * 9, 3.0, [1.0, 2.0])],
)
def test_dirty_blocks_are_repeated_a_bounded_number_of_times(monkeypatch, capsys, dirty, kept, rejected):
    tries = iter(enumerate(dirty, start=1))
    monkeypatch.setattr(runner, "warm_up", lambda *_: (3, 3))
    blocks = runner.Blocks(Clock(1.0), 1.0, 1.0, [7.0])
    monkeypatch.setattr(blocks, "_block", lambda: (lambda k, bad: ([float(k)] * 3, bad))(*next(tries)))
    blocks.measure()
    assert blocks.blocks_ms == [7.0, kept]
    blocks.tell("a")
    blocks.tell("a")  # nothing new to tell
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (told["model"], told["blocks_ms"], told["rejected_ms"]) == ("a", [kept], rejected)


def test_warm_up_ends_when_two_windows_agree_and_fills_a_block():
    slow_start = Clock(9.0, 9.0, 9.0, 6.0, 6.0, 6.0, 1.0)
    calls, made = runner.warm_up(slow_start, block_ms=10.0, limit_s=60)
    assert calls == 10  # ten calls of 1 ms fill 10 ms
    assert made == slow_start.calls >= 6 + 10
    steady = Clock(100.0)
    assert runner.warm_up(steady, block_ms=10.0, limit_s=60) == (runner.MIN_CALLS, 2 * runner.MIN_CALLS)
    never_warm = Clock(*(1.5**-k for k in range(100_000)))
    _, made = runner.warm_up(never_warm, block_ms=3.0, limit_s=60)
    assert made <= 30 * runner.MAX_CALLS


def test_a_failed_model_is_named_and_the_others_are_timed(tmp_path):
    models = {
        "junk.onnx": b"not a model",
        "free.onnx": copying([1, "time"]),
        "words.onnx": copying([1], TensorProto.STRING),
        "huge.onnx": copying([1 << 30], name="state_in_x", out="state_out_x"),
        "orphan.onnx": copying([1, 4], out="state_out_x"),
        "endless.onnx": endless(),
        "good.onnx": counter(),
    }
    names = [*models, "absent.onnx"]
    tight = {"task": "tight", "models": names, "rounds": 2, "block_ms": 0.2, "limit_s": 1.0}
    events = run(tmp_path, tight, {**tight, "task": "paced", "calls": 2, "gap_ms": 1}, models=models)
    reasons = {event["model"]: event["reason"] for event in of(events, "failed")}
    assert set(reasons) == set(names) - {"good.onnx"}
    assert set(Counter(event["model"] for event in of(events, "failed")).values()) == {2}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    assert "time" in reasons["free.onnx"] and "fixed sizes" in reasons["free.onnx"]
    assert "string" in reasons["words.onnx"]
    assert "64000000 bytes" in reasons["huge.onnx"]
    assert "state_in_x" in reasons["orphan.onnx"]
    assert "longer than 1 s" in reasons["endless.onnx"]
    assert set(blocks_of(events)) == {event["model"] for event in of(events, "paced")} == {"good.onnx"}
    assert [event["model"] for event in of(events, "opening")] == [*names, *names]


def test_a_model_that_breaks_while_it_is_timed_is_a_failure(timed):
    class Breaks(Clock):
        def call(self) -> float:
            if self.calls == 8:
                raise runner.Failed("the device is gone")
            return super().call()

    events = timed({"bad": Breaks(5.0), "good": Clock(5.0)}, rounds=12)
    assert of(events, "failed") == [{"event": "failed", "model": "bad", "reason": "the device is gone"}]
    assert len(blocks_of(events)["good"]) == 12


def test_a_clock_that_runs_backwards_ends_it_all(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(counter())
    listener = runner.Listener(tmp_path / "a.onnx", JOB, limit_s=10)
    ticks = iter([10.0, 9.5])
    monkeypatch.setattr(runner.time, "perf_counter", lambda: next(ticks))
    with pytest.raises(SystemExit, match=r"ran backwards by 0\.5 s: nothing can be timed on it"):
        listener.call()


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is really here")
def test_a_provider_fallback_is_a_failure(tmp_path):
    task = {"task": "tight", "models": ["a.onnx"], "rounds": 2}
    events = run(tmp_path, task, models={"a.onnx": counter()}, provider="CUDAExecutionProvider")
    assert "CUDAExecutionProvider" in of(events, "failed")[0]["reason"]
    assert not of(events, "blocks")


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ([], "format 1"),
        ({"format": 2, "tasks": []}, "format 1"),
        ({"format": 1, "tasks": [{"task": "guess", "models": []}]}, "'guess'"),
        ({"format": 1, "tasks": [{"task": "tight", "models": ["../a.onnx"]}]}, "'../a.onnx'"),
        ({"format": 1, "tasks": [{"task": "paced", "models": [".."]}]}, "'..'"),
    ],
)
def test_a_wrong_job_is_refused_with_the_value(tmp_path, job, said):
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(SystemExit, match=said):
        runner.main(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_are_opened_as_listeners_ship(tmp_path, threads):
    (tmp_path / "a.onnx").write_bytes(counter())
    measured = runner.open_session(tmp_path / "a.onnx", threads, "CPUExecutionProvider").get_session_options()
    shipped = session_options(threads)
    for name in ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "graph_optimization_level"):
        assert getattr(measured, name) == getattr(shipped, name), name
    for key in ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning"):
        assert measured.get_session_config_entry(key) == shipped.get_session_config_entry(key) == "0"


@pytest.mark.parametrize(
    ("name", "kind", "dtype", "quiet"),
    [
        ("audio", TensorProto.FLOAT, np.float32, False),
        ("state_in_x", TensorProto.FLOAT, np.float32, True),
        ("mode", TensorProto.INT64, np.int64, True),
        ("features", TensorProto.FLOAT16, np.float16, False),
    ],
)
def test_inputs_are_seeded_noise_and_states_are_zeros(tmp_path, name, kind, dtype, quiet):
    out = name.replace("_in_", "_out_") if "_in_" in name else "scores"
    (tmp_path / "a.onnx").write_bytes(copying([2, 50], kind, name, out))
    (node,) = runner.open_session(tmp_path / "a.onnx", 1, "CPUExecutionProvider").get_inputs()
    array = runner.first_value(node, seed=3)
    assert array.dtype == dtype and array.shape == (2, 50)
    assert abs(array).max() <= 1
    assert (not array.any()) is quiet
    assert np.array_equal(array, runner.first_value(node, seed=3))
    assert np.array_equal(array, runner.first_value(node, seed=4)) is quiet
