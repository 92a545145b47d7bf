"""The rules of the house that a program can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("toolkit", "exporters", "profilers", "kws_demo")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
LONGEST = {"profilers/runner.py": 700, "profilers/host.py": 350}  # lines: each travels as one file, which stands alone
# A number called one of these does not say its unit; latency_ms, gap_ms, rate_hz, window_columns do.
BARE = re.compile(r"(.*_)?(latency|delay|duration|time|gap|memory|bandwidth|frequency|period|interval|timeout)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def fields_without_unit(tree: ast.AST) -> list[str]:
    """Numeric fields of classes (dataclasses, named tuples) whose name leaves the unit open."""
    return [
        field.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if re.match(r"(float|int)\b", ast.unparse(field.annotation)) and BARE.fullmatch(field.target.id)
    ]


def unsafe(source: str) -> list[str]:
    """What could run code from a file or through a shell."""
    tree = ast.parse(source)
    found = sorted(UNSAFE & set(imports(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            settings = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if settings.get("shell", "False") != "False" or called in ("os.system", "os.popen", "eval", "exec"):
                found.append(called)
            if settings.get("allow_pickle", "False") != "False" or (called == "torch.load"):
                found.append(called)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_short_says_its_purpose_and_is_safe(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    assert len(source.splitlines()) <= LONGEST.get(name_of(path), 300)
    assert ast.get_docstring(tree), "a file begins with its purpose"
    assert unsafe(source) == []
    assert fields_without_unit(tree) == []
    assert "TopologicalSorter" not in source, "there is one order of the graph, in toolkit/graph.py"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "run('ls', shell=True)",
        "os.system('ls')",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
    ],
)
def test_what_is_unsafe_is_found(source: str) -> None:
    assert unsafe(source)


def test_a_field_without_a_unit_is_found() -> None:
    tree = ast.parse(
        "class A:\n latency: float\n latency_ms: float\n hop_time: int = 3\n gap: str\n memory: float | None"
    )
    assert fields_without_unit(tree) == ["latency", "hop_time", "memory"]


def test_gradients_are_computed_in_the_training_loops_and_in_strategies_only() -> None:
    loops = {"toolkit/training.py", "toolkit/controller_training.py"}
    found = {name_of(path) for path in FILES if ".backward(" in path.read_text()}
    assert found and all(name in loops or name.startswith("toolkit/strategies/") for name in found)


def test_strategies_neither_read_nor_write_nor_look_at_the_clock() -> None:
    allowed = {
        "__future__",
        "abc",
        "collections",
        "dataclasses",
        "itertools",
        "math",
        "numpy",
        "random",
        "statistics",
        "toolkit",
        "torch",
        "typing",
    }
    for path in (ROOT / "toolkit" / "strategies").rglob("*.py"):
        assert set(imports(ast.parse(path.read_text()))) <= allowed, name_of(path)


def test_no_search_repeats_without_end() -> None:
    assert [name_of(path) for path in (ROOT / "toolkit").rglob("*.py") if "while True" in path.read_text()] == []


def test_nothing_names_the_machine_it_was_written_on() -> None:
    for path in [*FILES, *(ROOT / "tests").glob("*.py")]:
        assert not re.search(r"[\"'\s(]/(work|root|home|tmp)/", path.read_text()), name_of(path)
