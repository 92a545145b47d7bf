"""A bundle: what is written, run as on a device and collected is a profile; what comes back damaged is refused."""

from __future__ import annotations

import copy
import json
import math
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import load_from_string
from test_profile import junk, places
from test_target import is_running
from tiny_onnx import counter

from profilers import device, host, profile
from profilers.bundle import BundleTarget, job_digest
from profilers.profile import Effort
from profilers.target import PutOff, parse_target
from toolkit.cli import main
from toolkit.errors import MilliwiseError, Unreachable
from toolkit.profile import DeviceProfile

TINY = Effort(fitted=6, calibrating=2, held_out=3, paced=3, short_calls=10, hop_calls=3, rounds=2, weighed=1)
JOBS = [
    {"format": 1, "threads": 1, "tasks": [{"task": "paced", "models": ["a.onnx"], "gap_ms": 1.0, "calls": calls}]}
    for calls in (3, 4, 4)
]
FILES = {"a.onnx": counter()}


def write(folder: Path) -> BundleTarget:
    """A bundle of three jobs, two of them the same."""
    target = BundleTarget(folder)
    with target.writing():
        for job in JOBS:
            with pytest.raises(PutOff):
                target.run(job, FILES, lambda event: None)
    return target


def run(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """As on a device: elsewhere, with a Python that knows nothing of ours."""
    program = [sys.executable, str(folder / "run.py")]
    return subprocess.run(program, capture_output=True, text=True, timeout=100, **options)


def collected(results: Path) -> BundleTarget:
    return BundleTarget(results.parent, results)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the bundle of three jobs."""
    folder = tmp_path_factory.mktemp("answered") / "bundle"
    write(folder)
    assert run(folder).returncode == 0
    return folder / "results.json"


def test_a_bundle_answers_as_the_device_did(answered: Path) -> None:
    target = collected(answered)
    assert target.fingerprint() == device.fingerprint()
    told: list[dict] = []
    for job in JOBS:
        events = target.run(job, FILES, told.append)
        assert [len(event["values_ms"]) for event in events if event["event"] == "paced"] == [job["tasks"][0]["calls"]]
    assert sum(event["event"] == "paced" for event in told) == 3
    with pytest.raises(MilliwiseError, match="did not come to its end"):  # the same job was asked for twice only
        target.run(JOBS[1], FILES, told.append)


def test_other_jobs_and_other_models_are_results_for_another_graph(answered: Path) -> None:
    for job, files in ((JOBS[0] | {"threads": 2}, FILES), (JOBS[0], {"a.onnx": counter(4)})):
        with pytest.raises(MilliwiseError, match="another graph"):
            collected(answered).run(job, files, lambda event: None)
    assert job_digest(JOBS[0], FILES) != job_digest(JOBS[1], FILES)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, answered: Path) -> None:
    folder = tmp_path / "bundle"
    write(folder)
    before = json.loads(answered.read_text())
    kept = before["jobs"].pop()
    before["jobs"].pop(0)
    (folder / "results.json").write_text(json.dumps(before))
    assert run(folder).returncode == 0
    after = json.loads((folder / "results.json").read_text())
    assert after["jobs"][0] == before["jobs"][0]
    assert sorted(job["folder"] for job in after["jobs"]) == ["0001", "0002", "0003"]
    assert kept not in after["jobs"]  # measured again, so other times
    before["fingerprint"]["cpu_model"] = "another device"
    (folder / "results.json").write_text(json.dumps(before))
    assert run(folder).returncode == 0
    assert before["jobs"][0] not in json.loads((folder / "results.json").read_text())["jobs"]


def test_what_fails_on_the_device_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write(folder)
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError(\"No module named 'onnxruntime'\")")
    failed = run(folder, env={"PYTHONPATH": str(tmp_path)})
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "No module named 'onnxruntime'; python3 -m pip install onnxruntime" in failed.stderr
    (folder / "0002" / "job.json").write_text("{}")
    failed = run(folder)
    assert failed.returncode == 1 and "job.json is not a job of format 1" in failed.stderr
    assert len(json.loads((folder / "results.json").read_text())["jobs"]) == 1


def test_an_onnxruntime_that_is_too_old(tmp_path: Path) -> None:
    """A model of a future format is to today's release what today's are to an old one."""
    (model := load_from_string(counter())).ir_version = 99
    files, target = {"a.onnx": model.SerializeToString()}, BundleTarget(tmp_path / "bundle")
    with target.writing():
        target.run(JOBS[0], files, lambda event: None)
    assert run(tmp_path / "bundle").returncode == 0
    with pytest.raises(MilliwiseError, match=r"onnxruntime \d+\.\d+.* cannot load the models .*onnxruntime>=1"):
        collected(tmp_path / "bundle" / "results.json").run(JOBS[0], files, lambda event: None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bundle.json", None, "bundle.json: No such file"),
        ("bundle.json", "{}", "bundle.json is damaged: copy the folder"),
        ("bundle.json", '{"sha256": "0", "jobs": [{"folder": "0001"}]}', "bundle.json is damaged"),
        *[
            ("results.json", text, "results.json is damaged: remove it")
            for text in ("", "[]", "{}", "[" * 10_000, '{"jobs": "x"}', '{"jobs": {}}', '{"jobs": [{"folder": []}]}')
        ],
    ],
)
def test_a_damaged_file_on_the_device_is_one_line(tmp_path: Path, name: str, content: str | None, told: str) -> None:
    write(tmp_path / "bundle")
    if content is None:
        (tmp_path / "bundle" / name).unlink()
    else:
        (tmp_path / "bundle" / name).write_text(content)
    if name == "results.json":
        with pytest.raises(host.Stopped, match=told):
            host.begun(tmp_path / "bundle" / name, {"format": 1})
    else:
        failed = run(tmp_path / "bundle")
        assert failed.returncode == 1 and told in failed.stderr and len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_ended_on_the_device_ends_its_runner_and_is_one_line(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "bundle"
    write(folder)
    (folder / "runner.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], 'new').write_text(str(os.getpid()))\n"
        "pathlib.Path(sys.argv[1], 'new').rename(pathlib.Path(sys.argv[1], 'pid'))\n"
        "time.sleep(60)"
    )
    before = signal.signal(number, lambda *_: None)  # so that it is not ignored, as it is where nohup runs the tests
    process = subprocess.Popen([sys.executable, str(folder / "run.py")], stderr=subprocess.PIPE, text=True)
    signal.signal(number, before)
    until = time.monotonic() + 60
    while not (folder / "0001" / "pid").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors.splitlines()[1:] == [
        "ended from outside; run it again: it goes on where it was"
    ]
    assert not is_running(int((folder / "0001" / "pid").read_text()))


def test_the_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = BundleTarget(tmp_path / "bundle")
    with pytest.raises(KeyboardInterrupt), target.writing():
        with pytest.raises(PutOff):
            target.run(JOBS[0], FILES, lambda event: None)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle")
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {
        *("0001", "0002", "0003", "README.txt", "bundle.json", "device.py", "run.py", "runner.py")
    }
    with pytest.raises(MilliwiseError, match="not empty"):
        write(tmp_path / "bundle")
    (tmp_path / "file").write_text("")
    for taken in (tmp_path / "file", tmp_path / "file" / "bundle"):
        with pytest.raises(MilliwiseError, match="file"):
            write(taken)


def test_a_bundle_does_not_measure_by_itself(tmp_path: Path) -> None:
    target = parse_target(f"bundle:{tmp_path}")
    assert target.name == f"bundle:{tmp_path}"
    with pytest.raises(Unreachable, match="carried by hand"):
        target.run(JOBS[0], FILES, lambda event: None)
    for text in ("bundle:", "bundle:\x1b[2J"):
        with pytest.raises(MilliwiseError, match="bundle:FOLDER"):
            parse_target(text)
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(MilliwiseError, match="cannot read results"):
            collected(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("jobs",), {}),
        (("jobs", 0, "events"), "x"),
        (("jobs", 0, "events", "paced", "values_ms", 0), math.nan),
        (("jobs", 0, "events", "paced", "values_ms", 0), -1.0),
        (("jobs", 0, "events", "paced", "values_ms", 0), "1"),
        (("jobs", 0, "events", "paced", "values_ms"), []),
        (("jobs", 0, "events", "paced", "model"), "../../b.onnx"),
        (("jobs", 0, "sha256"), "\x1b[2J"),
        (("fingerprint", "cores"), "four"),
        (("fingerprint", "event"), "paced"),
        (("fingerprint", "os"), "x" * 300),
        (("fingerprint", "cache_bytes"), {"L1": "large"}),
        (("fingerprint",), None),
    ],
)
def test_hostile_results_are_refused(answered: Path, tmp_path: Path, path: tuple, value: object) -> None:
    content = json.loads(answered.read_text())
    holder = content
    for key in path[:-1]:
        holder = holder[[event["event"] for event in holder].index(key) if key == "paced" else key]
    holder[path[-1]] = value
    message = taken(content, tmp_path)
    assert message is not None and message.isprintable() and "results" in message


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_is_refused_or_harmless(answered: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = json.loads(answered.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(places(content)))
        holder[key] = copy.deepcopy(data.draw(junk))
    message = taken(content, tmp_path)
    assert message is None or message.isprintable()


def test_a_fingerprint_brings_nothing_else_along(answered: Path, tmp_path: Path) -> None:
    content = json.loads(answered.read_text())
    content["fingerprint"] |= {"target": "local", "threads": 64, "identity": "0" * 12}
    (tmp_path / "edited.json").write_text(json.dumps(content))
    assert collected(tmp_path / "edited.json").fingerprint() == device.fingerprint()


def taken(content: object, folder: Path) -> str | None:
    """What taking every answer of such a file ends with; None if it is taken."""
    path = folder / "edited.json"
    path.write_text(json.dumps(content))
    try:
        target = collected(path)
        for job in JOBS:
            for event in target.run(job, FILES, lambda event: None):
                assert all(0 < value < math.inf for value in event.get("values_ms", [])) or event["event"] != "paced"
    except MilliwiseError as error:
        return str(error)
    return None


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["profile", "kws-ds", *arguments])


def test_a_profile_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says what to do next; the same command with --collect makes the profile."""
    monkeypatch.setattr(profile, "profile_device", partial(profile.profile_device, effort=TINY))
    output, bundle = tmp_path / "profile.json", tmp_path / "bundle"
    command = ("-o", str(output), "--on", f"bundle:{bundle}", "--hop-ms", "40", "--json")
    written = ask(*command)
    assert written.exit_code == 0, written.output
    told = json.loads(written.stdout)
    assert told["profile"] is None and told["bundle"] == str(bundle)
    assert told["jobs"] == sum(path.is_dir() for path in bundle.iterdir()) > 2 * TINY.paced
    assert "run python3 run.py in it" in written.stderr and not output.exists()
    done = run(bundle.rename(tmp_path / "carried"))
    assert done.returncode == 0, done.stderr
    made = ask(*command, "--collect", str(tmp_path / "carried" / "results.json"))
    assert made.exit_code == 0, made.output
    loaded = DeviceProfile.load(output)
    assert loaded.target == f"bundle:{bundle}" and loaded.fingerprint == device.fingerprint()
    other = ask(*command, "--collect", str(tmp_path / "carried" / "results.json"), "--seed", "1")
    assert other.exit_code == 2 and "another graph, or other arguments" in other.stderr
    alone = ask("-o", str(output), "--collect", str(tmp_path / "carried" / "results.json"))
    assert alone.exit_code == 2 and "add --on bundle:FOLDER" in alone.stderr
