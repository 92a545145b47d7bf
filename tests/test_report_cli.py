"""`milliwise report`: any finished run becomes a page and pictures; a damaged one is a line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dense_space
import fake_search as fake
import pytest
import torch
from click.testing import CliRunner, Result
from markup import Reader, drawing
from PIL import Image

from kws_demo.report import ADAPTIVE
from profilers.export import PROFILE_NAME
from toolkit.budget import Budget
from toolkit.cli import main
from toolkit.costs import ACCOUNTING, Price, price
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, append_log, save_selected
from toolkit.spaces import find_space

HOSTILE = "<script>alert(1)</script>\"'>"
SPACE = "resnet-fabric:blocks=1,width=2,size=8"
VIEWS = ("multiply-adds", "memory", "ms", "steps-1", "steps-2", "steps-4")


@pytest.fixture(scope="module")
def profiled() -> DeviceProfile:
    torch.set_num_threads(1)
    return dense_space.counted_profile(find_space(SPACE))


@pytest.fixture(scope="module")
def priced(profiled: DeviceProfile) -> Price:
    return price(find_space(SPACE).build().graph, profiled, Budget.parse("1 FLOPs"))


@pytest.fixture(scope="module")
def images(profiled: DeviceProfile, priced: Price, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a search of images within counted multiply-adds."""
    folder = tmp_path_factory.mktemp("images") / "run"
    network, kept, labels = find_space(SPACE).build(3), priced.cheapest(), ("cat", HOSTILE, "dog")
    cost = priced(kept)
    common = {"predicted_ms": 1.0, "predicted_upper_ms": 1.1, "accuracy": 0.5, "chosen": False}
    rows: list[dict[str, Any]] = [
        {**common, "kept": sorted(kept), "fits": True, "chosen": True, "fine_tuned_accuracy": 0.8},
        {**common, "kept": sorted(priced.graph.full), "fits": False},
    ]
    facts = {
        "space": SPACE,
        "strategy": "bsn",
        "budget": f"{cost * 1.1:.0f} FLOPs",
        "cost": f"{cost:g} FLOPs",
        "measured": {},
        "accuracy": {"test": 0.8, "test_error": 0.05, "test_clips": 60, "confusion": [[9, 1, 0], [0, 8, 2], [1, 0, 9]]},
        "pareto": rows,
        "seconds": {"search": 3.0},
    }
    save_selected(folder, Selected(network.select(kept), kept, labels, 200, facts))
    profiled.save(folder / PROFILE_NAME)
    for epoch in range(1, 6):
        append_log(folder, {"stage": "training the super-network", "epoch": epoch, "loss": 2 / epoch})
        learnt = {"entropy_bits": 0.6 / epoch, "penalty": float(epoch), "likely_cost": 2 * cost / epoch}
        chances = dict.fromkeys(sorted(priced.graph.full), 0.5)
        append_log(folder, {"stage": "probabilities", "epoch": epoch, "probabilities": chances, **learnt})
    return folder


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def sections(reader: Reader) -> list[str | None]:
    return [attributes["id"] for tag, attributes in reader.tags if tag == "section"]


