"""A private ssh server on loopback, for as long as it is needed: it lets in who started it, by a key of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kws_demo.bench.pulse import await_that
from profilers.ssh import SshTarget
from toolkit.errors import MilliwiseError

ADDRESS = "127.0.0.1"
PROGRAMS = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}


def missing_programs() -> str:
    """What has to be installed first, as a sentence; empty if nothing."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    return f"{missing[0]} is not installed: apt install {PROGRAMS[missing[0]]}" if missing else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Loopback(SshTarget):
    """A device that is reached with an ssh configuration of its own, in place of the user's and the system's."""

    config: Path = Path("/dev/null")

    def command(self) -> list[str]:
        program, *rest = super().command()
        return [program, "-F", str(self.config), *rest]


class SshServer:
    """A context manager: the target of a server whose `python3` is the Python that runs this.

    Its keys, both configurations and the one known host lie in a private folder; nothing in ~/.ssh is read or written.

    Raises:
        MilliwiseError: the server does not start.
    """

    def __enter__(self) -> Loopback:
        self._folder = tempfile.TemporaryDirectory(prefix="sshd-")
        self._server: subprocess.Popen[bytes] | None = None
        try:
            return self._start(Path(self._folder.name))
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._folder.cleanup()

    def _start(self, folder: Path) -> Loopback:
        port, log = _free_port(), folder / "log"
        for name in ("host", "user"):
            _make_key(folder / name)
        public = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[{ADDRESS}]:{port} {public}")
        python = folder / "bin" / "python3"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        _write(folder / "server", _server_settings(folder, port))
        _write(folder / "client", _client_settings(folder))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root keeps its processes without rights
        with log.open("wb") as errors:
            command = [str(_program("sshd")), "-D", "-e", "-f", str(folder / "server")]
            server = self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
        await_that("sshd", lambda: b"listening" in log.read_bytes() or server.poll() is not None)
        if server.poll() is not None:
            raise MilliwiseError(f"sshd does not start here: {log.read_text(errors='replace').strip()[-300:]}")
        return Loopback(ADDRESS, port=port, config=folder / "client")


def _server_settings(folder: Path, port: int) -> dict[str, object]:
    path = f"{folder / 'bin'}:{os.environ.get('PATH', '')}"
    return {
        "ListenAddress": ADDRESS,
        "Port": port,
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "AuthenticationMethods": "publickey",
        "PermitRootLogin": "prohibit-password",
        "ForceCommand": f'PATH={shlex.quote(path)} exec sh -c "$SSH_ORIGINAL_COMMAND"',  # whatever login scripts set
    }


def _client_settings(folder: Path) -> dict[str, object]:
    return {
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "none",
        "IdentityFile": folder / "user",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
    }


def _write(path: Path, settings: Mapping[str, object]) -> None:
    """A configuration file; paths in quotes, for their spaces."""
    words = {name: f'"{value}"' if isinstance(value, Path) else value for name, value in settings.items()}
    path.write_text("".join(f"{name} {word}\n" for name, word in words.items()))


def _make_key(path: Path) -> None:
    command = [str(_program("ssh-keygen")), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise MilliwiseError(f"ssh-keygen makes no key: {done.stderr.decode(errors='replace').strip()[-300:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        port: int = free.getsockname()[1]
        return port
