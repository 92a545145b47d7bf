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

    Measured beside another training: the kernel took 50 % of the CPU time, mapping the same tensors at every step, then
    1 %; a step took 0.19 s of CPU instead of 0.23. The price is memory: a training holds 1.7 GB. Other processes are
    not affected.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library that cannot be asked: training is slower, no more
        set_option = ctypes.CDLL(None).mallopt
        set_option(MOST_ARENAS, 1)  # the arena of another thread is too small for a batch
        set_option(MOST_MAPPED, 0)
        set_option(TRIM_THRESHOLD, MOST)
