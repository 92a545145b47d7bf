"""The report: it says and draws what it was given, nothing in it runs or is fetched, and any fact may be missing."""

from __future__ import annotations

import copy
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_search as fake
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markup import Reader, drawing, of_class

from kws_demo.drawings import budget, stream
from kws_demo.report import page, write_report
from toolkit.errors import MilliwiseError

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SECTIONS = [
    "asked",
    "stream",
    "pareto",
    "network",
    "architecture",
    "held-out",
    "milliseconds",
    "training",
    "confusion",
    "seconds",
    "device",
    "run",
    "use",
]


def made(**changes: Any) -> str:
    return page(fake.profile(), fake.run(**changes), fake.log(), fake.stream())


def test_the_page_is_one_small_file_that_fetches_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, profile=fake.profile(), run=fake.run(), log=fake.log(), stream=fake.stream())
    content = path.read_bytes().decode()
    reader = Reader(content)
    reader.assert_harmless()
    assert len(content) < 1_500_000
    assert "http" not in content.replace("http-equiv", "")
    assert [attributes["id"] for tag, attributes in reader.tags if tag == "section"] == SECTIONS
    linked = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert linked == [f"#{anchor}" for anchor in SECTIONS]
    for markup in re.findall(r"<svg.*?</svg>", content, re.S):
        drawing(markup)  # well-formed
    assert "not measured" not in reader.all_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_the_same_search_gives_the_same_bytes() -> None:
    assert made() == made()


def test_the_headline_says_what_was_asked_and_what_was_measured() -> None:
    text = re.sub(r"\s+", " ", Reader(made()).all_text())
    assert "Asked 1 ms, measured p95 0.781 ms (upper bound 0.853 ms): kept" in text
    assert "95.1 ± 1.1 %" in text and "113 kB" in text and "listener.onnx" in text and "Abacus 9 (2 beads)" in text
    over = {**fake.run()["measured"], "kept": False, "noisy": True}
    text = re.sub(r"\s+", " ", Reader(made(measured=over)).all_text())
    assert "(upper bound 0.853 ms): exceeded" in text and "The machine was busy" in text
    median = {**fake.run()["measured"], "upper_ms": 0.7, "p95_upper_ms": 0.85}
    text = re.sub(r"\s+", " ", Reader(made(budget="1 ms p50", measured=median)).all_text())
    assert "Asked 1 ms p50, measured p50 0.640 ms (upper bound 0.700 ms): kept" in text


def test_a_makespan_is_told_as_measured() -> None:
    measured = {"makespan_ms": 4.1, "makespan_upper_ms": 4.4, "workers": 2, "kept": True}
    content = made(budget="5 ms@2", measured=measured, cost="3.9 ms")
    text = re.sub(r"\s+", " ", Reader(content).all_text())
    assert "Asked 5 ms@2, measured 4.10 ms on 2 workers (upper bound 4.40 ms): kept" in text
    assert "<title>milliwise: asked 5 ms@2, measured 4.10 ms on 2 workers" in content


def test_a_budget_that_is_not_of_time_is_counted() -> None:
    content = made(budget="300 kparams", measured=None, cost="212 kparams")
    text = re.sub(r"\s+", " ", Reader(content).all_text())
    assert "Asked 300 kparams, counted 212 kparams: kept" in text  # the chosen candidate fits
    assert 'class="limit"' not in (budget.pareto(fake.run(), None) or "")


