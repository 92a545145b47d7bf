"""What ssh is called with: an address and nothing that only looks like one, words no shell misreads, fixed options."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers import device, host
from profilers.ssh import SshTarget
from profilers.target import parse_target
from toolkit.errors import MilliwiseError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://kitchen", SshTarget("kitchen")),
        ("ssh://pi@kitchen.local:2200", SshTarget("kitchen.local", "pi", 2200)),
        ("ssh://192.168.0.7:1", SshTarget("192.168.0.7", None, 1)),
        ("ssh://pi@[2001:db8::7]:65535", SshTarget("2001:db8::7", "pi", 65535)),
        ("ssh://[fe80::1%eth0]", SshTarget("fe80::1%eth0")),
    ],
)
def test_addresses(text: str, target: SshTarget) -> None:
    assert SshTarget.parse(text) == target
    assert target.name == text
    assert target.command()[-2] == target.host


@pytest.mark.parametrize(
    "rest",
    [
        *(
            "",
            "-oProxyCommand=touch x",
            "pi@-oX",
            "-l@host",
            "host:0",
            "host:65536",
            "host:",
            "host:２２",
            "a b",
            "a\n",
        ),
        *(
            "a;b",
            "a/b",
            "[::g]",
            "::1",
            "[1.2.3.4]",
            "pi@@host",
            "$(x)",
            "höst",
            "h\x1b[m",
            "user:password@host",
            "`x`",
        ),
        "a" * 300,
    ],
)
def test_what_is_no_address(rest: str) -> None:
    with pytest.raises(MilliwiseError) as error:
        parse_target(f"ssh://{rest}")
    assert str(error.value).isprintable()


@given(st.text(st.sampled_from("ab-@:[].%19\n $'\"\\;\x1b_é"), max_size=20))
def test_any_text_is_an_address_or_refused(rest: str) -> None:
    try:
        target = SshTarget.parse(f"ssh://{rest}")
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert target.name.removeprefix("ssh://") == rest or target.port is not None
        words = target.command()
        places = [words.index("--") + 1, *([words.index("-l") + 1] if "-l" in words else [])]
        assert all(words[place][0].isalnum() or words[place][0] in "_:" for place in places)
        assert all(word.isprintable() and word.isascii() for word in words)


def test_what_runs_there_is_fixed_and_quoted() -> None:
    remote = {SshTarget.parse(text).command()[-1] for text in ("ssh://a", "ssh://b@c:7")}
    (line,) = remote
    assert line.startswith("python3 -c '") and line.count("'") == 2 and not set(line) & set("!\\\n`$")


def test_ssh_never_asks_and_checks_host_keys() -> None:
    words = SshTarget("kitchen").command()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(words)


def test_what_travels_needs_the_standard_library_and_onnxruntime_only() -> None:
    for module in (host, device):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "onnxruntime"}
