"""Searching spaces that see: from images on disk to a verified file, and what is refused on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dense_space
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from kws_demo import search as search_module
from kws_demo.seeing import Seeing
from kws_demo.settings import Settings, images_of
from profilers.fixed import with_classifier
from toolkit.budget import Budget
from toolkit.cli import main
from toolkit.costs import price
from toolkit.datasets import ImageData, Images
from toolkit.errors import MilliwiseError
from toolkit.images import IGNORED
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
CLASSIFY, SEGMENT = (
    "neural-fabric:columns=2,channels=4,size=8",
    "neural-fabric:columns=2,channels=4,size=8,task=segment",
)


def coloured(count: int, seed: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images, each of one colour, and which it is."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noise = chance.integers(-25, 26, (count, size, size, 3))
    return (COLOURS[labels][:, None, None] + noise).astype(np.uint8), labels


def halves(count: int, seed: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images whose left part is of the first colour, the rest of the second; and which is where."""
    chance = np.random.default_rng(seed)
    labels = (np.arange(size) >= chance.integers(2, size - 1, count)[:, None, None]) * np.ones((1, size, 1), int)
    noise = chance.integers(-25, 26, (count, size, size, 3))
    return (COLOURS[labels] + noise).astype(np.uint8), labels


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends after a number of epochs: by the clock, a busy machine would train less."""
    monkeypatch.setattr(search_module, "MOST_EPOCHS", 20)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    train, labels = coloured(150, 0)
    test, truths = coloured(30, 1)
    np.savez(tmp_path / "colours.npz", x_train=train, y_train=labels, x_test=test, y_test=truths)
    return tmp_path / "colours.npz"


def profile_file(folder: Path, space: str) -> Path:
    path = folder / "profile.json"
    dense_space.counted_profile(find_space(space)).save(path)
    return path


def search(space: str, data: Path, *further: object, budget: str = "60 kFLOPs") -> Any:
    folder = data.parent
    arguments = ["search", space, "--profile", profile_file(folder, space), "--budget", budget, "--data", data]
    given = [*arguments, "-o", folder / "run", "--minutes", 100, "--json", *further]
    return CliRunner().invoke(main, [*map(str, given)])


def test_from_images_to_a_file(pictures: Path) -> None:
    torch.set_num_threads(1)
    done = search(CLASSIFY, pictures)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["budget_kept"] is True and told["accuracy"] > 0.9 and told["strategy"] == "bsn"
    file = pictures.parent / "network.onnx"
    arguments = ["export", str(pictures.parent / "run"), "-o", str(file), "--calls", "59", "--json"]
    exported = CliRunner().invoke(main, arguments)
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.stdout)["max_abs_diff"] < 1e-4
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["milliwise.task"]) == "classify"
    assert len(json.loads(properties["milliwise.labels"])) == 3
    checked = CliRunner().invoke(main, ["check", str(file), "--budget", "1000 ms", "--calls", "59", "--hop-ms", "20"])
    assert checked.exit_code == 0, checked.output
    test, truths = coloured(30, 1)
    images = np.float32(test).transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    given = [session.run(["logits"], {"image": image[None]})[0].argmax() for image in images]
    assert np.mean(given == truths) == pytest.approx(told["accuracy"])


def test_it_goes_on_where_it_stopped(pictures: Path) -> None:
    torch.set_num_threads(1)
    first = search(CLASSIFY, pictures, budget="70 kFLOPs")
    (pictures.parent / "run" / "run.json").unlink()
    again = search(CLASSIFY, pictures, "--resume", budget="70 kFLOPs")
    one, other = (json.loads(done.stdout) for done in (first, again))
    assert one["live_edges"] == other["live_edges"] and one["accuracy"] == other["accuracy"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a search by chance writes that nothing interrupts; it draws more networks when one was measured."""
    with pytest.MonkeyPatch.context() as patched:
        return drawn(tmp_path_factory.mktemp("undisturbed"), patched)


def drawn(folder: Path, patched: pytest.MonkeyPatch, most_files: int | None = None) -> dict[str, Any]:
    """The content of the `run.json` of a search that is interrupted when so many files are written, then resumed."""
    patched.setattr(search_module, "MOST_EPOCHS", 2)
    torch.set_num_threads(1)
    train, labels = coloured(60, 0)
    np.savez(folder / "colours.npz", x_train=train, y_train=labels)
    given = ("--strategy", "uniform", "--fine-tune", 2)
    if most_files is not None:
        with patched.context() as failing:
            written, replace = [], os.replace

            def interrupted(source: Any, target: Any) -> None:
                replace(source, target)
                if Path(target).parent == folder / "run":
                    written.append(target)
                if len(written) == most_files:
                    raise KeyboardInterrupt

            failing.setattr(os, "replace", interrupted)
            assert search(CLASSIFY, folder / "colours.npz", *given).exit_code == 130
        given = (*given, "--resume")
    done = search(CLASSIFY, folder / "colours.npz", *given)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads((folder / "run" / "run.json").read_text().replace(str(folder), ""))
    return found


