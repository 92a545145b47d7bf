"""Profile several devices at once: a process of our own command for each, so that none can harm another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from profilers.bundle import BundleTarget
from profilers.partial import Partial
from profilers.target import parse_target
from toolkit.errors import MilliwiseError, printable
from toolkit.files import remove_file, require_writable

# Without the working folder, in which anything could be called as our modules are.
PROGRAM = "import sys; sys.path = [path for path in sys.path if path]; from toolkit.__main__ import main; main()"
COMMAND = (sys.executable, "-c", PROGRAM, "profile")
PARTIAL_NAME = "profiles.partial"
KEYS = {"profile", "edges", "seconds"}  # of a row that tells of a profile
MOST_BYTES = 16_000_000  # of such a row
ENDING = ((0, 3.0), (signal.SIGINT, 10.0), (signal.SIGKILL, 10.0))  # a signal, and the seconds to end by it
Row = dict[str, Any]


def profile_files(targets: Sequence[str], folder: Path) -> dict[str, Path]:
    """The file of each target's profile; targets that differ never share one.

    Raises:
        MilliwiseError: a target is a bundle, is no target, is there twice, or the folder cannot be written to.
    """
    files: dict[str, Path] = {}
    for text in targets:
        target = parse_target(text)
        if isinstance(target, BundleTarget):
            raise MilliwiseError(f"{printable(text)} is carried by hand: give it a command without another --on")
        # No address holds "=", and none begins with "ssh-" before it is one of ssh.
        path = folder / (target.name.replace("://", "-").replace(":", "=") + ".json")
        if path.name.lower() in (other.name.lower() for other in files.values()):
            raise MilliwiseError(f"--on {target.name} is there twice: name every device once")
        require_writable(path)
        files[target.name] = path
    return files


def profile_devices(
    space: str, files: Mapping[str, Path], options: Sequence[str], resume: bool, say: Callable[[str], object]
) -> list[Row]:
    """Profile every target, the others at the same time, then this machine: building models would disturb it.

    Args:
        files: as `profile_files` gives them.
        options: further options of `milliwise profile`.
        resume: leave out what is complete, and go on with the rest where it was.
        say: shows a line, called from several threads.

    Returns:
        A row per target: `target` and what `milliwise profile --json` prints of it, or `target` and `error`.

    Raises:
        MilliwiseError: the folder cannot be written to, or what was kept there is damaged.
    """
    folder = next(iter(files.values())).parent
    unfinished = _unfinished(folder, resume, {"space": space, "options": list(options)})
    rows = {name: unfinished.parts[name][-1] for name in files if name in unfinished.parts and files[name].is_file()}
    more = [*options, "--resume"] if resume else options
    waiting = {
        name: [*COMMAND, "--json", f"--on={name}", "-o", str(file), *more, "--", space]
        for name, file in files.items()
        if name not in rows
    }

    def take(row: Row) -> None:
        rows[row["target"]] = row
        if "error" not in row:
            unfinished.add(row["target"], row)

    here = {name: command for name, command in waiting.items() if name == "local"}
    _at_once({name: command for name, command in waiting.items() if name not in here}, say, take)
    _at_once(here, say, take)
    if not any("error" in row for row in rows.values()):
        unfinished.remove()
    return [rows[name] for name in files]


def _unfinished(folder: Path, resume: bool, asked: Mapping[str, Any]) -> Partial:
    """The rows of the targets that are complete."""
    path = folder / PARTIAL_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MilliwiseError(f"cannot make the folder {folder}: {error.strerror}; choose another place") from None
    if not resume:
        remove_file(path)
    return Partial(path, asked)


def _at_once(commands: Mapping[str, Sequence[str]], say: Callable[[str], object], take: Callable[[Row], None]) -> None:
    """Run the commands at the same time; their rows are taken as they come, in this thread."""
    if not commands:
        return
    with ThreadPoolExecutor(len(commands)) as pool, ExitStack() as files:
        printed = {name: files.enter_context(tempfile.TemporaryFile()) for name in commands}
        processes = files.enter_context(_running(commands, printed))
        rows = [pool.submit(_follow, name, process, printed[name], say) for name, process in processes.items()]
        for row in as_completed(rows):
            take(row.result())


@contextmanager
def _running(
    commands: Mapping[str, Sequence[str]], printed: Mapping[str, IO[bytes]]
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A process for each command, which does not outlive this block; its standard output goes to its file."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            processes[name] = _started(command, printed[name])
        yield processes
    finally:
        _end(processes.values())


def _started(command: Sequence[str], printed: IO[bytes]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise MilliwiseError(
            f"cannot start one more process: {error.strerror}; profile fewer devices at once"
        ) from None


def _follow(name: str, process: subprocess.Popen[str], printed: IO[bytes], say: Callable[[str], object]) -> Row:
    """Pass on what a command tells people; its row when it has ended."""
    assert process.stderr
    last = ""
    for line in process.stderr:
        if line.strip():
            last = printable(line.strip())
            say(f"{name}: {last}")
    code = process.wait()
    if code == 0:
        return {"target": name, **_row(printed)}
    ended = f"ended by signal {-code}: out of memory, or killed by somebody"
    return {"target": name, "error": ended if code < 0 else last.removeprefix("Error: ") or f"exit code {code}"}


def _row(printed: IO[bytes]) -> Row:
    """What `milliwise profile --json` printed, or `error`."""
    printed.seek(0)
    try:
        found: Row = json.loads(printed.read(MOST_BYTES))
        if found.keys() >= KEYS:
            return found
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    return {"error": "the command printed something else than its result: does the search space print as it runs?"}


def _end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Ctrl-C may have reached them, too: they are given a moment to end by themselves."""
    for number, patience_s in ENDING:
        left = [process for process in processes if process.poll() is None]
        for process in left:
            process.send_signal(number)
        until = time.monotonic() + patience_s
        while time.monotonic() < until and any(process.poll() is None for process in left):
            time.sleep(0.02)