def test_a_search_of_images_on_a_page_and_as_pictures(
    images: Path, profiled: DeviceProfile, priced: Price, tmp_path: Path
) -> None:
    done = report(images, "-o", tmp_path / "report.html", "--pictures", tmp_path / "drawn", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told.keys() == {"run", "report", "pictures", "not_drawn"} and told["not_drawn"] == []
    content = (tmp_path / "report.html").read_text()
    reader = Reader(content)
    reader.assert_harmless()
    text = re.sub(r"\s+", " ", reader.all_text())
    assert "stream" not in sections(reader) and {"pareto", "architecture", "training", "confusion"} <= {
        *sections(reader)
    }
    assert f"It tells apart cat, {HOSTILE}, dog. Right on test images" in text and "listener" not in text
    assert ACCOUNTING in text and "1 workers" not in text
    live = priced.graph.live(priced.cheapest())
    for workers in (1, 2, 4):
        steps = len(priced.graph.schedule(live, workers, {name: profiled.edges[name].steps for name in live}))
        assert f"{steps} steps on {workers} worker" in text
    assert f"{len(live)} of {len(priced.graph.edges)} edges" in text
    assert "entropy of a decision, in bit: 0.12 in the end" in text and "λ, the price" in text
    for markup in re.findall(r"<svg.*?</svg>", content, re.S):
        drawing(markup)  # well-formed
    names = [*VIEWS, "learning"]
    assert [Path(path).name for path in told["pictures"]] == [f"{n}.{kind}" for n in names for kind in ("svg", "png")]
    for path in map(Path, told["pictures"]):
        if path.suffix == ".png":
            assert Image.open(path).size[0] == 1920
        else:
            drawing(path.read_text())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["drawn", "report.html"]


def test_candidates_stand_where_their_counted_cost_puts_them(images: Path, priced: Price, tmp_path: Path) -> None:
    assert report(images, "-o", tmp_path / "report.html").exit_code == 0
    found = re.search(r'<section id="pareto">.*?(<svg.*?</svg>)', (tmp_path / "report.html").read_text(), re.S)
    assert found is not None
    root = drawing(found[1])
    tipped = [e for e in root.iter("circle") if e.findtext("title")]
    places = {float(e.get("cx", "")): str(e.findtext("title")) for e in tipped}
    cheapest, whole = priced(priced.cheapest()), priced(priced.graph.full)
    (limit,) = {float(e.get("x1", "")) for e in root.iter("line") if "limit" in e.get("class", "")}
    least, most = min(places), max(places)
    assert (limit - least) / (most - least) == pytest.approx((cheapest * 1.1 - cheapest) / (whole - cheapest), abs=0.01)
    assert any("80.0 % fine-tuned" in title for title in places.values())


def test_a_listener_is_drawn_as_well(tmp_path: Path) -> None:
    network, folder = find_space("kws-ds").build(len(fake.LABELS), 200), tmp_path / "run"
    facts = {name: value for name, value in fake.run().items() if name not in ("format", "kept", "labels", "hop_ms")}
    save_selected(folder, Selected(network.select(fake.KEPT), fake.KEPT, fake.LABELS, 200, facts))
    fake.profile().save(folder / PROFILE_NAME)
    done = report(folder, "-o", tmp_path / "report.html")
    assert done.exit_code == 0 and "on one page" in done.output
    reader = Reader((tmp_path / "report.html").read_text())
    assert {"network", "architecture"} <= {*sections(reader)} and "stream" not in sections(reader)
    assert "It listens for bed, cat, happy" in reader.all_text()


def test_of_one_that_chooses_anew_every_hop_it_says_what_is_not_drawn(tmp_path: Path) -> None:
    space, folder = dense_space.space(), tmp_path / "run"
    adaptive = space.adaptive(3, 200)
    facts = {"space": space.name, "budget": "1.5 ms mean", "modes": {"named_ms": {"off": 0.5, HOSTILE: 1.25}}}
    facts |= {"streams": {"mean_ms": 1.2}, "strategy": "sanas"}
    whole = adaptive.graph.live(adaptive.graph.full)
    labels = ("_silence_", "_unknown_", "cat")
    save_selected(folder, Selected(adaptive.network, whole, labels, 200, facts, adaptive))
    dense_space.counted_profile(space).save(folder / PROFILE_NAME)
    append_log(folder, {"stage": "teaching the controller", "epoch": 1, "ms_by_label": {"0": 1.0, "2": 2.0}})
    refused = report(folder, "-o", tmp_path / "report.html")
    assert refused.exit_code == 2 and "--space" in refused.output and not (tmp_path / "report.html").exists()
    done = report(folder, "-o", tmp_path / "report.html", "--space", space.name, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["not_drawn"] == [ADAPTIVE]
    reader = Reader((tmp_path / "report.html").read_text())
    reader.assert_harmless()
    assert ADAPTIVE in reader.text and "predicted over streams of test clips 1.20 ms" in reader.all_text()
    assert "1.25 ms" in reader.all_text()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "run.json").unlink(), "no finished run"),
        (lambda folder: truncated(folder / "run.json"), "truncated or not JSON"),
        (lambda folder: truncated(folder / "weights.safetensors"), "weights"),
        (lambda folder: truncated(folder / PROFILE_NAME), "truncated or not JSON"),
        (lambda folder: (folder / PROFILE_NAME).unlink(), "cannot read device profile"),
    ],
)
def test_a_damaged_run_is_one_line(damage: Callable[[Path], None], told: str, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "run")
    damage(tmp_path / "run")
    done = report(tmp_path / "run", "-o", tmp_path / "report.html")
    assert done.exit_code == 2 and told in done.output and len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_log_is_left_out_and_a_page_that_cannot_be_written_is_a_line(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").write_text(
        '{"epoch": 1}\n[]\n{"stage": 3, "loss": "much", "entropy_bits": []}\n{"ep'
    )
    assert report(tmp_path / "run", "-o", tmp_path / "report.html").exit_code == 0
    refused = report(tmp_path / "run", "-o", tmp_path / "run")
    assert refused.exit_code == 2 and "it is a folder" in refused.output
