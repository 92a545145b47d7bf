"""Gates: which modes they leave, what each mode hears, and how a controller goes from hop to hop."""

from __future__ import annotations

from itertools import product

import exported
import gated_toy
import pytest
import torch
from torch import Tensor, nn

from profilers.counts import count
from profilers.latency import edge_work
from toolkit.adaptive import AdaptiveNetwork, Rollout, gate, of_every_mode
from toolkit.controller import HearingController, RecurrentController
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.layers import WindowHead
from toolkit.spaces import find_space

BOTH = frozenset({"first", "second"})
SHORT = frozenset({"shortcut"})


def loose(adaptive: AdaptiveNetwork) -> AdaptiveNetwork:
    """With a controller that is not sure of anything."""
    with torch.no_grad():
        for parameter in adaptive.controller.parameters():
            parameter.uniform_(-1, 1)
    return adaptive.eval()


def test_the_modes_of_three_gates_by_hand() -> None:
    adaptive = gate(gated_toy.three(), ("first", "second", "shortcut"), "recurrent")
    assert adaptive.choices[:4] == ((False,) * 3, (True, False, False), (False, True, False), (True, True, False))
    assert adaptive.choices[4] == (False, False, True) and len(adaptive.choices) == 8
    assert adaptive.modes == (frozenset(), BOTH, SHORT, BOTH | SHORT)
    assert adaptive.mode_of.tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert adaptive.kind == "recurrent"


def test_edges_without_a_gate_always_run() -> None:
    adaptive = gate(gated_toy.three(), ("second",), "hearing")
    assert adaptive.modes == (SHORT, BOTH | SHORT), "`first` has no gate, but without `second` it leads nowhere"
    assert gate(gated_toy.three(), ("shortcut",), "hearing").modes == (BOTH, BOTH | SHORT)


def expected_sinks(adaptive: AdaptiveNetwork, features: Tensor, live: Architecture) -> Tensor:
    """What the super-network hands its head, [batch, channels, 1, hops]."""
    seen: list[Tensor] = []
    handle = adaptive.network.head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    adaptive.network.from_features(features, live)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    "gated", [gated_toy.MANY, ("conv3", "deep", "early"), ("entry", "late", "shortcut")], ids=["all", "inner", "outer"]
)
@pytest.mark.parametrize("training", [False, True])
def test_every_mode_hears_what_its_edges_do(gated: tuple[str, ...], training: bool) -> None:
    adaptive = gate(gated_toy.many(), gated, "recurrent")
    exported.randomise(adaptive)
    adaptive.train(training)
    features = torch.randn(2, 1, 2, 12)
    with torch.no_grad():
        sinks = adaptive.sink_values(features)
        assert sinks.shape == (2, 6, len(adaptive.modes), gated_toy.CHANNELS)
        for place, live in enumerate(adaptive.modes):
            if live:
                expected = expected_sinks(adaptive, features, live).squeeze(2).transpose(1, 2)
                torch.testing.assert_close(sinks[:, :, place], expected, atol=1e-6, rtol=0)
                logits = adaptive.network.from_features(features, live)
                torch.testing.assert_close(adaptive.classify(sinks[:, :, place]), logits, atol=1e-6, rtol=0)
            else:
                assert not sinks[:, :, place].any(), "off is zeros"
    assert len(sinks.flatten(0, 1).transpose(0, 1).unique(dim=0)) == len(adaptive.modes), "and no two are the same"


def test_an_edge_that_several_modes_share_is_computed_once() -> None:
    adaptive = gate(gated_toy.many(), ("early", "shortcut"), "hearing").eval()
    calls = dict.fromkeys(gated_toy.MANY, 0)

    def called(name: str) -> None:
        calls[name] += 1

    for name, operation in adaptive.network.operations.items():
        operation.register_forward_hook(lambda *_, name=name: called(name))
    adaptive.sink_values(torch.randn(1, 1, 2, 4))
    assert len(adaptive.modes) == 4 and set(calls.values()) == {1}


