"""What can go wrong on the way to a device and on it: for each an error of its own, in one line with the cure."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import secure_shell
from onnx import load_from_string
from secure_shell import FILES, JOB, Device, make_key, needs_sshd, refused
from tiny_onnx import counter

from profilers import dialogue, ssh
from profilers.ssh import SshTarget
from profilers.ssh_failures import on_the_way
from profilers.target import RunnerEnded
from toolkit.errors import MilliwiseError, Unreachable

device, as_runner = secure_shell.device, secure_shell.as_runner  # fixtures


@needs_sshd
def test_a_host_key_that_is_unknown_or_has_changed(device: Device, tmp_path: Path) -> None:
    target = device.start()
    device.trust(None)
    assert f"run ssh -p {device.port} 127.0.0.1 once" in refused(target)
    device.trust(make_key(tmp_path / "other_key"))
    assert f"has changed: if it was set up anew, run ssh-keygen -R '[127.0.0.1]:{device.port}'" in refused(target)


@needs_sshd
def test_a_password_is_never_asked_for(device: Device, tmp_path: Path) -> None:
    target = device.start()
    device.configure(IdentityFile=str(make_key(tmp_path / "stranger")))
    assert "ssh-copy-id" in refused(target)


@needs_sshd
def test_nobody_there(device: Device) -> None:
    assert "refuses the connection" in refused(SshTarget("127.0.0.1", port=device.port))  # sshd was not started
    assert "nobody knows that name" in refused(SshTarget("no-such-device.invalid"))


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MilliwiseError, match="install openssh-client"):
        SshTarget("kitchen").run(JOB, FILES, lambda event: None)


@needs_sshd
@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("echo bash: line 1: python3: command not found >&2; exit 127", "has no python3"),
        (
            f'exec {sys.executable} -c \'import sys; sys.version_info = (3, 7, 3); sys.version = "3.7.3 (x)";'
            ' exec(sys.argv[2])\' "$@"',
            "old python3 (milliwise: Python 3.7.3)",
        ),
        ("echo 'Exec format error' >&2; exit 126", "runs no python3 (exit code 126: Exec format error)"),
        ("exit 0", "runs no python3"),
    ],
    ids=["absent", "old", "broken", "mute"],
)
def test_a_python_that_does_not_do(device: Device, python: str, told: str) -> None:
    device.python(python)
    assert told in refused(device.start())


@needs_sshd
@pytest.mark.parametrize("missing", ["onnxruntime", "numpy"])
def test_a_package_is_missing(device: Device, tmp_path: Path, missing: str) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{missing}'\")")
    device.environment["PYTHONPATH"] = str(tmp_path)
    message = refused(device.start())
    assert f"has no {missing}: run python3 -m pip install onnxruntime" in message


@needs_sshd
def test_an_onnxruntime_that_is_too_old(device: Device) -> None:
    """Models of a future format are to today's release what today's are to an old one."""
    for field, value in (("ir_version", 99), ("opset", 99)):
        model = load_from_string(counter())
        if field == "opset":
            model.opset_import[0].version = value
        else:
            model.ir_version = value
        target = device.start() if device.process is None else SshTarget("127.0.0.1", port=device.port)
        with pytest.raises(MilliwiseError, match=r"onnxruntime \d+\.\d+.* cannot load the models .*onnxruntime>=1"):
            target.run(JOB, {"a.onnx": model.SerializeToString(), "b.onnx": counter()}, lambda event: None)


@needs_sshd
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit('first line\\n\\033[2Jsecond line')", r"crashed with exit code 1: \x1b[2Jsecond line"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        ("time.sleep(60)", "said nothing for 1 s: is a model stuck?"),
        ("os.kill(os.getppid(), signal.SIGKILL)", "ended from outside"),
    ],
    ids=["crash", "killed", "silent", "host killed"],
)
def test_the_runner_does_not_come_to_its_end(
    device: Device, as_runner: Callable[[str], None], code: str, told: str
) -> None:
    as_runner(code)
    at = replace(device.start(), silence_s=1.0 if "sleep" in code else 60.0)
    with pytest.raises(Unreachable if "getppid" in code else RunnerEnded):  # the latter may be a model's fault
        at.run(JOB, FILES, lambda event: None)
    assert told in refused(at)
    if "getppid" in code:  # nothing could clean up after a host that is killed
        for left in device.temporary.iterdir():
            shutil.rmtree(left)


SAYS = {
    "noise": b"\x00\xff\x1b]0;owned\x07" * 40_000,
    "NaN": b'{"event": "paced", "model": "b.onnx", "values_ms": [NaN], "gap_ms": 2}\n',
    "infinity": b'{"event": "paced", "model": "b.onnx", "values_ms": [1e999], "gap_ms": 2}\n',
    "negative": b'{"event": "paced", "model": "b.onnx", "values_ms": [-1.0], "gap_ms": 2}\n',
    "no values": b'{"event": "paced", "model": "b.onnx", "gap_ms": 2}\n',
    "other model": b'{"event": "paced", "model": "\\u001b[31m", "values_ms": [1.0], "gap_ms": 2}\n',
    "deep": b'{"event": ' + b"[" * 100_000 + b"\n",
    "long number": b'{"event": "load", "foreign": [' + b"1" * 1_000_000 + b"]}\n",
    "long line": b"{" * 5_000_000,
    "no total": b'{"event": "progress", "done": 1, "total": 0}\n',
    "strange end": b'{"host": "ended", "code": "0"}\n',
}


@needs_sshd
@pytest.mark.parametrize("what", SAYS)
def test_an_answer_that_is_garbage(device: Device, tmp_path: Path, what: str) -> None:
    ready = b"" if what == "noise" else b'{"host": "ready"}\n'
    (tmp_path / "answer").write_bytes(ready + SAYS[what])
    assert "is it the device you mean?" in refused(device.start(ForceCommand=f"cat {tmp_path / 'answer'}"))


@needs_sshd
def test_no_place_for_the_models_there(device: Device) -> None:
    nowhere = 'import sys, tempfile; tempfile.tempdir = "nowhere"; exec(sys.argv[2])'
    device.python(f"exec {sys.executable} -c '{nowhere}' \"$@\"")
    with pytest.raises(MilliwiseError, match=r"no temporary folder: No such file.*set TMPDIR") as error:
        device.start().run(JOB, FILES, lambda event: None)
    assert not isinstance(error.value, RunnerEnded)  # no model is to blame


@needs_sshd
def test_an_endless_answer(device: Device) -> None:
    assert "answers with" in refused(device.start(ForceCommand="yes"))


@needs_sshd
@pytest.mark.parametrize(
    ("said", "told"),
    [("echo Welcome", "was not ready within 1 s"), ('echo \'{"host": "ready"}\'; printf x', "said nothing for 1 s")],
    ids=["before it is ready", "in the middle of a line"],
)
def test_who_only_drips_is_not_waited_for(
    device: Device, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    monkeypatch.setattr(dialogue, "READY_S", 1.0 if "Welcome" in said else 60.0)
    monkeypatch.setattr(ssh, "PATIENCE_S", 60.0 if "Welcome" in said else 0.0)
    drip = (
        "for i in $(seq 99); do echo more; sleep 0.1; done"
        if "Welcome" in said
        else "for i in $(seq 99); do printf x; sleep 0.1; done"
    )
    at = device.start(ForceCommand=f"{said}; {drip}")
    assert told in refused(replace(at, silence_s=1.0))


def test_words_of_ssh_are_told_apart() -> None:
    lines = {
        "ssh: connect to host a port 22: Connection timed out": "cannot be reached",
        "ssh: connect to host a port 22: No route to host": "cannot be reached",
        "Connection timed out during banner exchange": "cannot be reached",
        "kex_exchange_identification: Connection closed by remote host": "does not speak ssh",
        "Connection closed by 10.0.0.1 port 22": "does not speak ssh",
    }
    for line, told in lines.items():
        error = on_the_way("ssh://a", "a", "a", 255, [line])
        assert told in str(error), json.dumps(line)
        assert isinstance(error, Unreachable) == (told == "cannot be reached")
    banner = ["Sessions here have timed out after an hour.", "a: Permission denied (publickey)."]
    assert "ssh-copy-id" in str(on_the_way("ssh://a", "a", "a", 255, banner))
