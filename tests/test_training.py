"""Training: it learns, it continues after an interruption as if there had been none, and it refuses what is damaged."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from toolkit.costs import Price
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.spaces import find_space
from toolkit.strategies import STRATEGIES, Proposal, Strategy
from toolkit.supernet import SuperNetwork
from toolkit.training import Plan, predict, train
from toolkit.weights import read_tensors, save_tensors

STEPS = 4
PLAN = Plan(epochs=6, learning_rate=2e-2)


def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Three kinds of features that a linear layer could tell apart: loud above, loud below, neither."""
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        labels = torch.randint(0, 3, (32,), generator=generator)
        features = 0.5 * torch.randn(32, 1, 2, 8, generator=generator)
        features[labels == 1, :, 0] += 1.5
        features[labels == 2, :, 1] += 1.5
        yield features, labels


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits[:, -1], labels)


def strategy_named(name: str | None) -> Strategy | None:
    return None if name is None else STRATEGIES[name](toy.pricing(), 1.5, 0)


def run(network: SuperNetwork, **options: Any) -> list[dict[str, Any]]:
    """Train; the rows of the log."""
    rows: list[dict[str, Any]] = []
    given = {"batches": batches, "plan": PLAN, "loss": loss, "log": rows.append, **options}
    train(network, steps=STEPS, title="toy", **given)
    return rows


ALIKE = {"bsn-fixed-penalty", "bsn-independent-edges", "bsn-dense-start", "bsn-free-from-the-start", "bsn-few-costs"}
# The first are trained like `bsn`, the last like `bsn-published`, and it takes no milliseconds.
NAMES = [None, *sorted(STRATEGIES.keys() - ALIKE - {"bsn-published-sampled"})]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_and_the_network_can_tell(name: str | None) -> None:
    network = toy.network()
    rows = run(network, plan=Plan(epochs=12, learning_rate=2e-2), strategy=strategy_named(name))
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert all(row["seconds"] > 0 and 0 <= row["learning_rate"] <= 2e-2 for row in rows)
    assert not network.training
    right = torch.cat([logits[:, -1].argmax(1) == labels for logits, labels in predict(network, batches(99))])
    assert right.float().mean() > 0.75  # a third by chance


