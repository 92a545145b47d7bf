"""Sweeps on a Ray cluster: a node dies and nothing is lost; and addresses where there is no such cluster."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sweeping
from click.testing import CliRunner

from kws_demo import cluster
from kws_demo.cluster import Cluster, _cores_each
from kws_demo.settings import Settings
from kws_demo.sweep import grid, run_sweep
from kws_demo.sweep_point import FILES, Point, run_away
from toolkit.cli import main
from toolkit.errors import MilliwiseError

QUICK_TO_NOTICE = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 2000}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes of one core on this machine, the first of which is the head: a cluster, and the second."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'milliwise[cluster]' to run this test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        from ray.cluster_utils import Cluster as TestCluster

        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE}
        both = TestCluster(initialize_head=True, head_node_args=head)
        try:
            yield both, both.add_node(num_cpus=1, env_vars={"DOOMED": "yes"})
        finally:
            both.shutdown()


def test_a_node_dies_and_nothing_is_lost(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever comes to the second node stays there until that dies, so it does have a point when it does."""
    both, second = nodes
    given, ended = tmp_path / "given", tmp_path / "ended"
    given.mkdir()

    def run(point: Point) -> Any:
        if "DOOMED" not in os.environ:
            return run_away(point)
        (given / point.name).touch()
        time.sleep(600)
        ended.touch()

    def kill() -> None:
        begun = time.monotonic()
        while not any(given.iterdir()) and time.monotonic() - begun < 120:
            time.sleep(0.05)
        both.remove_node(second, allow_graceful=False)

    monkeypatch.setattr(cluster, "run_away", run)
    settings = {"data": str(sweeping.pictures(tmp_path)), "minutes": 0.01}
    points = grid({sweeping.SPACE: sweeping.profile()}, ["uniform"], ["40 kFLOPs", "60 kFLOPs"], [], [0], **settings)
    points.append(Point(Settings(sweeping.SPACE, "50 kFLOPs", str(tmp_path / "nowhere.npz")), sweeping.profile()))
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    *rows, failed = run_sweep(points, tmp_path / "s", Cluster(both.address))
    killer.join()
    assert any(given.iterdir()) and not ended.exists(), "the node had a point when it died"
    assert [row.failed for row in rows] == [None] * 2 and all(row.test is not None for row in rows)
    assert {path.name for path in (tmp_path / "s" / points[0].name).iterdir()} == set(FILES)
    assert failed.failed is not None and "nowhere.npz" in failed.failed and failed.failed.startswith("on "), failed
    told = capfd.readouterr()
    assert told.out == "" and "sweep: 3 of 3 points" in told.err and "Traceback" not in told.err


class Task:
    """What Ray knows a piece of work by."""

    def __init__(self, point: Point) -> None:
        self.point = point


class FakeRay:
    """Instead of Ray: tasks end one after the other, the first two looks find none that did."""

    def __init__(self, cores: int) -> None:
        self.looks, self.most, self.cores = 0, 0, cores

    def remote(self, _work: Any) -> FakeRay:
        return self

    def options(self, **_given: Any) -> Any:
        return type("Work", (), {"remote": Task})

    def wait(self, tasks: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        self.looks, self.most = self.looks + 1, max(self.most, len(tasks))
        return ([], tasks) if self.looks < 3 else (tasks[:num_returns], tasks[num_returns:])

    def nodes(self) -> list[Any]:
        return [{"Alive": True, "Resources": {"CPU": self.cores}}, {"Alive": False, "Resources": {"CPU": 9.0}}]

    def get(self, task: Task) -> str:
        return f"{task.point.name} failed"

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize(("workers", "cores", "said"), [(2, 1, 0), (None, 1, 0), (2, 0, 1)])
def test_no_more_workers_than_asked_and_a_word_if_none_is_left(
    workers: int | None, cores: int, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    fake = FakeRay(cores)
    monkeypatch.setitem(sys.modules, "ray", fake)
    for name, found in (("_require_ray", None), ("_require_answer", None), ("_join", None), ("_cores_each", 1)):
        monkeypatch.setattr(cluster, name, lambda *_given, found=found: found)
    monkeypatch.setattr(cluster, "_probed", lambda _address: {})
    points = [Point(Settings("a", f"{size} FLOPs", "x"), sweeping.profile()) for size in range(1, 6)]
    told = list(Cluster("box:1", workers).run(points, tmp_path))
    assert sorted(point.name for point, _failure in told) == sorted(point.name for point in points)
    assert fake.most == (workers or 5)
    assert capfd.readouterr().err.count("no node of box:1 has 1 cores any more: waiting for one") == said


def refusal(address: str) -> str:
    with pytest.raises(MilliwiseError) as found:
        Cluster(address)
    assert found.value.exit_code == 2 and "\n" not in str(found.value)
    return str(found.value)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of what listens, and never says anything."""
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "JOIN_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_what_listens_and_is_no_cluster(listening: str) -> None:
    begun = time.monotonic()
    assert "not joined within 4 s, for something else listens there" in refusal(listening)
    assert time.monotonic() - begun < 60


def test_nothing_listens(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    said = refusal(address)
    assert said.startswith(f"no Ray cluster answers at {address} (Connection refused)") and "ray start --head" in said
    sweeping.profile().save(tmp_path / "profile.json")
    given = ["sweep", sweeping.SPACE, "--profile", tmp_path / "profile.json", "--data", "x", "--budget", "60 kFLOPs"]
    done = CliRunner().invoke(main, [*map(str, given), "-o", str(tmp_path / "s"), "--cluster", address])
    assert done.exit_code == 2 and done.stderr == f"Error: {said}\n" and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "address", ["", "auto", "host", "host:", ":6379", "host:99999", "host:x", "ray://host:1", "a b:-1"]
)
def test_what_is_no_address(address: str) -> None:
    pytest.importorskip("ray")
    assert "is not HOST:PORT: write that of its head" in refusal(address)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300])
def test_no_such_host(host: str) -> None:
    pytest.importorskip("ray")
    assert "no Ray cluster answers at" in refusal(f"{host}:6379")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "raise RuntimeError('Version mismatch: The cluster was started with:\\n  Ray: 1.0')",
            "Ray: 1.0; install the same",
        ),
        ("raise ConnectionError('no such session')", "no such session; correct the address"),
        ("import os; os._exit(3)", "ended without an answer"),
        ("print('[]')", "ended without an answer"),
    ],
)
def test_a_cluster_that_does_not_let_us_in(
    listening: str, body: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Ray stands in for the real one, in the process that tries."""
    (tmp_path / "ray.py").write_text(f"def init(**_):\n    {body}\n    raise SystemExit\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    said = refusal(listening)
    assert expected in said and said.startswith(f"cannot use the Ray cluster at {listening}: ")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refusal("127.0.0.1:6379") == "this command needs the package ray: pip install 'milliwise[cluster]'"


def test_the_cores_of_a_point() -> None:
    """No more than the smallest node has, or it would wait for ever."""
    found = {"total": {"CPU": 24.0}, "nodes": [{"CPU": 16.0}, {"CPU": 8.0}, {"CPU": 0.0}, {}]}
    assert [_cores_each(found, "a", workers, gpu=False) for workers in (None, 24, 5, 3, 1, 100)] == [1, 1, 4, 8, 8, 1]
    with pytest.raises(MilliwiseError, match="has no GPU"):
        _cores_each(found, "a", None, gpu=True)
    with pytest.raises(MilliwiseError, match="no node"):
        _cores_each({"total": {}, "nodes": [{"CPU": 0.0}]}, "a", None, gpu=False)
