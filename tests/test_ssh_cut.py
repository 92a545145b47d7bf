"""A connection that ends in the middle, by whatever cause: both ends notice, nothing runs on or stays on the device."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import secure_shell
from click.testing import CliRunner, Result
from secure_shell import FILES, JOB, TALKS, Device, needs_sshd, network, wait_until
from test_target import is_running

from profilers import device as device_module
from profilers import dialogue, host, profile, session, ssh
from profilers.bundle import job_digest
from profilers.profile import Effort
from profilers.ssh import SshTarget
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile

device, as_runner = secure_shell.device, secure_shell.as_runner  # fixtures
TINY = Effort(fitted=6, calibrating=2, held_out=3, paced=2, short_calls=10, hop_calls=2, rounds=2, weighed=1)


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device gives up on us after four seconds instead of a minute."""
    (tmp_path / "hasty.py").write_text(Path(host.__file__).read_text().replace("CUT_S = 60", "CUT_S = 4"))
    monkeypatch.setattr(ssh, "HOST", tmp_path / "hasty.py")


@needs_sshd
def test_cut_in_the_middle_leaves_nothing(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner(TALKS + "time.sleep(60)")
    target = device.start()
    seen: list[dict] = []

    def cut(event: dict) -> None:
        seen.append(event)
        assert is_running(event["pid"]) and os.path.isdir(event["folder"])
        for pid in device.children():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(MilliwiseError, match="cut in the middle"):
        target.run(JOB, FILES, cut)
    wait_until(lambda: not is_running(seen[0]["pid"]) and not os.path.exists(seen[0]["folder"]))


@needs_sshd
def test_ctrl_c_leaves_nothing(device: Device, as_runner: Callable[[str], None]) -> None:
    as_runner("child = subprocess.Popen(['sleep', '60'])\n" + TALKS + "print(); time.sleep(60)")
    seen: list[dict] = []

    def interrupt(event: dict) -> None:
        seen.append(event)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.start().run(JOB, FILES, interrupt)
    wait_until(lambda: not is_running(seen[0]["pid"]) and not os.path.exists(seen[0]["folder"]))


@needs_sshd
def test_the_device_notices_that_nobody_is_there_any_more(
    device: Device, as_runner: Callable[[str], None], hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that is dead without a word: here one that takes all that is said, but without our sign of life."""
    said = "json.dumps({'event': 'load', 'foreign': [], 'probes_ms': []})"
    as_runner(f"{TALKS}for _ in range(200): time.sleep(0.1); print({said}, flush=True)")
    monkeypatch.setattr(dialogue, "HEARTBEAT_S", 1000.0)
    seen: list[dict] = []
    with pytest.raises(MilliwiseError, match="ended from outside"):
        device.start().run(JOB, FILES, seen.append)
    assert not is_running(seen[0]["pid"])


@needs_sshd
def test_signs_of_life_keep_a_long_job_alive(
    device: Device, as_runner: Callable[[str], None], hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_runner("time.sleep(6)\n" + TALKS)
    monkeypatch.setattr(dialogue, "HEARTBEAT_S", 0.2)
    assert len(device.start().run(JOB, FILES, lambda event: None)) == 1


@needs_sshd
def test_a_link_that_dies_in_the_middle_of_a_profile(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends notice by themselves: the device sits in a network of its own, and the link to it goes down."""
    monkeypatch.setattr(dialogue, "HEARTBEAT_S", 0.2)  # before the cut it must not give up
    monkeypatch.setitem(ssh.OPTIONS, "ServerAliveInterval", "1")
    monkeypatch.setitem(ssh.OPTIONS, "ServerAliveCountMax", "3")  # one may be late on a busy machine
    with network() as (namespace, link):
        device = Device(tmp_path, "198.18.77.2")
        monkeypatch.setenv("PATH", str(tmp_path / "client"), prepend=os.pathsep)

        def switch(state: str) -> None:
            subprocess.run(["ip", "link", "set", link, state], check=True)

        try:
            target = device.start(("ip", "netns", "exec", namespace))
            with profiled_with_a_cut(target, tmp_path, monkeypatch, lambda: switch("down")) as told:
                assert "cut in the middle" in told
                wait_until(lambda: not list(device.temporary.iterdir()))
                monkeypatch.setattr(ssh, "HOST", Path(host.__file__))  # a busy machine must not cut what is resumed
                switch("up")
        finally:
            device.stop()


@needs_sshd
def test_a_device_that_goes_away_in_the_middle_of_a_profile(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device.start()
    with profiled_with_a_cut(target, tmp_path, monkeypatch, device.stop) as told:
        assert "cut in the middle" in told
        away = ask(tmp_path, target, "--resume")
        assert away.exit_code == 2 and "refuses the connection" in away.stderr
        device.start()


@contextlib.contextmanager
def profiled_with_a_cut(
    target: SshTarget, folder: Path, monkeypatch: pytest.MonkeyPatch, cut: Callable[[], object]
) -> Iterator[str]:
    """A profile whose third job is cut when the device begins to answer: its error inside, after that it is resumed."""
    real, begun, done = SshTarget.run, [], []

    def run(self: SshTarget, job: dict, files: dict, on_event: Callable[[dict], object]) -> list[dict]:
        begun.append(job_digest(job, files))

        def hear(event: dict) -> None:
            on_event(event)
            if len(begun) == 3 and event["event"] == "environment":
                cut()

        events = real(self, job, files, hear)
        done.append(begun[-1])
        return events

    monkeypatch.setattr(SshTarget, "run", run)
    monkeypatch.setattr(session, "SLOWER", math.inf)  # a job during which this machine slows down is asked twice
    monkeypatch.setattr(profile, "profile_device", partial(profile.profile_device, effort=TINY))
    failed = ask(folder, target)
    assert failed.exit_code == 2 and not (folder / "profile.json").exists(), failed.output
    assert len(begun) == 3 and begun[:2] == done and (folder / "profile.json.partial").stat().st_size > 1000
    yield failed.stderr
    resumed = ask(folder, target, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert begun[3:] == done[2:] and not {*begun[:2]} & {*begun[3:]}
    assert not (folder / "profile.json.partial").exists()
    made = DeviceProfile.load(folder / "profile.json")
    assert made.target == target.name and made.fingerprint == device_module.fingerprint()


def ask(folder: Path, target: SshTarget, *arguments: str) -> Result:
    words = ["profile", "kws-coarse", "--hop-ms=40", "--on", target.name, "-o", str(folder / "profile.json")]
    return CliRunner().invoke(main, [*words, *arguments])
