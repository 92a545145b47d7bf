"""The measurements of one profile: in which processes, what is repeated, what fails, what is flagged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from profilers import plan
from profilers.bundle import BundleTarget
from profilers.clock import Timing
from profilers.partial import Partial
from profilers.session import SLOWER, TURNS, Session, Time
from profilers.target import PutOff, RunnerEnded

ONE, TWO = {"a": b"1.0", "b": b"2.0"}, {"c": b"3.0", "d": b"4.0"}


class Device:
    """A target on which a model takes as many ms as it says, times the device's slowness in that run.

    Args:
        slowness: of each run, the last for ever; it is also how long the small work takes.
    """

    name = "device"

    def __init__(self, *slowness: float, dies: tuple[bytes, ...] = (), load: Mapping[str, Any] | None = None) -> None:
        self.slowness, self.dies, self.load = list(slowness or (1.0,)), dies, load or {}
        self.asked: list[list[bytes]] = []

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def run(self, job: dict[str, Any], files: Mapping[str, bytes], on_event: Any) -> list[dict[str, Any]]:
        self.asked.append(list(files.values()))
        slow = self.slowness.pop(0) if len(self.slowness) > 1 else self.slowness[0]
        events = []
        for event in self.events(job["tasks"], files, slow):
            events.append(event)
            on_event(event)
        return events

    def events(self, tasks: list[dict[str, Any]], files: Mapping[str, bytes], slow: float) -> Any:
        for task in tasks:
            for name, content in files.items():
                yield {"event": "opening", "model": name}
                if content in self.dies:
                    raise RunnerEnded("it is gone")
            yield {"event": "opened"}
            for name, content in files.items():
                if content == b"bad":
                    yield {"event": "failed", "model": name, "reason": "it is bad"}
                elif task["task"] == "tight":
                    blocks_ms = [slow * float(content)] * task["rounds"]
                    yield {"event": "blocks", "model": name, "blocks_ms": blocks_ms, "calls_per_block": 3}
                else:
                    values_ms = [slow * float(content) + 0.01 * turn for turn in range(task["calls"])]
                    yield {"event": "paced", "model": name, "values_ms": values_ms, "gap_ms": task["gap_ms"]}
            yield {"event": "load", "foreign": [0.0], "probes_ms": [slow, 1.01 * slow], **self.load}


def session(target: Device, path: Path | None = None) -> Session:
    return Session(target, 1, 0, Partial(path, {"seed": 0}))


@pytest.mark.parametrize(
    ("second", "again", "ms", "told"),
    [
        (1.0, None, 3.0, False),
        (SLOWER - 0.001, None, 3.0 * (SLOWER - 0.001), False),
        (1.5, 1.0, 3.0, False),  # it was slow for a while
        (1.5, 1.5, 4.5, True),  # it stays slow
        (0.5, None, 1.5, False),  # faster is no fault of this group
    ],
)
def test_what_a_slowed_device_said_is_measured_again(second: float, again: float | None, ms: float, told: bool) -> None:
    target = Device(1.0, second, *([again] if again else []), 1.0)
    measured = session(target)
    for title, models in (("one", ONE), ("two", TWO)):
        measured.tight(title, models.items(), 4)
    asked = [list(models.values()) for models in (ONE, TWO)]
    assert target.asked == asked + [asked[1]] * (again is not None)
    assert measured.times["a"] == Time(1.0, 0.0, False) and measured.times["c"].ms == pytest.approx(ms)
    slow = [reason for reason in measured.disturbances() if "slower in the middle" in reason]
    assert bool(slow) is told


def test_a_bundle_answers_once_so_a_slow_answer_is_only_flagged() -> None:
    class Carried(BundleTarget):
        def __init__(self, device: Device) -> None:
            super().__init__(Path("bundle"))
            self.device = device

        def run(self, job: Any, files: Any, on_event: Any) -> Any:
            return self.device.run(job, files, on_event)

    target = Carried(Device(1.0, 1.5))
    measured = session(target)  # type: ignore[arg-type]
    for title, models in (("one", ONE), ("two", TWO)):
        measured.tight(title, models.items(), 4)
    assert len(target.device.asked) == 2 and measured.times["c"].ms == 4.5
    assert any("slower in the middle" in reason for reason in measured.disturbances())


def test_after_an_interruption_nothing_is_measured_again(tmp_path: Path) -> None:
    """The slow run included, which was repeated."""
    target = Device(1.0, 1.5, 1.0)
    first = session(target, tmp_path / "partial")
    for title, models in (("one", ONE), ("two", TWO)):
        first.tight(title, models.items(), 4)
    first.calls("whole", b"5.0", [(20.0, 6), (40.0, 4)])
    first.calls("broken", b"bad", [(20.0, 6)])
    assert len(target.asked) == 5
    nobody = Device(dies=(*ONE.values(), *TWO.values(), b"5.0", b"bad"))
    second = session(nobody, tmp_path / "partial")
    for title, models in (("one", ONE), ("two", TWO)):
        second.tight(title, models.items(), 4)
    assert [len(values) for values in second.calls("whole", b"5.0", [(20.0, 6), (40.0, 4)])] == [6, 4]
    assert second.calls("broken", b"bad", [(20.0, 6)]) == []
    assert nobody.asked == []
    assert (second.times, second.failures) == (first.times, first.failures)
    assert second.disturbances() == first.disturbances()


def test_models_that_are_too_many_for_a_process_go_into_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_BYTES", 6)
    target = Device()
    measured = session(target)
    measured.tight("all", {**ONE, **TWO}.items(), 4)
    assert target.asked == [[b"1.0", b"2.0"], [b"3.0", b"4.0"]]
    assert {name: time.ms for name, time in measured.times.items()} == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


def test_what_fails_by_either_clock_is_told_with_its_reason() -> None:
    target = Device(dies=(b"9.0",))
    measured = session(target)
    measured.tight("all", {"a": b"1.0", "bad": b"bad", "deadly": b"9.0", "b": b"2.0"}.items(), 4)
    assert measured.failures == {"bad": "it is bad", "deadly": "it is gone"} and set(measured.times) == {"a", "b"}
    measured = session(target)
    models = {"a": b"1.0", "bad": b"bad", "deadly": b"9.0"}
    measured.paced("all", models.items, len(models), 20.0, 10)
    assert set(measured.times) == {"a"} and measured.times["a"].ms == pytest.approx(1.02)  # the third of five
    assert measured.failures == {"bad": "cannot time the model: it is bad", "deadly": "it is gone"}


@pytest.mark.parametrize("busy", [(), (0,), (1,), (0, 1)])
def test_a_paced_model_is_noisy_when_others_were_busy_in_any_of_its_turns(busy: tuple[int, ...]) -> None:
    target = Device()
    measured = session(target)
    for turn in range(TURNS):
        target.load = {"foreign": [0.4 if turn in busy else 0.0]}
        measured.calls("a", b"1.0", [(20.0, 4)], turn)
    assert measured.times["a"].noisy is bool(busy)


def test_calls_at_two_paces_come_from_one_process_and_the_first_is_the_time() -> None:
    target = Device()
    measured = session(target)
    short, hop = measured.calls("whole", b"5.0", [(20.0, 5), (200.0, 3)])
    assert short == pytest.approx([5.0, 5.01, 5.02, 5.03, 5.04]) and hop == short[:3] and len(target.asked) == 1
    assert measured.times["whole"].ms == pytest.approx(5.02)
    assert measured.times["whole"].spread == pytest.approx(0.02 / 5.02 / 5**0.5)  # quartiles 5.01 and 5.03


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ({}, ()),
        ({"foreign": [0.4, 0.0]}, ("others used 40 % of the machine for 50 % of the time",)),
        ({"probes_ms": [1.0, 1.3]}, ("the same work took over 1.15 times as long for 50 % of the time",)),
    ],
)
def test_what_disturbed_is_said(load: dict[str, Any], told: tuple[str, ...]) -> None:
    measured = session(Device(load=load))
    measured.tight("one", ONE.items(), 4)
    assert measured.disturbances() == told


def test_models_that_did_not_settle_are_counted() -> None:
    measured = session(Device())
    rough = Timing((1.0, 1.5, 1.9), 3)
    assert rough.noisy
    for index in range(8):
        measured.times[str(index)] = Time(1.0, rough.spread, index < 2)
    assert measured.disturbances() == ()  # a quarter of them
    measured.times["8"] = Time(1.0, rough.spread, True)
    assert measured.disturbances() == ("3 of 9 models did not settle",)


def test_what_is_put_off_is_asked_for_all_the_same() -> None:
    class Later(Device):
        def events(self, tasks: Any, files: Any, slow: float) -> Any:
            raise PutOff("another day")

    target = Later()
    measured = session(target)
    measured.tight("one", ONE.items(), 4)
    assert measured.calls("whole", b"5.0", [(20.0, 5)]) == []
    assert len(target.asked) == len(measured.put_off) == 2
    assert measured.times == measured.failures == {}