def test_in_bfloat16_it_learns_as_much_and_its_weights_and_loss_stay_float32() -> None:
    seen: list[torch.dtype] = []

    def noticing(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return loss(logits, labels)

    networks = {short: toy.network() for short in (False, True)}
    rows = {
        short: run(network, plan=Plan(epochs=12, learning_rate=2e-2, bfloat16=short), loss=noticing)
        for short, network in networks.items()
    }
    assert rows[True][-1]["loss"] == pytest.approx(rows[False][-1]["loss"], abs=0.05)
    assert rows[True][-1]["loss"] != rows[False][-1]["loss"], "it was computed otherwise"
    assert {*seen, *(weight.dtype for weight in networks[True].parameters())} == {torch.float32}


def test_a_network_that_grows_trains_only_the_edges_it_has_so_far() -> None:
    network, without = toy.network(), toy.GRAPH.full - {"conv3", "late"}
    before = {name: value.clone() for name, value in network.operations.state_dict().items()}
    asked: list[float] = []

    def growth(done: float) -> Architecture:
        asked.append(done)
        return without if done < 0.5 else toy.GRAPH.full

    def moved() -> set[str]:
        weights = network.operations.state_dict().items()
        return {name.split(".")[0] for name, value in weights if not torch.equal(value, before[name])}

    halves: list[set[str]] = []
    plan = Plan(epochs=4, learning_rate=2e-2, growth=growth)
    train(network, batches, STEPS, plan, loss, title="toy", log=lambda _row: halves.append(moved()))
    assert asked == pytest.approx([step / (4 * STEPS) for step in range(1, 4 * STEPS + 1)])
    assert halves[0] == {name for name in toy.GRAPH.live(without) if toy.PARAMETERS[name]}
    assert halves[-1] - halves[0] == {"conv3", "late", "separable"}, "which led to `late` alone"


class Interrupted(Exception):
    """Stands for Ctrl-C, or for the power that fails."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("when", [(0, 1), (3, 0), (4, 2)])
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, name: str | None, when: tuple[int, int]
) -> None:
    checkpoint = tmp_path / "state.safetensors"

    def interrupted(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index, batch in enumerate(batches(epoch)):
            if (epoch, index) == when:
                raise Interrupted
            yield batch

    whole, whole_strategy = toy.network(), strategy_named(name)
    rows = run(whole, strategy=whole_strategy)
    with pytest.raises(Interrupted):
        run(toy.network(), batches=interrupted, strategy=strategy_named(name), checkpoint=checkpoint)
    # Where nothing was saved yet, the same beginning is needed; else the checkpoint must replace any other.
    resumed, resumed_strategy = toy.network(seed=7 if when[0] else 0), strategy_named(name)
    more = run(resumed, strategy=resumed_strategy, checkpoint=checkpoint)
    assert [row["epoch"] for row in more] == list(range(when[0] + 1, 7))
    assert more[-1]["loss"] == rows[-1]["loss"]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    if whole_strategy is not None and resumed_strategy is not None:
        assert json.dumps(whole_strategy.state_dict()) == json.dumps(resumed_strategy.state_dict())


def test_an_epoch_is_told_before_it_is_saved(tmp_path: Path) -> None:
    """Or a kill between the two would leave its row out for good."""
    checkpoint = tmp_path / "state.safetensors"

    def killed(_row: dict[str, Any]) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        run(toy.network(), checkpoint=checkpoint, log=killed)
    assert not checkpoint.exists()


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.safetensors"
    first, again = toy.network(), toy.network(seed=7)
    run(first, checkpoint=checkpoint)
    assert run(again, checkpoint=checkpoint) == []
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


def test_the_seed_decides_and_nothing_else() -> None:
    one, same, other = toy.network(), toy.network(), toy.network()
    run(one, seed=1)
    torch.rand(3)
    run(same, seed=1)
    run(other, seed=2)
    assert torch.equal(one.head.linear.weight, same.head.linear.weight)
    assert not torch.equal(one.head.linear.weight, other.head.linear.weight)  # dropout


def test_out_of_time_it_stops_after_an_epoch() -> None:
    assert len(run(toy.network(), plan=Plan(epochs=1000, minutes=1e-6))) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_loss_is_refused_before_it_reaches_the_weights(value: float) -> None:
    network = toy.network()
    before = {key: parameter.clone() for key, parameter in network.named_parameters()}
    with pytest.raises(MilliwiseError, match=r"diverged.*--seed"):
        run(network, loss=lambda logits, labels: loss(logits, labels) * value)
    assert all(torch.equal(parameter, before[key]) for key, parameter in network.named_parameters())


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    run(toy.network(), plan=Plan(epochs=1), strategy=strategy_named("bsn"), checkpoint=path)
    return path.read_bytes()


def resume(folder: Path, content: bytes, network: SuperNetwork, strategy: str | None = "bsn") -> None:
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    run(network, plan=Plan(epochs=1), strategy=strategy_named(strategy), checkpoint=path)


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path, checkpoint_bytes: bytes) -> None:
    with pytest.raises(MilliwiseError, match="another network"):
        resume(tmp_path, checkpoint_bytes, toy.network().select(toy.CHEAPEST))


def test_the_checkpoint_for_other_labels_is_refused(tmp_path: Path, checkpoint_bytes: bytes) -> None:
    with pytest.raises(MilliwiseError):
        resume(tmp_path, checkpoint_bytes, toy.network(labels=5))


@pytest.mark.parametrize("name", [None, "uniform"])
def test_the_checkpoint_of_another_strategy_is_refused(tmp_path: Path, name: str | None) -> None:
    path = tmp_path / "state.safetensors"
    run(toy.network(), plan=Plan(epochs=1), strategy=strategy_named(name), checkpoint=path)
    with pytest.raises(MilliwiseError):
        resume(tmp_path, path.read_bytes(), toy.network(), "bsn")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_checkpoint_is_one_line_of_error(
    tmp_path: Path, checkpoint_bytes: bytes, place: int, byte: int, cut: bool
) -> None:
    damaged = bytearray(checkpoint_bytes)
    place %= len(damaged)
    if cut:
        del damaged[place:]
    else:
        damaged[place] = byte
    try:
        resume(tmp_path, bytes(damaged), toy.network())
    except MilliwiseError as error:
        assert "\n" not in str(error) and path_named(error)


def path_named(error: MilliwiseError) -> bool:
    return "damaged.safetensors" in str(error)


@pytest.mark.parametrize("text", ["{}", "not JSON", "[]", '{"graph": null}'])
def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"network.x": torch.zeros(1)}, text)
    with pytest.raises(MilliwiseError):
        run(toy.network(), checkpoint=path)


def test_tensors_round_trip_and_what_is_no_tensor_file(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    tensors = {
        "a": torch.randn(2, 3),
        "b": torch.tensor(5),
        "c": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    save_tensors(path, tensors, '{"x": 1}')
    read, text = read_tensors(path)
    assert text == '{"x": 1}' and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    (tmp_path / "junk").write_bytes(b"junk")
    (tmp_path / "empty").write_bytes(b"")
    for bad in ("junk", "empty", "missing", "."):
        with pytest.raises(MilliwiseError, match="make them again") as error:
            read_tensors(tmp_path / bad)
        assert "\n" not in str(error.value)


class PerExample(Strategy):
    """Asks for the same few architectures in turn, one for each example."""

    of_examples = True
    some = (toy.GRAPH.full, toy.CHEAPEST, frozenset(), frozenset({"conv1", "skip", "late"}))

    def __init__(self) -> None:
        super().__init__(toy.pricing(), 1.0)
        self.told: list[float] = []

    def ask(self, count: int) -> list[Proposal]:
        return [Proposal(self.some[index % len(self.some)]) for index in range(count)]

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        self.told += losses

    def candidates(self, count: int) -> list[Architecture]:
        return []

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def test_every_example_goes_through_its_own_architecture() -> None:
    """Against every network alone: the same losses, and the mean of their gradients as the step of plain descent."""
    network, strategy = toy.network(), PerExample()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.BatchNorm2d):  # statistics of a batch are of all examples together
            part.eval()
            part.train = lambda mode=True, part=part: part  # type: ignore[method-assign, assignment, misc]
    features, labels = next(batches(0))
    alone = copy.deepcopy(network)
    expected = []
    for index, kept in enumerate(strategy.some * 8):
        one = features[index : index + 1]
        sink = alone.from_features(one, kept) if kept else alone.head(0 * alone_sink(alone, one))
        expected.append(loss(sink, labels[index : index + 1]))
    torch.stack(expected).mean().backward()
    train(network, lambda epoch: [(features, labels)], 1, Plan(1), loss, title="toy", strategy=strategy)
    assert strategy.told == pytest.approx([value.item() for value in expected], rel=1e-4)
    norm = nn.utils.clip_grad_norm_(alone.parameters(), 5.0)
    assert norm > 0
    for (name, value), (_name, other) in zip(network.named_parameters(), alone.named_parameters(), strict=True):
        if other.grad is not None and value.grad is not None:
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-3, atol=1e-6, msg=name)


def alone_sink(network: SuperNetwork, features: Tensor) -> Tensor:
    """What the head of the whole network is given."""
    return network.walk(
        toy.GRAPH.full,
        features,
        lambda _edge, part, value: part(value),
        lambda _node, values: sum(values[1:], values[0]),
    )


@pytest.mark.parametrize("count", [2, 3, 5, 13])
def test_few_examples_make_few_groups(count: int) -> None:
    """At the end of a fabric an image is one pixel, so a group of one example has nothing to be normalised by."""
    network = find_space("neural-fabric:columns=2,channels=4,size=8").build(3)
    data = [(torch.rand(count, 3, 8, 8), torch.arange(count) % 3)]
    strategy = STRATEGIES["uniform"](Price(network.graph, "cost", len), 1e9, 0)
    train(network, lambda _epoch: data, 1, Plan(epochs=2), nn.CrossEntropyLoss(), title="", strategy=strategy)
    assert all(value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point())
