"""Training a controller: it opens a gate where that pays, obeys λ and limits, and continues after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gated_toy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.adaptive import AdaptiveNetwork, gate
from toolkit.controller_training import ControllerTraining, Streams
from toolkit.errors import MilliwiseError
from toolkit.strategies.sanas import IGNORED, Objective, hop_costs
from toolkit.weights import save_tensors

COSTS = torch.tensor([[1.0, 4.0], [1.0, 3.0]])  # ms; the gated branch has to catch up if it was off
Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


def batches(draw: Draw, count: int = 8) -> Callable[[int], Streams]:
    def of_epoch(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(count):
            yield draw(32, 6, generator)

    return of_epoch


def toy(seed: int = 0) -> AdaptiveNetwork:
    torch.manual_seed(seed)
    return gated_toy.for_confused()


def trained(
    adaptive: AdaptiveNetwork,
    draw: Draw,
    epochs: int = 12,
    checkpoint: Path | None = None,
    count: int = 8,
    **options: Any,
) -> list[dict[str, Any]]:
    """The rows of the log."""
    rows: list[dict[str, Any]] = []
    objective = Objective(**{"learning_rate": 2e-2, **options})
    training = ControllerTraining(adaptive, COSTS, objective, seed=1)
    assert (
        training.run(batches(draw, count), epochs, "toy", checkpoint, rows.append) is adaptive and not adaptive.training
    )
    return rows


def listened(adaptive: AdaptiveNetwork, draw: Draw) -> tuple[Tensor, Tensor, float, float]:
    """Of new streams, without chance: labels, whether the gate opened, share that is right, mean ms of a hop."""
    sinks, labels = draw(200, 6, torch.Generator().manual_seed(99))
    with torch.no_grad():
        rolled = adaptive.roll(sinks)
    right = (rolled.logits.argmax(2) == labels).float().mean()
    return labels, rolled.decisions[:, :, 0], float(right), float(hop_costs(COSTS, rolled.modes).mean())


@pytest.mark.parametrize("exact", [True, False])
def test_it_opens_a_gate_only_where_that_is_needed(exact: bool) -> None:
    adaptive = toy()
    rows = trained(adaptive, gated_toy.confused, epochs=16, penalty=0.2, exact=exact)
    labels, opened, right, mean_ms = listened(adaptive, gated_toy.confused)
    shares = [float(opened[labels == label].float().mean()) for label in range(3)]
    assert right > 0.97 and shares[2] > 0.97 and max(shares[:2]) < 0.03
    assert 1.7 < mean_ms < 2.1, "a third of all hops are label 2: 1 ms + a third of 2 to 3"
    spent = rows[-1]["cost_by_label"]
    assert spent["2"] > 2.5 > 1.5 > max(spent["0"], spent["1"])
    assert rows[-1]["loss"] < rows[0]["loss"] and [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["mean_cost"] == pytest.approx(sum(spent.values()) / 3, abs=0.15)


def test_a_delayed_controller_opens_before_what_it_expects() -> None:
    """Label 2 follows label 1, always: the recurrent controller decides before it hears anything of a hop."""

    def draw(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.rand(streams, hops, generator=generator).lt(0.5).long()
        for hop in range(1, hops):
            labels[:, hop] = torch.where(labels[:, hop - 1] == 1, 2, labels[:, hop])
        told = torch.nn.functional.one_hot(labels, 3).float()
        return torch.stack([torch.zeros_like(told), told], 2), labels

    torch.manual_seed(0)
    adaptive = gated_toy.side_by_side([], ["only"], channels=3, labels=3)
    gated_toy.taught(adaptive, (8 * torch.eye(3)).tolist(), [0.0, 0.0, 4.0])
    trained(adaptive, draw, epochs=16, penalty=0.3, learning_rate=1e-2)
    sinks, labels = draw(100, 6, torch.Generator().manual_seed(50))
    rolled = adaptive.roll(sinks)
    opened = rolled.decisions[:, 1:, 0]
    assert not opened[labels[:, :-1] == 1].any(), "what follows is certain: nothing has to run"
    assert opened[labels[:, :-1] != 1].all() and (rolled.logits.argmax(2) == labels).all()


def test_a_higher_penalty_never_costs_more() -> None:
    seen = []
    for penalty in (0.05, 0.4, 0.8, 30.0):
        adaptive = gated_toy.for_doubtful()
        trained(adaptive, gated_toy.doubtful, epochs=8, penalty=penalty)
        _labels, opened, right, mean_ms = listened(adaptive, gated_toy.doubtful)
        seen.append((mean_ms, right, float(opened.float().mean())))
    costs, rights, _shares = zip(*seen, strict=True)
    assert costs == tuple(sorted(costs, reverse=True)) and len(set(costs)) == 4
    assert rights == tuple(sorted(rights, reverse=True)) and rights[0] > 0.99 > 0.9 > rights[-1] > 0.8
    assert seen[0][2] > 0.95 and seen[-1] == (1.0, rights[-1], 0.0), "at last it is the cheapest mode everywhere"


@pytest.mark.parametrize(("limit", "exact"), [(1.7, True), (2.4, True), (2.0, False)])
def test_a_limit_is_reached(limit: float, exact: bool) -> None:
    adaptive = gated_toy.for_doubtful()
    rows = trained(adaptive, gated_toy.doubtful, epochs=30, count=12, limit=limit, exact=exact)
    mean_ms = listened(adaptive, gated_toy.doubtful)[3]
    assert mean_ms == pytest.approx(limit, rel=0.15)
    assert sum(row["mean_cost"] for row in rows[-5:]) / 5 == pytest.approx(limit, rel=0.15)
    assert len({row["penalty"] for row in rows[6:]}) > 10 and len({row["penalty"] for row in rows[:6]}) == 1


def test_a_limit_above_the_dearest_mode_costs_nothing_in_accuracy() -> None:
    adaptive = gated_toy.for_doubtful()
    rows = trained(adaptive, gated_toy.doubtful, epochs=6, limit=50.0)
    assert listened(adaptive, gated_toy.doubtful)[2] > 0.99 and rows[-1]["penalty"] < 0.1


def test_the_penalty_grows_during_the_warm_up() -> None:
    spent = [
        [row["mean_cost"] for row in trained(toy(), gated_toy.confused, epochs=6, penalty=5.0, warm_up=warm_up)]
        for warm_up in (0.0, 0.5)
    ]
    assert spent[0][1] + 0.3 < spent[1][1] and max(each[-1] for each in spent) < 2


def test_a_gate_that_is_sure_notices_what_it_costs() -> None:
    """During the warm-up it is free to open all. Without the restraint nothing moves any more after that."""
    seen = []
    for restraint in (4e-3, 0.0):
        adaptive = gated_toy.for_doubtful()
        trained(adaptive, gated_toy.doubtful, epochs=10, penalty=0.8, warm_up=0.4, restraint=restraint)
        seen.append(listened(adaptive, gated_toy.doubtful)[3])
    assert 1.5 < seen[0] < 2.5 and seen[1] > 3


def test_padding_is_never_paid_for() -> None:
    def padded(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sinks, labels = gated_toy.confused(streams, hops, generator)
        labels[:, 4:] = IGNORED
        sinks[:, 4:] = 1e6
        return sinks, labels

    rows = trained(toy(), padded, epochs=2, penalty=0.2)
    assert all(math.isfinite(row["loss"]) and set(row["cost_by_label"]) == {"0", "1", "2"} for row in rows)
    assert all(1 <= row["mean_cost"] <= 4 for row in rows)


def weights(adaptive: AdaptiveNetwork) -> list[Tensor]:
    return [value.clone() for value in adaptive.state_dict().values()]


@pytest.mark.parametrize("options", [{"penalty": 0.3}, {"penalty": 0.3, "exact": False}, {"limit": 2.0}])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    """It stops while the third epoch is on."""

    class Stopped(Exception):
        pass

    def stopping(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if generator.initial_seed() == 2:
            raise Stopped
        return gated_toy.confused(streams, hops, generator)

    whole, path = toy(), tmp_path / "state.safetensors"
    rows = trained(whole, gated_toy.confused, epochs=5, **options)
    interrupted = toy()
    with pytest.raises(Stopped):
        trained(interrupted, stopping, 5, path, **options)
    other = toy(seed=9)
    later = trained(other, gated_toy.confused, 5, path, **options)
    assert [{**row, "seconds": 0} for row in later] == [{**row, "seconds": 0} for row in rows[2:]]
    assert all(torch.equal(one, two) for one, two in zip(weights(whole), weights(other), strict=True))
    assert trained(other, gated_toy.confused, 5, path, **options) == [], "what is finished is not repeated"


def whole_network(seed: int = 0) -> AdaptiveNetwork:
    torch.manual_seed(seed)
    network = gated_toy.three()
    network.head.dropout.p = 0.2
    return gate(network, ("first",), "hearing").eval()


def of_its_own(adaptive: AdaptiveNetwork) -> Callable[[int], Streams]:
    """The network makes the batches itself."""

    def of_epoch(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(4):
            features = torch.randn(16, 1, 2, 8, generator=generator)
            yield adaptive.sink_values(features), features.view(16, 2, 4, 2).sum((1, 3)).gt(0).long()

    return of_epoch


def test_all_of_it_can_be_trained_and_interrupted(tmp_path: Path) -> None:
    costs, objective = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), Objective(penalty=0.01, learning_rate=1e-2)
    rows: list[dict[str, Any]] = []
    adaptive, path = whole_network(), tmp_path / "state.safetensors"
    before = {name: value.clone() for name, value in adaptive.state_dict().items()}
    ControllerTraining(adaptive, costs, objective, 1, True).run(of_its_own(adaptive), 6, "toy", None, rows.append)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    same = {name for name, value in adaptive.state_dict().items() if torch.equal(value, before[name])}
    assert same == set(), "every edge learnt, and its statistics, from the first batch on"
    assert int(adaptive.state_dict()["network.operations.first.norm.num_batches_tracked"]) == 24
    for epochs in (2, 6):
        again = whole_network(seed=epochs)
        ControllerTraining(again, costs, objective, 1, True).run(of_its_own(again), epochs, "toy", path)
    rest = whole_network()
    ControllerTraining(rest, costs, objective, 1, True).run(of_its_own(rest), 6, "toy", path)
    assert all(torch.equal(one, two) for one, two in zip(weights(rest), weights(again), strict=True))


def test_the_edges_stay_as_they_are_unless_all_is_trained() -> None:
    adaptive = whole_network()
    before = {name: value.clone() for name, value in adaptive.network.operations.state_dict().items()}
    with torch.no_grad():
        kept = [(adaptive.sink_values(torch.randn(8, 1, 2, 8)), torch.randint(0, 4, (8, 4)))]
    objective = Objective(penalty=0.1)
    ControllerTraining(adaptive, torch.ones(2, 2), objective, 0).run(lambda epoch: kept, 2, "toy")
    assert all(torch.equal(value, before[name]) for name, value in adaptive.network.operations.state_dict().items())


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    trained(toy(), gated_toy.confused, 1, path, penalty=0.3)
    return path.read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_checkpoint_is_one_line_of_error(
    tmp_path: Path, checkpoint_bytes: bytes, place: int, byte: int, cut: bool
) -> None:
    damaged, path = bytearray(checkpoint_bytes), tmp_path / "damaged.safetensors"
    place %= len(damaged)
    if cut:
        del damaged[place:]
    else:
        damaged[place] = byte
    path.write_bytes(damaged)
    try:
        trained(toy(), gated_toy.confused, 1, path, penalty=0.3)
    except MilliwiseError as error:
        assert "\n" not in str(error) and "damaged.safetensors" in str(error)
    else:
        assert not cut


@pytest.mark.parametrize("text", ["{}", "not JSON", "[]", "7", '{"sha256": 1}'])
def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"network.x": torch.zeros(1)}, text)
    with pytest.raises(MilliwiseError, match="start over without --resume") as error:
        trained(toy(), gated_toy.confused, 1, path, penalty=0.3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["optimizer.0.exp_avg", "optimizer.2.step", "network.controller.linear.bias"])
def test_a_checkpoint_with_a_part_missing_is_refused(tmp_path: Path, checkpoint_bytes: bytes, name: str) -> None:
    from toolkit.weights import read_tensors

    path = tmp_path / "state.safetensors"
    path.write_bytes(checkpoint_bytes)
    tensors, text = read_tensors(path)
    del tensors[name]
    save_tensors(path, tensors, text)
    with pytest.raises(MilliwiseError, match="start over without --resume"):
        trained(toy(), gated_toy.confused, 2, path, penalty=0.3)


@pytest.mark.parametrize(
    ("adaptive", "options"),
    [
        (toy, {"penalty": 0.4}),
        (toy, {"penalty": 0.3, "exact": False}),
        (lambda: gated_toy.side_by_side(["trunk"], ["branch"], 4, 5), {"penalty": 0.3}),
        (lambda: gated_toy.side_by_side(["trunk"], ["other"], 4, 3), {"penalty": 0.3}),
    ],
    ids=["penalty", "estimator", "labels", "gates"],
)
def test_the_checkpoint_of_another_training_is_refused(
    tmp_path: Path, checkpoint_bytes: bytes, adaptive: Callable[[], AdaptiveNetwork], options: dict[str, Any]
) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(checkpoint_bytes)
    with pytest.raises(MilliwiseError, match="another network"):
        trained(adaptive(), gated_toy.confused, 2, path, **options)


@pytest.mark.parametrize(
    "costs",
    [torch.ones(3, 3), torch.ones(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.full((2, 2), math.nan),
     torch.full((2, 2), math.inf)],
)  # fmt: skip
def test_costs_of_other_modes_or_none_are_refused(costs: Tensor) -> None:
    with pytest.raises(MilliwiseError, match="give one above 0 for each mode after each"):
        ControllerTraining(toy(), costs, Objective(penalty=0.1), 0)


def test_a_diverged_training_is_refused_before_it_reaches_the_weights() -> None:
    def broken(streams: int, hops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sinks, labels = gated_toy.confused(streams, hops, generator)
        return sinks * math.nan, labels

    adaptive = toy()
    before = weights(adaptive)
    with pytest.raises(MilliwiseError, match=r"diverged.*--seed"):
        trained(adaptive, broken, penalty=0.1)
    assert all(torch.equal(one, two) for one, two in zip(before, weights(adaptive), strict=True))
