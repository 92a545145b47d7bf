"""Runs the stand-alone runner on a device: fed over ssh (`serve`), or beside the jobs of a bundle (`python run.py`).

Standard library only; it travels, so it imports nothing of ours. Whatever happens, the runner ends with this process,
and nothing of what `serve` received stays on the device: it notices when the other end is gone, because that sends a
byte every few seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CUT_S = 60  # the other end sends something at least every few seconds
MAX_DEATHS = 10  # of the runner in one job, each by another model
SILENCE_S = 180.0  # the runner speaks several times a second, and no single model may take it longer than a minute
OLDEST_PYTHON = (3, 10)
OURS = "milliwise-job-"  # how the names of the folders begin that `serve` makes
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Stopped(Exception):
    """Measuring cannot go on; the message says why."""


class Died(Stopped):
    """The runner was killed, or silent for too long: what it had said, and the model it was opening then."""

    def __init__(self, reason: str, events: list[dict[str, Any]], opening: str | None) -> None:
        super().__init__(reason)
        self.events, self.opening = events, opening


class Cut(BaseException):
    """The other end is gone, or wants us to end."""


def serve() -> None:
    """Receive files on standard input, run runner.py beside them, pass on what it prints, leave nothing behind.

    Received: lines `{"file": NAME, "bytes": N}`, each followed by the content; then `{"run": {"threads": N,
    "silence_s": S}}`; then a byte now and then. Said, beside the runner's own events, as lines `{"host": WORD, ...}`:
    ready, received, ended (with the exit code and the last line of the errors), stopped (with the reason).
    """
    for number in SIGNALS:
        signal.signal(number, _cut)
    signal.alarm(CUT_S)
    try:
        say("ready")
        try:
            with own_folder() as folder:
                sweep(folder.parent)
                asked = receive(folder)
                with runner(folder / "runner.py", folder, asked["threads"]) as process:
                    for chunk in heard(process, asked["silence_s"], [0]):
                        tell(chunk)
                    last = ended(process, folder)
            say("ended", **last)
        except Stopped as reason:
            say("stopped", reason=str(reason))
    except (Cut, BrokenPipeError):
        pass  # nobody is there to be told


def receive(folder: Path) -> dict[str, Any]:
    """Write the files to the folder; what is asked for then."""
    source = sys.stdin.buffer
    for line in iter(source.readline, b""):
        frame = json.loads(line)
        if "run" in frame:
            asked: dict[str, Any] = frame["run"]
            return asked
        try:
            with (folder / os.path.basename(frame["file"])).open("wb") as file:
                copy(source, file, frame["bytes"])
        except OSError as error:
            raise Stopped(f"cannot write to {folder}: {error.strerror}") from None
    raise Cut


def copy(source: Any, file: Any, left: int) -> None:
    """Copy so many bytes, and say about once a second that they come in: on a slow link that takes its time."""
    said = 0.0
    while left:
        chunk = source.read1(min(left, 65536))
        if not chunk:
            raise Cut
        file.write(chunk)
        left -= len(chunk)
        signal.alarm(CUT_S)
        if time.monotonic() - said > 1:
            said = time.monotonic()
            say("received")


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A fresh folder, locked while this process lives, and removed at the end; no signal interrupts that."""
    try:
        path = tempfile.mkdtemp(prefix=OURS)
    except OSError as error:
        raise Stopped(f"no temporary folder: {error.strerror}; set TMPDIR to a folder with free space") from None
    try:
        with contextlib.suppress(OSError):  # where nothing can be locked, `sweep` finds nothing to remove
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
        yield Path(path)
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(path, ignore_errors=True)
        signal.signal(signal.SIGALRM, _cut)


def sweep(temporary: Path) -> None:
    """Remove the folders of those that were killed: this user's, and no longer locked."""
    for path in temporary.glob(OURS + "*"):
        with contextlib.suppress(OSError):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                seen = os.fstat(folder)
                if seen.st_uid == os.getuid() and time.time() - seen.st_mtime > CUT_S:  # a new one is not locked yet
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(folder)


