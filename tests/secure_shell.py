"""A real sshd on loopback, with keys of its own, that logs in the user who runs the tests; and what they send there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_onnx import counter

from profilers import ssh
from profilers.ssh import SshTarget
from toolkit.errors import MilliwiseError

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SSH = shutil.which("ssh")
needs_sshd = pytest.mark.skipif(
    not (SSHD and SSH), reason="no sshd or no ssh here: install openssh-server and openssh-client"
)


@contextlib.contextmanager
def network(here: str = "198.18.77.1", there: str = "198.18.77.2") -> Iterator[tuple[str, str]]:
    """A network namespace behind a link of its own; the names of the namespace and of the link's near end."""
    name = f"milliwise{os.getpid()}"
    near, far = f"mw{os.getpid()}a", f"mw{os.getpid()}b"
    inside = ("ip", "-n", name)
    commands = (
        ("ip", "netns", "add", name),
        ("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name),
        ("ip", "address", "add", f"{here}/30", "dev", near),
        ("ip", "link", "set", near, "up"),
        (*inside, "address", "add", f"{there}/30", "dev", far),
        (*inside, "link", "set", far, "up"),
    )
    try:
        if not shutil.which("ip") or any(subprocess.run(each, capture_output=True).returncode for each in commands):
            pytest.skip("no network namespace can be made here: it takes iproute2 and the right to")
        yield name, near
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


class Device:
    """What `ssh` of the tests reaches: a folder of its own for temporary files, and a python3 of its own.

    Attributes:
        temporary: TMPDIR of what runs over ssh.
        programs: the first folder of PATH there.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder, self.address = folder, address
        self.temporary, self.programs = folder / "tmp", folder / "bin"
        self.path = f"{self.programs}:{os.environ['PATH']}"  # of what runs over ssh
        self.settings: dict[str, str] = {"ListenAddress": address}
        self.environment = {"TMPDIR": str(self.temporary)}
        self.host_key, self.user_key = make_key(folder / "host_key"), make_key(folder / "user_key")
        self.process: subprocess.Popen[bytes] | None = None
        for made in (self.temporary, self.programs, folder / "client"):
            made.mkdir()
        self.python(f'exec {sys.executable} "$@"')
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.trust(self.host_key)
        self.config = folder / "client" / "config"
        self.configure(IdentityFile=str(self.user_key))
        ssh = folder / "client" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {SSH} -F {self.config} "$@"\n')
        ssh.chmod(0o755)

    def python(self, line: str) -> None:
        """What the device's python3 does, as a line of shell."""
        program = self.programs / "python3"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)

    def trust(self, key: Path | None) -> None:
        """The host key that the user has accepted."""
        known = "" if key is None else f"[{self.address}]:{self.port} {key.with_suffix('.pub').read_text()}"
        (self.folder / "known_hosts").write_text(known)

    def configure(self, **settings: str) -> None:
        fixed = {
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "none",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
        }
        self.config.write_text("".join(f"{name} {value}\n" for name, value in {**fixed, **settings}.items()))

    def start(self, prefix: tuple[str, ...] = (), **settings: str) -> SshTarget:
        """Start sshd; the target that reaches it."""
        assert SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root insists on it
        authorized = self.folder / "authorized_keys"
        authorized.write_text(self.user_key.with_suffix(".pub").read_text())
        lines = {
            "Port": str(self.port),
            "HostKey": str(self.host_key),
            "AuthorizedKeysFile": str(authorized),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "yes",
            "PermitRootLogin": "yes",
            "SetEnv": " ".join(f"{name}={value}" for name, value in self.environment.items()),
            "ForceCommand": f'PATH="{self.path}" exec sh -c "$SSH_ORIGINAL_COMMAND"',  # whatever login scripts set
            **self.settings,
            **settings,
        }
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        with (self.folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen([*prefix, SSHD, "-D", "-e", "-f", str(config)], stderr=log)
        until = time.monotonic() + 10
        while b"listening" not in (self.folder / "sshd.log").read_bytes():
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)
        return SshTarget(self.address, port=self.port)

    def children(self) -> list[int]:
        """The processes of sshd that serve a connection."""
        assert self.process is not None
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        return [pid for pid, parent in parents.items() if parent == self.process.pid]

    def stop(self) -> None:
        if self.process is not None:
            for pid in [*self.children(), self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


JOB = {
    "format": 1,
    "tasks": [
        {"task": "tight", "models": ["a.onnx", "b.onnx"], "rounds": 2, "block_ms": 0.2},
        {"task": "paced", "models": ["b.onnx"], "gap_ms": 2.0, "calls": 7},
    ],
}
FILES = {"a.onnx": counter(), "b.onnx": counter(4)}
TALKS = "print(json.dumps({'event': 'seen', 'pid': os.getpid(), 'folder': sys.argv[1]}), flush=True)\n"


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
