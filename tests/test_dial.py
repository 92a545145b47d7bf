"""The dial: no minute costs more than the budget, no hop more than the cap, and less budget never costs more."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_adaptive import MODES, adaptive
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_listener import HOP, model, write

from exporters.listener import Listener
from kws_demo.dial import SHUT, Dial, Ran
from kws_demo.stream import Summary
from kws_demo.stream_cli import _say_overspent
from toolkit.errors import MilliwiseError

HOP_MS = 2000  # 30 hops a minute: many minutes in few hops
HOPS = 30
COSTS = {mode["name"]: mode["predicted_ms"] for mode in MODES}
PATHS = [  # gates without states, of which single ones lead nowhere; the second gate comes into a mode last
    {"name": "off", "predicted_ms": 0.5},
    {"name": "a+c", "predicted_ms": 2.0},
    {"name": "a+b+c", "predicted_ms": 3.0},
]


class Device:
    """What an exported file does with its gates, by the definition of the modes."""

    def __init__(self, gates: Sequence[str] = ("wide", "deep")) -> None:
        self.gates, self.before = gates, frozenset[str]()

    def hop(self, log_odds: np.ndarray, dial: np.ndarray) -> str:
        opened = [gate for gate, is_open in zip(self.gates, log_odds > dial, strict=True) if is_open]
        before, self.before = self.before, frozenset(opened)
        return "+".join(f"{gate} {'warm' if gate in before else 'cold'}" for gate in opened) or "off"


def listen(dial: Dial, log_odds: np.ndarray, device: Device | None = None) -> list[Ran]:
    """A controller with these log-odds [hops, gates] under the dial."""
    device, places = device or Device(), {mode["name"]: place for place, mode in enumerate(MODES)}
    return [dial.ran(places[device.hop(odds, dial.values)], elapsed_ms=0) for odds in log_odds]


def costs_ms(ran: list[Ran]) -> np.ndarray:
    """What was spent, by the table and not by the bill."""
    return np.array([COSTS[each.mode] for each in ran])


def random_log_odds(seed: int, hops: int) -> np.ndarray:
    """Bursts of any length in which gates want to open, more or less."""
    rng = np.random.default_rng(seed)
    wanted = np.repeat(rng.normal(rng.uniform(-6, 6), 6, (hops, 1)), 2, 1) + rng.normal(0, 2, (hops, 2))
    lengths = rng.integers(1, 20, hops)
    return np.repeat(wanted, lengths, axis=0)[:hops]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 11), st.floats(0.5, 12))
@example(0, 0.5, 12.0)
def test_no_minute_costs_more_than_the_budget_and_no_hop_more_than_the_cap(
    seed: int, budget_ms: float, cap_ms: float
) -> None:
    ran = listen(Dial(MODES, 2, HOP_MS, budget_ms, cap_ms), random_log_odds(seed, 150))
    spent = costs_ms(ran)
    total = np.concatenate([[0], np.cumsum(spent)])
    assert spent.max() <= cap_ms
    for begin in range(len(spent)):  # every minute, and every time from the start that is shorter
        end = min(begin + HOPS, len(spent))
        if end - begin == HOPS or begin == 0:
            assert (total[end] - total[begin]) / (end - begin) <= budget_ms + 1e-6
    assert (total[1 : HOPS + 1] / np.arange(1, HOPS + 1) <= budget_ms + 1e-6).all()
    last = spent[-HOPS:].mean()
    assert ran[-1].average_ms == pytest.approx(last) and [each.cost_ms for each in ran] == pytest.approx(list(spent))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 11), st.floats(0.5, 11))
def test_less_budget_does_not_cost_more(seed: int, one_ms: float, other_ms: float) -> None:
    """Beyond what a gate's catching up in each of the ten minutes makes: both do not fit into a minute equally well."""
    log_odds = random_log_odds(seed, 10 * HOPS)
    less, more = (costs_ms(listen(Dial(MODES, 2, HOP_MS, each), log_odds)) for each in sorted((one_ms, other_ms)))
    assert less.sum() <= more.sum() + 10 * 10.5 + 1e-6


def test_cost_follows_the_budget() -> None:
    """Over many controllers cost never rises when the budget falls, and all of a budget is used where all is wanted."""
    budgets = [0.5, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 5.0]
    means = [
        np.mean([costs_ms(listen(Dial(MODES, 2, HOP_MS, each), random_log_odds(seed, 300))) for seed in range(8)])
        for each in budgets
    ]
    assert (np.diff(means) > 0).all() and means[0] == 0.5
    always = np.full((3000, 2), 20.0)
    assert costs_ms(listen(Dial(MODES, 2, 200, 1.5), always)).mean() > 0.9 * 1.5


