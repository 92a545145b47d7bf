"""Freed memory is kept for the next training step, which then causes few page faults, or returned by a listener."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys, threading
import torch
from toolkit.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def steps():
    for _ in range(3):
        torch.ones(12_000_000)
def faults():
    thread = threading.Thread(target=steps)  # batches come from a thread of their own
    thread.start()
    thread.join()
    steps()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults() for _ in range(8)]  # at first the memory is still growing
print(counts[-1] - counts[-2])
"""

LOADING = """
import sys
from toolkit.allocator import return_freed_memory
if sys.argv[1] == "return":
    return_freed_memory()
def resident():
    rows = open("/proc/self/status").read().splitlines()
    return next(1024 * int(row.split()[1]) for row in rows if row.startswith("VmRSS:"))
bytearray(16_000_000)  # freed at once: from now on the C library keeps all that is smaller
before = resident()
read = [(bytearray(8_000_000), bytearray(100_000)) for _ in range(10)]
kept = [small for _, small in read]
del read
print(resident() - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")


def printed(program: str, mode: str) -> int:
    result = subprocess.run([sys.executable, "-c", program, mode], capture_output=True, text=True, check=True)
    return int(result.stdout)


@glibc
def test_tensors_of_the_next_step_cause_few_page_faults() -> None:
    assert printed(STEPS, "keep") < printed(STEPS, "leave") / 10


@glibc
def test_what_was_read_and_freed_is_returned() -> None:
    assert printed(LOADING, "leave") > 50_000_000
    assert printed(LOADING, "return") < 10_000_000