def test_the_gated_listener_hears_every_mode() -> None:
    network = find_space("kws-gated").build(4, 200)
    exported.randomise(network)
    adaptive = gate(network, ("wide", "deep"), "hearing").eval()
    trunk = frozenset({"trunk", "second", "moment"})
    assert adaptive.modes == (trunk, trunk | {"wide"}, trunk | {"deep"}, trunk | {"wide", "deep"})
    audio = 0.1 * torch.randn(1, 5 * 3200)
    with torch.no_grad():
        features = network.stem(audio)
        sinks = adaptive.sink_values(features)
        for place, live in enumerate(adaptive.modes):
            torch.testing.assert_close(adaptive.classify(sinks[:, :, place]), network(audio, live), atol=1e-5, rtol=0)
        assert torch.equal(adaptive(audio), adaptive.roll(sinks).logits)


def test_the_published_network_and_its_controller() -> None:
    """SANAS, chapter 4 of the thesis: 4 layers and 4 shortcuts; the classifier, and a sum billed as of five values."""
    adaptive = find_space("kws-cnn").adaptive()
    assert (adaptive.kind, len(adaptive.gated), len(adaptive.choices), len(adaptive.modes)) == ("recurrent", 8, 256, 32)
    assert adaptive.modes[0] == frozenset() and adaptive.modes[-1] == adaptive.graph.full
    work = edge_work(adaptive.network, (1, 1, 40, 101))
    macs = {name: count(item.module, item.input_shape).multiply_adds for name, item in work.items()}
    fixed = 128 * 12 + 128 * (5 - 1)
    totals = {live: sum(macs[name] for name in live) + fixed for live in adaptive.modes if live}
    assert min(totals.values()) == totals[frozenset({"shortcut-mel"})] == 519_168
    assert round(max(totals.values()) / 1e6, 3) == 137.289

    def per_hop(controller: nn.Module) -> int:
        """Every weight multiplies once."""
        return sum(parameter.numel() for parameter in controller.parameters() if parameter.ndim == 2)

    assert per_hop(RecurrentController(128, 11)) == 68_400 + 1_100, (
        "of the paper, whose input and output are gates, too"
    )
    assert per_hop(adaptive.controller) == 68_400 + 800 == 69_200
    assert 0.13 < 69_500 / 519_168 < 0.14


def test_before_training_every_gate_is_likely_open() -> None:
    adaptive = find_space("kws-cnn").adaptive(3)
    first = adaptive.controller(torch.zeros(1, 100), torch.zeros(1, 128))
    torch.testing.assert_close(
        first, 3 + adaptive.controller.linear(torch.zeros(1, 100)) - adaptive.controller.linear.bias
    )
    assert torch.equal(adaptive.roll(torch.zeros(1, 2, 32, 128)).decisions, torch.ones(1, 2, 8, dtype=torch.bool))


@pytest.fixture
def hearing() -> tuple[AdaptiveNetwork, Tensor]:
    adaptive = loose(gated_toy.side_by_side(["always"], ["a", "b"], channels=3, labels=4))
    return adaptive, torch.randn(5, 6, 4, 3)


@pytest.fixture
def recurrent() -> tuple[AdaptiveNetwork, Tensor]:
    adaptive = loose(gated_toy.side_by_side([], ["a", "b"], channels=3, labels=4))
    return adaptive, torch.randn(5, 6, 4, 3)


@pytest.mark.parametrize("kind", ["hearing", "recurrent"])
def test_without_chance_a_gate_opens_when_that_is_more_likely(kind: str, request: pytest.FixtureRequest) -> None:
    adaptive, sinks = request.getfixturevalue(kind)
    rolled = adaptive.roll(sinks)
    assert torch.equal(rolled.decisions, rolled.log_odds.sigmoid() > 0.5) and 0 < rolled.decisions.sum() < 60
    for row, hop in product(range(5), range(6)):
        choice = tuple(rolled.decisions[row, hop].tolist())
        assert rolled.modes[row, hop] == adaptive.mode_of[adaptive.choices.index(choice)]
        logits = adaptive.network.head.linear(sinks[row, hop, rolled.modes[row, hop]])
        torch.testing.assert_close(rolled.logits[row, hop], logits)


