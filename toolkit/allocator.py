"""The C library's allocator, told to keep the memory that training frees and asks for again at every step."""

from __future__ import annotations

import contextlib
import ctypes
import platform

# Of mallopt(3). Large tensors are mapped by themselves otherwise, and given back as soon as they are freed.
TRIM_THRESHOLD, MOST_MAPPED, MOST_ARENAS = -1, -4, -8
MOST = 2**31 - 1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees, where the C library is glibc; elsewhere nothing changes.

    Measured: half of the time of a training step went into page faults of the same tensors, mapped again every step.
    The price is memory: a training took 1.7 GB instead of 1.0. Other processes are not affected.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library that cannot be asked: training is slower, no more
        set_option = ctypes.CDLL(None).mallopt
        set_option(MOST_ARENAS, 1)  # the arena of another thread is too small for a batch
        set_option(MOST_MAPPED, 0)
        set_option(TRIM_THRESHOLD, MOST)
