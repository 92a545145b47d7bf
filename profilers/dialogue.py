"""Talk to a process in both directions at once: send it what it has to read, hear its lines, notice silence."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator

from toolkit.errors import printable

HEARTBEAT_S = 5.0
READY_S = 60.0  # for logging in and for starting what talks to us, however much is said meanwhile
MAX_LINE_BYTES = 4_000_000
MAX_BYTES = 64_000_000
MAX_ERROR_BYTES = 8_192
CHUNK_BYTES = 65_536


class Dialogue:
    """One loop, no threads. The process has its three streams as unbuffered pipes.

    Args:
        outgoing: what is sent; after that a byte now and then says that we are still here.
        patience_s: for how long no whole line may come; bytes that drip in without one do not count.
    """

    def __init__(self, process: subprocess.Popen[bytes], outgoing: Iterable[bytes], patience_s: float) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process, self.patience_s = process, patience_s
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self._outgoing = deque(memoryview(piece) for piece in outgoing if piece)
        self._error_bytes = b""
        self._heard = self._beat = time.monotonic()
        self._deadline = self._heard + READY_S
        os.set_blocking(self.stdin.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.stdin, selectors.EVENT_WRITE)
        self._selector.register(self.stdout, selectors.EVENT_READ)
        self._selector.register(self.stderr, selectors.EVENT_READ)

    def ready(self) -> None:
        """The one we want to talk to is there: from now on only patience counts."""
        self._deadline = math.inf

    def lines(self) -> Iterator[bytes]:
        """Every line that comes, until the process closes its output.

        Raises:
            TimeoutError: what took too long, as in "said nothing for 9 s".
            ValueError: a line is too long, or all of them are.
        """
        rest, heard_bytes = b"", 0
        while (chunk := self._step()) is not None:
            *lines, rest = (rest + chunk).split(b"\n")
            heard_bytes += len(chunk)
            if len(rest) > MAX_LINE_BYTES or heard_bytes > MAX_BYTES:
                raise ValueError("more than anybody would say")
            if lines:
                self._heard = time.monotonic()
            yield from lines
        if rest:
            yield rest

    def ended(self) -> int:
        """The exit code of a process that has closed its output; -1 if it does not end."""
        self._selector.close()
        self.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(5)
            os.set_blocking(self.stderr.fileno(), False)  # a child of its own may still hold it
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(self.stderr.fileno(), CHUNK_BYTES):
                    self._keep_error(chunk)
            return code
        return -1

    def errors(self) -> list[str]:
        """The last lines of its standard error, made printable."""
        text = self._error_bytes.decode("utf-8", "replace")
        return [printable(line.strip()) for line in text.splitlines() if line.strip()]

    def _step(self) -> bytes | None:
        """Wait a second at most; what came on standard output, None at its end."""
        came: bytes | None = b""
        for key, _ in self._selector.select(min(1.0, HEARTBEAT_S)):
            if key.fileobj is self.stdin:
                self._send()
            elif key.fileobj is self.stderr:
                self._hear_error()
            else:
                came = os.read(self.stdout.fileno(), CHUNK_BYTES) or None
        now = time.monotonic()
        if not self._outgoing and now - self._beat > HEARTBEAT_S:
            self._beat = now
            with contextlib.suppress(OSError):  # full, or closed: reading will tell
                os.write(self.stdin.fileno(), b".")
        if now > self._deadline:
            raise TimeoutError(f"was not ready within {READY_S:g} s")
        if now - self._heard > self.patience_s:
            raise TimeoutError(f"said nothing for {self.patience_s:g} s")
        return came

    def _send(self) -> None:
        try:
            sent = os.write(self.stdin.fileno(), self._outgoing[0][:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:  # it has ended: what it said last tells why
            self._outgoing.clear()
        else:
            self._outgoing[0] = self._outgoing[0][sent:]
            if not self._outgoing[0]:
                self._outgoing.popleft()
        if not self._outgoing:
            self._selector.unregister(self.stdin)

    def _hear_error(self) -> None:
        chunk = os.read(self.stderr.fileno(), CHUNK_BYTES)
        self._keep_error(chunk)
        if not chunk:
            self._selector.unregister(self.stderr)

    def _keep_error(self, chunk: bytes) -> None:
        self._error_bytes = (self._error_bytes + chunk)[-MAX_ERROR_BYTES:]
