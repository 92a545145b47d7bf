"""The rows of `bench profile` that are over ssh, and those of profiles that are killed: what they count, by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from secure_shell import needs_sshd

from kws_demo.bench import loopback, profile_kills, profile_remote
from kws_demo.bench.loopback import Loopback, SshServer
from kws_demo.bench.profile_kills import EFFORT, KILLED, Attempt, judged, kill_rows, measured
from kws_demo.bench.rows import Results
from profilers import device
from profilers.runner import MAX_EXTENSION
from toolkit.errors import MilliwiseError
from toolkit.profile import HeldOut

PART = "edges in context"


def line(part: str, value: Any, seconds: float = 0.1) -> bytes:
    return f"0123456789abcdef {json.dumps({'part': part, 'value': value, 'seconds': seconds})}\n".encode()


def blocks(model: str, often: int, seconds: float = 0.1) -> bytes:
    return line(PART, {"event": "blocks", "model": model, "blocks_ms": [0.2] * often}, seconds)


HEAD = b'0123456789abcdef {"identity": {}}\n'
HALF = EFFORT.rounds // 2
WHOLE = [
    HEAD,
    blocks("conv x1", HALF),
    line(PART, {"event": "load", "foreign": [0.1]}),
    blocks("conv x1", EFFORT.rounds - HALF, 0.2),
    blocks("empty", EFFORT.rounds, 0.3),
    line(PART, {"event": "finished"}),
    line("table seconds", 1.5),
]
KNOWN = {"seconds": 9.0, "journal": sorted(measured(WHOLE)), "profile": ["conv", "skip"]}


def test_what_a_journal_holds_is_counted_by_model_and_by_part() -> None:
    rounds = EFFORT.rounds
    assert measured(WHOLE) == {f"{PART}: conv x1": rounds, f"{PART}: empty": rounds, PART: 1, "table seconds": 1}


@pytest.mark.parametrize(
    ("journal", "profile", "lost", "doubled"),
    [
        (WHOLE, ["skip", "conv"], 0, 0),
        (WHOLE[:-1], ["conv", "skip"], 1, 0),
        ([*WHOLE[:1], *WHOLE[2:]], ["conv", "skip"], 1, 0),  # too few blocks of a model
        ([*WHOLE[:4], *WHOLE[5:]], ["conv", "skip"], 1, 0),  # none of another
        (WHOLE, ["conv"], 1, 0),
        (WHOLE, ["conv", "skip", "conv"], 0, 1),
        ([*WHOLE, line("table seconds", 1.6)], ["conv", "skip"], 0, 1),
        ([*WHOLE, WHOLE[1]], ["conv", "skip"], 0, 1),  # the very same line
        ([*WHOLE, blocks("empty", MAX_EXTENSION * EFFORT.rounds, 0.9)], ["conv", "skip"], 0, EFFORT.rounds),
        ([*WHOLE, line(f"{PART} again, for the device was slow", {"event": "finished"})], ["conv", "skip"], 0, 0),
    ],
)
def test_what_is_lost_or_doubled(journal: list[bytes], profile: list[str], lost: int, doubled: int) -> None:
    assert judged(journal, profile, KNOWN) == (lost, doubled)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """What the attempts at profiles come to, in their order; it is used up."""
    made: list[Attempt] = []

    def attempt(_folder: Path, kill_after_s: float = math.inf, alone: bool = False) -> Attempt:
        found = made.pop(0)
        assert found.code != KILLED or kill_after_s <= KNOWN["seconds"]
        return replace(found, orphan_s=0.2 if alone and found.code == KILLED else None)

    monkeypatch.setattr(profile_kills, "attempt", attempt)
    monkeypatch.setattr(profile_kills, "_profile_rows", lambda folder: KNOWN["profile"])
    return made


def killed_with(lines: list[bytes]) -> Attempt:
    return Attempt(KILLED, 1.0, lines, None, "")


def finished_with(lines: list[bytes]) -> Attempt:
    return Attempt(0, 2.0, lines, None, "")


def rows_of(folder: Path, kills: int) -> dict[str, dict[str, Any]]:
    names = ("kills", "resumes", "lost", "doubled", "outlives")
    return dict(zip(names, kill_rows(Results(folder / "r.jsonl", resume=True), 0, kills), strict=True))


def test_kills_are_counted_over_several_profiles_and_kept(tmp_path: Path, attempts: list[Attempt]) -> None:
    attempts += [finished_with(WHOLE), killed_with([]), killed_with(WHOLE[:3]), finished_with(WHOLE)]
    attempts += [killed_with(WHOLE[:2]), finished_with(WHOLE)]
    for _ in range(2):  # the second time nothing is left to be measured
        rows = rows_of(tmp_path, 3)
        assert not attempts
        assert {name: row["measured"] for name, row in rows.items()} == {
            "kills": 3, "resumes": 3, "lost": 0, "doubled": 0, "outlives": 0.2,
        }  # fmt: skip
        assert [row["met"] for row in rows.values()] == [True, True, True, True, None]  # the last has no target
    assert rows["kills"]["reason"] == f"2 profiles; what was written last: 1 nothing, 2 {PART}"


def test_a_profile_that_begins_anew_or_fails_after_a_kill_is_no_resume(tmp_path: Path, attempts: list[Attempt]) -> None:
    anew = [HEAD, *(entry.replace(b'"seconds": 0', b'"seconds": 7') for entry in WHOLE[1:])]
    attempts += [finished_with(WHOLE), killed_with(WHOLE[:4]), finished_with(anew)]
    attempts += [killed_with(WHOLE[:4]), Attempt(2, 1.0, WHOLE[:4], None, "exit code 2: Error: damaged")]
    rows = rows_of(tmp_path, 2)
    assert (rows["kills"]["measured"], rows["resumes"]["measured"], rows["resumes"]["met"]) == (2, 0, False)
    assert rows["resumes"]["reason"] == "exit code 2: Error: damaged"
    assert rows["lost"]["measured"] == 3 and rows["lost"]["met"] is False  # all the four lines had but the identity


def test_profiles_that_fail_without_being_killed_end_the_benchmark(tmp_path: Path, attempts: list[Attempt]) -> None:
    attempts += [finished_with(WHOLE), Attempt(1, 1.0, [], None, "exit code 1: MemoryError")]
    with pytest.raises(MilliwiseError, match="fails even if nobody kills it: exit code 1: MemoryError"):
        rows_of(tmp_path, 2)


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Profiles of the toy: every next one is 1 % dearer, those over ssh by 2 % more. Which targets they were of."""
    asked: list[str] = []

    @contextmanager
    def server() -> Iterator[Loopback]:
        yield Loopback("127.0.0.1", port=2222)

    def profile_device(_space: object, target: Any, **options: Any) -> Any:
        assert options["seed"] == 5 and not options["effort"].held_out
        factor = 1.01 ** len(asked) * (1.02 if target.name.startswith("ssh://") else 1.0)
        asked.append(target.name)
        rows = toy.profile().edges.items()
        edges = {name: replace(edge, latency_ms=edge.latency_ms * factor) for name, edge in rows}
        return toy.profile(edges=edges, held_out=HeldOut(0, None, None, None, None, ()))

    monkeypatch.setattr(profile_remote, "missing_programs", lambda: "")
    monkeypatch.setattr(profile_remote, "SshServer", server)
    monkeypatch.setattr(profile_remote, "profile_device", profile_device)
    return asked


