"""Another device over a real sshd: the events of a local run, whatever its login prints, and nothing left there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import secure_shell
from secure_shell import FILES, JOB, Device, needs_sshd, refused
from tiny_onnx import counter

from profilers import device as device_module
from profilers import host
from profilers.clock import time_paced
from profilers.target import LocalTarget, parse_target

device, as_runner = secure_shell.device, secure_shell.as_runner  # fixtures


@needs_sshd
def test_the_events_are_those_of_a_local_run(device: Device) -> None:
    target = device.start()
    told: list[dict] = []
    there, here = target.run(JOB, FILES, told.append), LocalTarget().run(JOB, FILES, lambda event: None)
    assert told == there

    def shape(events: list[dict]) -> list[tuple]:
        return [(e["event"], e.get("model"), sorted(e)) for e in events if e["event"] != "progress"]

    assert shape(there) == shape(here)
    assert there[0] == here[0]  # the same versions: it is the same machine
    assert [len(event["values_ms"]) for event in there if event["event"] == "paced"] == [7]


@needs_sshd
def test_it_tells_what_it_is_and_takes_a_model_by_path(device: Device, tmp_path: Path) -> None:
    target = device.start()
    assert target.fingerprint() == device_module.fingerprint()
    (tmp_path / "model.onnx").write_bytes(counter())
    timing = time_paced(tmp_path / "model.onnx", parse_target(target.name), gap_ms=2, calls=6, title="")
    assert [len(process) for process in timing.processes] == [3, 3]


@needs_sshd
def test_a_large_file_arrives_whole_and_threads_are_limited(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner(
        "content = open(os.path.join(sys.argv[1], 'large'), 'rb').read()\n"
        "print(json.dumps({'event': 'seen', 'sha256': hashlib.sha256(content).hexdigest(),"
        " 'omp': os.environ['OMP_NUM_THREADS'], 'group': os.getpgid(0) == os.getpid()}))"
    )
    content = os.urandom(5_000_001)
    (seen,) = device.start().run({**JOB, "threads": 3}, {"large": content}, lambda event: None)
    assert seen == {"event": "seen", "sha256": hashlib.sha256(content).hexdigest(), "omp": "3", "group": True}


@needs_sshd
def test_a_login_script_that_prints_does_no_harm(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner('print(\'a driver says hello\'); print(\'{"event": "load", "foreign": [], "probes_ms": []}\')')
    target = device.start(ForceCommand=f'echo Welcome; PATH="{device.path}"; eval "$SSH_ORIGINAL_COMMAND"')
    assert target.run(JOB, FILES, lambda event: None) == [{"event": "load", "foreign": [], "probes_ms": []}]


@needs_sshd
def test_what_a_killed_one_left_goes_when_the_device_is_next_spoken_to(
    device: Device, as_runner: Callable[[str], None], tmp_path: Path
) -> None:
    as_runner("os.kill(os.getppid(), signal.SIGKILL)")
    target, long_ago = device.start(), (0, time.time() - 2 * host.CUT_S)
    refused(target)
    (left,) = device.temporary.iterdir()
    assert {"job.json", "a.onnx"} <= set(os.listdir(left))
    target.fingerprint()
    assert left.exists()  # too young: it might be of one that is just beginning
    (tmp_path / "precious").mkdir()
    (left / "link").symlink_to(tmp_path / "precious")
    made = {name: device.temporary / (host.OURS + name) for name in ("link", "file", "locked", "stranger")}
    made["link"].symlink_to(tmp_path / "precious")
    made["file"].write_text("")
    made["locked"].mkdir()
    made["other"] = device.temporary / "milliwise-other"
    made["other"].mkdir()
    if os.getuid() == 0:
        made["stranger"].mkdir()
        os.chown(made["stranger"], 12345, 12345)
    lock = os.open(made["locked"], os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    before = set(device.temporary.iterdir())
    for path in (*before, tmp_path / "precious"):
        os.utime(path, long_ago)
    target.fingerprint()
    assert set(device.temporary.iterdir()) == before - {left} and (tmp_path / "precious").is_dir()
    os.close(lock)
    target.fingerprint()
    assert not made["locked"].exists()
    subprocess.run(["rm", "-r", *map(str, device.temporary.iterdir())], check=True)
