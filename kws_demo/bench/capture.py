"""`milliwise stream` in a process of its own, fed through a real capture path or a pipe, and what it said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from kws_demo.bench.pulse import PulseAudio, await_that
from kws_demo.decide import Detection
from toolkit.errors import MilliwiseError

# A background job of a shell ignores Ctrl-C, and so would its children.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from toolkit.cli import main
main()
"""
PEOPLE = re.compile(r" *-?[0-9.]+ s (  ?\S|in \d+ hops)")  # beside JSON: a detection, the summary
REPOSITORY = Path(__file__).parents[2]
LAST_SECONDS = 3.0  # without a word until it was the last one: a sound server plays and records with delay
WORD_SECONDS = 10.0  # for which a word is waited for that was played
WAYS: dict[str, tuple[Callable[[PulseAudio], None], Callable[[PulseAudio], None]]] = {
    "source unloaded": (PulseAudio.unplug, PulseAudio.plug),
    "server killed": (PulseAudio.stop, PulseAudio.start),
}


class Heard(NamedTuple):
    """What the command wrote."""

    detections: list[Detection]
    summary: dict[str, Any]  # hops, late, overflows, ms_per_second, p99_ms
    said: list[str]  # lines for people that are neither a detection nor the summary
    exit_code: int


class Streaming:
    """A running `milliwise stream MODEL --json`, killed at the end; its output goes to files in `folder`."""

    def __init__(
        self, model: Path, folder: Path, arguments: Sequence[object], env: Mapping[str, str] = os.environ
    ) -> None:
        """Start it; write audio to `process.stdin` if `arguments` hold --stdin."""
        self._out, self._err = folder / "stream.jsonl", folder / "stream.txt"
        command = [sys.executable, "-c", PROGRAM, "stream", str(model), "--json", *map(str, arguments)]
        path = os.pathsep.join(filter(None, (str(REPOSITORY), env.get("PYTHONPATH"))))
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env={**env, "PYTHONPATH": path}
            )

    def __enter__(self) -> Streaming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def await_that(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until a condition holds.

        Raises:
            MilliwiseError: it does not in time, or the command has ended; the message holds its last words.
        """
        await_that(what, lambda: condition() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise self._ended()

    def write(self, audio: bytes) -> None:
        """Give it audio on standard input.

        Raises:
            MilliwiseError: it has ended; the message holds its last words.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(audio)
        except BrokenPipeError:
            raise self._ended() from None

    def said(self) -> str:
        """Its standard error so far."""
        return self._err.read_text()

    def heard(self) -> int:
        """How many keywords so far."""
        return self._out.read_text().count("keyword")

    def await_word(self, before: int) -> None:
        """Wait a while for another keyword than those `before`; what the command wrote says whether it came."""
        deadline = time.monotonic() + WORD_SECONDS
        while self.heard() <= before and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def await_last_word(self) -> None:
        """Wait until no more keywords come."""
        before = -1
        while (heard := self.heard()) > before:
            before = heard
            time.sleep(LAST_SECONDS)

    def _ended(self) -> MilliwiseError:
        return MilliwiseError(f"the stream ended: {(self.said().splitlines() or ['without a word'])[-1]}")

    def finish(self, interrupt: bool = False) -> Heard:
        """End it, with Ctrl-C if it does not end by itself, and read what it wrote."""
        if interrupt:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
        lines = [json.loads(line) for line in self._out.read_text().splitlines()]
        found = [Detection(row["keyword"], row["start_s"], row["score"]) for row in lines if "keyword" in row]
        summary: dict[str, Any] = next((row for row in lines if "hops" in row), {})
        others = [line for line in self.said().splitlines() if not PEOPLE.match(line)]
        return Heard(found, summary, others, self.process.returncode)


def through_sound_server(model: Path, wav: Path, folder: Path) -> Heard:
    """Play a recording at real time into a sound server, and listen to its source; activations go to `folder`/kept."""
    arguments = ["--device", "pulse", "--save-dir", folder / "kept"]
    with PulseAudio() as server, Streaming(model, folder, arguments, server.env) as streaming:
        streaming.await_that("the microphone", server.is_recorded)
        server.play(wav)
        streaming.await_last_word()
        return streaming.finish(interrupt=True)


def unplugged(model: Path, wav: Path, folder: Path, way: str) -> tuple[int, Heard]:
    """Play a recording, take the source away and give it back in one of WAYS, play it again.

    Returns:
        How many words were heard before, and all that the command wrote.
    """
    vanish, come_back = WAYS[way]
    with PulseAudio() as server, Streaming(model, folder, ["--device", "pulse"], server.env) as streaming:
        streaming.await_that("the microphone", server.is_recorded)
        server.play(wav)
        streaming.await_word(before=0)
        vanish(server)
        streaming.await_that("word that the microphone is gone", lambda: "unplugged" in streaming.said())
        before = streaming.heard()  # it says so when it has listened to all that there was
        come_back(server)
        streaming.await_that("word that the microphone is back", lambda: "is back" in streaming.said())
        server.play(wav)  # "back" is said of a microphone that has delivered
        streaming.await_word(before)
        return before, streaming.finish(interrupt=True)
