"""Comparing device profiles: drift worked out by hand on the toy network, what is refused, the drawing, the command."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from profilers.compare import MOST_BARS, compare, draw
from toolkit.cli import main
from toolkit.errors import MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.profile import DeviceProfile, HeldOut, Line

COMPUTING = {name for name, steps in toy.STEPS.items() if steps}
PNG = b"\x89PNG\r\n\x1a\n"


def drifted(factors: dict[str, float], **changes: Any) -> DeviceProfile:
    """The toy profile with some edges that many times as dear."""
    rows = {
        name: replace(row, latency_ms=row.latency_ms * factors.get(name, 1.0))
        for name, row in toy.profile().edges.items()
    }
    return toy.profile(**{"held_out": judged({}), "edges": rows, **changes})


def judged(rows: dict[tuple[str, ...], tuple[float, float]]) -> HeldOut:
    """Held-out networks: kept edges to predicted and measured ms."""
    told = tuple({"kept": list(kept), "predicted_ms": p, "measured_ms": m} for kept, (p, m) in rows.items())
    return HeldOut(len(told), 0.01, 1.0, 1.0, 1.0, told)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def saved(folder: Path, **profiles: DeviceProfile) -> list[Path]:
    paths = [folder / f"{name}.json" for name in profiles]
    for path, profile in zip(paths, profiles.values(), strict=True):
        profile.save(path)
    return paths


def test_a_profile_has_not_drifted_from_itself() -> None:
    same = drifted({}, held_out=judged({("entry", "pass"): (0.3, 0.31)}))
    found = compare(same, same)
    assert {edge.name for edge in found.edges} == COMPUTING
    assert {edge.drift for edge in found.edges} == {0.0} and all(edge.within_noise for edge in found.edges)
    assert found.median_drift == 0.0 and not found.differences
    assert found.networks is not None
    assert (found.networks.nets, found.networks.predicted, found.networks.measured) == (1, 0.0, 0.0)


def test_drift_by_hand() -> None:
    # Seven edges compute something. Their drifts: +20 %, -10 %, +1 % and four times nothing.
    found = compare(drifted({}), drifted({"conv3": 1.2, "entry": 0.9, "mix": 1.01}))
    drift = {edge.name: edge.drift for edge in found.edges}
    assert drift == pytest.approx(dict.fromkeys(COMPUTING, 0.0) | {"conv3": 0.2, "entry": -0.1, "mix": 0.01})
    assert found.median_drift == 0.0
    worst = found.worst_edge
    assert worst is not None and worst.name == "conv3"
    assert (worst.a_ms, worst.b_ms) == pytest.approx((0.3, 0.36))
    # Every spread is 1 %: two such measurements differ by up to √2 %.
    assert {edge.name for edge in found.edges if not edge.within_noise} == {"conv3", "entry"}
    assert compare(drifted({}), drifted(dict.fromkeys(COMPUTING, 1.07))).median_drift == pytest.approx(0.07)


def test_noise_is_what_the_standard_errors_of_both_profiles_allow() -> None:
    # 2 · √(0.003² + 0.004²) = 0.01 ms around 0.30; half of it where both were fitted on the same networks.
    def sure(latency_ms: float, error_ms: float | None, rows: HeldOut) -> DeviceProfile:
        row = replace(toy.profile().edges["conv3"], latency_ms=latency_ms, error_ms=error_ms, spread=0.5)
        return drifted({}, edges={"conv3": row}, held_out=rows)

    here, elsewhere = judged({("conv3",): (0.3, 0.3)}), judged({("mix",): (0.3, 0.3)})
    for other, noise_ms in ((elsewhere, 0.01), (here, 0.005)):
        (edge,) = compare(sure(0.30, 0.003, here), sure(0.309, 0.004, other)).edges
        assert edge.noise_ms == pytest.approx(noise_ms) and edge.within_noise == (noise_ms == 0.01)
    (unsure,) = compare(sure(0.30, None, here), sure(0.30, 0.1, here)).edges
    assert unsure.noise_ms == pytest.approx((0.15**2 + 0.2**2) ** 0.5)


def test_an_edge_that_could_not_be_measured_is_named_and_not_compared(tmp_path: Path) -> None:
    failed = replace(toy.profile().edges["mix"], latency_ms=None, failed="no kernel", steps=0)
    partial = drifted({}, edges={**toy.profile().edges, "mix": failed})
    for pair in ((partial, drifted({})), (drifted({}), partial)):
        found = compare(*pair)
        assert found.failed == ("mix",) and {edge.name for edge in found.edges} == COMPUTING - {"mix"}
        assert found.facts()["failed"] == ["mix"]
    assert "could not measure it: mix\n" in run(*saved(tmp_path, a=partial, b=drifted({}))).stdout


def test_an_edge_that_was_measured_as_another_counts_once() -> None:
    profile = drifted({})
    twin = replace(profile, edges={**profile.edges, "late": replace(profile.edges["late"], same_as="early")})
    assert {edge.name for edge in compare(twin, twin).edges} == COMPUTING - {"late"}


@given(st.sampled_from(sorted(COMPUTING)), st.floats(0.01, 100.0))
def test_the_other_way_round_it_drifts_back(name: str, factor: float) -> None:
    a, b = drifted({}), drifted({name: factor})
    there, back = ({edge.name: edge for edge in compare(*pair).edges} for pair in ((a, b), (b, a)))
    for edge, returned in ((there[each], back[each]) for each in COMPUTING):
        assert edge.drift is not None and returned.drift is not None
        assert (1 + edge.drift) * (1 + returned.drift) == pytest.approx(1)
        assert edge.within_noise == returned.within_noise


def test_whole_networks_that_both_were_judged_on_are_compared() -> None:
    # Predicted 0.2 → 0.22 ms (+10 %) and 0.4 → 0.40 (0 %): the median is +5 %; p95 = 0.2 + 2 × (0.02 + predicted) is
    # 0.64 → 0.68 (+6.25 %) and the same. Measured 0.25 → 0.25 and 0.5 → 0.6 (+20 %). The third is in A only.
    a = judged({("entry", "pass"): (0.2, 0.25), ("conv1", "early", "pass"): (0.4, 0.5), ("entry", "mix"): (1.0, 1.0)})
    b = judged({("early", "pass", "conv1"): (0.4, 0.6), ("pass", "entry"): (0.22, 0.25)})
    networks = compare(drifted({}, held_out=a), drifted({}, held_out=b)).networks
    assert networks is not None and networks.nets == 2
    assert networks.predicted == pytest.approx(0.05) and networks.measured == pytest.approx(0.1)
    assert networks.predicted_p95 == pytest.approx(0.03125)
    other = judged({("entry", "mix"): (1.0, 1.0)})
    assert compare(drifted({}, held_out=b), drifted({}, held_out=other)).networks is None


def test_what_differs_is_listed_with_both_values() -> None:
    a = drifted({}, fingerprint={"cpu_model": "abacus", "onnxruntime": "1.30.0", "kernel": "6"}, threads=1)
    b = drifted({}, fingerprint={"cpu_model": "slide rule", "onnxruntime": "1.31.0", "kernel": "6"}, threads=2)
    b = replace(b, measured={"rounds": 12, "opset": 17, "raw": [1, 2]}, clock="paced", noisy=True)
    assert compare(a, b).differences == {
        "cpu_model": ("abacus", "slide rule"),
        "onnxruntime": ("1.30.0", "1.31.0"),
        "opset": (None, 17),
        "threads": (1, 2),
        "clock": ("tight", "paced"),
        "noisy": (False, True),
    }


def test_what_cost_nothing_has_no_relative_drift_and_the_report_is_still_json() -> None:
    free = drifted({"conv3": 0.0}, latency=replace(toy.profile().latency, paced={"p95": Line(0.0, 0.0)}))
    free = replace(free, held_out=judged({("entry", "pass"): (0.2, 0.25)}))
    dear = replace(drifted({}), held_out=free.held_out)
    found = compare(free, dear)
    (edge,) = [edge for edge in found.edges if edge.name == "conv3"]
    assert edge.drift is None and not edge.within_noise and found.median_drift == 0.0
    assert found.networks is not None and found.networks.predicted_p95 is None
    assert json.loads(json.dumps(found.facts(), allow_nan=False))["networks"]["predicted_p95"] is None
    (gone,) = [edge for edge in compare(dear, free).edges if edge.name == "conv3"]
    assert gone.drift == -1.0


def test_profiles_of_other_graphs_or_edges_are_refused() -> None:
    with pytest.raises(ProfileMismatch, match=rf"toy \({toy.GRAPH.digest()}\) and other \(0123\)"):
        compare(drifted({}), drifted({}, space="other", digest="0123"))
    fewer = {name: row for name, row in toy.profile().edges.items() if name != "mix"}
    for pair in ((drifted({}), drifted({}, edges=fewer)), (drifted({}, edges=fewer), drifted({}))):
        with pytest.raises(UnpricedEdge, match="mix"):
            compare(*pair)


@pytest.mark.parametrize(
    "row",
    [
        {"predicted_ms": 1.0, "measured_ms": 1.0},
        {"kept": "entry", "predicted_ms": 1.0, "measured_ms": 1.0},
        {"kept": [["entry"]], "predicted_ms": 1.0, "measured_ms": 1.0},
        {"kept": ["entry"], "predicted_ms": -1.0, "measured_ms": 1.0},
        {"kept": ["entry"], "predicted_ms": 1.0, "measured_ms": 10**400},
        {"kept": ["entry"], "predicted_ms": True, "measured_ms": "1"},
    ],
)
def test_a_hostile_network_is_refused_in_one_line(row: dict[str, Any]) -> None:
    with pytest.raises(MilliwiseError, match=r"held-out network.*profile again$") as error:
        compare(drifted({}), drifted({}, held_out=HeldOut(1, 0.0, 1.0, 1.0, 1.0, (row,))))
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_the_command_says_what_drifted_and_why(tmp_path: Path) -> None:
    here = {"cpu_model": "abacus", "onnxruntime": "1.31.1"}
    a, b = saved(
        tmp_path,
        a=drifted({}, fingerprint=here),
        b=drifted({"conv3": 1.2, "mix": 1.01}, fingerprint={**here, "onnxruntime": "1.31.2"}),
    )
    result = run(a, b, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["median_drift"] == 0.0
    assert told["worst_edge"]["name"] == "conv3" and told["worst_edge"]["drift"] == pytest.approx(0.2)
    assert told["within_noise"] == 6 and len(told["edges"]) == 7
    assert told["differences"] == [{"name": "onnxruntime", "a": "1.31.1", "b": "1.31.2"}]
    said = run(a, b).stdout
    assert "conv3" in said and "0.3 → 0.36 ms" in said and "+20.0 %" in said and "6 of them within noise" in said
    assert "onnxruntime: 1.31.1 → 1.31.2" in said and "--seed" in said
    same = run(a, a)
    assert same.exit_code == 0 and "median drift 0.0 %" in same.stdout
    assert "nothing else that the profiles record differs\n" in same.stdout


def test_the_command_refuses_another_graph_before_it_draws(tmp_path: Path) -> None:
    a, b = saved(tmp_path, a=drifted({}), b=drifted({}, digest="0123"))
    result = run(a, b, "--drift", tmp_path / "drift.png")
    assert result.exit_code == 2 and toy.GRAPH.digest() in result.stderr and "0123" in result.stderr
    result = run(a, a, "--drift", tmp_path / "drift.jpg")
    assert result.exit_code == 2 and ".png or .svg" in result.stderr
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_the_drawing_shows_every_edge_beside_its_values(tmp_path: Path) -> None:
    a, b = saved(tmp_path, a=drifted({}), b=drifted({"conv3": 1.2, "entry": 0.9}))
    assert run(a, b, "--drift", tmp_path / "drift.png").exit_code == 0
    assert (tmp_path / "drift.png").read_bytes().startswith(PNG)
    texts = words(a, b, tmp_path / "drift.svg")
    assert {*texts} >= COMPUTING and "skip" not in texts
    names = [text for text in texts if text in COMPUTING]
    assert (names[0], names[-1]) == ("conv3", "entry")  # from what became slower to what became faster
    assert "0.3 → 0.36 ms, +20.0 %" in texts and "0.2 → 0.18 ms, -10.0 %" in texts


def words(a: Path, b: Path, path: Path) -> list[str]:
    draw(compare(DeviceProfile.load(a), DeviceProfile.load(b)), path)
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def test_any_name_and_any_number_of_edges_can_be_drawn(tmp_path: Path) -> None:
    row = replace(toy.profile().edges["mix"], same_as=None)
    odd = ["$\\frac{", "<script>", "a\nb\x1b[31m", "n" * 300, ""]
    names = [*odd, *(f"edge{index}" for index in range(2 * MOST_BARS))]
    before = drifted({}, edges=dict.fromkeys(names, row), space="$x^")
    dear = {name: replace(row, latency_ms=row.latency_ms * (2 + k)) for k, name in enumerate(odd)}
    dear["<script>"] = replace(row, latency_ms=1e300, spread=1e300)
    a, b = saved(tmp_path, a=before, b=replace(before, edges={**before.edges, **dear}))
    texts = words(a, b, tmp_path / "drift.svg")
    assert "$\\frac{" in texts and "a?b?[31m" in texts and f"{'n' * 26}…{'n' * 13}" in texts
    assert sum("→" in text for text in texts) == MOST_BARS
    assert any(f"({MOST_BARS} of {len(names)} drawn)" in text for text in texts)
    nothing = drifted({}, edges={"skip": toy.NOTHING})
    draw(compare(nothing, nothing), tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").read_bytes().startswith(PNG)
