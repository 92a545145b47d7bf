"""Another device over a real sshd: events as here, an error of its own for every failure, nothing left behind there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import load_from_string
from secure_shell import Device, make_key, needs_sshd, network
from test_target import is_running
from tiny_onnx import counter

from profilers import device as device_module
from profilers import dialogue, export, host, profile, ssh
from profilers.clock import time_paced
from profilers.profile import Effort
from profilers.ssh import SshTarget
from profilers.target import LocalTarget, parse_target
from toolkit.budget import Budget
from toolkit.cli import main
from toolkit.errors import MilliwiseError, Unreachable
from toolkit.profile import DeviceProfile

JOB = {
    "format": 1,
    "tasks": [
        {"task": "tight", "models": ["a.onnx", "b.onnx"], "rounds": 2, "block_ms": 0.2},
        {"task": "paced", "models": ["b.onnx"], "gap_ms": 2.0, "calls": 7},
    ],
}
FILES = {"a.onnx": counter(), "b.onnx": counter(4)}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Nothing may be left in its temporary folder."""
    made = Device(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "client"), prepend=os.pathsep)
    try:
        yield made
        wait_until(lambda: not list(made.temporary.iterdir()))
    finally:
        made.stop()


@pytest.fixture
def as_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a short program stand in for the runner."""

    def put(code: str) -> None:
        (tmp_path / "stand_in.py").write_text(f"import hashlib, json, os, signal, subprocess, sys, time\n{code}")
        monkeypatch.setattr(ssh, "RUNNER", tmp_path / "stand_in.py")

    return put


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def refused(target: SshTarget, **options: object) -> str:
    """The one line that measuring there ends with."""
    with pytest.raises(MilliwiseError) as error:
        target.run(JOB, FILES, lambda event: None)
    message = str(error.value)
    assert message.isprintable() and len(message) < 600 and target.name in message
    return message


TALKS = "print(json.dumps({'event': 'seen', 'pid': os.getpid(), 'folder': sys.argv[1]}), flush=True)\n"


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
    at = device.start()
    assert told in refused(SshTarget(at.host, port=at.port, silence_s=1.0))
    if "getppid" in code:  # nothing could clean up after a host that is killed
        for left in device.temporary.iterdir():
            shutil.rmtree(left)


SAYS = {
    "noise": b"\x00\xff\x1b]0;owned\x07" * 40_000,
    "NaN": b'{"event": "paced", "model": "b.onnx", "values_ms": [NaN], "gap_ms": 2}\n',
    "infinity": b'{"event": "paced", "model": "b.onnx", "values_ms": [1e999], "gap_ms": 2}\n',
    "negative": b'{"event": "paced", "model": "b.onnx", "values_ms": [-1.0], "gap_ms": 2}\n',
    "no values": b'{"event": "tight", "model": "b.onnx"}\n',
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


@needs_sshd
def test_an_export_goes_without_a_device_that_is_away_and_with_no_other_fault(device: Device) -> None:
    away = SshTarget("127.0.0.1", port=device.port)
    made = replace(toy.profile(), target=away.name, fingerprint=device_module.fingerprint())

    def measured(on: str | None = None, content: bytes = FILES["a.onnx"], calls: int = 60) -> object:
        return export._measure(content, Budget.parse("200 ms"), 200, made, on, calls)

    assert measured() is None
    with pytest.raises(MilliwiseError, match="refuses the connection"):  # it was asked for by name
        measured(away.name)
    device.start()
    for options, told in (({"calls": 5}, "5 calls cannot bound"), ({"content": b"no model"}, "cannot time")):
        with pytest.raises(MilliwiseError, match=told):
            measured(**options)  # type: ignore[arg-type]
    device.trust(None)
    with pytest.raises(MilliwiseError, match="host key"):
        measured()


@needs_sshd
def test_a_login_script_that_prints_does_no_harm(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner('print(\'a driver says hello\'); print(\'{"event": "load", "foreign": []}\')')
    target = device.start(ForceCommand=f'echo Welcome; PATH="{device.path}"; eval "$SSH_ORIGINAL_COMMAND"')
    assert target.run(JOB, FILES, lambda event: None) == [{"event": "load", "foreign": []}]


@needs_sshd
def test_cut_in_the_middle_leaves_nothing(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner(TALKS + "time.sleep(60)")
    target = device.start()
    seen: list[dict] = []

    def cut(event: dict) -> None:
        seen.append(event)
        assert is_running(event["pid"]) and os.path.isdir(event["folder"])
        for pid in device.children():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(MilliwiseError, match="cut in the middle"):
        target.run(JOB, FILES, cut)
    wait_until(lambda: not is_running(seen[0]["pid"]) and not os.path.exists(seen[0]["folder"]))


@needs_sshd
def test_ctrl_c_leaves_nothing(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner("child = subprocess.Popen(['sleep', '60'])\n" + TALKS + "print(); time.sleep(60)")
    seen: list[dict] = []

    def interrupt(event: dict) -> None:
        seen.append(event)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.start().run(JOB, FILES, interrupt)
    wait_until(lambda: not is_running(seen[0]["pid"]) and not os.path.exists(seen[0]["folder"]))


@needs_sshd
def test_the_device_notices_that_nobody_is_there_any_more(
    device: Device, as_runner: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that is dead without a word: here one that takes all that is said, but without our sign of life."""
    as_runner(
        TALKS + "for _ in range(200): print(json.dumps({'event': 'load', 'foreign': []}), flush=True); time.sleep(0.1)"
    )
    (tmp_path / "hasty.py").write_text(Path(host.__file__).read_text().replace("CUT_S = 60", "CUT_S = 2"))
    monkeypatch.setattr(ssh, "HOST", tmp_path / "hasty.py")
    monkeypatch.setattr(dialogue, "HEARTBEAT_S", 1000.0)
    seen: list[dict] = []
    with pytest.raises(MilliwiseError, match="ended from outside"):
        device.start().run(JOB, FILES, seen.append)
    assert not is_running(seen[0]["pid"])


