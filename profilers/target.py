"""Where a measuring job runs: a target takes a job and its model files, and gives back the runner's events."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from profilers import device, host
from profilers.events import Event
from profilers.host import SILENCE_S
from toolkit.errors import MilliwiseError

RUNNER = Path(__file__).with_name("runner.py")
TAKEN = ("job.json", "errors.txt", "runner.py")

OnEvent = Callable[[Event], object]


class PutOff(MilliwiseError):
    """The target wrote the job down for somebody to carry away: its events come another day."""


class RunnerEnded(MilliwiseError):
    """The runner ended with an error or went silent: perhaps the model it was opening is to blame."""


class Target(Protocol):
    """A device that runs measuring jobs."""

    @property
    def name(self) -> str:
        """What `parse_target` makes it of."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What a cost measured there depends on, with the keys of `profilers.device.fingerprint`.

        Raises:
            MilliwiseError: the target cannot be reached, or cannot measure.
        """
        ...

    def run(self, job: Event, files: Mapping[str, bytes | Path], on_event: OnEvent) -> list[Event]:
        """Run the job beside its files (name in the job -> content) in a fresh process; every event, in order.

        Raises:
            MilliwiseError: the target cannot be reached.
            RunnerEnded: the runner ended with an error or went silent.
            PutOff: the target is one that answers another day.
        """
        ...


class LocalTarget:
    """This machine."""

    name = "local"

    def __init__(self, silence_s: float = SILENCE_S) -> None:
        self.silence_s = silence_s

    def fingerprint(self) -> dict[str, Any]:
        return device.fingerprint()

    def run(self, job: Event, files: Mapping[str, bytes | Path], on_event: OnEvent) -> list[Event]:
        with _folder() as folder:
            try:
                _write(folder, job, files)
            except OSError as error:
                raise MilliwiseError(f"cannot copy {error.filename or folder}: {error.strerror}") from None
            with (folder / "errors.txt").open("wb") as errors, _process(folder, job, errors) as process:
                events, silent = _listen(process, self.silence_s, on_event)
                code = process.wait()
            if silent:
                raise RunnerEnded(f"the measuring process said nothing for {self.silence_s:g} s: is a model stuck?")
            if code:
                raise RunnerEnded(f"the measuring process ended with {_reason(code, folder / 'errors.txt')}")
        return events


def parse_target(text: str) -> Target:
    """The target that `--on` names.

    Raises:
        MilliwiseError: not a form that is known.
    """
    from profilers.bundle import BundleTarget  # targets of this protocol: they import it from here
    from profilers.ssh import SshTarget

    if text == "local":
        return LocalTarget()
    if text.startswith("ssh://"):
        return SshTarget.parse(text)
    if text.startswith("bundle:"):
        return BundleTarget.parse(text)
    raise MilliwiseError(f"unknown target {text!r}: use local, ssh://[USER@]HOST or bundle:FOLDER")


def fingerprint_program() -> bytes:
    """A program that tells what another device is in the words of this machine: the same file runs there."""
    return Path(device.__file__).read_bytes() + b'\nprint(json.dumps({"event": "fingerprint", **fingerprint()}))\n'


def require_plain(names: Iterable[str]) -> None:
    """Refuse file names that would leave the folder of a job, or meet its other files.

    Raises:
        ValueError: the first such name.
    """
    for name in names:
        if name != os.path.basename(name) or name in ("", "..", *TAKEN):
            raise ValueError(f"{name!r} cannot name a model in a job")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A fresh folder, removed at the end; those of processes that were killed are removed first."""
    try:
        path = Path(tempfile.mkdtemp(prefix=host.OURS))
        lock = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise MilliwiseError(f"no temporary folder: {error.strerror}; set TMPDIR to a folder with free space") from None
    try:
        with contextlib.suppress(OSError):  # where nothing can be locked, `sweep` finds nothing to remove
            fcntl.flock(lock, fcntl.LOCK_EX)
        host.sweep(path.parent)
        yield path
    finally:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, job: Event, files: Mapping[str, bytes | Path]) -> None:
    require_plain(files)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            shutil.copyfile(content, folder / name)
    (folder / "job.json").write_text(json.dumps(job))


@contextlib.contextmanager
def _process(folder: Path, job: Event, errors: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """The runner in a process group of its own, which never outlives this block (Ctrl-C included)."""
    threads = str(job.get("threads", 1))
    settings = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    settings["TMPDIR"] = str(folder)  # what a library leaves there (onnxruntime does) goes with the folder
    process = subprocess.Popen(
        [sys.executable, "-I", str(RUNNER), str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8", errors="replace",
        env={**os.environ, **settings}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _listen(process: subprocess.Popen[str], silence_s: float, on_event: OnEvent) -> tuple[list[Event], bool]:
    """The events of the runner until it ends; whether it had to be ended because it was silent for too long."""
    events: list[Event] = []
    silent = threading.Event()

    def give_up() -> None:
        silent.set()
        _end(process)

    assert process.stdout is not None
    watchdog = threading.Timer(silence_s, give_up)
    watchdog.start()
    try:
        for line in process.stdout:
            watchdog.cancel()
            watchdog = threading.Timer(silence_s, give_up)
            watchdog.start()
            event = _event(line)
            if event is not None:
                events.append(event)
                on_event(event)
    finally:
        watchdog.cancel()
    return events, silent.is_set()


def _event(line: str) -> Event | None:
    """The event on a line; None for what a driver or library printed."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _reason(code: int, errors: Path) -> str:
    if code < 0:
        return f"signal {-code} ({signal.Signals(-code).name}): out of memory, or killed by somebody"
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1][:300]}" if lines else f"exit code {code}"
