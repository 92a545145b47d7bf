"""Measure on a device that nothing reaches: write the work as a folder to carry there, and take what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers import host
from profilers.events import Event, checked_event
from profilers.ssh_failures import require_loadable
from profilers.target import RUNNER, OnEvent, PutOff, fingerprint_program, require_plain
from toolkit.errors import MilliwiseError, Unreachable, printable
from toolkit.files import digest, read_json

FORMAT = 1
MAX_JOBS = 10_000
README = """This folder measures neural networks for milliwise on the device it is carried to.

1. Copy the folder to the device. It needs Python 3.10 or newer with onnxruntime: python3 -m pip install onnxruntime
2. There, with nothing else running:   python3 run.py   (again after an interruption: it goes on where it was)
3. Carry results.json back and repeat the command that wrote this folder, with: --collect results.json
"""


class BundleTarget:
    """A device behind a folder.

    Without `answers` it can only write jobs down (inside `writing`); with them it answers as the device did.

    Args:
        folder: where the work is written.
        answers: the results.json that `python run.py` wrote on the device.

    Raises:
        MilliwiseError: the answers are no such file.
    """

    def __init__(self, folder: Path, answers: Path | None = None) -> None:
        self.folder = folder
        self.name = f"bundle:{folder}"
        self.answers = None if answers is None else Answers.load(answers)
        self._aside: Path | None = None
        self._jobs: list[Event] = []

    @classmethod
    def parse(cls, text: str, answers: Path | None = None) -> BundleTarget:
        """From `bundle:FOLDER`.

        Raises:
            MilliwiseError: it names no folder.
        """
        name = text.removeprefix("bundle:")
        if name == text:
            raise MilliwiseError(
                f"answers are collected for a bundle, not for {printable(text)}: add --on bundle:FOLDER"
            )
        if not name or not name.isprintable():
            raise MilliwiseError(f"{printable(text)!r} names no folder: use bundle:FOLDER")
        return cls(Path(name), answers)

    def fingerprint(self) -> dict[str, Any]:
        """Of the device that answered; nothing as long as none has."""
        return {} if self.answers is None else dict(self.answers.fingerprint)

    def run(self, job: Event, files: Mapping[str, bytes | Path], on_event: OnEvent) -> list[Event]:
        require_plain(files)
        name = job_digest(job, files)
        if self.answers is not None:
            events = self.answers.take(name, files)
            for event in events:
                if event["event"] == "failed":
                    require_loadable(self.name, event, events)
                on_event(event)
            return events
        if self._aside is None:
            raise Unreachable(
                f"{self.name} is carried by hand and measures whole profiles only: copy the model to the device and "
                "run milliwise check there, or use --on ssh://HOST"
            )
        folder = f"{len(self._jobs) + 1:04d}"
        _write(self._aside / folder, job, files)
        self._jobs.append({"folder": folder, "sha256": name, "threads": int(job.get("threads", 1))})
        raise PutOff(f"{self.name} is written for another device to measure")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, every job is written down and put off; at the end the folder is whole, or was never there.

        Raises:
            MilliwiseError: the folder exists and is not empty, or cannot be written.
        """
        try:
            if os.path.lexists(self.folder) and not (self.folder.is_dir() and not any(self.folder.iterdir())):
                raise MilliwiseError(f"{self.folder} exists and is not empty: name another folder for the bundle")
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._aside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent))
            self._jobs = []
            with contextlib.suppress(PutOff):
                yield
            self._finish(self._aside)
        except OSError as error:
            why = error.strerror or error
            raise MilliwiseError(f"cannot write the bundle {self.folder}: {why}; choose another place") from None
        finally:
            if self._aside is not None:
                shutil.rmtree(self._aside, ignore_errors=True)
                self._aside = None

    def _finish(self, aside: Path) -> None:
        shutil.copyfile(host.__file__, aside / "run.py")
        shutil.copyfile(RUNNER, aside / "runner.py")
        (aside / "device.py").write_bytes(fingerprint_program())
        (aside / "README.txt").write_text(README)
        plan = {"format": FORMAT, "sha256": digest(self._jobs), "jobs": self._jobs}
        (aside / "bundle.json").write_text(json.dumps(plan, indent=1))
        aside.chmod(0o755)
        aside.replace(self.folder)

    @property
    def jobs(self) -> int:
        """How many were written down."""
        return len(self._jobs)


@dataclass(frozen=True)
class Answers:
    """What a device answered: its fingerprint, and the events of every job by its digest, in order."""

    path: Path
    fingerprint: Event
    events: Mapping[str, list[list[object]]]

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read results.json as hostile input.

        Raises:
            MilliwiseError: too large, damaged, or not ours.
        """
        content = read_json(path, "results")
        try:
            if content["format"] != FORMAT or len(content["jobs"]) > MAX_JOBS:
                raise ValueError(f"the format {content['format']!r}")
            seen = checked_event(content["fingerprint"], ())
            if seen.pop("event") != "fingerprint":
                raise ValueError("another fingerprint")
            events: dict[str, list[list[object]]] = {}
            for job in content["jobs"]:
                if not isinstance(job["events"], list):
                    raise ValueError("no list of events")
                events.setdefault(str(job["sha256"]), []).append(job["events"])
        except (KeyError, TypeError, ValueError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else error
            raise MilliwiseError(
                f"{path} is not what run.py writes ({printable(str(why)[:80])}): carry it back again"
            ) from None
        return cls(path, seen, events)

    def take(self, name: str, models: Mapping[str, object]) -> list[Event]:
        """The checked events of a job; of jobs that are the same, each answer is taken once.

        Raises:
            MilliwiseError: there is no answer to that job, or it is damaged.
        """
        waiting = self.events.get(name)
        if not waiting:
            raise MilliwiseError(
                f"{self.path} has results for another graph, or other arguments, or run.py did not come to its end: "
                "repeat the very command that wrote the bundle, with --collect"
            )
        try:
            return [checked_event(event, tuple(models)) for event in waiting.pop(0)]
        except ValueError as error:
            raise MilliwiseError(f"{self.path} holds {error}: measure again with run.py on the device") from None


def job_digest(job: Event, files: Mapping[str, bytes | Path]) -> str:
    """SHA-256 that differs when anything in a job or its models does."""
    contents = {name: hashlib.sha256(_content(each)).hexdigest() for name, each in files.items()}
    return digest([job, contents])


def _content(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _write(folder: Path, job: Event, files: Mapping[str, bytes | Path]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(_content(content))
    (folder / "job.json").write_text(json.dumps(job))