@pytest.mark.parametrize("kind", ["hearing", "recurrent"])
def test_decisions_are_replayed(kind: str, request: pytest.FixtureRequest) -> None:
    adaptive, sinks = request.getfixturevalue(kind)
    first = adaptive.roll(sinks, torch.Generator().manual_seed(3))
    again = adaptive.roll(sinks, modes=first.modes)
    assert torch.equal(again.modes, first.modes) and torch.equal(again.logits, first.logits)
    assert torch.equal(again.log_odds, first.log_odds), "the memory is that of what ran"
    assert not torch.equal(again.decisions, first.decisions)
    fixed = torch.full((5, 6), 2)
    assert torch.equal(adaptive.roll(sinks, modes=fixed).logits, adaptive.classify(sinks[:, :, 2]))


def test_gates_open_as_often_as_their_odds_say() -> None:
    adaptive = loose(gated_toy.side_by_side(["always"], ["a", "b"], channels=3, labels=4))
    count = 20_000
    rolled = adaptive.roll(torch.randn(1, 3, 4, 3).expand(count, -1, -1, -1), torch.Generator().manual_seed(1))
    share = rolled.log_odds[0].sigmoid()
    assert torch.equal(rolled.log_odds[0], rolled.log_odds[-1]), "it hears the same in every stream"
    sigma = (share * (1 - share) / count).sqrt()
    assert ((rolled.decisions.float().mean(0) - share).abs() < 4.5 * sigma).all()
    both = (rolled.decisions.all(2).float().mean(0) - share.prod(1)).abs()
    assert (both < 4.5 / count**0.5).all(), "one gate knows nothing of the other"
    assert share.min() < 0.45 and share.max() > 0.55
    again = adaptive.roll(torch.randn(1, 3, 4, 3).expand(count, -1, -1, -1), torch.Generator().manual_seed(2))
    assert not torch.equal(again.decisions, rolled.decisions)


def test_the_recurrent_memory_is_a_gru_over_what_was_classified(recurrent: tuple[AdaptiveNetwork, Tensor]) -> None:
    adaptive, sinks = recurrent
    rolled = adaptive.roll(sinks, torch.Generator().manual_seed(0))
    chosen = sinks.gather(2, rolled.modes[:, :, None, None].expand(-1, -1, 1, 3)).squeeze(2)
    oracle = nn.GRU(3, 100, batch_first=True)
    oracle.load_state_dict({f"{name}_l0": value for name, value in adaptive.controller.cell.state_dict().items()})
    memory = torch.cat([torch.zeros(5, 1, 100), oracle(chosen)[0][:, :-1]], 1)
    torch.testing.assert_close(rolled.log_odds, adaptive.controller.linear(memory), atol=1e-5, rtol=1e-5)
    assert rolled.modes.unique().tolist() == [0, 1, 2, 3]


def test_the_hearing_memory_is_what_always_runs(hearing: tuple[AdaptiveNetwork, Tensor]) -> None:
    adaptive, sinks = hearing
    known = sinks[:, :, 0]
    before = nn.functional.pad(known, (0, 0, 1, 0))[:, :-1]
    controller = adaptive.controller
    expected = controller.linear(controller.hidden(torch.cat([known, before], 2)).relu())
    torch.testing.assert_close(adaptive.roll(sinks).log_odds, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "delay"), [("hearing", 0), ("recurrent", 1)])
@pytest.mark.parametrize("hop", [0, 2, 5])
def test_a_decision_hears_no_later_hop(kind: str, delay: int, hop: int, request: pytest.FixtureRequest) -> None:
    adaptive, sinks = request.getfixturevalue(kind)
    changed = sinks.clone()
    changed[:, hop] += 1
    before, after = (adaptive.roll(each, torch.Generator().manual_seed(0)) for each in (sinks, changed))
    first = hop + delay  # decision that may hear of it
    for name in ("log_odds", "decisions", "modes"):
        assert torch.equal(getattr(before, name)[:, :first], getattr(after, name)[:, :first])
    assert torch.equal(before.logits[:, :hop], after.logits[:, :hop])
    if first < 6:
        assert not torch.equal(before.log_odds[:, first], after.log_odds[:, first])
    assert not torch.equal(before.logits[:, hop], after.logits[:, hop])


