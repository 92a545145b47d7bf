"""Measure on another device over ssh: one connection per job, nothing installed there and nothing left behind."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers import host, ssh_failures
from profilers.dialogue import Dialogue
from profilers.events import Event, checked_event, parse_line
from profilers.host import SILENCE_S
from profilers.target import RUNNER, OnEvent, fingerprint_program, require_plain
from toolkit.errors import MilliwiseError, printable

HOST = Path(host.__file__)
# What the device is given on the command line, for any shell: it takes host.py from the first bytes of standard input.
BOOTSTRAP = (
    "import sys;sys.path=[p for p in sys.path if p];"
    f'sys.version_info>={host.OLDEST_PYTHON} or sys.exit("milliwise: Python "+sys.version.split()[0]);'
    'i=sys.stdin.buffer;g={"__name__":"host"};exec(i.read(int(i.readline())),g);g["serve"]()'
)
OPTIONS = {
    "BatchMode": "yes",  # never asks
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ConnectionAttempts": "1",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ControlPath": "none",  # a connection of our own: it ends with us
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "LogLevel": "INFO",  # the level at which ssh says why a connection was closed
}
PATIENCE_S = 30.0  # beyond the silence that the device itself allows the runner
MAX_GREETING_BYTES = 100_000  # what login scripts may print before the host says that it is ready
HOST_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
USER_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}"
ADDRESS = re.compile(
    rf"ssh://(?:({USER_NAME})@)?(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|{HOST_NAME})(?::([0-9]{{1,5}}))?"
)


@dataclass(frozen=True)
class SshTarget:
    """A device that the system's ssh reaches without asking anything.

    Attributes:
        host: a name, an address (of IPv6 without brackets), or an alias of the user's ssh configuration.
        user, port: what ssh chooses where they are None.
        silence_s: how long the runner may say nothing, in seconds of the device; transfers do not count.
    """

    host: str
    user: str | None = None
    port: int | None = None
    silence_s: float = SILENCE_S

    @classmethod
    def parse(cls, text: str) -> SshTarget:
        """From `ssh://[USER@]HOST[:PORT]`.

        Raises:
            MilliwiseError: it is none.
        """
        found = ADDRESS.fullmatch(text)
        if not found:
            raise MilliwiseError(f"{printable(text)!r} is no address of a device: use ssh://[USER@]HOST[:PORT]")
        user, name, port = found.groups()
        if name.startswith("["):
            name = name[1:-1]
            try:
                ipaddress.IPv6Address(name)
            except ValueError:
                raise MilliwiseError(
                    f"[{name}] in {text!r} is no IPv6 address: use one such as [2001:db8::7]"
                ) from None
        if port is not None and not 1 <= int(port) <= 65535:
            raise MilliwiseError(f"{port} in {text!r} is no port: use one from 1 to 65535")
        return cls(name, user, None if port is None else int(port))

    @property
    def name(self) -> str:
        """As `parse` reads it."""
        user = "" if self.user is None else f"{self.user}@"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{user}{name}" + ("" if self.port is None else f":{self.port}")

    def fingerprint(self) -> dict[str, Any]:
        for event in self._work({"runner.py": fingerprint_program()}, 1, (), lambda event: None):
            if event.pop("event") == "fingerprint":
                return event
        raise MilliwiseError(f"{self.name} did not say what device it is: run it again")

    def run(self, job: Event, files: Mapping[str, bytes | Path], on_event: OnEvent) -> list[Event]:
        require_plain(files)
        try:
            models = {name: each if isinstance(each, bytes) else each.read_bytes() for name, each in files.items()}
        except OSError as error:
            raise MilliwiseError(f"cannot copy {error.filename}: {error.strerror}") from None
        work = {"runner.py": RUNNER.read_bytes(), "job.json": json.dumps(job).encode(), **models}
        return self._work(work, int(job.get("threads", 1)), tuple(files), on_event)

    def _work(
        self, files: Mapping[str, bytes], threads: int, models: tuple[str, ...], on_event: OnEvent
    ) -> list[Event]:
        """Send the files, run runner.py of them; its events, every one checked."""
        hearing = _Hearing(self.name, models, on_event)
        with self._connected() as process:
            dialogue = Dialogue(process, _outgoing(files, threads, self.silence_s), self.silence_s + PATIENCE_S)
            try:
                for line in dialogue.lines():
                    hearing.line(line)
                    if hearing.ready:
                        dialogue.ready()
            except ValueError as error:
                raise MilliwiseError(f"{self.name} answers with {error}: is it the device you mean?") from None
            except TimeoutError as error:
                raise MilliwiseError(f"{self.name} {error}: is it still there?") from None
            code = dialogue.ended()
        self._require_well(hearing, code, dialogue.errors())
        return hearing.events

    def _require_well(self, hearing: _Hearing, code: int, errors: list[str]) -> None:
        """Raises MilliwiseError if the work was not done to its end."""
        if not hearing.ready:
            key = self.host if self.port in (None, 22) else f"'[{self.host}]:{self.port}'"
            raise ssh_failures.on_the_way(self.name, self._login(), key, code, errors)
        if hearing.last is None:
            raise ssh_failures.in_the_middle(self.name, code, errors)
        if hearing.last["code"] != 0:
            raise ssh_failures.on_the_device(self.name, hearing.last)

    def _login(self) -> str:
        """What to type after `ssh` to get there by hand."""
        port = "" if self.port is None else f"-p {self.port} "
        return port + ("" if self.user is None else f"{self.user}@") + self.host

    def command(self) -> list[str]:
        """The arguments of ssh; nothing in them comes from elsewhere than `parse` and this file."""
        options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
        port = [] if self.port is None else ["-p", str(self.port)]
        user = [] if self.user is None else ["-l", self.user]
        return ["ssh", "-T", *options, *port, *user, "--", self.host, f"python3 -c {shlex.quote(BOOTSTRAP)}"]

    def _connected(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """An ssh process in a session of its own (no terminal to ask on), which never outlives this block."""
        try:
            process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise MilliwiseError(f"cannot start ssh: {error.strerror}; install openssh-client") from None
        return host.ending(process)


class _Hearing:
    """What the device has said so far.

    Attributes:
        ready: its Python runs host.py.
        last: how the runner ended, as the host told it; None as long as it did not.
    """

    def __init__(self, name: str, models: tuple[str, ...], on_event: OnEvent) -> None:
        self.name, self.models, self.on_event = name, models, on_event
        self.events: list[Event] = []
        self.ready = False
        self.greeting_bytes = 0
        self.last: Event | None = None

    def line(self, line: bytes) -> None:
        """Take in one line.

        Raises:
            ValueError: what a device never says.
            MilliwiseError: a model cannot be loaded there.
        """
        found = parse_line(line)
        if found is not None and "event" in found and self.ready:
            self._event(checked_event(found, self.models))
        elif found is not None and isinstance(found.get("host"), str):
            self._host(found)
        if not self.ready:
            self.greeting_bytes += len(line)
            if self.greeting_bytes > MAX_GREETING_BYTES:
                raise ValueError("something else")

    def _event(self, event: Event) -> None:
        if event["event"] == "failed":
            ssh_failures.require_loadable(self.name, event, self.events)
        self.events.append(event)
        self.on_event(event)

    def _host(self, found: Event) -> None:
        self.ready = self.ready or found["host"] == "ready"
        if found["host"] in ("ended", "stopped"):
            told = checked_event({"event": "host", "code": None, "errors": "", "reason": "", **found}, ())
            self.last = {name: told[name] for name in ("code", "errors", "reason")}


def _outgoing(files: Mapping[str, bytes], threads: int, silence_s: float) -> list[bytes]:
    """Everything host.py reads, itself first, in the order of `host.serve`."""
    program = HOST.read_bytes()
    pieces = [b"%d\n" % len(program), program]
    for name, content in files.items():
        pieces += [json.dumps({"file": name, "bytes": len(content)}).encode() + b"\n", content]
    return [*pieces, json.dumps({"run": {"threads": threads, "silence_s": silence_s}}).encode() + b"\n"]