@pytest.mark.parametrize("most_files", [1, 5, 6, 8, 10])
def test_wherever_it_is_interrupted_it_ends_alike(
    most_files: int, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = drawn(tmp_path, monkeypatch, most_files)
    DeviceProfile.load(tmp_path / "run" / "profile.json")
    for told in (found, undisturbed):
        told.pop("seconds", None)
    assert found == undisturbed


def test_what_is_counted_is_counted_with_the_classes_at_hand(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is of more: within what three classes cost at least, there is a network, and not within less."""
    monkeypatch.setattr(search_module, "MOST_EPOCHS", 2)
    torch.set_num_threads(1)
    space = find_space(CLASSIFY)
    profile = dense_space.counted_profile(space)
    graph = space.build().graph
    least = {}
    for labels in (3, dense_space.LABELS):
        asked = price(graph, with_classifier(profile, space, labels), Budget.parse("1 params"))
        least[labels] = int(asked(asked.cheapest()))
    assert least[3] < least[dense_space.LABELS]
    assert "no network of this space fits" in search(CLASSIFY, pictures, budget=f"{least[3] - 1} params").stderr
    done = search(CLASSIFY, pictures, budget=f"{least[3]} params")
    assert done.exit_code == 0 and json.loads(done.stdout)["budget_kept"], done.output


def test_images_are_segmented(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = tmp_path / "halves"
    for folder, arrays in zip(("images", "masks"), halves(140, 0), strict=True):
        (data / folder).mkdir(parents=True)
        for number, array in enumerate(arrays):
            Image.fromarray(array.astype(np.uint8)).save(data / folder / f"{number}.png")
    done = search(SEGMENT, data, budget="200 kFLOPs")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["accuracy"] > 0.8
    refused = search(CLASSIFY, data, "--resume")
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("space", "further", "reason"),
    [
        (CLASSIFY, ("--noise", "."), "--noise is for listeners"),
        (CLASSIFY, ("--words", "a,b"), "--words is for listeners"),
        (SEGMENT, (), "is there to classify"),
        ("neural-fabric:columns=2,channels=4,size=4", (), "8"),
        (CLASSIFY, ("--strategy", "sanas"), "mean"),
    ],
)
def test_what_does_not_fit_is_refused(pictures: Path, space: str, further: tuple[str, ...], reason: str) -> None:
    done = search(space, pictures, *further, budget="500 kFLOPs")
    assert done.exit_code == 2 and reason in done.stderr and done.stderr.count("\n") == 1, done.output
    assert not (pictures.parent / "run" / "run.json").exists()


def test_speech_is_not_seen(tmp_path: Path) -> None:
    done = search(CLASSIFY, tmp_path / "synth:yes")
    assert done.exit_code == 2 and "no images in" in done.stderr and "cifar10" in done.stderr
    assert not (tmp_path / "run").exists()


def known(task: str) -> ImageData:
    made = coloured if task == "classify" else halves
    train, validation, test = (Images(*made(count, seed)) for count, seed in ((130, 0), (33, 1), (20, 2)))
    return ImageData(task, ("red", "green", "blue"), train, validation, test, "colours", flip=True)


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_an_epoch_is_the_same_again_and_another_is_not(task: str) -> None:
    seeing = Seeing(known(task), 3, "cpu")
    assert seeing.steps == 2
    first, again, other = (list(seeing.training(epoch)) for epoch in (1, 1, 2))
    assert all(torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert first[0][0].shape == (64, 3, 8, 8) and first[0][1].shape == ((64,) if task == "classify" else (64, 8, 8))


def test_accuracy_by_hand() -> None:
    """A network that always says the second label is right for a third of the images, and knows how sure that is."""
    network = find_space(CLASSIFY).build(3).eval()
    with torch.no_grad():
        network.head[0].weight.zero_()
        network.head[0].bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    found = Seeing(known("classify"), 0, "cpu").judge(network, "validation")
    assert (found.share, found.clips, found.between_words) == (pytest.approx(1 / 3), 33, None)
    assert found.error == pytest.approx((12 / 35 * 23 / 35 / 33) ** 0.5)
    assert found.confusion.tolist() == [[0, 11, 0], [0, 11, 0], [0, 11, 0]]


def test_pixels_are_judged_image_by_image() -> None:
    network = find_space(SEGMENT).build(3).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    data = known("segment")
    found = Seeing(data, 0, "cpu").judge(network, "test")
    shares = (data.test.labels == 1).mean((1, 2))
    assert found.share == pytest.approx(shares.mean()) and found.clips == 20
    assert found.error == pytest.approx(shares.std(ddof=1) / 20**0.5)
    assert found.confusion.sum() == 20 * 64
    data.test.labels[:, :4] = IGNORED
    data.test.labels[7] = IGNORED
    found = Seeing(data, 0, "cpu").judge(network, "test")
    shares = np.delete((data.test.labels[:, 4:] == 1).mean((1, 2)), 7)
    assert found.share == pytest.approx(shares.mean()) and found.clips == 19 and found.confusion.sum() == 19 * 32


def test_images_that_have_a_left_and_a_right_are_not_mirrored(pictures: Path) -> None:
    for mirror in (True, False):
        data = images_of(Settings(CLASSIFY, "", str(pictures), mirror=mirror), find_space(CLASSIFY))
        assert data.flip is mirror
        assert ("half of them mirrored" in Seeing(data, 0, "cpu").description["trained"]) is mirror


@pytest.mark.parametrize(("given", "expected"), [((), True), (("--no-mirror",), False)])
def test_mirroring_is_asked_for(
    given: tuple[str, ...], expected: bool, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Settings] = []

    def searched(settings: Settings, *_others: Any) -> dict[str, Any]:
        asked.append(settings)
        raise MilliwiseError("enough")

    monkeypatch.setattr(search_module, "run_search", searched)
    assert search(CLASSIFY, pictures, *given).exit_code == 2
    assert [settings.mirror for settings in asked] == [expected]


def test_what_a_mask_knows_nothing_of_teaches_nothing() -> None:
    logits, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    labels[0, :2] = IGNORED
    loss = Seeing(known("segment"), 0, "cpu").loss()
    assert loss(logits, labels).item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    nothing = loss(logits, torch.full_like(labels, IGNORED))
    nothing.backward()
    assert nothing.item() == 0 and logits.grad is not None and not logits.grad.any()