@needs_sshd
def test_a_link_that_dies_in_the_middle(
    tmp_path: Path, as_runner: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends notice by themselves: the device sits in a network of its own, and the link to it goes down."""
    as_runner(TALKS + "time.sleep(60)")
    (tmp_path / "hasty.py").write_text(Path(host.__file__).read_text().replace("CUT_S = 60", "CUT_S = 2"))
    monkeypatch.setattr(ssh, "HOST", tmp_path / "hasty.py")
    monkeypatch.setitem(ssh.OPTIONS, "ServerAliveInterval", "1")
    monkeypatch.setitem(ssh.OPTIONS, "ServerAliveCountMax", "1")
    seen: list[dict] = []
    with network() as (namespace, link):
        device = Device(tmp_path, "198.18.77.2")
        monkeypatch.setenv("PATH", str(tmp_path / "client"), prepend=os.pathsep)

        def cut(event: dict) -> None:
            seen.append(event)
            subprocess.run(["ip", "link", "set", link, "down"], check=True)

        try:
            with pytest.raises(MilliwiseError, match="cut in the middle"):
                device.start(("ip", "netns", "exec", namespace)).run(JOB, FILES, cut)
            wait_until(lambda: not is_running(seen[0]["pid"]) and not list(device.temporary.iterdir()))
        finally:
            device.stop()


@needs_sshd
def test_a_profile_goes_on_after_the_device_was_away(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Effort(fitted=6, held_out=3, paced=2, short_calls=5, hop_calls=2, rounds=2)
    monkeypatch.setattr(profile, "profile_device", partial(profile.profile_device, effort=tiny))
    target, real, calls = device.start(), profile.time_paced, []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            device.stop()
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(profile, "time_paced", failing)
    output = tmp_path / "profile.json"
    command = ["profile", "kws-ds", "-o", str(output), "--on", target.name]
    away = CliRunner().invoke(main, command)
    assert away.exit_code == 2 and "refuses the connection" in away.stderr and not output.exists()
    device.start()
    monkeypatch.setattr(profile, "time_tight", lambda *arguments, **options: pytest.fail("measured again"))
    resumed = CliRunner().invoke(main, [*command, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert len(calls) == 1 + 2 * 3  # the one that failed was made again
    made = DeviceProfile.load(output)
    assert made.target == target.name and made.fingerprint == device_module.fingerprint()


@needs_sshd
def test_signs_of_life_keep_a_long_job_alive(
    device: Device, as_runner: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_runner("time.sleep(3)\n" + TALKS)
    (tmp_path / "hasty.py").write_text(Path(host.__file__).read_text().replace("CUT_S = 60", "CUT_S = 2"))
    monkeypatch.setattr(ssh, "HOST", tmp_path / "hasty.py")
    monkeypatch.setattr(dialogue, "HEARTBEAT_S", 0.2)
    assert len(device.start().run(JOB, FILES, lambda event: None)) == 1


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://kitchen", SshTarget("kitchen")),
        ("ssh://pi@kitchen.local:2200", SshTarget("kitchen.local", "pi", 2200)),
        ("ssh://192.168.0.7:1", SshTarget("192.168.0.7", None, 1)),
        ("ssh://pi@[2001:db8::7]:65535", SshTarget("2001:db8::7", "pi", 65535)),
        ("ssh://[fe80::1%eth0]", SshTarget("fe80::1%eth0")),
    ],
)
def test_addresses(text: str, target: SshTarget) -> None:
    assert SshTarget.parse(text) == target
    assert target.name == text
    assert target.command()[-2] == target.host


@pytest.mark.parametrize(
    "rest",
    [
        *(
            "",
            "-oProxyCommand=touch x",
            "pi@-oX",
            "-l@host",
            "host:0",
            "host:65536",
            "host:",
            "host:２２",
            "a b",
            "a\n",
        ),
        *(
            "a;b",
            "a/b",
            "[::g]",
            "::1",
            "[1.2.3.4]",
            "pi@@host",
            "$(x)",
            "höst",
            "h\x1b[m",
            "user:password@host",
            "`x`",
        ),
        "a" * 300,
    ],
)
def test_what_is_no_address(rest: str) -> None:
    with pytest.raises(MilliwiseError) as error:
        parse_target(f"ssh://{rest}")
    assert str(error.value).isprintable()


@given(st.text(st.sampled_from("ab-@:[].%19\n $'\"\\;\x1b_é"), max_size=20))
def test_any_text_is_an_address_or_refused(rest: str) -> None:
    try:
        target = SshTarget.parse(f"ssh://{rest}")
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert target.name.removeprefix("ssh://") == rest or target.port is not None
        words = target.command()
        places = [words.index("--") + 1, *([words.index("-l") + 1] if "-l" in words else [])]
        assert all(words[place][0].isalnum() or words[place][0] in "_:" for place in places)
        assert all(word.isprintable() and word.isascii() for word in words)


def test_what_runs_there_is_fixed_and_quoted() -> None:
    remote = {SshTarget.parse(text).command()[-1] for text in ("ssh://a", "ssh://b@c:7")}
    (line,) = remote
    assert line.startswith("python3 -c '") and line.count("'") == 2 and not set(line) & set("!\\\n`$")


def test_ssh_never_asks_and_checks_host_keys() -> None:
    words = SshTarget("kitchen").command()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(words)


def test_what_travels_needs_the_standard_library_and_onnxruntime_only() -> None:
    import ast

    for module in (host, device_module):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "onnxruntime"}


def test_words_of_ssh_are_told_apart() -> None:
    from profilers.ssh_failures import on_the_way

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
