"""Budgets of mean multiply-adds: what a mode is billed, by hand and as published, and the search that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dense_space
import gated_space
import pytest
import torch
import toy
from test_adaptive_search import Clock, answer, damaged, refusal, run, search, tones

from exporters import verify_adaptive
from exporters.listener import Listener
from kws_demo import adaptive_search as search_module
from profilers import check, export_adaptive, modes
from profilers.mode_prices import price_adaptive
from toolkit.budget import Budget
from toolkit.controller import HearingController, RecurrentController
from toolkit.costs import price, price_modes
from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Edge, Graph
from toolkit.profile import DeviceProfile
from toolkit.run import read_log
from toolkit.spaces import find_space

SPACE = Path(dense_space.__file__)
BUDGET = "9 kFLOPs mean"  # of the network only: more than `small` alone, less than all of it
EPOCHS, TAUGHT = 40, 30


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    return dense_space.counted_profile(dense_space.space())


def test_the_published_network_costs_what_is_published() -> None:
    """SANAS, chapter 4 of the thesis, whose network hears 101 columns of 40 bands at every hop."""
    chosen = find_space("kws-cnn")
    adaptive, profile = chosen.adaptive(), dense_space.counted_profile(chosen)
    bare = price_adaptive(adaptive, profile, network_only=True).named_multiply_adds
    costs = dict(zip(adaptive.modes, bare.values(), strict=True))
    assert bare["shortcut-mel"] == 519_168 == min(cost for live, cost in costs.items() if live)
    assert round(bare["conv0+conv1+lin0+lin1"] / 1e6, 3) == 124.594
    assert round(costs[adaptive.graph.full] / 1e6, 3) == 137.289 == round(max(bare.values()) / 1e6, 3)
    assert bare["off"] == 128 * 12, "the published one classifies nothing then; this one does"
    whole = price_adaptive(adaptive, profile).named_multiply_adds
    more = {whole[name] - bare[name] for name in bare}
    assert more == {profile.fixed["stem"].multiply_adds + 3 * 100 * (128 + 100) + 100 * 8}


def test_controllers_by_hand() -> None:
    assert RecurrentController(128, 12).multiply_adds == 69_600 == 3 * 100 * (128 + 100) + 100 * 12
    assert RecurrentController(128, 11).multiply_adds == 68_400 + 1_100, "as published"
    assert HearingController(64, 2).multiply_adds == 2 * 64 * 16 + 16 * 2


def test_modes_by_hand(profile: DeviceProfile) -> None:
    adaptive = dense_space.space().adaptive()
    prices = price_adaptive(adaptive, profile, network_only=True)
    assert prices.named_multiply_adds == dict(zip(dense_space.MODES, dense_space.NETWORK_ONLY, strict=True))
    assert prices.table().tolist() == [list(dense_space.NETWORK_ONLY)] * 4, "whatever ran before"
    always = profile.fixed["stem"].multiply_adds + dense_space.CONTROLLER_MULTIPLY_ADDS
    whole = price_adaptive(adaptive, profile).named_multiply_adds
    assert list(whole.values()) == [cost + always for cost in dense_space.NETWORK_ONLY]


def test_sums_are_billed_whole_where_a_live_edge_goes_into_them() -> None:
    cost = price_modes(toy.GRAPH, toy.profile())
    # Values of a node × edges into it beyond the first: fine and deep 16, low 8, out 8 × 2.
    assert cost(toy.GRAPH.full) == sum(toy.MULTIPLY_ADDS.values()) + 16 + 16 + 8 + 16
    assert cost(toy.CHEAPEST) == 72 + 8 + 16
    assert cost(frozenset()) == 0
    graph = Graph((Edge("a", "in", "out"), Edge("b", "in", "out")), "in", "out")
    handed_on = toy.profile(digest=graph.digest(), edges=dict.fromkeys("ab", toy.NOTHING))
    assert price_modes(graph, handed_on)(frozenset("a")) == toy.FEATURES_BYTES / 4


def test_what_could_not_be_counted_is_not_zero(profile: DeviceProfile) -> None:
    adaptive = dense_space.space().adaptive()
    odd = replace(profile.edges["small"], uncounted=("aten::sin",))
    with pytest.raises(UnpricedEdge, match="edge small uses aten::sin"):
        price_adaptive(adaptive, replace(profile, edges={**profile.edges, "small": odd}))
    stem = replace(profile, fixed={**profile.fixed, "stem": replace(profile.fixed["stem"], uncounted=("aten::sin",))})
    with pytest.raises(UnpricedEdge, match="stem uses aten::sin"):
        price_adaptive(adaptive, stem)
    assert price_adaptive(adaptive, stem, network_only=True) == price_adaptive(adaptive, profile, network_only=True)


def test_edges_that_catch_up_have_no_flops_of_a_hop() -> None:
    adaptive = find_space("kws-gated").adaptive()
    with pytest.raises(MilliwiseError, match=r"edge wide catches up.*a budget in ms, such as '1 ms mean'"):
        price_adaptive(adaptive, toy.profile(digest=adaptive.graph.digest()))


def test_networks_that_do_not_change_are_priced_without_a_mean(profile: DeviceProfile, tmp_path: Path) -> None:
    graph, budget = dense_space.space().build().graph, "40 MFLOPs mean"
    with pytest.raises(MilliwiseError, match=r"of 40 MFLOPs mean is for networks that change.*--strategy sanas"):
        price(graph, profile, Budget.parse(budget))
    profile.save(tmp_path / "device.json")
    told = refusal(run("feasible", SPACE, "--profile", tmp_path / "device.json", "--budget", budget))
    assert "write '40 MFLOPs'" in told


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """No time is measured, and training is short."""
    clock, data = Clock(), tones()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(modes, "time_paced", clock)
        patched.setattr(check, "time_paced", clock)
        patched.setattr(search_module, "data_of", lambda _settings: data)
        patched.setattr(search_module, "MOST_EPOCHS", EPOCHS)
        patched.setattr(search_module, "LEARNING_RATE", 5e-3)
        patched.setattr(search_module, "STREAM_EPOCHS", 1)
        patched.setattr(search_module, "CONTROLLER_EPOCHS", TAUGHT)
        patched.setattr(export_adaptive, "verify_adaptive", partial(verify_adaptive.verify_adaptive, hops=300))
        yield


@pytest.fixture(scope="module")
def profile_file(profile: DeviceProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "device.json"
    profile.save(path)
    return path


@pytest.mark.parametrize(
    ("budget", "further", "told"),
    [
        ("40 MFLOPs", [], "not 40 MFLOPs: write it as '40 MFLOPs mean'"),
        ("2.4 MFLOPs mean", [], "its cheapest mode costs 2.403 MFLOPs here; allow at least that"),
        ("15 FLOPs mean", ["--network-only"], "its cheapest mode costs 16 FLOPs here"),  # with a classifier of two
        ("31 FLOPs mean", ["--network-only"], "its cheapest mode costs 32 FLOPs here"),  # with that of the data
        ("5 ms mean", ["--network-only"], "for 5 ms mean contains controller and front-end: leave out --network-only"),
        ("9 kFLOPs", ["--network-only", "--strategy", "bsn"], "--network-only is of no use to --strategy bsn"),
    ],
)
def test_what_is_refused(budget: str, further: list[str], told: str, profile_file: Path, tmp_path: Path) -> None:
    assert told in refusal(search(profile_file, tmp_path / "run", *further, space=SPACE, budget=budget))
    assert not (tmp_path / "run").exists()


def test_a_space_whose_branches_catch_up_is_refused(tmp_path: Path) -> None:
    gated_space.profile(gated_space.space()).save(tmp_path / "device.json")
    told = refusal(search(tmp_path / "device.json", tmp_path / "run", budget="40 MFLOPs mean"))
    assert "the gated edge wide catches up" in told and not (tmp_path / "run").exists()


# With the classifier of the words, which are four labels; the profile is of twelve.
OF_WORDS = [cost - dense_space.FEATURES * (dense_space.LABELS - 4) for cost in dense_space.NETWORK_ONLY]


@pytest.fixture(scope="module")
def found(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder, and what the command told."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("search") / "run"
    return folder, answer(search(profile_file, folder, "--network-only", "--json", space=SPACE, budget=BUDGET))


def test_the_search_keeps_a_mean_of_what_it_counted(found: tuple[Path, dict[str, Any]]) -> None:
    folder, told = found
    prices = dict(zip(dense_space.MODES, OF_WORDS, strict=True))
    assert told["prices"] == {"named_multiply_adds": prices, "network_only": True}
    assert [*told["modes"]["named_ms"]] == [*prices] and 1 < told["predicted_ms"] < 3, "they are measured all the same"
    spent = told["streams"]["mean_multiply_adds"]
    assert 32 <= spent <= 9000 and told["budget_kept"] is True
    rows = [row for row in read_log(folder) if row["stage"] == "teaching the controller"]
    assert len(rows) == TAUGHT and not any("ms" in name for row in rows for name in row)
    for row in rows:
        assert 32 <= row["mean_multiply_adds"] <= max(prices.values())
        assert all(32 <= cost <= max(prices.values()) for cost in row["multiply_adds_by_label"].values())


def test_the_export_holds_the_mean_against_the_budget(found: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "listener.onnx"
    told = answer(run("export", found[0], "-o", path, "--space", SPACE, "--calls", 59, "--json"))
    assert told["budget_kept"] == found[1]["budget_kept"] and told["budget"] == BUDGET
    metadata = Listener.open(path).metadata
    assert {mode["name"]: mode["predicted_ms"] for mode in metadata.modes} == found[1]["modes"]["named_ms"]
    assert metadata.predicted_ms == found[1]["predicted_ms"]


@pytest.mark.parametrize("kept", [True, False])
def test_with_all_gates_open_the_whole_network_is_held_against_it(
    kept: bool, found: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    limit = max(OF_WORDS) - (0 if kept else 1)
    folder = damaged(found[0], tmp_path, lambda run: run.update(budget=f"{limit} FLOPs mean"))
    static = ("--control", "static", "--calls", 59, "--json")
    assert answer(run("export", folder, "-o", tmp_path / "m.onnx", "--space", SPACE, *static))["budget_kept"] is kept


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run: run["streams"].pop("mean_multiply_adds"), "no figures of its modes: search again"),
        (lambda run: run["streams"].update(mean_multiply_adds=-1.0), "costs -1.0 multiply-adds on average"),
        (lambda run: run.update(budget="9 kB"), "no figures of its modes: search again"),
    ],
)
def test_a_run_without_figures_is_not_exported(
    found: tuple[Path, dict[str, Any]], tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    folder = damaged(found[0], tmp_path, change)
    assert told in refusal(run("export", folder, "-o", tmp_path / "m.onnx", "--space", SPACE))


def test_a_mean_above_the_budget_is_said(found: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = damaged(found[0], tmp_path, lambda run: run["streams"].update(mean_multiply_adds=9001.0))
    done = run("export", folder, "-o", tmp_path / "m.onnx", "--space", SPACE, "--calls", 59)
    assert done.exit_code == 1 and f"the budget {BUDGET} is NOT kept" in done.stdout
