"""The commands that measure on a device over ssh: there, and with no other's profile; or not at all, and said so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_search
import pytest
import secure_shell
import torch
from click.testing import CliRunner, Result
from secure_shell import FILES, Device, needs_sshd
from tiny_listener import metadata, model, write

from exporters.listener import Listener
from kws_demo.candidate import Candidate
from kws_demo.measure import measure_candidate
from profilers import measured_file
from profilers.check import own_target
from profilers.device import fingerprint, identity
from profilers.ssh import SshTarget
from toolkit.budget import Budget
from toolkit.cli import main
from toolkit.costs import price
from toolkit.errors import MilliwiseError, Unreachable
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, save_selected
from toolkit.spaces import find_space
from toolkit.supernet import SuperNetwork

device = secure_shell.device  # a fixture


def profile_of(target: str, **differs: object) -> DeviceProfile:
    """Made on the target, which is this machine unless something differs; with short gaps between calls."""
    made = fake_search.profile(target=target, fingerprint={**fingerprint(), **differs})
    return replace(made, latency=replace(made.latency, shortened_gap_ms=2.0))


@pytest.fixture(scope="module")
def network() -> SuperNetwork:
    torch.manual_seed(0)
    return find_space("kws-ds").build(len(fake_search.LABELS), 200).select(fake_search.KEPT).eval()


def run_folder(folder: Path, network: SuperNetwork, made: DeviceProfile) -> Path:
    """A finished run, with the profile it was searched with."""
    facts = {"space": "kws-ds", "budget": "100 ms", "seed": 0}
    save_selected(folder, Selected(network, fake_search.KEPT, fake_search.LABELS, 200, facts))
    made.save(folder / "profile.json")
    return folder


def ask(*arguments: object) -> tuple[Result, Any]:
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.exit_code in (0, 1) or "Traceback" not in done.output
    return done, json.loads(done.stdout) if done.exit_code in (0, 1) else None


def away(device: Device) -> str:
    """The name of a device where no sshd was started."""
    return SshTarget("127.0.0.1", port=device.port).name


@pytest.mark.parametrize(
    ("device", "target"),
    [
        ({}, "local"),
        ({"target": "local", "identity": "of another"}, "local"),
        ({"target": "ssh://kitchen", "identity": "of another"}, "ssh://kitchen"),
        ({"target": "ssh://kitchen"}, "ssh://kitchen"),
        ({"target": "ssh://kitchen", "identity": identity(fingerprint())}, "local"),  # we are on it
    ],
)
def test_where_a_model_is_checked(device: dict, target: str) -> None:
    assert own_target(device) == target


@needs_sshd
def test_a_check_is_made_on_the_device_the_model_was_made_for(device: Device, tmp_path: Path) -> None:
    target, check = device.start().name, ("check", tmp_path / "model.onnx", "--hop-ms", "10", "--calls", "60")
    known = {"target": target, "identity": "of another"}
    write(tmp_path / "model.onnx", model(metadata(device=known).to_properties()))
    done, found = ask(*check, "--budget", "100 ms")
    assert done.exit_code == 0 and found["kept"] and (found["target"], found["calls"]) == (target, 60)
    write(tmp_path / "model.onnx")
    over, found = ask(*check, "--budget", "0.0001 ms", "--on", target)
    assert over.exit_code == 1 and found["kept"] is False and found["target"] == target


@needs_sshd
@pytest.mark.parametrize(
    "target", ["ssh://127.0.0.1:1", "ssh://-oProxyCommand=x", "bundle:out", "http://x", "\x1b[2J", 7]
)
def test_a_model_that_names_no_device_to_be_reached(tmp_path: Path, target: object) -> None:
    """What a model says is not to be trusted: it is parsed as any address, and never measured elsewhere instead."""
    path = write(tmp_path / "model.onnx", model(metadata(device={"target": target}).to_properties()))
    done, _ = ask("check", path, "--budget", "100 ms", "--calls", "60")
    assert done.exit_code == 2 and done.stderr.startswith("Error: ") and done.stderr.rstrip("\n").isprintable()


@needs_sshd
def test_an_export_is_measured_on_the_profiles_device(device: Device, tmp_path: Path, network: SuperNetwork) -> None:
    target = device.start().name
    run = run_folder(tmp_path / "run", network, profile_of(target))
    done, found = ask("export", run, "-o", tmp_path / "model.onnx", "--calls", "60")
    assert done.exit_code == 0, done.output
    assert found["budget_kept"] is True and found["measured"]["calls"] == 60
    written = Listener.open(tmp_path / "model.onnx").metadata
    assert written.device["target"] == target and written.measured_ms["p95"] == found["measured_p95_ms"] > 0


@needs_sshd
def test_an_export_without_the_device_is_written_and_not_measured(
    device: Device, tmp_path: Path, network: SuperNetwork
) -> None:
    run = run_folder(tmp_path / "run", network, profile_of(away(device)))
    done, found = ask("export", run, "-o", tmp_path / "model.onnx", "--calls", "60")
    assert done.exit_code == 1 and found["budget_kept"] is None and found["measured"] is None
    assert (
        "is not measured: ssh://127.0.0.1:" in done.stderr
        and "cannot be reached: export again when it can" in done.stderr
    )
    assert Listener.open(tmp_path / "model.onnx").metadata.measured_ms is None


@needs_sshd
def test_another_machine_behind_the_same_address_is_refused(
    device: Device, tmp_path: Path, network: SuperNetwork
) -> None:
    other = profile_of(device.start().name, cpu_model="Abacus 9")
    told = f"cpu_model is 'Abacus 9' there and {fingerprint()['cpu_model']!r} on {other.target}"
    run = run_folder(tmp_path / "run", network, other)
    done, _ = ask("export", run, "-o", tmp_path / "model.onnx", "--calls", "60")
    assert done.exit_code == 2 and told in done.stderr and not (tmp_path / "model.onnx").exists()
    searched = search(run / "profile.json", tmp_path / "new")
    assert searched.exit_code == 2 and told in searched.stderr and not (tmp_path / "new").exists()


@needs_sshd
def test_a_search_begins_only_where_its_device_is_reached(device: Device, tmp_path: Path) -> None:
    profile_of(away(device)).save(tmp_path / "profile.json")
    done = search(tmp_path / "profile.json", tmp_path / "run")
    assert done.exit_code == 2 and "refuses the connection" in done.stderr and not (tmp_path / "run").exists()


def search(profile: Path, folder: Path) -> Result:
    words = ("search", "kws-ds", "--profile", profile, "--budget", "100 ms", "--data", "synth:yes,no", "-o", folder)
    return ask(*words)[0]


@needs_sshd
def test_a_search_measures_its_candidates_on_the_device(device: Device, network: SuperNetwork) -> None:
    target = SshTarget("127.0.0.1", port=device.port)
    made = profile_of(target.name)

    def measured(limit: str) -> Candidate:
        budget, candidate = Budget.parse(limit), Candidate(sorted(fake_search.KEPT), 1.0, 1.1, 0.9, 7)
        prices = price(fake_search.graph(), made, budget)
        measure_candidate(candidate, network, (1, 3200), budget, prices, made, target, 60, "measuring")
        return candidate

    with pytest.raises(Unreachable, match="refuses the connection"):
        measured("100 ms")
    device.start()
    found = measured("100 ms")
    assert found.fits is True and found.check is not None and found.check["calls"] == 60
    assert 0 < found.measured_p95_ms <= found.measured_upper_ms < 100
    assert measured("0.0001 ms").fits is False


@needs_sshd
def test_an_export_goes_without_a_device_that_is_away_and_with_no_other_fault(device: Device) -> None:
    made = profile_of(away(device))

    def measured(on: str | None = None, content: bytes = FILES["a.onnx"], calls: int = 60) -> object:
        return measured_file.measured_on(content, Budget.parse("200 ms"), 200, made, on, calls)

    assert measured() is None
    with pytest.raises(MilliwiseError, match="refuses the connection"):  # it was asked for by name
        measured(made.target)
    device.start()
    for options, told in (({"calls": 5}, "5 calls cannot bound"), ({"content": b"no model"}, "cannot time")):
        with pytest.raises(MilliwiseError, match=told):
            measured(**options)  # type: ignore[arg-type]
    device.trust(None)
    with pytest.raises(MilliwiseError, match="host key"):
        measured()
