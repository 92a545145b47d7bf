"""The doctor: what is a fault and what only a note, on machines and installations made up for it, and on this one."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from exporters.wire import read_model
from profilers import doctor, machine, runner
from profilers.machine import FAULT, NOTE, OK, Verdict
from toolkit.cli import main
from toolkit.errors import MilliwiseError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that tells nothing about itself yet."""
    monkeypatch.setattr(machine, "ROOT", tmp_path / "root")
    return tmp_path / "root"


def tell(root: Path, **files: object) -> None:
    """Write what a machine tells; `__` in a name stands for `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_the_tiny_model_is_one_by_the_books() -> None:
    content = doctor.tiny_model()
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert list(read_model(content).inputs) == ["audio"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    audio = np.arange(4, dtype=np.float32)[None]
    np.testing.assert_array_equal(session.run(None, {"audio": audio})[0], audio)


def test_what_is_needed_is_what_the_package_declares() -> None:
    declared = [Requirement(line) for line in requires("milliwise") or ()]
    base = {each.name for each in declared if each.marker is None}
    extras = {
        each.name
        for each in declared
        if each.marker and any(each.marker.evaluate({"extra": extra}) for extra in ("mic", "search"))
    }
    found = doctor.requirements()
    assert {name for name, (_, extra) in found.items() if not extra} == base >= {"numpy", "onnxruntime"}
    assert {name for name, (_, extra) in found.items() if extra} == extras >= {"torch", "sounddevice"}
    assert all(least in str(each.specifier) for each in declared for least, _ in [found.get(each.name, ("", ""))])


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that installs a package of one module."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(name: str, version: str, source: str) -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        tell(tmp_path, **{f"{module}-{version}.dist-info__METADATA": f"Name: {name}\nVersion: {version}"})

    return install


def test_a_device_needs_the_base_only() -> None:
    missing = doctor.package("milliwise-no-such-package", "1.0", "search")
    assert (missing.state, missing.cure) == (NOTE, "pip install 'milliwise[search]'")
    missing = doctor.package("milliwise-no-such-package", "1.0", "")
    assert (missing.state, missing.cure) == (FAULT, "pip install 'milliwise-no-such-package>=1.0'")


@pytest.mark.parametrize(
    ("version", "source", "state", "seen"),
    [
        ("2.10.1+cpu", "value = 1", OK, "2.10.1+cpu"),
        ("2.6", "", OK, "2.6"),
        ("2.5.9", "", FAULT, "2.5.9 is too old"),
        ("2.6.1", "import milliwise_no_such_module", FAULT, "No module named 'milliwise_no_such_module'"),
        ("2.6.1", "raise OSError('libodd.so: cannot open')", FAULT, "OSError: libodd.so: cannot open"),
        ("2.6.1", "import os; os.abort()", FAULT, "cannot be imported: exit code -6"),
    ],
)
def test_what_is_installed_has_to_work(install: Any, version: str, source: str, state: str, seen: str) -> None:
    install("odd-package", version, source)
    found = doctor.package("odd-package", "2.6", "search")
    assert found.state == state and seen in found.seen
    assert bool(found.cure) == (state != OK) and ("odd-package>=2.6" in found.cure or state == OK)


def test_known_breaks_have_their_own_cure(install: Any) -> None:
    install("sounddevice", "0.5.1", "raise OSError('PortAudio library not found')")
    found = doctor.package("sounddevice", "0.5", "mic")
    assert found.state == FAULT and "libportaudio2" in found.cure
    install("torchaudio", "2.11.0", "raise OSError('libc10_cuda.so: cannot open shared object file')")
    found = doctor.package("torchaudio", "2.6", "search")  # milliwise does without its compiled part
    assert found.state == OK and "without its compiled part" in found.seen
    install("torchaudio", "2.11.0", "import milliwise_no_such_module")
    assert doctor.package("torchaudio", "2.6", "search").state == FAULT


def test_a_slow_import_is_no_fault(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install("odd-package", "2.6", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "IMPORT_S", 0.2)
    assert doctor.package("odd-package", "2.6", "").state == NOTE


def test_folders_have_room_and_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 1)
    missing = tmp_path / "not" / "there"
    assert doctor.folder(lambda: missing, FAULT, "TMPDIR").state == OK
    assert not missing.parent.exists()
    (tmp_path / "file").touch()
    found = doctor.folder(lambda: tmp_path / "file" / "below", FAULT, "TMPDIR")
    assert found.state == FAULT and "TMPDIR" in found.cure
    monkeypatch.setattr(doctor, "FREE_BYTES", 10**18)
    found = doctor.folder(lambda: tmp_path, NOTE, "XDG_CACHE_HOME")
    assert found.state == NOTE and "GB free" in found.seen and "XDG_CACHE_HOME" in found.cure


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "max 100000"}, None),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc__self__cgroup": "0::/outer/inner",
                "sys__fs__cgroup__outer__inner__cpu.max": "300000 100000",
                "sys__fs__cgroup__outer__cpu.max": "25000 100000",
            },
            0.25,
        ),
        (
            {
                "proc__self__cgroup": "4:memory:/m\n2:cpu,cpuacct:/docker/7",
                "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "75000",  # inside the container its own group is the root
                "sys__fs__cgroup__cpu__cpu.cfs_period_us": "50000",
            },
            1.5,
        ),
        (
            {
                "proc__self__cgroup": "1:cpu:/",
                "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1",
                "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({"proc__self__cgroup": "odd\n0::/", "sys__fs__cgroup__cpu.max": "1 0"}, None),
    ],
)
def test_a_quota_below_the_threads_is_a_fault(
    root: Path, files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(root, **files)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2})
    for threads in (1, 2, 3, 4):
        enough = min(3.0, 3.0 if quota is None else quota) >= threads
        found = machine.processors(threads)
        assert found.ok is enough and bool(found.cure) is not enough
        assert quota is None or f"{quota:g}" in found.seen


def test_the_governor_is_noted_unless_it_keeps_the_speed(root: Path) -> None:
    assert machine.governor().state == OK
    tell(root, **{f"sys__devices__system__cpu__cpu{n}__cpufreq__scaling_governor": "performance" for n in (0, 1)})
    assert machine.governor() == Verdict(OK, "performance")
    tell(root, sys__devices__system__cpu__cpu1__cpufreq__scaling_governor="powersave")
    found = machine.governor()
    assert found.state == NOTE and "powersave" in found.seen and "cpupower" in found.cure


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        ({"devices__system__cpu__cpu0__thermal_throttle__core_throttle_count": "7"}, "slowed down 7 times"),
        (
            {
                "class__thermal__thermal_zone0__temp": "85500",
                "class__thermal__thermal_zone0__type": "cpu-thermal",
                "class__thermal__thermal_zone0__trip_point_0_temp": "85000",
                "class__thermal__thermal_zone0__trip_point_1_temp": "105000",
            },
            "cpu-thermal is at 86 °C",
        ),
        (
            {
                "devices__system__cpu__cpu3__cpufreq__scaling_max_freq": "1200000",
                "devices__system__cpu__cpu3__cpufreq__cpuinfo_max_freq": "2400000",
            },
            "cpu3 is limited to 1.2 of 2.4 GHz",
        ),
    ],
)
def test_heat_is_noted(root: Path, files: dict[str, str], seen: str) -> None:
    assert machine.heat().state == OK
    tell(root, **{f"sys__{name}": text for name, text in files.items()})
    found = machine.heat()
    assert found.state == NOTE and seen in found.seen and found.cure


def test_a_cool_machine_is_fine(root: Path) -> None:
    zone = "sys__class__thermal__thermal_zone0__"
    tell(root, **{f"{zone}temp": 45000, f"{zone}trip_point_0_temp": 85000, f"{zone}trip_point_1_temp": "odd"})
    cpu = "sys__devices__system__cpu__cpu0__"
    tell(root, **{f"{cpu}cpufreq__{name}_max_freq": 2400000 for name in ("scaling", "cpuinfo")})
    tell(root, **{f"{cpu}thermal_throttle__core_throttle_count": 0})
    assert machine.heat().state == OK


def process(root: Path, number: int, name: str, user_ticks: int) -> None:
    rest = " ".join(["S", *["0"] * 10, str(user_ticks), "0", "0"])
    tell(root, **{f"proc__{number}__stat": f"{number} ({name}) {rest}"})


@pytest.mark.parametrize(("share", "state"), [(0.03, OK), (0.6, NOTE)])
def test_a_busy_machine_is_noted_with_who_it_is(
    root: Path, share: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watch:
        def __init__(self) -> None:
            self.shares: list[float] = []

        def look(self, window_s: float) -> None:
            process(root, 17, "train (odd) name", 160)
            process(root, 18, "shell", 1001)
            self.shares.append(share)

    process(root, 17, "train (odd) name", 100)
    process(root, 18, "shell", 1000)
    process(root, 19, "sleeper", 5000)
    monkeypatch.setattr(runner, "Watch", Watch)
    found = machine.others(seconds=0.0)
    assert found.state == state and f"{100 * share:.0f} %" in found.seen
    assert ("train (odd) name (17), shell (18)" in found.seen) is (state == NOTE)
    assert "sleeper" not in found.seen


def ticking(*steps_s: float) -> Iterator[float]:
    return itertools.accumulate(itertools.cycle(steps_s))


@pytest.mark.parametrize(
    ("steps_s", "state"), [((1e-7, 0.0), OK), ((4e-3, 0.0, 0.0), NOTE), ((1e-7, 1e-7, -1e-7), FAULT), ((0.0,), FAULT)]
)
def test_the_clock_has_to_run_forwards_in_fine_steps(root: Path, steps_s: tuple[float, ...], state: str) -> None:
    tell(root, sys__devices__system__clocksource__clocksource0__current_clocksource="sundial")
    found = machine.clock(partial(next, ticking(*steps_s)), readings=50)
    assert found.state == state and "sundial" in found.seen and bool(found.cure) is (state != OK)


def test_the_clock_of_this_machine_runs_forwards() -> None:
    assert machine.clock().ok


class Device:
    """A target elsewhere; it answers as told, or cannot be reached."""

    name = "ssh://device"

    def __init__(self, failure: str = "", **facts: object) -> None:
        self.failure, self.facts = failure, facts

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu_model": "abacus", "onnxruntime": "1.31.1", "governor": None, **self.facts}

    def run(self, job: dict[str, Any], files: dict[str, bytes], on_event: Any) -> list[dict[str, Any]]:
        if self.failure:
            raise MilliwiseError(self.failure)
        (model,) = job["tasks"][0]["models"]
        assert files[model] == doctor.tiny_model()
        row = {"blocks_ms": [0.004, 0.005], "rejected_ms": [], "calls_per_block": 3}
        events = [{"event": "blocks", "model": model, **row}, {"event": "load", "foreign": [], "probes_ms": []}]
        for event in events:
            on_event(event)
        return events


@pytest.mark.parametrize(
    ("target", "state", "seen", "cure"),
    [
        (Device(), OK, "abacus, onnxruntime 1.31.1, governor None; a model runs in 4.0 µs", ""),
        (Device(governor="ondemand"), NOTE, "governor ondemand", "cpupower"),
        (Device(onnxruntime="1.9.0"), FAULT, "onnxruntime 1.9.0", "onnxruntime>=1."),
        (Device("it is asleep; wake it up"), FAULT, "it is asleep; wake it up", "try again"),
        (Device("it said nothing"), FAULT, "it said nothing", "--on ssh://device"),
    ],
)
def test_a_device_is_reached_and_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, target: Device, state: str, seen: str, cure: str
) -> None:
    monkeypatch.setattr(doctor, "installation", dict)
    monkeypatch.setattr(doctor, "parse_target", lambda text: target)
    found = doctor.examine("ssh://device")
    assert list(found) == ["ssh", "device"]  # nothing about the processors of this machine
    assert found["device"].state == state and seen in found["device"].seen
    assert cure in found["device"].cure and bool(cure) == bool(found["device"].cure)


def test_without_ssh_the_cure_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.ssh_client().state == FAULT and "openssh-client" in doctor.ssh_client().cure


def test_the_command_examines_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "import_error", lambda module: "")  # torch and its friends take their time
    result = CliRunner().invoke(main, ["doctor", "--json"])
    checks = {row["name"]: row for row in json.loads(result.stdout)["checks"]}
    assert checks["python"]["ok"] and checks["onnxruntime"]["seen"] == onnxruntime.__version__
    assert checks["a model runs"]["ok"], checks["a model runs"]
    assert {"numpy", "temporary folder", "cache folder", "processors", "governor", "heat", "clock"} <= {*checks}
    assert result.exit_code == (0 if all(row["ok"] for row in checks.values()) else 1)
    assert all(row["cure"] for row in checks.values() if not row["ok"])


@pytest.mark.parametrize(("verdict", "code"), [(Verdict(NOTE, "odd", "wait"), 0), (Verdict(FAULT, "bad", "mend"), 1)])
def test_only_a_fault_is_a_no(monkeypatch: pytest.MonkeyPatch, verdict: Verdict, code: int) -> None:
    monkeypatch.setattr(doctor, "examine", lambda on, threads: {"python": Verdict(OK, "3.11"), "thing": verdict})
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == code
    first, second, *_ = result.stdout.splitlines()
    assert first.split() == ["python", "ok", "3.11"]
    assert second.split() == ["thing", verdict.state, verdict.seen, "→", verdict.cure]


def test_a_target_that_cannot_be_reached_is_a_fault_and_no_target_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installation", dict)
    assert CliRunner().invoke(main, ["doctor", "--on", "telnet://device"]).exit_code == 2
    if shutil.which("ssh") is None:
        pytest.skip("there is no ssh here: install openssh-client to run this test")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening: it refuses
        result = CliRunner().invoke(main, ["doctor", "--json", "--on", f"ssh://127.0.0.1:{closed.getsockname()[1]}"])
    assert result.exit_code == 1
    (device,) = [row for row in json.loads(result.stdout)["checks"] if row["name"] == "device"]
    assert not device["ok"] and device["seen"] and device["cure"]


def test_a_bundle_is_examined_where_it_is_carried_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "installation", dict)
    found = doctor.examine(f"bundle:{tmp_path / 'bundle'}")
    assert found["device"].state == NOTE and "milliwise doctor" in found["device"].cure
    assert not (tmp_path / "bundle").exists()


def test_the_doctor_comes_also_when_the_base_is_broken() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['onnxruntime', 'numpy', 'torch']))\n"
        "from profilers import doctor\n"
        "print(doctor._verdict(doctor.others, 'local').state, doctor.python().state)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [NOTE, OK]