def test_local_and_ssh_take_turns_and_their_drift_is_judged(tmp_path: Path, targets: list[str]) -> None:
    for _ in range(2):
        over, floor = profile_remote.ssh_rows(Results(tmp_path / "r.jsonl", resume=True), 5)
        assert targets == ["local", "ssh://127.0.0.1:2222"] * 2
        assert over["measured"] == pytest.approx(1.01 * 1.02 - 1) and over["met"] is False
        assert floor["measured"] == pytest.approx(1.01**2 - 1) and floor["target"] == "-"


def test_without_an_ssh_server_nothing_is_measured_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback, "_program", lambda name: None if name == "sshd" else f"/bin/{name}")
    rows = profile_remote.ssh_rows(Results(tmp_path / "r.jsonl", resume=False), 0)
    assert [each["met"] for each in rows] == [None, None]
    assert {each["reason"] for each in rows} == {"sshd is not installed: apt install openssh-server"}


@needs_sshd
def test_the_private_server_is_reached_without_the_users_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.setattr("tempfile.tempdir", None)  # read TMPDIR again
    with SshServer() as target:
        assert "-F" in target.command() and "StrictHostKeyChecking=yes" in target.command()
        there, here = target.fingerprint(), device.fingerprint()
        assert (there["cpu_model"], there["onnxruntime"]) == (here["cpu_model"], here["onnxruntime"])
        (home / next(home.glob("sshd-*")) / "known_hosts").write_text("")
        with pytest.raises(MilliwiseError, match="key"):
            target.fingerprint()
    assert not list(home.iterdir())