def runner(program: Path, folder: Path, threads: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A fresh process of the program in a process group of its own."""
    # What a library leaves in the folder for temporary files (onnxruntime does) is to go with ours.
    settings = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, **settings, "TMPDIR": str(folder)}, start_new_session=True,
        )  # fmt: skip
    return ending(process)


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group: neither it nor its children nor its pipes outlive this block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(OSError):
                pipe.close()


def heard(process: subprocess.Popen[bytes], silence_s: float, other_end: Sequence[int] = ()) -> Iterator[bytes]:
    """What the process prints, in pieces, until it ends; meanwhile the other end has to be there.

    Raises:
        Stopped: it printed nothing for `silence_s` seconds.
        Cut: the other end is gone.
    """
    assert process.stdout is not None
    out = process.stdout.fileno()
    until = time.monotonic() + silence_s
    while True:
        ready, _, _ = select.select([out, *other_end], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise Stopped(f"the runner said nothing for {silence_s:g} s: is a model stuck?")
        for end in other_end:
            if end in ready:
                if not os.read(end, 4096):
                    raise Cut
                signal.alarm(CUT_S)
        if out in ready:
            chunk = os.read(out, 4096)
            if not chunk:
                return
            until = time.monotonic() + silence_s
            yield chunk


def ended(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """The exit code of a process that has closed its output (it is given a moment), and the last line of its errors."""
    try:
        code = process.wait(10)
    except subprocess.TimeoutExpired:
        raise Stopped("the runner did not end") from None
    lines = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return {"code": code, "errors": lines[-1][:300] if lines else ""}


def say(word: str, **facts: Any) -> None:
    tell(json.dumps({"host": word, **facts}).encode() + b"\n")


def tell(chunk: bytes) -> None:
    """Write it all. That it can be written is no sign of life: a dead link takes a lot before it is full."""
    while chunk:
        chunk = chunk[os.write(1, chunk[:4096]) :]


def _cut(_number: int, _frame: Any) -> None:
    for number in SIGNALS:  # what is cleaned up now is not interrupted once more
        signal.signal(number, signal.SIG_IGN)
    raise Cut


def run_bundle(bundle: Path) -> None:
    """Run every job of a bundle that has no answer yet; results.json is complete after each of them.

    Raises:
        SystemExit: with the reason why it stopped.
    """
    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:  # which nohup asks for
            signal.signal(each, _cut)
    try:
        plan = jobs_in(bundle / "bundle.json", "copy the folder of the bundle here once more")
        (seen,) = answers(bundle, "device.py", bundle / plan["jobs"][0]["folder"], 1)
        results = begun(bundle / "results.json", {"format": 1, "plan": plan.get("sha256"), "fingerprint": seen})
        done = {job["folder"] for job in results["jobs"]}
        for number, job in enumerate(plan["jobs"], 1):
            sys.stderr.write(f"job {number} of {len(plan['jobs'])}\n")
            if job["folder"] not in done:
                results["jobs"].append({**job, "events": measured(bundle, job)})
                save(bundle / "results.json", results)
    except Stopped as reason:
        raise SystemExit(f"{reason}") from None
    except Cut:
        raise SystemExit("ended from outside; run it again: it goes on where it was") from None
    except OSError as error:
        raise SystemExit(f"{error.filename or bundle}: {error.strerror}") from None
    sys.stderr.write(f"{bundle / 'results.json'} is complete: carry it back, README.txt says what to do with it\n")


def measured(bundle: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a job. A model on which the runner dies has failed, and the others are measured without it.

    Where no model is to blame, or too many are, `died` stands at the end, and what was not measured stays so.

    Raises:
        Stopped: the runner ended with an error of its own, or the job is damaged.
    """
    folder = bundle / job["folder"]
    try:
        asked = json.loads((folder / "job.json").read_bytes())
        failed = asked.setdefault("failed", [])  # kept in the job: after an interruption no model kills once more
        while True:
            try:
                return [*failed, *answers(bundle, "runner.py", folder, job["threads"])]
            except Died as death:
                if death.opening is None or len(failed) == MAX_DEATHS:
                    return [*failed, *death.events, {"event": "died", "reason": str(death)}]
                failed.append({"event": "failed", "model": death.opening, "reason": f"the measuring process {death}"})
                for task in asked["tasks"]:
                    task["models"].remove(death.opening)
                if not all(task["models"] for task in asked["tasks"]):
                    return [*failed, *death.events]
            save(folder / "job.json", asked)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Stopped(f"{folder / 'job.json'} is damaged: copy the folder of the bundle here once more") from None


def answers(bundle: Path, program: str, folder: Path, threads: int) -> list[dict[str, Any]]:
    """The events that a program of the bundle prints about a job, but for those that tell of progress.

    Raises:
        Died: it was killed, or said nothing for too long, or ended while it opened a model.
        Stopped: it ended with an error.
    """
    text = b""
    last: dict[str, Any] = {"code": None, "errors": f"said nothing for {SILENCE_S:g} s: is a model stuck?"}
    with runner(bundle / program, folder, threads) as process, contextlib.suppress(Stopped):
        for chunk in heard(process, SILENCE_S):
            text += chunk
        last = ended(process, folder)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith(b'{"event": ') and line.endswith(b"}")]
    events = [event for event in lines if event["event"] != "progress"]
    if last["code"] == 0:
        return events
    opening = lines[-1]["model"] if lines and lines[-1]["event"] == "opening" else None
    why = last["errors"] if last["code"] is None else f"ended with exit code {last['code']}: {last['errors']}"
    if opening is not None or (lines and (last["code"] or -1) < 0):
        raise Died(why, events, opening)
    cure = "; python3 -m pip install onnxruntime" if "No module named" in last["errors"] else ""
    raise Stopped(f"the runner {why}{cure}")


def jobs_in(path: Path, cure: str) -> dict[str, Any]:
    """The content of a file of the bundle, which lists jobs.

    Raises:
        Stopped: it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        jobs = content["jobs"]
        wrong = [job for job in jobs if not (isinstance(job["folder"], str) and isinstance(job["threads"], int))]
        if isinstance(jobs, list) and jobs and not wrong and content["format"] == 1:
            return content
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Stopped(f"{path} is damaged: {cure}")


def begun(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """The results so far if they are of this bundle and this device, else none."""
    if path.exists():
        results = jobs_in(path, "remove it, and run this again")
        if {name: results.get(name) for name in head} == head:
            return results
    return {**head, "jobs": []}


def save(path: Path, results: dict[str, Any]) -> None:
    """Write aside, then rename: a full disk or a cut of the power leaves the results before."""
    aside = path.with_name(path.name + ".new")
    with aside.open("w") as file:
        json.dump(results, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


if __name__ == "__main__":
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(f"this is Python {sys.version.split()[0]}: run it with Python 3.10 or newer")
    run_bundle(Path(__file__).resolve().parent)