def test_with_plenty_all_is_as_learned() -> None:
    log_odds = random_log_odds(3, 200)
    plain = [Device().hop(odds, np.zeros(2)) for odds in log_odds[:1]]
    for budget_ms in (None, 10.5, 1e6):
        dial = Dial(MODES, 2, HOP_MS, budget_ms)
        assert dial.notes == () and dial.values.dtype == np.float32 and dial.values.shape == (2,)
        device = Device()
        expected = [device.hop(odds, np.zeros(2)) for odds in log_odds]
        ran = listen(dial, log_odds)
        assert [each.mode for each in ran] == expected and expected[:1] == plain
        assert {each.why for each in ran} == {"as learned", "quiet"} and not dial.values.any()


def test_a_rare_burst_is_as_learned_and_a_long_one_is_turned_down_gate_by_gate() -> None:
    dial, device = Dial(MODES, 2, 200, 1.0), Device()

    def hear(log_odds: float, hops: int) -> list[tuple[Ran, list[float]]]:
        heard = []
        for _ in range(hops):
            (ran,) = listen(dial, np.full((1, 2), log_odds), device)
            heard.append((ran, dial.values.tolist()))
        return heard

    quiet = hear(-5, 300)  # 0.5 ms of 1.0 each: 150 ms are left
    assert {ran.why for ran, _values in quiet[20:]} == {"quiet"} and quiet[-1][1] == [0, 0]
    burst = hear(5, 90)
    assert burst[0][0] == Ran("wide cold+deep cold", 10.5, pytest.approx(0.5 + 10 / 300), "as learned")
    assert all(values == [0, 0] for _ran, values in burst[:40])
    last = next(place for place, (ran, _values) in enumerate(burst) if ran.why == "budget")
    raised = np.array([values for _ran, values in burst[: last - 1]])
    assert (np.diff(raised, axis=0) >= 0).all() and 0 < raised[-1, 0] < raised[-1, 1]  # the dearer one first
    assert burst[last][0].mode == "wide warm" and burst[-1][0].average_ms <= 1
    assert hear(-5, 300)[-1][1] == [0, 0]  # a quiet minute later


def test_a_gate_that_runs_need_not_catch_up() -> None:
    """It stays open with fewer tokens than it would take to open it; after a reset it has to catch up."""
    dial = Dial(MODES, 2, HOP_MS, cap_ms=2.0)
    assert dial.values.tolist() == [SHUT, SHUT]  # cold they take 3 and 8 ms
    assert dial.notes == ("6 of 9 modes may not run: they take longer than 2 ms a hop",)
    dial = Dial(MODES, 2, HOP_MS, cap_ms=3.0)
    assert dial.values.tolist() == [0, SHUT]
    dial.ran(1, 0)  # wide is warm now, and deep may still not come
    assert dial.values.tolist() == [0, SHUT]
    open_dial = Dial(MODES, 2, HOP_MS, cap_ms=8.0)
    assert open_dial.values.tolist() == [0, SHUT]  # both cold would be 10.5
    open_dial.ran(2, 0)
    assert open_dial.values.tolist() == [0, SHUT]  # 8.5
    roomy = Dial(MODES, 2, HOP_MS, cap_ms=8.5)
    roomy.ran(1, 0)
    assert roomy.values.tolist() == [0, 0]
    roomy.reset()
    assert roomy.values.tolist() == [0, SHUT]


def test_the_reason_is_that_of_a_gate_that_was_shut() -> None:
    dial = Dial(MODES, 2, HOP_MS, cap_ms=3.0)
    assert dial.ran(0, 0).why == "cap" and dial.ran(1, 0).why == "cap"
    assert Dial(MODES, 2, HOP_MS).ran(0, 0).why == "quiet"
    assert Dial(MODES, 2, HOP_MS, 0.5).ran(0, 0).why == "budget"


@pytest.mark.parametrize("budget_ms", [0.0, 1e-9, 0.49])
def test_a_budget_below_the_cheapest_mode_is_raised_to_it_and_said(budget_ms: float) -> None:
    dial = Dial(MODES, 2, HOP_MS, budget_ms)
    assert dial.budget_ms == 0.5 and len(dial.notes) == 1
    assert "less than the cheapest mode" in dial.notes[0] and "0.5 ms" in dial.notes[0]
    assert {each.mode for each in listen(dial, np.full((70, 2), 50.0))} == {"off"}
    assert Dial(MODES, 2, HOP_MS, 0.5).notes == ()


def test_gates_are_in_the_order_of_the_mode_with_all_of_them() -> None:
    dial = Dial(PATHS, 3, HOP_MS, cap_ms=2.5)
    assert dial.values.tolist() == [0, SHUT, 0]
    assert Dial(PATHS, 3, HOP_MS, cap_ms=1.9).values.tolist() == [0, 0, SHUT]  # without c they lead nowhere
    assert dial.ran(1, 0).mode == "a+c"