def test_whatever_comes_from_outside_is_text() -> None:
    run = fake.run(labels=["_silence_", "_unknown_", HOSTILE, "cat\x00\u202e", "\ud800"], budget=HOSTILE, cost=HOSTILE)
    run |= {"space": HOSTILE, "strategy": HOSTILE, "data": {HOSTILE: HOSTILE, "clips": {HOSTILE: {HOSTILE: 1}}}}
    run |= {"seconds": {HOSTILE: 1.0}, "model": {"file": HOSTILE, "bytes": HOSTILE}}
    heard = fake.stream() | {"labels": run["labels"], "wav": HOSTILE}
    heard["truth"] = heard["detections"] = [{"keyword": HOSTILE, "start_s": 1.0, "score": 0.9}]
    log = [row | {"stage": HOSTILE} for row in fake.log() if "loss" in row]
    log += [{"stage": "probabilities", "epoch": 1, "probabilities": {HOSTILE: 0.5}, "penalty": 1.0}]
    edges = fake.profile().edges
    hostile = fake.profile(
        fingerprint={HOSTILE: HOSTILE, "cpu_model": HOSTILE}, target=HOSTILE, edges={HOSTILE: edges["mel-fine0-conv3"]}
    )
    for profile in (hostile, replace(hostile, space="kws-ds", edges=edges)):
        for space in (HOSTILE, "kws-ds"):
            content = page(profile, run | {"space": space}, log, heard)
            reader = Reader(content)
            reader.assert_harmless()
            assert "<script>alert(1)" in reader.all_text()  # shown, not run
            assert "\x00" not in content and "\u202e" not in content
            content.encode()


def test_a_hostile_file_name_stays_one_word_of_the_shell() -> None:
    name = "it's; rm -rf $HOME `x` &.onnx"
    reader = Reader(made(model={"file": name}))
    commands = [shlex.split(text) for text in reader.text if text.startswith("milliwise ") and ".onnx" in text]
    assert [command[:3] for command in commands] == [
        ["milliwise", verb, name] for verb in ("stream", "stream", "check")
    ]
    assert commands[2][3:] == ["--budget", "1 ms"]


@pytest.mark.parametrize("budget", ["40 MFLOPs", "500 kB", "12 cost", "5 ms@2", "0.9 ms mean", "fast"])
def test_no_file_is_checked_for_a_budget_that_is_not_of_one(budget: str) -> None:
    assert not [text for text in Reader(made(budget=budget)).text if text.startswith("milliwise check")]


def test_without_facts_every_section_says_so() -> None:
    bare = fake.profile(held_out=replace(fake.profile().held_out, rows=()))
    text = Reader(page(bare, {}, [], None)).all_text()
    assert text.count("not measured") >= 8
    assert "not decided" in text


@pytest.mark.parametrize("name", sorted(fake.run()))
def test_any_fact_may_be_missing_or_null(name: str) -> None:
    run = fake.run()
    Reader(page(fake.profile(), {key: value for key, value in run.items() if key != name}, fake.log(), fake.stream()))
    Reader(page(fake.profile(), run | {name: None}, fake.log(), fake.stream()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in pairs for found in [(content, key), *places(value)]]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_json_value_anywhere_breaks_the_page(data: st.DataObject) -> None:
    run, log, heard = copy.deepcopy((fake.run(), fake.log(3), fake.stream(4)))
    for content in (run, log, heard):
        for _ in range(3):
            container, key = data.draw(st.sampled_from(places(content)))
            container[key] = data.draw(json_values)
    reader = Reader(page(fake.profile(), run, log, heard))
    reader.assert_harmless()
    for _, attributes in reader.tags:
        for name in ("d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            assert not re.search("nan|inf", attributes.get(name) or "")


def test_a_long_recording_is_cut_and_the_page_says_so() -> None:
    heard = stream.read_stream(fake.stream(200))
    assert heard is not None
    root = drawing(stream.timeline(heard))
    assert len(of_class(root, "pin")) == sum(start < stream.MOST_SECONDS for _, start, _ in heard.detections)
    assert "Drawn are the first 180 s." in page(fake.profile(), fake.run(), [], fake.stream(200))


def test_a_profile_of_another_graph_is_not_drawn_as_this_one() -> None:
    text = Reader(page(fake.profile(digest="0" * 16), fake.run(), fake.log(), None)).all_text()
    assert "The super-network has" not in text


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MilliwiseError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", profile=fake.profile(), run={}, log=[], stream=None)
