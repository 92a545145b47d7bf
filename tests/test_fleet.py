"""Several devices at once: a profile each, one that fails harms no other, Ctrl-C ends all, what is done is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import secure_shell
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from secure_shell import Device, needs_sshd
from test_target import is_running

from profilers import device as device_module
from profilers import fleet
from profilers.fleet import PARTIAL_NAME, profile_files
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile

device = secure_shell.device  # a fixture
TARGETS = ("ssh://kitchen", "local", "ssh://pi@hall:2200")
# Our command, but for the measuring itself: it only asks the device what it is.
SMALL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import toy
from profilers import profile
profile.profile_device = lambda space, target, *, seed, **options: toy.profile(
    space=space.name, target=target.name, fingerprint=target.fingerprint(), measured={{"seed": seed}}
)
"""
# Says what it was asked, and answers as `milliwise profile --json` does, as long as nothing called "fails" is about.
STAND_IN = """
import json, os, sys
words = sys.argv[1:]
target, output = words[words.index("--json") + 1].removeprefix("--on="), words[words.index("-o") + 1]
sys.stderr.write(f"timing with {' '.join(words[words.index('-o') + 2:])}\\n\\n\\x1b[2J\\n")
if os.path.exists(os.path.join(os.path.dirname(__file__), "fails")) and target != "local":
    sys.exit("Error: it is not there")
open(output, "w").close()
print(json.dumps({"profile": output, "edges": 3, "seconds": 1.5}))
"""


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
    """Let a program stand in for our command."""
    (folder / "command.py").write_text(program)
    monkeypatch.setattr(fleet, "COMMAND", (sys.executable, str(folder / "command.py"), *fleet.COMMAND[3:]))


def ask(output: Path, *arguments: str, targets: tuple[str, ...] = TARGETS) -> Result:
    words = [f"--on={target}" for target in targets]
    return CliRunner().invoke(main, ["profile", "kws-ds", "-o", str(output), *words, *arguments])


@needs_sshd
def test_a_profile_of_each_and_a_device_that_is_away_harms_none(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path, SMALL + fleet.PROGRAM)
    there = device.start()
    with socket.socket() as deaf:  # it is taken, but nobody listens
        deaf.bind(("127.0.0.1", 0))
        away = f"ssh://127.0.0.1:{deaf.getsockname()[1]}"
        done = ask(tmp_path / "out", "--json", "--seed", "3", targets=(there.name, away, "local"))
    assert done.exit_code == 2, done.output
    first, second, third = json.loads(done.stdout)["profiles"]
    assert second == {"target": away, "error": f"{away} refuses the connection: is sshd running there, on that port?"}
    for row, target in ((first, there.name), (third, "local")):
        made = DeviceProfile.load(Path(row["profile"]))
        assert row["target"] == made.target == target and made.measured == {"seed": 3}
        assert made.fingerprint == device_module.fingerprint()
        assert row["edges"] == len(made.edges) and row["held_out"]["nets"] == made.held_out.nets
    assert f"{there.name}: {first['profile']}" in done.stderr and f"{away}: Error: " in done.stderr


def test_what_is_done_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, STAND_IN)
    (tmp_path / "fails").touch()
    output = tmp_path / "out"
    first = ask(output, "--json", "--hop-ms", "100")
    assert first.exit_code == 2
    assert [row.get("error") for row in json.loads(first.stdout)["profiles"]] == [*["it is not there", None] * 2][:3]
    (tmp_path / "fails").unlink()
    again = ask(output, "--resume", "--hop-ms", "100")
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines() == [
        f"{target}: {output / name}.json: 3 edges in 2 s"
        for target, name in zip(TARGETS, ("ssh-kitchen", "local", "ssh-pi@hall=2200"), strict=True)
    ]
    assert "local: timing" not in again.stderr  # complete
    assert re.search(r"ssh://kitchen: timing with --threads=1 --hop-ms=100 .* --resume -- kws-ds\n", again.stderr)
    assert "\x1b" not in again.output
    assert {path.name for path in output.iterdir()} == {"ssh-kitchen.json", "local.json", "ssh-pi@hall=2200.json"}


