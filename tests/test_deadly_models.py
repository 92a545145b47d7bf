"""A model that kills or hangs the measuring process has failed, with the reason; the others are measured without it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import pytest
from test_clock import Recorded, blocks
from tiny_onnx import counter, crashing, endless

from profilers import clock
from profilers.clock import CannotTime, Tight, measure_tight, time_tight
from profilers.target import LocalTarget, PutOff, RunnerEnded


def dying(*places: int, blamed: bool = True) -> Callable[[list[str]], Any]:
    """A process that opens its models one after the other and dies at the first of these places."""

    def run(names: list[str]) -> Any:
        for index, name in enumerate(names):
            yield {"event": "opening", "model": name}
            if index in places and blamed:
                raise RunnerEnded("the measuring process ended with signal 11 (SIGSEGV)")
        yield {"event": "opened"}
        yield {"event": "progress", "done": 0.5, "total": 1}
        for name in names:
            yield blocks(name, 1.0, 1.0)
        if places and not blamed:
            raise RunnerEnded("the measuring process ended with signal 11 (SIGSEGV)")

    return run


def test_a_model_that_kills_the_process_has_failed_and_the_others_are_measured():
    device = Recorded(dying(1), dying(0), dying(), dying(0), dying(0))
    kept: list[dict] = []
    found = measure_tight({"a": b"1", "b": b"2", "c": b"3"}, device, keep=kept.append)
    assert found.failures == {"b": "the measuring process ended with signal 11 (SIGSEGV)"}
    assert list(found.timings) == ["a", "c"] and len(device.jobs) == 3
    assert [list(files.values()) for files in device.files[1:]] == [[b"2"], [b"1", b"3"]]
    assert [event["model"] for event in kept if event["event"] == "failed"] == ["b"]
    with pytest.raises(CannotTime, match="cannot time a: the measuring process ended with signal 11"):
        time_tight({"a": b"1"}, device)


def test_who_is_blamed_for_a_death_and_lives_alone_has_not_failed():
    """As where so many models take too much memory together: those left go on in smaller processes."""
    device = Recorded(dying(2), dying(), dying(), dying())
    found = measure_tight({name: name.encode() for name in "abcde"}, device)
    assert not found.failures and sorted(found.timings) == ["a", "b", "c", "d", "e"] and found.finished
    assert [b"".join(files.values()) for files in device.files] == [b"abcde", b"c", b"ad", b"be"]
    alone = Recorded(dying(0), dying())
    assert list(measure_tight({"a": b"1"}, alone).timings) == ["a"] and len(alone.jobs) == 2


def test_a_death_that_no_model_is_to_blame_for_is_an_error():
    with pytest.raises(RunnerEnded, match="SIGSEGV"):
        measure_tight({"a": b"1"}, Recorded(dying(0, blamed=False)))


def test_a_device_on_which_everything_dies_is_given_up():
    device = Recorded(*[dying(0)] * 38)
    with pytest.raises(RunnerEnded, match="SIGSEGV"):
        measure_tight({str(index): b"" for index in range(19)}, device)
    assert len(device.jobs) == 2 * clock.MAX_DEATHS + 1


def test_when_all_models_failed_nothing_more_is_asked():
    device = Recorded(*[dying(0)] * 4)
    found = measure_tight({"a": b"1", "b": b"2"}, device)
    assert set(found.failures) == {"a", "b"} and not found.timings and found.finished and len(device.jobs) == 4


def test_what_a_device_puts_off_stays_put_off():
    def later(names: list[str]) -> Any:
        raise PutOff("another day")

    known = Tight()
    with pytest.raises(PutOff):
        measure_tight({"a": b"1"}, Recorded(later), known=known)
    assert not known.finished


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere such a division does not trap: run it on x86-64")
def test_a_real_model_that_crashes_has_failed_alone():
    models = {"a": counter(), "crashing": crashing(), "b": counter(16)}
    found = measure_tight(models, LocalTarget(), rounds=2, block_ms=0.2)
    assert list(found.timings) == ["a", "b"] and found.finished
    assert "signal 8 (SIGFPE)" in found.failures["crashing"]


def test_a_real_model_that_hangs_has_failed_alone():
    found = measure_tight({"hung": endless(), "a": counter()}, LocalTarget(silence_s=6.0), rounds=2, block_ms=0.2)
    assert list(found.timings) == ["a"] and found.finished
    assert found.failures == {"hung": "the measuring process said nothing for 6 s: is a model stuck?"}
