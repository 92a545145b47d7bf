"""Where a measuring job runs: a target takes a job and its model files, and gives back the runner's events."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from toolkit.errors import MilliwiseError

RUNNER = Path(__file__).with_name("runner.py")
SILENCE_S = 180.0  # the runner speaks several times a second, and no single model may take it longer than a minute

Event = dict[str, Any]
OnEvent = Callable[[Event], object]


class Target(Protocol):
    """A device that runs measuring jobs."""

    name: str

    def run(self, job: Event, files: Mapping[str, bytes | Path], on_event: OnEvent) -> list[Event]:
        """Run the job beside its files (name in the job -> content) in a fresh process; every event, in order.

        Raises:
            MilliwiseError: the target cannot be reached, or the runner ended with an error or went silent.
        """
        ...


class LocalTarget:
    """This machine."""

    name = "local"

    def __init__(self, silence_s: float = SILENCE_S) -> None:
        self.silence_s = silence_s

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
                raise MilliwiseError(f"the measuring process said nothing for {self.silence_s:g} s: is a model stuck?")
            if code:
                raise MilliwiseError(f"the measuring process ended with {_reason(code, folder / 'errors.txt')}")
        return events


def parse_target(text: str) -> Target:
    """The target that `--on` names.

    Raises:
        MilliwiseError: not a form that is known, or one that this version does not measure on.
    """
    if text == "local":
        return LocalTarget()
    if text.startswith(("ssh://", "bundle:")):
        raise MilliwiseError(f"this version measures on the local machine only, not on {text!r}: leave --on out")
    raise MilliwiseError(f"unknown target {text!r}: use local, ssh://[USER@]HOST or bundle:FOLDER")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    try:
        path = Path(tempfile.mkdtemp(prefix="milliwise-"))
    except OSError as error:
        raise MilliwiseError(f"no temporary folder: {error.strerror}; set TMPDIR to a folder with free space") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, job: Event, files: Mapping[str, bytes | Path]) -> None:
    for name, content in files.items():
        if name != os.path.basename(name) or name in ("", "..", "job.json", "errors.txt"):
            raise ValueError(f"{name!r} cannot name a model in a job")
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