@pytest.mark.parametrize("change", [("--seed", "1"), (), ("gone",)], ids=["other options", "no --resume", "file gone"])
def test_what_is_not_known_to_be_done_is_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: tuple[str, ...]
) -> None:
    use(monkeypatch, tmp_path, STAND_IN)
    (tmp_path / "fails").touch()
    assert ask(tmp_path / "out").exit_code == 2
    if change == ("gone",):
        (tmp_path / "out" / "local.json").unlink()
    again = ask(
        tmp_path / "out", *(("--resume", *change) if change and change != ("gone",) else ("--resume",) * len(change))
    )
    assert "local: timing" in again.stderr


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        ("raise ValueError('a defect')", "ValueError: a defect"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_command_that_crashes_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, told: str
) -> None:
    use(monkeypatch, tmp_path, program)
    done = ask(tmp_path / "out", "--json")
    assert done.exit_code == 2 and all(told in row["error"] for row in json.loads(done.stdout)["profiles"])


NOISY = "import sys\nfor _ in range(3): print('x' * 100_000)\nsys.stderr.write('done\\n' * 20_000)\n"


@pytest.mark.parametrize("printed", ["", "print('{}')", "print('[1]')", "print('[' * 10**5)", NOISY])
def test_a_command_that_prints_something_else_is_an_error_of_its_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str
) -> None:
    use(monkeypatch, tmp_path, printed)
    done = ask(tmp_path / "out", "--json")
    assert done.exit_code == 2
    assert all("printed something else" in row["error"] for row in json.loads(done.stdout)["profiles"])


def test_a_long_result_does_not_block_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = {"profile": "p.json", "edges": 3, "seconds": 1.0, "failed": "x" * 300_000}
    use(monkeypatch, tmp_path, f"import sys\nprint({json.dumps(row)!r}, flush=True)\nsys.stderr.write('done\\n')")
    done = ask(tmp_path / "out", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["profiles"][0]["failed"] == row["failed"]


@pytest.mark.parametrize(
    ("targets", "arguments", "told"),
    [
        (("local", "bundle:out"), (), "bundle:out is carried by hand"),
        (("local", "local"), (), "--on local is there twice"),
        (("ssh://kitchen", "ssh://Kitchen"), (), "there twice"),
        (("ssh://kitchen:22", "ssh://kitchen:022"), (), "there twice"),
        (("local", "ssh://a b"), (), "no address of a device"),
        (("local", "ssh://a"), ("--collect", "results.json"), "--collect takes the answer of one device"),
    ],
)
def test_what_cannot_be_done_at_once(
    tmp_path: Path, targets: tuple[str, ...], arguments: tuple[str, ...], told: str
) -> None:
    done = ask(tmp_path / "out", *arguments, targets=targets)
    assert done.exit_code == 2 and told in done.stderr and not (tmp_path / "out").exists()


def test_the_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    done = ask(tmp_path / "out")
    assert done.exit_code == 2 and "is no folder you may write to" in done.stderr
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / PARTIAL_NAME).write_text("nothing of ours\n")
    done = ask(tmp_path / "folder", "--resume")
    assert done.exit_code == 2 and "start over without --resume" in done.stderr


parts = st.text(st.sampled_from("ab.-_+1=@:[]%"), max_size=6)


@given(
    st.lists(
        st.one_of(st.just("local"), st.builds("ssh://{}{}".format, st.sampled_from(("", "local", "[::1]")), parts))
    )
)
def test_targets_that_differ_never_share_a_file(texts: list[str]) -> None:
    try:
        files = profile_files(texts, Path("out"))
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert len({file.name for file in files.values()}) == len(files) == len(texts)
        assert all(
            file.parent == Path("out") and file.suffix == ".json" and file.name[0].isalnum() for file in files.values()
        )


WAITS = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
try:
    with open(sys.argv[-1] + str(os.getpid()), "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(60)
except KeyboardInterrupt:
    child.kill()
    sys.exit(130)
"""


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    seen = tmp_path / "seen"
    seen.mkdir()
    program = (
        "import sys; from pathlib import Path; from profilers import fleet\n"
        f"fleet.COMMAND = (sys.executable, {str(tmp_path / 'waits.py')!r})\n"
        "fleet.ENDING = ((0, 0.1), *fleet.ENDING[1:])\n"
        f"files = {{name: Path({str(tmp_path)!r}, 'out', name) for name in 'ab'}}\n"
        f"fleet.profile_devices({str(seen) + '/'!r}, files, [], False, print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while len([path for path in seen.iterdir() if path.read_text().count(" ")]) < 2:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    pids = [int(word) for path in seen.iterdir() for word in path.read_text().split()]
    assert len(pids) == 4 and all(map(is_running, pids))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    while any(map(is_running, pids)) and time.monotonic() < until:  # the grandchildren are waited for by nobody
        time.sleep(0.02)
    assert not any(map(is_running, pids)) and os.listdir(tmp_path / "out") == [PARTIAL_NAME]
