"""Every command has help, stands in the README, and needs no torch to say what it does; the README is real."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from toolkit.cli import GROUP, main

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = sorted(entry.name for entry in entry_points(group=GROUP))
HEAVY = ("torch", "torchaudio", "onnx", "onnxruntime", "matplotlib")


def test_there_are_commands() -> None:
    assert {"spaces", "profile", "feasible", "search", "export", "check", "stream", "devices", "bench", "demo"} <= {
        *COMMANDS
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help_and_stands_in_the_readme(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.help and len(command.help) > 20
    assert all(option.help for option in command.params if isinstance(option, click.Option) and option.name != "help")
    assert f"milliwise {name}" in README


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom toolkit.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def readme_commands() -> list[str]:
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", README, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split("|") if part.strip().startswith("milliwise ")]


def test_the_readme_has_examples() -> None:
    assert len(readme_commands()) >= 5


@pytest.mark.parametrize("line", readme_commands())
def test_readme_example_parses(line: str) -> None:
    """Every option and argument of the example is one the command takes."""
    _program, name, *arguments = shlex.split(line, comments=True)
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    command.make_context(name, arguments, resilient_parsing=False)


def test_a_missing_package_is_one_line_with_its_extra() -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom toolkit.cli import main\nmain(['spaces'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'milliwise[search]'" in done.stderr
    assert "Traceback" not in done.stderr
