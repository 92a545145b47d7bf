"""What is wrong with this installation or with a target: one table of small checks, each with its cure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from profilers.clock import time_tight
from profilers.machine import FAULT, NOTE, OK, PERFORMANCE, Verdict, clock, governor, heat, others, processors
from profilers.target import Target, parse_target
from toolkit.errors import MilliwiseError
from toolkit.files import cache_folder
from toolkit.progress import progress

EXTRAS = ("mic", "search")
FREE_BYTES = 200_000_000
IMPORT_S = 120.0
REPAIRS = {"sounddevice": "sudo apt install libportaudio2 (the library PortAudio)"}
Check = Callable[[], Verdict]


def examine(on: str = "local", threads: int = 1) -> dict[str, Verdict]:
    """The verdict of every check by name: on this installation, and on the target.

    Raises:
        MilliwiseError: `on` is no target.
    """
    found = {}
    checks = installation() | device(on, parse_target(on), threads)
    with progress("looking", len(checks)) as advance:
        for name, check in checks.items():
            found[name] = _verdict(check, on)
            advance(1)
    return found


def _verdict(check: Check, on: str) -> Verdict:
    try:
        return check()
    except MilliwiseError as error:  # of the target; the message says how to cure it where that is known
        local = "mend the faults above, or pip install --force-reinstall onnxruntime"
        return Verdict(FAULT, str(error), local if on == "local" else f"then try again: milliwise doctor --on {on}")
    except (OSError, ImportError) as error:  # this machine has no such file, or the base is incomplete
        return Verdict(NOTE, f"cannot look: {error}", "mend what else is wrong first")


def installation() -> dict[str, Check]:
    """The checks of what is installed here."""
    return {
        "python": python,
        **{name: partial(package, name, *needed) for name, needed in requirements().items()},
        "temporary folder": partial(folder, temporary_folder, FAULT, "TMPDIR"),
        "cache folder": partial(folder, cache_folder, NOTE, "XDG_CACHE_HOME"),  # a cache saves time only
    }


def device(on: str, target: Target, threads: int) -> dict[str, Check]:
    """The checks of what is measured on."""
    if on.startswith("ssh:"):
        return {"ssh": ssh_client, "device": partial(remote, target, threads)}
    if on.startswith("bundle:"):
        by_hand = Verdict(NOTE, f"{target.name} is carried by hand", "on the device, run: milliwise doctor")
        return {"device": lambda: by_hand}
    return {
        "processors": partial(processors, threads),
        "governor": governor,
        "heat": heat,
        "other processes": others,
        "clock": clock,
        "a model runs": partial(model_runs, target, threads),
    }


def python() -> Verdict:
    seen = ".".join(map(str, sys.version_info[:3]))
    return Verdict(OK, seen) if sys.version_info >= (3, 10) else Verdict(FAULT, seen, "install Python 3.10 or newer")


def requirements() -> dict[str, tuple[str, str]]:
    """What milliwise itself declares to need: package to its least version and its extra (empty for the base)."""
    lines = (
        re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:; extra == \"(\w+)\")?", line) for line in requires("milliwise") or ()
    )
    return {found[1]: (found[2], found[3] or "") for found in lines if found and found[3] in (None, *EXTRAS)}


def package(name: str, least: str, extra: str) -> Verdict:
    """A missing part of an extra is no fault, for a device needs only the base; one that cannot be imported is."""
    wanted = f"'{name}>={least}'"
    try:
        here = version(name)
    except PackageNotFoundError:
        if extra:
            return Verdict(NOTE, f"not installed; of the extra {extra}", f"pip install 'milliwise[{extra}]'")
        return Verdict(FAULT, "not installed", f"pip install {wanted}")
    if _older(here, least):
        return Verdict(FAULT, f"{here} is too old", f"pip install --upgrade {wanted}")
    try:
        problem = import_error(name.replace("-", "_"))
    except subprocess.TimeoutExpired:
        return Verdict(NOTE, f"{here} was not imported within {IMPORT_S:g} s", "look again when the machine is quiet")
    if name == "torchaudio" and problem.startswith(("OSError", "ImportError")):  # which is expected, and provided for
        return Verdict(OK, f"{here}, used without its compiled part, which does not fit the installed torch")
    if problem:
        repair = REPAIRS.get(name, f"pip install --force-reinstall {wanted}")
        return Verdict(FAULT, f"{here} cannot be imported: {problem}", repair)
    return Verdict(OK, here)


def import_error(module: str) -> str:
    """Why a module cannot be imported, in one line; empty if it can. In a process of its own, for it may crash.

    Raises:
        subprocess.TimeoutExpired: it is not done within `IMPORT_S`.
    """
    program = f"import sys; sys.path = [folder for folder in sys.path if folder]; import {module}"  # not from here
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORT_S
    )
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else lines[-1][:200] if lines else f"exit code {done.returncode}"


def _older(here: str, least: str) -> bool:
    numbers = [[int(digits) for digits in re.findall(r"\d+", text)[:3]] for text in (here, least)]
    return numbers[0] < numbers[1]


def temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


def folder(place: Callable[[], Path], worst: str, variable: str) -> Verdict:
    """Whether there is room and leave to write; where a folder is not there yet, in the one it would be made in."""
    cure = f"free some space, or set {variable} to a folder with {FREE_BYTES // 1_000_000} MB that you may write to"
    try:
        path = place()
        above = next(each for each in (path, *path.parents) if os.path.lexists(each))
        with tempfile.TemporaryFile(dir=above) as file:
            file.write(b"milliwise")
        free = shutil.disk_usage(above).free
    except OSError as error:
        return Verdict(worst, f"nothing can be written: {error}", cure)
    seen = f"{path}, {free / 1e9:.3g} GB free"
    return Verdict(OK, seen) if free >= FREE_BYTES else Verdict(worst, seen, cure)


def ssh_client() -> Verdict:
    found = shutil.which("ssh")
    return Verdict(OK, found) if found else Verdict(FAULT, "there is no ssh", "sudo apt install openssh-client")


def remote(target: Target, threads: int) -> Verdict:
    """Whether another device can be reached, runs models, and is fit to measure on, as far as it tells.

    Raises:
        MilliwiseError: it cannot be reached, or it cannot measure.
    """
    ran = model_runs(target, threads)
    facts, (least, _) = target.fingerprint(), requirements()["onnxruntime"]
    seen = f"{facts.get('cpu_model')}, onnxruntime {facts.get('onnxruntime')}, governor {facts.get('governor')}"
    if _older(str(facts.get("onnxruntime")), least):
        return Verdict(FAULT, f"{seen}: too old", f"there: python3 -m pip install --upgrade 'onnxruntime>={least}'")
    if facts.get("governor") not in (None, "performance"):
        return Verdict(NOTE, f"{seen}: the speed varies", f"there: {PERFORMANCE}")
    return Verdict(OK, f"{seen}; a model runs {ran.seen}")


def model_runs(target: Target, threads: int) -> Verdict:
    """Whether a model of the form that is exported loads and runs on the target.

    Raises:
        MilliwiseError: it does not.
    """
    (timing,) = time_tight({"a tiny model": tiny_model()}, target, threads=threads, rounds=1, title="").values()
    return Verdict(OK, f"in {1000 * timing.best_ms:.1f} µs")


def tiny_model() -> bytes:
    """An ONNX file (IR 8, opset 17) that gives back its input, written without the package onnx.

    Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
    """

    def field(number: int, value: int | bytes) -> bytes:
        """Of a protobuf message; numbers and lengths here are below 128, one byte each."""
        return bytes([8 * number, value]) if isinstance(value, int) else bytes([8 * number + 2, len(value)]) + value

    shape = field(1, field(1, 1)) + field(1, field(1, 4))
    tensor = field(2, field(1, field(1, 1) + field(2, shape)))  # float32 [1, 4]
    node = field(1, b"audio") + field(2, b"scores") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"tiny")
    graph += field(11, field(1, b"audio") + tensor) + field(12, field(1, b"scores") + tensor)
    return field(1, 8) + field(8, field(2, 17)) + field(7, graph)
