"""Freed memory is kept: the tensors of the next training step come without page faults."""

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
    for _ in range(10):
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")
def test_tensors_of_the_next_step_cause_few_page_faults() -> None:
    def faults(mode: str) -> int:
        result = subprocess.run([sys.executable, "-c", STEPS, mode], capture_output=True, text=True, check=True)
        return int(result.stdout)

    assert faults("keep") < faults("leave") / 10
