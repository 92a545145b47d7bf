"""Hints of a teacher: at which hops they are, what they add to the loss, that nothing of them stays in the listener."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exported import listener_network
from torch.nn import functional

from exporters.listener import Listener
from kws_demo import hints as module
from kws_demo import search as search_module
from kws_demo import speech_embedding
from kws_demo.data import Clips, SpeechData
from kws_demo.hearing import Hearing
from kws_demo.hints import HINTS_WEIGHT, UNTOLD, Guess, Student, Teacher, hinted, with_hints
from kws_demo.settings import Settings, images_of
from kws_demo.speech_embedding import SIZE
from kws_demo.train import BATCH, SILENT_EVERY, SPARE_ROWS, Speech, listener_loss
from toolkit.cli import main
from toolkit.errors import MilliwiseError
from toolkit.layers import WindowHead
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space
from toolkit.training import Plan, train

HOP = 3200


class LoudnessOfWindows:
    """Stands in for the embedding: the mean square of every 760 ms, the last of which end with the audio."""

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(audio, 12_160, axis=1)[:, ::-1280][:, ::-1]
        return np.repeat(np.square(windows).mean(2)[..., None], SIZE, 2).astype(np.float32)


@pytest.fixture
def loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SpeechEmbedding", LoudnessOfWindows)


def test_a_hop_has_the_last_embedding_that_ends_with_it_or_up_to_80_ms_before(loudness: None) -> None:
    examples = torch.rand(50, 16_000, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(examples, HOP)
    seen = torch.from_numpy(LoudnessOfWindows()(examples.numpy()))
    for changed in range(8):  # from this hop on another sound
        audio = torch.full((1, 8 * HOP), 0.5)
        audio[:, changed * HOP :] = 0.1
        found = teacher(audio)[0, :, 0]
        assert found.isnan().tolist() == [True] * 3 + [False] * 5
        told = found * seen.std((0, 1))[0] + seen.mean((0, 1))[0]
        unchanged = [hop for hop in range(3, 8) if hop < changed]
        assert torch.allclose(told[unchanged], torch.tensor(0.25), atol=1e-3)
        for hop in range(max(3, changed), 8):
            heard = min((hop + 1 - changed) * HOP, 12_160)
            early = min((hop + 1 - changed) * HOP - 1280, 12_160)  # the embedding ended 80 ms before
            least, most = (0.25 + (0.01 - 0.25) * samples / 12_160 for samples in (heard, max(0, early)))
            assert least - 1e-3 <= told[hop] <= most + 1e-3


def test_the_loss_of_hints_is_their_mean_square_and_of_labels_what_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, guesses = torch.randn(5, 8, 4, generator=generator), torch.randn(5, 8, SIZE, generator=generator)
    hints = torch.randn(5, 8, SIZE, generator=generator)
    hints[:, :3], hints[4] = math.nan, math.nan
    labels = torch.tensor([2, 3, UNTOLD, 1, 0])

    def plain(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return listener_loss(logits, labels, 1)

    outputs = torch.cat([logits, guesses], 2)
    expected = plain(logits[[0, 1, 3, 4]], labels[[0, 1, 3, 4]])
    expected += HINTS_WEIGHT * functional.mse_loss(guesses[:4, 3:], hints[:4, 3:])
    assert torch.allclose(hinted(plain)(outputs, with_hints(labels, hints)), expected)
    unknown = with_hints(labels[:2], torch.full((2, 8, SIZE), math.nan))
    assert torch.allclose(hinted(plain)(outputs[:2], unknown), plain(logits[:2], labels[:2]))
    alone = with_hints(labels[2:3], hints[2:3])
    assert torch.allclose(
        hinted(plain)(outputs[2:3], alone), HINTS_WEIGHT * functional.mse_loss(guesses[2:3, 3:], hints[2:3, 3:])
    )


def test_a_student_trains_the_weights_of_its_network_and_tells_hints_in_training_only() -> None:
    network = listener_network(2)
    assert isinstance(network.head, WindowHead)
    before, digest = {name: value.clone() for name, value in network.state_dict().items()}, network.graph.digest()
    student = Student(network, Guess(network.head))
    assert student.graph.digest() == digest
    features = torch.rand(3, 1, 40, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(student.eval().from_features(features), network.from_features(features))
        assert student.train().from_features(features).shape == (3, 8, 4 + SIZE)
    student.from_features(features)[..., 4:].square().mean().backward()
    assert all(weight.grad is not None for name, weight in network.operations.named_parameters())
    assert network.head.linear.weight.grad is None or not network.head.linear.weight.grad.any()
    targets = with_hints(torch.tensor([UNTOLD] * 3), torch.randn(3, 8, SIZE))
    train(
        student,
        lambda epoch: [(features, targets)],
        1,
        Plan(2),
        hinted(lambda logits, labels: listener_loss(logits, labels, 1)),
        title="a student",
    )
    after = network.state_dict()
    assert after.keys() == before.keys() and any(not torch.equal(after[name], before[name]) for name in before)


def speech_data(spare: int) -> SpeechData:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((BATCH, 16_000))).astype(np.float32)
    clips = Clips(audio, np.arange(BATCH) % 4, tuple(str(one) for one in range(BATCH)), np.zeros(BATCH, bool))
    others = (0.1 * rng.standard_normal((spare, 16_000))).astype(np.float32)
    return SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {}, spare=others)


def test_batches_have_hints_of_half_the_examples_and_of_all_that_have_no_label(loudness: None) -> None:
    stem = listener_network(2).stem
    features, targets = next(iter(Speech(speech_data(9), stem, HOP, seed=0, taught=True).training(0)))
    labels, hints = targets[:, 0], targets[:, 1:].reshape(len(targets), 8, SIZE)
    known = ~hints.isnan().all(2).all(1)
    silent = torch.arange(len(labels)) % SILENT_EVERY == 0
    assert len(features) == len(labels) == BATCH + SPARE_ROWS
    assert known[labels == UNTOLD].all() and known[1::2].all() and not known[silent].any()
    assert (labels[silent] == 0).all() and (features[silent] == 0).all()
    assert 0.7 * SPARE_ROWS < (labels == UNTOLD).sum() <= SPARE_ROWS
    without = next(iter(Speech(speech_data(0), stem, HOP, seed=0, taught=True).training(0)))
    plain = next(iter(Speech(speech_data(9), stem, HOP, seed=0).training(0)))
    assert torch.equal(without[0], plain[0]) and torch.equal(without[1][:, 0].long(), plain[1])


def test_a_search_with_a_teacher_leaves_a_listener_like_any_other(
    this_machine: DeviceProfile, tmp_path: Path, loudness: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "MOST_EPOCHS", 2)
    seen: list[int] = []
    taught = Hearing.student

    def student(self: Hearing, network: torch.nn.Module) -> torch.nn.Module:
        found = taught(self, network)
        seen.append(isinstance(found, Student))
        return found

    monkeypatch.setattr(Hearing, "student", student)
    this_machine.save(tmp_path / "device.json")
    arguments = ["--budget", "80 ms", "--data", "synth:yes", "--clips", "40", "--minutes", "100", "--calls", "59"]
    command = ["search", "kws-ds", "--profile", str(tmp_path / "device.json"), *arguments, "--teacher", "--json"]
    result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "run")])
    assert result.exit_code in (0, 1), result.output  # on a busy machine
    assert seen == [True, True]  # the super-network, then the candidate
    assert json.loads((tmp_path / "run" / "run.json").read_text())["arguments"]["teacher"] is True
    exported = CliRunner().invoke(
        main, ["export", str(tmp_path / "run"), "-o", str(tmp_path / "a.onnx"), "--calls", "59", "--json"]
    )
    assert exported.exit_code in (0, 1), exported.output
    assert list(Listener.open(tmp_path / "a.onnx").labels) == ["_silence_", "_unknown_", "yes"]


def test_a_teacher_is_for_listeners_of_one_network(tmp_path: Path) -> None:
    command = ["search", "kws-gated", "--profile", str(tmp_path / "p.json"), "--budget", "1 ms", "--data", "synth:yes"]
    result = CliRunner().invoke(main, [*command, "--strategy", "sanas", "--teacher", "-o", str(tmp_path / "run")])
    assert result.exit_code == 2 and "--teacher is of no use to --strategy sanas: leave it out" in result.stderr
    fabric = find_space("resnet-fabric:blocks=1,width=4")
    with pytest.raises(
        MilliwiseError, match=r"--teacher is for listeners, and resnet-fabric.* sees images: leave it out"
    ):
        images_of(Settings(fabric.name, "1 ms", "cifar10", teacher=True), fabric)


def test_a_missing_teacher_is_told_before_any_data_are_made(
    this_machine: DeviceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_embedding, "find_spec", lambda name: None)
    this_machine.save(tmp_path / "device.json")
    arguments = ["--budget", "80 ms", "--data", str(tmp_path / "nowhere"), "--teacher", "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(main, ["search", "kws-ds", "--profile", str(tmp_path / "device.json"), *arguments])
    assert result.exit_code == 2 and "pip install 'milliwise[teacher]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_teacher_needs_a_head_that_hears_a_window(loudness: None) -> None:
    network = listener_network(2)
    network.head = torch.nn.Flatten()
    with pytest.raises(MilliwiseError, match="--teacher needs a space with a WindowHead, and this one has a Flatten"):
        Hearing(speech_data(0), network, 200, 0, "cpu", taught=True)
