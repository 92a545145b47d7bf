"""Keep C libraries from writing to standard error: PortAudio and ALSA chat there, from threads of their own."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def quiet_c_stderr() -> Iterator[None]:
    """While it lasts, what C code prints to its `stderr` goes nowhere; Python's, and file descriptor 2, are untouched.

    glibc documents `stderr` as a variable that may be set (manual, "Standard Streams"); elsewhere nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    stream = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
    before, stream.value = stream.value, _nowhere()
    try:
        yield
    finally:
        stream.value = before


@cache
def _nowhere() -> int | None:
    """A C stream that is never closed, because another thread may still be writing to it."""
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    opened = library.fopen(b"/dev/null", b"w")
    return opened or ctypes.c_void_p.in_dll(library, "stderr").value
