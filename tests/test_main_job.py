"""The main job through the command line: profile, feasible, search, export, check, stream, and what goes wrong."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result
from conftest import SMALL

from exporters.listener import Listener
from kws_demo import search as search_module
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile
from toolkit.run import read_log
from toolkit.spaces import find_space

SEARCH = ("--data", "synth:yes,no", "--clips", "60", "--minutes", "100", "--calls", "59")
EPOCHS = 6


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments: object, code: int = 0) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refusal(*arguments: object) -> str:
    """The one line of an error with exit code 2."""
    result = run(*arguments)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 2 and len(lines) == 1 and "Traceback" not in result.output, result.output
    return lines[0]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Training ends after a number of epochs: by the clock, a busy machine would train less."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search_module, "MOST_EPOCHS", EPOCHS)
        yield


@pytest.fixture(scope="module")
def profile_file(this_machine: DeviceProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "device.json"
    this_machine.save(path)
    return path


@pytest.fixture(scope="module")
def found(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("search") / "run"
    return folder, answer("search", "kws-ds", "--profile", profile_file, "--budget", "80 ms", *SEARCH, "-o", folder)


@pytest.fixture(scope="module")
def model(found: tuple[Path, dict]) -> Path:
    path = found[0].parent / "listener.onnx"
    result = answer("export", found[0], "-o", path, "--calls", "59")
    assert result["budget_kept"] is True and result["bytes"] == path.stat().st_size and result["max_abs_diff"] <= 1e-4
    return path


def test_profile_prices_every_edge_and_knows_its_error(profile_file: Path) -> None:
    profile = DeviceProfile.load(profile_file)
    graph = find_space("kws-ds").build().graph
    assert profile.edges.keys() == graph.full and profile.digest == graph.digest()
    assert profile.held_out.nets == SMALL.held_out == len(profile.held_out.rows)
    assert profile.clock == "tight" and profile.latency.bound is None  # too few networks for one
    assert 0 < profile.table_ms(graph, graph.live(graph.full)) < profile.paced_ms(graph, graph.full)
    assert all(row.failed is None and row.error_ms is not None for row in profile.edges.values())


def test_feasible_orders_cheapest_median_dearest(profile_file: Path) -> None:
    result = answer("feasible", "kws-ds", "--profile", profile_file, "--budget", "1 s")
    assert 0 < result["min_ms"] < result["median_ms"] < result["max_ms"] and result["feasible"]
    assert answer("feasible", "kws-ds", "--profile", profile_file, "--budget", "1 us", code=1)["feasible"] is False


def test_search_keeps_what_it_promises(found: tuple[Path, dict]) -> None:
    _folder, result = found
    assert result["budget_kept"] and result["measured_p95_ms"] < 80
    assert sum(row["chosen"] for row in result["pareto"]) == 1
    judged = [row for row in result["pareto"] if row["fine_tuned_accuracy"] is not None]
    chosen = next(row for row in judged if row["chosen"])
    assert chosen["kept"] == result["live_edges"] and all(
        row["fine_tuned_accuracy"] <= chosen["fine_tuned_accuracy"] for row in judged if row["fits"]
    )
    assert result["accuracy"] > 0.5  # four labels, none of which has half of the clips
    graph = find_space("kws-ds").build().graph
    assert graph.live(result["live_edges"]) == frozenset(result["live_edges"])


def test_resume_of_a_finished_search_changes_nothing(profile_file: Path, found: tuple[Path, dict]) -> None:
    folder, result = found
    again = answer(
        "search", "kws-ds", "--profile", profile_file, "--budget", "80 ms", *SEARCH, "-o", folder, "--resume"
    )
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    other = ("search", "kws-ds", "--profile", profile_file, "--budget", "70 ms", *SEARCH, "-o", folder, "--resume")
    assert "other arguments" in refusal(*other)


def test_an_interrupted_search_resumes(profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MOST_EPOCHS", 3)
    folder = tmp_path / "run"
    command = ["search", "kws-ds", "--profile", str(profile_file), "--budget", "80 ms", *SEARCH, "-o", str(folder)]
    program = "from toolkit.__main__ import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, *command], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "search.checkpoint").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert (folder / "search.checkpoint").exists(), "no epoch in two minutes"
    process.send_signal(signal.SIGINT)
    _out, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not (folder / "run.json").exists()
    before = len(read_log(folder))
    assert answer(*command, "--resume")["run"] == str(folder)
    epochs = [row["epoch"] for row in read_log(folder) if row["stage"] == "training the super-network"]
    assert before > 0 and epochs == list(range(1, len(epochs) + 1))


def test_exported_listener_keeps_the_contract(model: Path, contract_checker: Path) -> None:
    done = subprocess.run([sys.executable, str(contract_checker), str(model)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_exported_listener_is_what_its_metadata_says(model: Path, found: tuple[Path, dict]) -> None:
    metadata = Listener.open(model).metadata
    assert metadata.labels == ["_silence_", "_unknown_", "yes", "no"] and metadata.budget == "80 ms"
    assert metadata.measured_ms is not None and metadata.measured_ms["hop_ms"] == 200
    written = onnx.load(model)
    assert written.ir_version == 8 and [entry.version for entry in written.opset_import] == [17]


def test_check_answers_by_its_exit_code(model: Path) -> None:
    fast = ("check", model, "--hop-ms", 20, "--calls", 59)
    kept = answer(*fast, "--budget", "80 ms")
    assert kept["kept"] and kept["p50_ms"] <= kept["p95_ms"] <= kept["p95_upper_ms"] <= kept["p99_ms"] * 1.0001
    assert not answer(*fast, "--budget", "1 us", code=1)["kept"]
    assert "milliseconds" in refusal(*fast, "--budget", "300 kparams")


def test_stream_of_a_wav(model: Path, tmp_path: Path) -> None:
    wav = tmp_path / "noise.wav"
    soundfile.write(wav, np.random.default_rng(0).normal(0, 0.01, 24_000 * 3), 24_000)
    result = run("stream", model, "--wav", wav, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["hops"] == 15 and summary["late"] == 0


def test_impossible_budget_names_the_cheapest(profile_file: Path, tmp_path: Path) -> None:
    line = refusal(
        "search",
        "kws-ds",
        "--profile",
        profile_file,
        "--budget",
        "1 us",
        "--data",
        "synth:yes,no",
        "-o",
        tmp_path / "r",
    )
    least = answer("feasible", "kws-ds", "--profile", profile_file)["min_ms"]
    assert f"{least:.3g} ms" in line and not (tmp_path / "r").exists()


def test_profiles_that_do_not_fit_are_refused(profile_file: Path, tmp_path: Path) -> None:
    stored = json.loads(profile_file.read_text())
    search = ("search", "kws-ds", "--budget", "80 ms", "--data", "synth:yes,no", "-o", tmp_path / "r", "--profile")

    def spoilt(name: str, **changes: object) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({**stored, **changes}))
        return path

    other_machine = {**stored["fingerprint"], "cpu_model": "Abacus 3000"}
    line = refusal(*search, spoilt("machine.json", fingerprint=other_machine))
    assert "Abacus 3000" in line and stored["fingerprint"]["cpu_model"] in line
    other_runtime = {**stored["fingerprint"], "onnxruntime": "0.1"}
    assert "0.1" in refusal(*search, spoilt("runtime.json", fingerprint=other_runtime))
    line = refusal(*search, spoilt("graph.json", digest="0123456789abcdef"))
    assert "0123456789abcdef" in line and stored["digest"] in line
    name = "fine0-fine1-separable3"
    edges = {key: value for key, value in stored["edges"].items() if key != name}
    assert name in refusal(*search, spoilt("edge.json", edges=edges))
    (tmp_path / "cut.json").write_text(profile_file.read_text()[:-200])
    assert "truncated" in refusal(*search, tmp_path / "cut.json")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("profile", "kws-dx", "-o", "p.json"), "kws-ds"),
        (("profile", "kws-ds", "-o", "p.json", "--hop-ms", "130"), "40 ms"),
        (("profile", "kws-ds", "-o", "p.json", "--on", "ssh://-pi"), "no address"),
        (("profile", "kws-ds", "-o", "p.json", "--on", "pi@kitchen"), "use local"),
        (("check", "nothing.onnx", "--budget", "2 ms"), "nothing.onnx"),
        (("check", "nothing.onnx", "--budget", "2"), "unit"),
        (("export", "nowhere", "-o", "m.onnx"), "nowhere"),
        (("stream", "nothing.onnx", "--wav", "nothing.wav"), "nothing.onnx"),
        (("stream", "nothing"), "no shipped listener"),
        (("bench", "spines"), "spine"),
    ],
)
def test_bad_input_is_one_line_with_the_cure(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with CliRunner().isolated_filesystem(tmp_path):
        assert told in refusal(*arguments)
        assert not list(Path(".").iterdir())


def test_a_full_disk_leaves_the_old_file(profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "device.json"
    path.write_bytes(profile_file.read_bytes())

    def full(_self: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    profile = DeviceProfile.load(path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MilliwiseError, match="No space left on device"):
        profile.save(path)
    assert DeviceProfile.load(path) == profile and list(tmp_path.iterdir()) == [path]
