"""What went wrong on the way to a device, from what ssh and the device said: one line each, with the cure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from profilers.target import RunnerEnded
from toolkit.errors import MilliwiseError, Unreachable

LOADS_ALL = "1.18"  # the first onnxruntime that loads all that milliwise can write: up to opset 21 and IR 10
TOO_OLD = re.compile(r"max supported IR version: \d+|till opset \d+")
NO_MODULE = re.compile(r"No module named '(numpy|onnxruntime)\b")
# The first that fits a line of ssh's standard error; {name} is the target, {login} what to type after `ssh`.
NOT_REACHED = (
    (r"^ssh: Could not resolve hostname", "{name}: nobody knows that name; check it, or give an address"),
    (r"^ssh: connect to .*: Connection refused", "{name} refuses the connection: is sshd running there, on that port?"),
    (
        r"^(ssh: connect to |Connection timed out|Timeout, server)",
        "{name} cannot be reached ({line}): is it on, and in this network?",
    ),
)
REACHED = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {name} has changed: if it was set up anew, run ssh-keygen -R {key}, then ssh {login} once and "
        "accept the new key; if not, somebody may sit in between",
    ),
    (
        r"^Host key verification failed|host key is known",
        "the host key of {name} is not known: run ssh {login} once, compare the key it shows and accept it",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        "{name} lets nobody in without a password: run ssh-copy-id {login} once, or load your key with ssh-add",
    ),
    (r"^milliwise: Python", "{name} has an old python3 ({line}): it needs 3.10 or newer"),
    (r"python3: (command )?not found|python3: No such", "{name} has no python3: install Python 3.10 or newer on it"),
    (r"^(kex_exchange|banner|ssh_dispatch|Bad |Connection (closed|reset) by)", "{name} does not speak ssh: {line}"),
)


def on_the_way(name: str, login: str, key: str, code: int, errors: Sequence[str]) -> MilliwiseError:
    """The host never said that it is ready: `Unreachable` where nobody answers, else what is to be mended.

    Args: as in the tables above; the exit code and the last errors of ssh.
    """
    for kind, table in ((Unreachable, NOT_REACHED), (MilliwiseError, REACHED)):
        for pattern, words in table:
            for line in errors:
                if re.search(pattern, line):
                    return kind(words.format(name=name, login=login, key=key, line=line[:200]))
    if code == 127:
        return MilliwiseError(f"{name} has no python3: install Python 3.10 or newer on it")
    why = f": {errors[-1][:200]}" if errors else ""
    return MilliwiseError(f"{name} answers, but runs no python3 (exit code {code}{why}): try ssh {login} python3 -V")


def on_the_device(name: str, last: Mapping[str, Any]) -> MilliwiseError:
    """The host told how the runner ended, and it was not well."""
    code, errors = last["code"], last["errors"]
    if last["reason"]:
        kind = RunnerEnded if last["reason"].startswith("the runner") else MilliwiseError
        return kind(f"measuring on {name} stopped: {last['reason']}")
    if found := NO_MODULE.search(errors):
        return MilliwiseError(f"{name} has no {found[1]}: run python3 -m pip install onnxruntime on it")
    if isinstance(code, int) and code < 0:
        return RunnerEnded(f"the runner on {name} was ended by signal {-code}: out of memory, or killed by somebody")
    return RunnerEnded(f"the runner on {name} crashed with exit code {code}" + (f": {errors}" if errors else ""))


def in_the_middle(name: str, code: int, errors: Sequence[str]) -> Unreachable:
    """The host was ready, and was heard no more before the runner ended."""
    why = f" ({errors[-1][:200]})" if errors else ""
    if code in (255, -1):
        return Unreachable(f"the connection to {name} was cut in the middle{why}: run it again, profile with --resume")
    return Unreachable(f"measuring on {name} was ended from outside, exit code {code}{why}: run it again")


def require_loadable(name: str, failed: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to go on where an onnxruntime is too old for the models, rather than blame the first of them.

    Raises:
        MilliwiseError: with its version, and the one that can.
    """
    if found := TOO_OLD.search(failed["reason"]):
        version = next((event["onnxruntime"] for event in events if event["event"] == "environment"), "of that age")
        raise MilliwiseError(
            f"onnxruntime {version} on {name} cannot load the models ({found[0]}): "
            f"run python3 -m pip install --upgrade 'onnxruntime>={LOADS_ALL}' on it"
        )
