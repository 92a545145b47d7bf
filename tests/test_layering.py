"""Imports run one way: kws_demo → profilers → exporters → toolkit, never upwards, lazy imports included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("toolkit", "exporters", "profilers", "kws_demo")  # each may import itself and those before it
MODULE = re.compile(r"(toolkit|exporters|profilers|kws_demo)(\.\w+)+")  # as in lazily("profilers.check", …)


def imported(source: str) -> Iterator[str]:
    """Every module a file names: in import statements anywhere in it, and in strings that are module names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            yield node.value


def upward(root: Path) -> list[str]:
    """`file imports module` for every import against the direction."""
    found = []
    for layer in LAYERS:
        above = (*LAYERS[LAYERS.index(layer) + 1 :], "tests", "")  # "": a relative import hides its direction
        for path in sorted((root / layer).rglob("*.py")):
            names = imported(path.read_text())
            found += [f"{path.relative_to(root)} imports {name}" for name in names if name.split(".")[0] in above]
    return found


def test_no_import_runs_upwards() -> None:
    assert all(any((ROOT / layer).rglob("*.py")) for layer in LAYERS)
    assert upward(ROOT) == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("toolkit", "import exporters.onnx"),
        ("toolkit", "from profilers import clock"),
        ("exporters", "def f():\n    from kws_demo.audio import load"),
        ("exporters", "if True:\n    import numpy, profilers"),
        ("profilers", "import importlib\nimportlib.import_module('kws_demo.stream')"),
        ("toolkit", "from .graph import Graph"),
        ("kws_demo", "from tests import toy"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, layer: str, source: str) -> None:
    (tmp_path / layer / "deep").mkdir(parents=True)
    (tmp_path / layer / "deep" / "bad.py").write_text(source)
    assert len(upward(tmp_path)) == 1


@pytest.mark.parametrize(
    "source", ["import toolkit.graph", "from exporters import onnx", "x = 'see exporters/onnx.py'", "import numpy"]
)
def test_a_downward_import_is_fine(tmp_path: Path, source: str) -> None:
    (tmp_path / "profilers").mkdir()
    (tmp_path / "profilers" / "good.py").write_text(source)
    assert upward(tmp_path) == []
