"""Fingerprints tell machines apart and say in what they differ."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from profilers import device

HERE = {"cpu_model": "Cortex-A76", "cores": 4, "architecture": "aarch64", "onnxruntime": "1.20.0", "kernel": "6.1"}
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xd0b\n"
X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2.00GHz\n"


def test_fingerprint_states_facts_of_this_machine_and_is_json():
    found = device.fingerprint()
    assert json.loads(json.dumps(found)) == found
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert found["memory_bytes"] == 1024 * int(rows["MemTotal"].split()[0])
    assert found["architecture"] == platform.machine()
    assert found["cores"] >= 1
    assert found["cpu_model"]
    assert all(size > 0 for size in found["cache_bytes"].values())
    assert device.identity(found) == device.identity(device.fingerprint())
    assert device.difference(found, device.fingerprint()) is None


def test_fingerprint_needs_no_torch():
    code = "import sys; from profilers.device import fingerprint; fingerprint(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("field", "value"),
    [("cpu_model", "Cortex-A53"), ("cores", 2), ("architecture", "armv7l"), ("onnxruntime", "1.31.1")],
)
def test_a_difference_names_the_field_and_both_values(field, value):
    said = device.difference(HERE, {**HERE, field: value})
    assert said is not None
    assert field in said and repr(HERE[field]) in said and repr(value) in said
    assert (device.identity(HERE) != device.identity({**HERE, field: value})) is (field != "onnxruntime")


def test_what_may_differ_does_not_matter_and_what_is_missing_does():
    assert device.difference(HERE, {**HERE, "kernel": "6.9"}) is None
    assert device.identity(HERE) == device.identity({**HERE, "kernel": "6.9", "governor": "powersave"})
    without = {name: value for name, value in HERE.items() if name != "cores"}
    assert "cores is None there and 4 here" in str(device.difference(without, HERE))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/proc/cpuinfo": X86}, "Some CPU @ 2.00GHz"),
        ({"/proc/cpuinfo": ARM, "/proc/device-tree/model": "Raspberry Pi 5 Model B\0"}, "Raspberry Pi 5 Model B"),
        ({"/proc/cpuinfo": ARM}, "ARM part 0xd0b"),
    ],
)
def test_the_processor_is_named_on_x86_and_arm(monkeypatch, files, expected):
    monkeypatch.setattr(device, "_text", lambda path: files.get(str(path)))
    assert device._cpu_model() == expected


def test_caches_are_read_in_bytes(monkeypatch, tmp_path):
    rows = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M"), ("3", "Unified", "odd")]
    for index, row in enumerate(rows):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), row, strict=True):
            (folder / name).write_text(text + "\n")
    monkeypatch.setattr(device, "_CPU", tmp_path)
    assert device._caches() == {"L1 data": 49152, "L1 instruction": 32768, "L2": 2097152}
