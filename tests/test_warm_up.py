"""A warm-up that many searches share: made once, begun with by all, and refused where it does not belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sweeping
import torch
import toy
from safetensors.torch import load_file

from kws_demo import search, warm_up
from kws_demo.settings import Settings
from kws_demo.sweep import grid, run_sweep
from kws_demo.workers import Here
from toolkit.errors import MilliwiseError
from toolkit.spaces import find_space
from toolkit.strategies.bsn import BudgetedSuperNetwork

SPACE, BUDGETS = sweeping.SPACE, ["40 kFLOPs", "60 kFLOPs"]


class Elsewhere(Here):
    """An executor on other machines."""

    here = False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("made")
    sweeping.pictures(made)
    return made


@pytest.fixture(scope="module")
def warmed(folder: Path) -> Path:
    """The weights of one epoch."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(warm_up, "MOST_EPOCHS", 1)
        path = folder / "warm.safetensors"
        warm_up.warm_up(Settings(SPACE, "", str(folder / "colours.npz")), 200, path, 100.0)
    return path


def test_all_points_of_a_seed_begin_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_up, "MOST_EPOCHS", 2)
    monkeypatch.setattr(search, "MOST_EPOCHS", 1)
    begun: list[str] = []
    begin_with = search.begin_with

    def told(network: object, labels: object, path: Path) -> None:
        begin_with(network, labels, path)  # type: ignore[arg-type]
        begun.append(path.name)

    monkeypatch.setattr(search, "begin_with", told)
    points = grid({SPACE: sweeping.profile()}, ["bsn"], BUDGETS, [], [0, 1], data=str(folder / "colours.npz"))
    rows = run_sweep(points, tmp_path / "s", Here(), warm_up_minutes=5.0)
    assert [row.failed for row in rows] == [None] * 4
    names = [f"warm-up_neural-fabric-columns=2-channels=4-size=8_5-minutes_seed-{seed}.safetensors" for seed in (0, 1)]
    assert begun == [names[0]] * 2 + [names[1]] * 2
    first, second = (load_file(tmp_path / "s" / name) for name in names)
    assert any((first[key] != second[key]).any() for key in first)
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_file()) == ["sweep.json", *names]
    made = (tmp_path / "s" / names[0]).stat().st_mtime_ns
    assert run_sweep(points, tmp_path / "s", Here(), resume=True, warm_up_minutes=5.0) == rows
    assert (tmp_path / "s" / names[0]).stat().st_mtime_ns == made and len(begun) == 4
    others = grid({SPACE: sweeping.profile()}, ["uniform"], BUDGETS[:1], [], [0], data=str(folder / "colours.npz"))
    assert not run_sweep(others, tmp_path / "o", Here(), False, 5.0, tmp_path / "s")[0].failed
    assert begun[4:] == names[:1] and not list((tmp_path / "o").glob("warm-up*"))  # those of another sweep
    with pytest.raises(MilliwiseError, match="begun with warm"):
        run_sweep(points, tmp_path / "s", Here(), resume=True)
    with pytest.raises(MilliwiseError, match=r"leave --warm-up or --cluster out"):
        run_sweep(points, tmp_path / "t", Elsewhere(), warm_up_minutes=5.0)


def test_the_weights_arrive(warmed: Path) -> None:
    network = find_space(SPACE).build(3)
    kept = load_file(warmed)
    assert any((value != kept[name]).any() for name, value in network.state_dict().items())
    warm_up.begin_with(network, _labels(warmed), warmed)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, kept[name])


def _labels(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(json.loads(file.metadata()["milliwise"])["labels"])


def test_the_warm_up_of_another_space_or_of_other_data_is_refused(warmed: Path, tmp_path: Path) -> None:
    network, labels = find_space(SPACE).build(3), _labels(warmed)
    with pytest.raises(MilliwiseError, match="other labels"):
        warm_up.begin_with(network, ["a", "b", "c"], warmed)
    with pytest.raises(MilliwiseError, match="another space"):
        warm_up.begin_with(find_space("neural-fabric:columns=3,channels=4,size=8").build(3), labels, warmed)
    (tmp_path / "cut").write_bytes(warmed.read_bytes()[:-40])
    with pytest.raises(MilliwiseError, match="cannot read"):
        warm_up.begin_with(network, labels, tmp_path / "cut")


def test_after_a_warm_up_learning_begins_at_once() -> None:
    strategy = BudgetedSuperNetwork(toy.pricing(), 2.0)
    assert not any(proposal.decisions for proposal in strategy.ask(4)), "it warms up by itself"
    strategy.skip_warm_up()
    assert all(proposal.decisions for proposal in strategy.ask(4))