def test_what_nobody_predicted_is_taken_to_be_dear_until_it_ran() -> None:
    modes = [{**mode, "predicted_ms": None} for mode in MODES]
    dial = Dial(modes, 2, 200, budget_ms=10.0)  # a mode may take 50 ms
    assert dial.values.tolist() == [SHUT, SHUT]
    for _ in range(5):
        assert dial.ran(0, 1.0).cost_ms == 1.0
    assert dial.values[0] == 0  # 6 hops may take 60 ms, of which 5 are spent
    assert dial.ran(1, 7.5) == Ran("wide cold", 7.5, pytest.approx(12.5 / 6), "as learned")
    dial.ran(2, 2.0)
    dial.ran(2, 900.0)  # the machine was busy: it is billed, and nothing is concluded for the next
    assert dial.values.tolist() == [SHUT, SHUT]
    capped = Dial(modes, 2, 200)
    assert capped.values.tolist() == [0, 0]
    capped.ran(5, 900.0)
    assert capped.values.tolist() == [0, 0]


def changed(change: Callable[[list[dict]], object]) -> list[dict]:
    modes = [dict(mode) for mode in MODES]
    change(modes)
    return modes


@pytest.mark.parametrize(
    ("modes", "gates"),
    [
        ([], 2),
        (MODES, 3),
        (MODES, 0),
        (changed(lambda modes: modes.pop(0)), 2),
        (changed(lambda modes: modes[5:].clear() or modes.append({"name": "third", "predicted_ms": 1})), 2),
        (MODES[:5], 2),
    ],
)
def test_modes_that_do_not_name_the_gates_are_refused(modes: list[dict], gates: int) -> None:
    with pytest.raises(MilliwiseError, match=r"do not name its . gates"):
        Dial(modes, gates, HOP_MS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a warm"], "opens a after off"),
        (["a cold"], "opens a after a"),
        (["a cold", "a warm", "a cold+b cold", "b cold"], "opens b after b"),
    ],
)
def test_modes_after_which_a_gate_cannot_open_are_refused(names: list[str], message: str) -> None:
    modes = [{"name": name, "predicted_ms": 1.0} for name in ["off", *names]]
    with pytest.raises(MilliwiseError, match=f"do not name one that {message}: export it again"):
        Dial(modes, min(len(names), 2), HOP_MS)


def test_a_mode_that_is_not_named_is_refused() -> None:
    with pytest.raises(MilliwiseError, match="ran mode 9, which its metadata does not name"):
        Dial(MODES, 2, HOP_MS).ran(9, 1.0)


@given(st.text(max_size=30))
@example("deep cold")
@example("deep warm")
def test_names_of_any_kind_are_parsed_or_refused(name: str) -> None:
    try:
        Dial([MODES[0], {"name": name, "predicted_ms": 1}], 1, HOP_MS).ran(1, 0)
    except MilliwiseError as error:
        assert "do not name" in str(error)


def block(energy: float) -> np.ndarray:
    return np.full(HOP, energy**0.5, np.float32)


def test_it_turns_a_listener_without_another_export(tmp_path: Path) -> None:
    """The file decides; the dial moves from when it opens its gates, and outlives a reset."""
    listener = Listener.open(write(tmp_path / "adaptive.onnx", adaptive()))
    assert listener.gates == 2
    names = [MODES[listener.push(block(energy)).mode or 0]["name"] for energy in (0, 0.02, 0.02, 0.05, 0.05, 0)]
    assert names == ["off", "wide cold", "wide warm", "wide warm+deep cold", "wide warm+deep warm", "off"]
    listener.set_dial(np.array([0.0, 1e9]))
    assert [listener.push(block(0.05)).mode for _ in range(3)] == [1, 2, 2]
    listener.reset()
    assert [listener.push(block(0.05)).mode for _ in range(2)] == [1, 2]
    listener.set_dial(np.zeros(2))
    assert listener.push(block(0.05)).mode == 6
    for wrong in (np.zeros(3), np.zeros((1, 2)), np.array([0, np.nan]), np.array([0, np.inf])):
        with pytest.raises(MilliwiseError, match="a finite number for each of 2 gates"):
            listener.set_dial(wrong)
    dial = Dial.of(listener, 1.0)
    assert dial is not None and dial.values.shape == (2,)


def test_a_machine_that_is_slower_than_billed_is_told() -> None:
    cost = {"ms_per_second": 80.0, "p99_ms": 11.0, "network_ms": 10.0}  # of 16 ms a hop; only the network is billed
    summary = Summary(hops=10, late=0, overflows=0, seconds=2.0, **cost)
    said: list[str] = []
    _say_overspent(summary, 9.0, said.append)
    assert not said, "a tenth more is what two measurements differ by"
    _say_overspent(summary, 5.0, said.append)
    assert len(said) == 1 and said[0].startswith("hops took 10 ms on average, not 5: this machine is busier or slower")
    _say_overspent(summary, 5.0, said.append, is_bundle=True)
    assert "the files of a bundle take longer than the one file" in said[1]


@pytest.mark.parametrize("mode", [False, True])
def test_a_listener_without_gates_has_no_dial(mode: bool, tmp_path: Path) -> None:
    listener = Listener.open(write(tmp_path / "static.onnx", model(mode=mode)))
    assert listener.gates == 0
    with pytest.raises(MilliwiseError, match="has no dial"):
        listener.set_dial(np.zeros(1))
    assert Dial.of(listener) is None
