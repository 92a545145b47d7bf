"""Run a Python file of the user's, and say in one line what goes wrong in it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

from toolkit.errors import MilliwiseError

OF_AN_EXTRA = ("torch", "torchaudio", "onnx")  # modules that a small install is without


def imported(name: str) -> ModuleType:
    """An installed module.

    Raises:
        MilliwiseError: there is none of that name.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise MilliwiseError(f"there is no module {error.name}: install it, or name the Python file") from None


def loaded(path: Path) -> ModuleType:
    """Run a file as a module, which may import its neighbours. It stays in `sys.modules`, from where it is built.

    Raises:
        MilliwiseError: its name does not end in .py.
    """
    name = f"milliwise_own_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MilliwiseError("it is no Python file: its name has to end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with neighbours(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def neighbours(path: Path) -> Iterator[None]:
    """Inside, what lies beside a file of the user's can be imported; nothing more for a module, which is installed."""
    folders = [str(path.parent)] if path.suffix == ".py" else []
    sys.path += folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)


@contextmanager
def running(kind: str, name: str) -> Iterator[None]:
    """What goes wrong in a user's own program is said in one line: where, and what.

    Args:
        kind: what the program is for, which begins the line.
        name: of its file or module.

    Raises:
        MilliwiseError: anything went wrong, but for a module of an extra that is missing.
    """
    try:
        with redirect_stdout(sys.stderr):  # what our own commands print is read by programs
            yield
    except MilliwiseError as error:
        raise MilliwiseError(f"{kind} {name}: {error}") from error
    except (Exception, SystemExit) as error:  # it is a program, which raises what it likes
        if isinstance(error, ModuleNotFoundError) and error.name in OF_AN_EXTRA:
            raise  # the command says how to install them
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        where = f", line {lines[-1]}" if lines else ""
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise MilliwiseError(f"{kind} {name}{where}: {said[:300]}; correct it") from error