def test_streams_do_not_hear_each_other(recurrent: tuple[AdaptiveNetwork, Tensor]) -> None:
    adaptive, sinks = recurrent
    whole: Rollout = adaptive.roll(sinks)
    torch.testing.assert_close(adaptive.roll(sinks[3:4]).logits, whole.logits[3:4], atol=1e-6, rtol=0)


def test_training_hears_every_mode_and_listening_one() -> None:
    adaptive = gate(gated_toy.three(), ("first", "shortcut"), "recurrent").eval()
    features, labels = torch.randn(2, 1, 2, 8), torch.randint(0, 4, (2, 4))
    with torch.no_grad():
        assert torch.equal(adaptive.from_features(features), adaptive.roll(adaptive.sink_values(features)).logits)
    adaptive.train()
    logits = adaptive.from_features(features)
    assert logits.shape == (2 * len(adaptive.modes), 4, 4)
    some = {"second", "shortcut"}
    assert adaptive.from_features(features, some).shape == (2 * 2, 4, 4), "off, and the shortcut alone"
    every = adaptive.eval().sink_values(features)
    places = [place for place, live in enumerate(adaptive.modes) if live <= some]
    torch.testing.assert_close(adaptive.sink_values(features, some), every[:, :, places])

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    of_each = [loss(logits[2 * mode : 2 * mode + 2], labels) for mode in range(len(adaptive.modes))]
    torch.testing.assert_close(of_every_mode(loss)(logits, labels), torch.stack(of_each).mean())
    shares = [0.5, *[0.1] * (len(of_each) - 1)]
    expected = sum(share * each for share, each in zip(shares, of_each, strict=True))
    torch.testing.assert_close(of_every_mode(loss, shares)(logits, labels), expected)
    with pytest.raises(ValueError):
        of_every_mode(loss, shares[1:])(logits, labels)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_gates_that_make_no_sense_are_refused() -> None:
    refused = {
        "no edge 'third'": lambda: gate(gated_toy.three(), ("third", "first"), "hearing"),
        "0 gated edges": lambda: gate(gated_toy.three(), (), "hearing"),
        "2 gated edges: gate 1 to 8 different": lambda: gate(gated_toy.three(), ("first", "first"), "hearing"),
        "9 gated edges": lambda: gated_toy.side_by_side(["x"], list("abcdefghi"), 2, 3),
        "a gate named 'off'": lambda: gated_toy.side_by_side(["x"], ["off"], 2, 3),
        r"a gate named 'a\+b'": lambda: gated_toy.side_by_side(["x"], ["a+b"], 2, 3),
        "a gate named 'wide cold'": lambda: gated_toy.side_by_side(["x"], ["wide cold"], 2, 3),
        "use the recurrent": lambda: gate(gated_toy.three(), ("first", "shortcut"), "hearing"),
        "no controller 'guess': choose recurrent or hearing": lambda: gate(gated_toy.three(), ("first",), "guess"),
        "for 3 channels and 1 gates, the network has 3 and 2": lambda: AdaptiveNetwork(
            gated_toy.three(), ("first", "second"), RecurrentController(3, 1)
        ),
        "for 5 channels": lambda: AdaptiveNetwork(gated_toy.three(), ("first",), HearingController(5, 1)),
        "kws-ds has no gated edges": find_space("kws-ds").adaptive,
    }
    for reason, make in refused.items():
        with pytest.raises(MilliwiseError, match=reason) as error:
            make()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", [WindowHead(3, 4, 2, 1), WindowHead(3, 4, 1, 2), nn.Linear(3, 4)], ids=str)
def test_a_head_that_remembers_is_refused(other: nn.Module) -> None:
    network = gated_toy.three()
    network.head = other
    with pytest.raises(MilliwiseError, match="the head"):
        gate(network, ("first",), "recurrent")
    with pytest.raises(MilliwiseError, match="the head remembers"):
        AdaptiveNetwork(network, ("first",), RecurrentController(3, 1))
